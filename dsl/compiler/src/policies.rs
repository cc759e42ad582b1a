//! Policies, the windows they vary by, and teams.

use crate::context::Context;
use crate::facts::{Facts, Shape, plain, word};
use crate::machines::base_of;
use crate::names::Kind;
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::{Duration, InitialCopy, PolicySheet, Rate, Size, WindowSheet};
use muster_syntax::ast::{self, ExprKind, Fact, FactValue, Item};
use std::collections::BTreeMap;

const POLICY: Shape = Shape {
    what: "a policy",
    known: &["rpo", "replicate", "snapshot", "retain", "bandwidth", "change-log", "compression"],
    required: &["rpo", "replicate", "retain"],
    conditional: &["bandwidth"],
};
const TEAM: Shape = Shape { what: "a team", known: &["members", "quorum"], required: &["members"], conditional: &[] };

/// zstd levels: beyond these a level costs more than a network gives back.
const COMPRESSION: std::ops::RangeInclusive<u64> = 1..=19;
const COMPRESSION_DEFAULT: i32 = 3;
/// A cycle shorter than this never ends before the next begins.
const CYCLE_MIN: Duration = Duration::from_secs(1);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[derive(Clone, Debug)]
pub(crate) struct PolicyModel {
    pub sheet: PolicySheet,
    pub rpo: Span,
    pub cycle: Span,
    pub app: Option<Span>,
    /// Of each bandwidth, with its rate.
    pub rates: Vec<(Rate, Span)>,
}

pub(crate) fn resolve_policies(cx: &Context<'_>) -> BTreeMap<String, Option<PolicyModel>> {
    let windows = resolve_windows(cx);
    let mut policies = BTreeMap::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            match item {
                Item::Policy(block) => {
                    let model = resolve_policy(cx, module, block, &windows);
                    policies.entry(block.name.text.clone()).or_insert(model);
                }
                Item::Team(block) => check_team(cx, module, block),
                _ => {}
            }
        }
    }
    policies
}

type Windows = BTreeMap<(usize, usize), WindowSheet>;

fn resolve_windows(cx: &Context<'_>) -> Windows {
    let mut windows = Windows::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for (index, item) in file.ast.items.iter().enumerate() {
            let Item::Window(window) = item else { continue };
            let mut days = window.days.text.split(['-', ',']);
            if let Some(day) = days.find(|day| !DAYS.contains(day)) {
                cx.push(
                    Diagnostic::error(211, format!("`{day}` is not a day"), window.days.span, "unknown day")
                        .help("days are `mon tue wed thu fri sat sun`: `mon-fri`, `sat,sun`"),
                );
            }
            if !hours_are_good(&window.hours.text) {
                cx.push(
                    Diagnostic::error(
                        211,
                        format!("`{}` is not a span of a day", window.hours.text),
                        window.hours.span,
                        "wrong hours",
                    )
                    .help("write `08:00-18:00`"),
                );
            }
            let sheet = WindowSheet {
                name: window.name.text.clone(),
                days: window.days.text.clone(),
                hours: window.hours.text.clone(),
                zone: window.zone.text.clone(),
            };
            windows.insert((module, index), sheet);
        }
    }
    windows
}

fn hours_are_good(text: &str) -> bool {
    let minutes = |clock: &str| {
        let (hour, minute) = clock.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        (minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
    };
    match text.split_once('-') {
        Some((from, to)) => matches!((minutes(from), minutes(to)), (Some(from), Some(to)) if from != to),
        None => false,
    }
}

fn check_team(cx: &Context<'_>, module: usize, block: &ast::Block) {
    let facts = Facts::read(cx, &TEAM, block.name.span, block.span, &block.facts);
    let members = facts.expr(cx, "members").and_then(|expr| {
        match cx.expect(module, &Env::new(), expr, &Type::List(Box::new(Type::Text)))? {
            Value::List(members) => Some(members.len() as u64),
            _ => None,
        }
    });
    let Some(expr) = facts.expr(cx, "quorum") else { return };
    let Some(Value::Int(quorum)) = cx.expect(module, &Env::new(), expr, &Type::Int) else { return };
    if members.is_some_and(|members| quorum > members || quorum == 0) {
        cx.push(
            Diagnostic::error(609, format!("`{}` can never agree", block.name.text), expr.span, "not as many members")
                .help(format!("write a number from 1 to {}", members.unwrap_or(1))),
        );
    }
}

fn resolve_policy(cx: &Context<'_>, module: usize, block: &ast::Block, windows: &Windows) -> Option<PolicyModel> {
    let before = cx.errors();
    let base = base_of(cx, module, block, Kind::Policy);
    let shape = if block.like.is_some() { &Shape { required: &[], ..POLICY } } else { &POLICY };
    let facts = Facts::read(cx, shape, block.name.span, block.span, &block.facts);
    let reader = Reader { cx, module, facts, base };
    let rpo = reader.duration("rpo");
    let cycle = reader.schedule("replicate");
    let app = reader.snapshot();
    let retain = reader.duration("retain");
    let (rates, bandwidth, bandwidth_windows) = reader.bandwidth(windows);
    let change_log = reader.size("change-log");
    let compression = reader.compression();
    if cx.errors() > before {
        return None;
    }
    let ((rpo, rpo_span), (cycle, cycle_span), (retain, _)) = (rpo?, cycle?, retain?);
    let name = block.name.text.as_str().into();
    let app_every = app.map(|(every, _)| every);
    let sheet = PolicySheet {
        name,
        rpo,
        cycle,
        app_every,
        retain,
        bandwidth,
        bandwidth_windows,
        change_log,
        compression: compression.unwrap_or(COMPRESSION_DEFAULT),
        continuous: false,
        crash_every: None,
        tiers: Vec::new(),
        retain_all: None,
        encryption: None,
        resync_window: None,
        initial_copy: InitialCopy::Online,
    };
    Some(PolicyModel { sheet, rpo: rpo_span, cycle: cycle_span, app: app.map(|(_, span)| span), rates })
}

/// Facts of a policy, with those of the one it is like behind them.
struct Reader<'a, 'w> {
    cx: &'a Context<'w>,
    module: usize,
    facts: Facts<'a>,
    base: Option<(usize, &'a [Fact])>,
}

impl<'a> Reader<'a, '_> {
    fn all(&self, word: &str) -> Vec<(usize, &'a Fact)> {
        let own: Vec<_> = self.facts.all(word).map(|fact| (self.module, fact)).collect();
        match self.base {
            Some((module, base)) if own.is_empty() => {
                base.iter().filter(|fact| fact.name.text == word).map(|fact| (module, fact)).collect()
            }
            _ => own,
        }
    }
    fn one(&self, word: &str) -> Option<(usize, &'a Fact)> {
        self.all(word).into_iter().next()
    }
    fn duration(&self, word: &str) -> Option<(Duration, Span)> {
        let (module, fact) = self.one(word)?;
        let expr = plain(self.cx, fact)?;
        Some((self.cx.duration(module, &Env::new(), expr)?, expr.span))
    }
    fn size(&self, word: &str) -> Option<Size> {
        let (module, fact) = self.one(word)?;
        match self.cx.expect(module, &Env::new(), plain(self.cx, fact)?, &Type::Size)? {
            Value::Size(size) => Some(size),
            _ => None,
        }
    }
    fn schedule(&self, name: &str) -> Option<(Duration, Span)> {
        let (module, fact) = self.one(name)?;
        let (interval, kind) = match &fact.value {
            FactValue::Every { interval, kind, .. } => (interval, kind),
            FactValue::Expr(expr) if word(expr) == Some("continuous") => {
                return self.cx.report(
                    Diagnostic::error(211, "this muster replicates in cycles", expr.span, "not continuous")
                        .help("write `every 10s`"),
                );
            }
            FactValue::Expr(ast::Expr { span, .. }) | FactValue::Move { span, .. } | FactValue::Several { span, .. } => {
                return self.cx.report(
                    Diagnostic::error(211, format!("`{name}` is a schedule"), *span, "not a schedule")
                        .help("write `every 30s`"),
                );
            }
        };
        if let Some(kind) = kind.as_ref().filter(|kind| name != "snapshot" || kind.text != "app-consistent") {
            let known = if name == "snapshot" { "only `app-consistent` stands here" } else { "nothing stands here" };
            return self.cx.report(Diagnostic::error(211, format!("`{}` is not known", kind.text), kind.span, known));
        }
        let every = self.cx.duration(module, &Env::new(), interval)?;
        if every < CYCLE_MIN {
            return self.cx.report(
                Diagnostic::error(211, format!("`{every}` is too short"), interval.span, "too often")
                    .help(format!("the shortest is {CYCLE_MIN}")),
            );
        }
        Some((every, interval.span))
    }
    /// `every 1h app-consistent`, or `none`.
    fn snapshot(&self) -> Option<(Duration, Span)> {
        let (_, fact) = self.one("snapshot")?;
        match &fact.value {
            FactValue::Expr(expr) if word(expr) == Some("none") => None,
            _ => self.schedule("snapshot"),
        }
    }
    fn compression(&self) -> Option<i32> {
        let (module, fact) = self.one("compression")?;
        let expr = plain(self.cx, fact)?;
        match self.cx.expect(module, &Env::new(), expr, &Type::Int)? {
            Value::Int(level) if COMPRESSION.contains(&level) => i32::try_from(level).ok(),
            _ => {
                self.cx.report(Diagnostic::error(211, "`compression` is a level", expr.span, "out of range").help(
                    format!("write a number from {} (fast) to {} (small)", COMPRESSION.start(), COMPRESSION.end()),
                ))
            }
        }
    }
    #[allow(clippy::type_complexity)] // one caller, three lists of one loop
    fn bandwidth(&self, windows: &Windows) -> (Vec<(Rate, Span)>, Option<Rate>, Vec<(WindowSheet, Rate)>) {
        let (mut rates, mut always, mut windowed) = (Vec::new(), None, Vec::new());
        for (module, fact) in self.all("bandwidth") {
            let Some(expr) = plain(self.cx, fact) else { continue };
            let Some(Value::Rate(rate)) = self.cx.expect(module, &Env::new(), expr, &Type::Rate) else { continue };
            if rate.0 == 0 {
                self.cx.push(Diagnostic::error(402, "nothing fits through no bandwidth", expr.span, "zero"));
                continue;
            }
            rates.push((rate, expr.span));
            let Some(when) = &fact.when else {
                always = Some(rate);
                continue;
            };
            for name in &when.names {
                let Some(symbol) = self.cx.named(module, name, Kind::Window) else { continue };
                if let Some(window) = windows.get(&(symbol.module, symbol.index)) {
                    windowed.push((window.clone(), rate));
                }
            }
        }
        (rates, always, windowed)
    }
}

/// What a policy promises against what it does: E0401, E0406.
pub(crate) fn check_policy(cx: &Context<'_>, policy: &PolicyModel) {
    let sheet = &policy.sheet;
    if sheet.rpo < sheet.cycle {
        cx.push(
            Diagnostic::error(
                401,
                format!("policy `{}` cannot keep its {} promise", sheet.name, sheet.rpo),
                policy.rpo,
                "promised here",
            )
            .related(policy.cycle, format!("data leaves only every {}", sheet.cycle))
            .help(format!("replicate at least every {}, or promise {} or more", sheet.rpo, sheet.cycle)),
        );
    }
    if let Some((every, span)) = sheet.app_every.zip(policy.app)
        && sheet.retain < every
    {
        cx.push(
            Diagnostic::error(
                406,
                format!("policy `{}` drops its snapshots before the next", sheet.name),
                span,
                format!("one every {every}"),
            )
            .note(format!("points are kept for {}", sheet.retain))
            .help(format!("retain at least {every}")),
        );
    }
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
