//! Teams, and who is meant by a name.

use crate::context::Context;
use crate::facts::{Facts, Shape};
use crate::groups::base_of;
use crate::names::Kind;
use crate::value::{Env, Type, Value};
use muster_diagnostics::Diagnostic;
use muster_runsheet::TeamSheet;
use muster_syntax::ast::{self, ExprKind, Item};
use std::collections::BTreeMap;

const TEAM: Shape = Shape { what: "a team", known: &["members", "quorum"], required: &["members"], conditional: &[] };
/// One of them is enough where a team does not say.
const QUORUM_DEFAULT: u64 = 1;

pub(crate) fn resolve_teams(cx: &Context<'_>) -> BTreeMap<String, TeamSheet> {
    let mut teams = BTreeMap::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            let Item::Team(block) = item else { continue };
            if let Some(team) = resolve_team(cx, module, block) {
                teams.entry(block.name.text.clone()).or_insert(team);
            }
        }
    }
    teams
}

fn resolve_team(cx: &Context<'_>, module: usize, block: &ast::Block) -> Option<TeamSheet> {
    let base = base_of(cx, module, block, Kind::Team);
    let shape = if block.like.is_some() { &Shape { required: &[], ..TEAM } } else { &TEAM };
    let facts = Facts::read(cx, shape, block.name.span, block.span, &block.facts);
    let expr = |word: &str| {
        let own = facts.get(word).map(|fact| (module, fact));
        let (module, fact) = own.or_else(|| {
            let (module, base) = base?;
            Some((module, base.iter().find(|fact| fact.name.text == word)?))
        })?;
        Some((module, crate::facts::plain(cx, fact)?))
    };
    let members = expr("members").and_then(|(module, expr)| {
        let Value::List(members) = cx.expect(module, &Env::new(), expr, &Type::List(Box::new(Type::Text)))? else {
            return None;
        };
        let text = |value| if let Value::Text(text) = value { Some(text) } else { None };
        Some(members.into_iter().filter_map(text).collect::<Vec<String>>())
    });
    let (quorum, span) = match expr("quorum") {
        None => (QUORUM_DEFAULT, block.name.span),
        Some((module, expr)) => match cx.expect(module, &Env::new(), expr, &Type::Int)? {
            Value::Int(quorum) => (quorum, expr.span),
            _ => return None,
        },
    };
    let members = members?;
    if quorum > members.len() as u64 || quorum == 0 {
        let diagnostic =
            Diagnostic::error(609, format!("`{}` can never agree", block.name.text), span, "not as many members");
        return cx.report(match members.len() {
            0 => diagnostic.help("name at least one member"),
            1 => diagnostic.help("write 1, or name more members"),
            count => diagnostic.help(format!("write a number from 1 to {count}")),
        });
    }
    Some(TeamSheet { members, quorum: u32::try_from(quorum).unwrap_or(u32::MAX) })
}

/// A plain reference to a team, `anyone`, or a text that names a person.
pub(crate) fn person(cx: &Context<'_>, module: usize, reference: &ast::Ref) -> Option<String> {
    if reference.path.is_empty() && reference.head.text == "anyone" {
        return Some("anyone".to_owned());
    }
    let expr = ast::Expr { kind: ExprKind::Ref(reference.clone()), span: reference.span };
    match cx.expect(module, &Env::new(), &expr, &Type::Named(Kind::Team))? {
        Value::Named(_, name) => Some(name),
        _ => None,
    }
}
