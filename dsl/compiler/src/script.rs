//! Looks into the rhai text of a hook: does it parse, is the function there, does it touch only what it says it needs.
//!
//! Never runs anything. The parser is the strict one: a variable that is nowhere defined is a mistake now, not at 3 a.m.

use crate::host_calls::{Report, look};
use crate::suggest::nearest;
use muster_diagnostics::{Diagnostic, FileId, Span};
use muster_runsheet::Need;
use rhai::{AST, ASTNode, Engine, Expr, Position, Scope};
use std::sync::Arc;

/// The code of a text that is not valid rhai.
pub(crate) const NOT_RHAI: u16 = 702;

/// Names that the host puts into the scope of every hook.
const HOST_OBJECTS: [&str; 6] = ["run", "http", "net", "dns", "mail", "log"];

/// Depth of nesting, as when the hook runs.
const EXPRESSION_DEPTH_MAX: usize = 64;
const FUNCTION_DEPTH_MAX: usize = 32;

/// The text of a hook, and how places in it lead back to the files the user wrote.
pub(crate) struct Script {
    /// `hooks/dns.rhai` or `shop.plan:12`.
    pub origin: String,
    pub text: String,
    /// Start of each line of `text` in the file: `None` for lines the compiler has added.
    lines: Vec<Option<Span>>,
    /// Where the text is asked for, in the `.plan`.
    asked: Span,
}

impl Script {
    pub(crate) fn file(path: String, file: FileId, text: String, asked: Span) -> Self {
        let mut lines = Vec::new();
        let mut start = 0u32;
        for line in text.split_inclusive('\n') {
            let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
            lines.push(Some(Span::new(file, start, start + u32::try_from(line.trim_end().len()).unwrap_or(0))));
            start = start.saturating_add(length);
        }
        Self { origin: path, text, lines, asked }
    }

    /// An inline body: wrapped into its function, each line remembered with the indent that was stripped from it.
    pub(crate) fn body(
        origin: String,
        function: &str,
        parameters: &[String],
        stripped: &str,
        raw: &str,
        inner: Span,
    ) -> Self {
        let mut raw_lines = Vec::new();
        let mut start = inner.start;
        for line in raw.split_inclusive('\n') {
            let text = line.trim_end_matches(['\n', '\r']);
            raw_lines.push((text, start));
            start += u32::try_from(line.len()).unwrap_or(0);
        }
        // The line break right behind the opening quotes belongs to the quotes.
        let first_is_quotes = raw_lines.len() > 1 && raw_lines[0].0.trim().is_empty();
        let skip = usize::from(first_is_quotes && !stripped.starts_with('\n'));
        let mut lines = vec![None];
        for (index, line) in stripped.lines().enumerate() {
            lines.push(raw_lines.get(index + skip).map(|(text, start)| {
                let indent = if text.ends_with(line) { text.len() - line.len() } else { 0 };
                let begin = start + u32::try_from(indent).unwrap_or(0);
                Span::new(inner.file, begin, start + u32::try_from(text.len()).unwrap_or(0))
            }));
        }
        let text = format!("fn {function}({}) {{\n{}\n}}\n", parameters.join(", "), stripped.trim_end_matches('\n'));
        Self { origin, text, lines, asked: inner }
    }

    /// The place in the user's file; the end of the text when the parser points behind it.
    pub(crate) fn span(&self, position: Position) -> Span {
        let (Some(line), column) = (position.line(), position.position().unwrap_or(1)) else { return self.end() };
        let Some(Some(span)) = self.lines.get(line - 1) else { return self.end() };
        let text = self.text.lines().nth(line - 1).unwrap_or("");
        let offset = text.char_indices().nth(column - 1).map_or(text.len(), |(at, _)| at);
        let start = span.start + u32::try_from(offset).unwrap_or(0);
        let width = text
            .get(offset..)
            .map_or(0, |rest| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()));
        Span::new(
            span.file,
            start.min(span.end),
            (start + u32::try_from(width.max(1)).unwrap_or(1)).min(span.end.max(start)),
        )
    }
    fn end(&self) -> Span {
        self.lines.iter().rev().flatten().next().map_or(self.asked, |span| Span::new(span.file, span.end, span.end))
    }
}

fn engine() -> Engine {
    let mut engine = Engine::new_raw();
    engine.set_strict_variables(true);
    engine.set_max_expr_depths(EXPRESSION_DEPTH_MAX, FUNCTION_DEPTH_MAX);
    engine.disable_symbol("eval");
    engine
}

/// Everything that can be said about a hook's text without running it; `needs` where all of them could be read.
pub(crate) fn check(
    script: &Script,
    function: &str,
    parameters: &[String],
    needs: Option<&Vec<Need>>,
    hook: Span,
) -> Report {
    let mut scope = Scope::new();
    for object in HOST_OBJECTS {
        scope.push_constant(object, ());
    }
    let ast = match engine().compile_with_scope(&scope, &script.text) {
        Ok(ast) => ast,
        Err(error) => {
            let mut diagnostic = Diagnostic::error(
                NOT_RHAI,
                "the hook is not valid rhai",
                script.span(error.position()),
                error.err_type().to_string(),
            );
            if script.span(error.position()).file != hook.file {
                diagnostic = diagnostic.related(hook, "the hook that asks for this file");
            }
            let diagnostic = diagnostic
                .help("correct the script: hooks are parsed in strict form, so unknown variables are mistakes too");
            return Report { diagnostics: vec![diagnostic], ..Report::default() };
        }
    };
    let mut found = Vec::new();
    let functions: Vec<(String, usize)> =
        ast.iter_functions().map(|known| (known.name.to_owned(), known.params.len())).collect();
    let fits = match functions.iter().find(|(name, _)| name == function) {
        None => {
            found.push(missing(script, function, &functions));
            false
        }
        Some((_, arity)) if *arity != parameters.len() => {
            found.push(
                Diagnostic::error(
                    706,
                    format!("`{function}` takes {arity} parameters, its contract says {}", parameters.len()),
                    hook,
                    "the contract",
                )
                .note(format!("the function is in {}", script.origin))
                .help(format!("write `fn {function}({})`", parameters.join(", "))),
            );
            false
        }
        Some(_) => true,
    };
    let (true, Some(needs)) = (fits, needs) else { return Report { diagnostics: found, ..Report::default() } };
    let mut report = look(script, &ast, parameters, needs);
    report.diagnostics.extend(uncovered(script, &ast, parameters, needs));
    report
}

fn missing(script: &Script, function: &str, functions: &[(String, usize)]) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        701,
        format!("{} has no function `{function}`", script.origin),
        script.asked,
        "asked for here",
    );
    match nearest(function, functions.iter().map(|(name, _)| name.as_str())) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`? the function has the hook's name in snake case")),
        None => diagnostic.help(format!("add `fn {function}(…)`: the hook's name in snake case")),
    }
}

/// Host calls that `needs` does not cover, each kind once, at its first place.
fn uncovered(script: &Script, ast: &AST, parameters: &[String], needs: &[Need]) -> Vec<Diagnostic> {
    let mut calls: Vec<(Call, Position)> = Vec::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Expr(expr)) = path.last() {
            host_calls(expr, parameters, &mut calls);
        }
        true
    });
    let mut said: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for (call, position) in calls {
        let (need, covered) = match &call {
            Call::Guest => ("guest".to_owned(), needs.contains(&Need::Guest)),
            Call::Ssh => ("ssh".to_owned(), needs.contains(&Need::Ssh)),
            Call::Disk => ("disk".to_owned(), needs.contains(&Need::Disk)),
            Call::Net => ("bubble".to_owned(), needs.contains(&Need::Bubble)),
            Call::Http => {
                ("http(\"https://…\")".to_owned(), needs.iter().any(|need| matches!(need, Need::Http { .. })))
            }
            Call::Dns => ("dns(\"…\")".to_owned(), needs.iter().any(|need| matches!(need, Need::Dns { .. }))),
            Call::Mail => ("mail(\"…\")".to_owned(), needs.iter().any(|need| matches!(need, Need::Mail { .. }))),
            Call::Secret(Some(name)) => {
                let held = |need: &Need| matches!(need, Need::Secret { name: known, .. } if known == name);
                (format!("secret({name})"), needs.iter().any(held))
            }
            Call::Secret(None) => {
                ("secret(…)".to_owned(), needs.iter().any(|need| matches!(need, Need::Secret { .. })))
            }
        };
        if !covered && !said.contains(&need) {
            let what = call.words();
            found.push(
                Diagnostic::error(
                    704,
                    format!("the hook {what} and does not say so"),
                    script.span(position),
                    "not covered by `needs`",
                )
                .note("what a hook can reach decides where it may be rehearsed")
                .help(format!("add `{need}` to its `needs`")),
            );
            said.push(need);
        }
    }
    found
}

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Guest,
    Ssh,
    Disk,
    Net,
    Http,
    Dns,
    Mail,
    Secret(Option<String>),
}

impl Call {
    fn words(&self) -> &'static str {
        match self {
            Self::Guest => "works in the guest",
            Self::Ssh => "works in the guest over SSH",
            Self::Disk => "works on the disk",
            Self::Net => "opens connections",
            Self::Http => "calls an outside service",
            Self::Dns => "speaks to a name server",
            Self::Mail => "sends mail",
            Self::Secret(_) => "opens a secret",
        }
    }
}

/// Conservative: only what can be nothing but a host call.
fn host_calls(expr: &Expr, parameters: &[String], calls: &mut Vec<(Call, Position)>) {
    match expr {
        Expr::Dot(pair, ..) => {
            let host = match &pair.lhs {
                Expr::Variable(variable, ..) if !parameters.iter().any(|name| *name == *variable.1) => {
                    Some(Arc::<str>::from(variable.1.as_str()))
                }
                _ => None,
            };
            let method = match &pair.rhs {
                Expr::MethodCall(call, position) => Some((call.name.as_str(), *position)),
                Expr::Dot(inner, ..) => match &inner.lhs {
                    Expr::MethodCall(call, position) => Some((call.name.as_str(), *position)),
                    Expr::Property(property, position) if property.2 == "disk" => Some(("disk", *position)),
                    _ => None,
                },
                _ => None,
            };
            let Some((method, position)) = method else { return };
            let at = pair.lhs.position();
            match (host.as_deref(), method) {
                (Some("http"), _) => calls.push((Call::Http, at)),
                (Some("net"), _) => calls.push((Call::Net, at)),
                (Some("dns"), _) => calls.push((Call::Dns, at)),
                (Some("mail"), _) => calls.push((Call::Mail, at)),
                (Some("log" | "run"), _) => {}
                (_, "exec" | "put") => calls.push((Call::Guest, position)),
                (_, "ssh") => calls.push((Call::Ssh, position)),
                (None, "get") if asks_by_text(&pair.rhs) && is_parameter(&pair.lhs, parameters) => {
                    calls.push((Call::Guest, position));
                }
                (_, "disk") => calls.push((Call::Disk, position)),
                _ => {}
            }
        }
        Expr::FnCall(call, position) if call.name == "secret" => {
            let name = match call.args.first() {
                Some(Expr::StringConstant(name, _)) => Some(name.to_string()),
                _ => None,
            };
            calls.push((Call::Secret(name), *position));
        }
        _ => {}
    }
}

fn is_parameter(expr: &Expr, parameters: &[String]) -> bool {
    matches!(expr, Expr::Variable(variable, ..) if parameters.iter().any(|name| *name == *variable.1))
}

/// The first argument is a text: `m.get("/etc/x")` reads a file, where a list's own `get` takes a number.
fn asks_by_text(expr: &Expr) -> bool {
    let call = match expr {
        Expr::MethodCall(call, _) => call,
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => return asks_by_text(&pair.lhs),
        _ => return false,
    };
    matches!(call.args.first(), Some(Expr::StringConstant(..) | Expr::InterpolatedString(..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str, needs: &[Need]) -> Vec<u16> {
        let file = FileId(0);
        let script = Script::file("h.rhai".into(), file, text.into(), Span::new(file, 0, 0));
        check(&script, "h", &["m".into()], Some(&needs.to_vec()), Span::new(file, 0, 0))
            .diagnostics
            .iter()
            .map(|found| found.code.0)
            .collect()
    }

    #[test]
    fn host_calls_are_held_against_needs() {
        assert_eq!(codes("fn h(m) { m.exec([\"a\"]); }", &[]), [704]);
        assert_eq!(codes("fn h(m) { m.exec([\"a\"]); }", &[Need::Guest]), Vec::<u16>::new());
        assert_eq!(codes("fn h(m) { let r = http.get(\"/\").json(); r }", &[]), [704]);
        assert_eq!(codes("fn h(m) { m.disk.write(\"/etc/x\", `a${m.name}`); }", &[Need::Guest]), [704]);
        assert_eq!(codes("fn h(m) { m.put(\"/etc/x\", \"a\"); }", &[]), [704]);
        assert_eq!(codes("fn h(m) { m.ssh([\"a\"], #{}); }", &[Need::Guest]), [704]);
        assert_eq!(codes("fn h(m) { m.ssh([\"a\"], #{}); }", &[Need::Ssh]), Vec::<u16>::new());
        assert_eq!(codes("fn h(m) { m.get(\"/etc/x\").len() }", &[]), [704]);
        assert_eq!(codes("fn h(m) { m.get(`/etc/${m.name}`) }", &[Need::Guest]), Vec::<u16>::new());
        assert_eq!(codes("fn h(m) { m.get(0) }", &[]), Vec::<u16>::new());
        assert_eq!(codes("fn h(m) { if secret(\"a\") == 1 { net.tcp(m.ip, 80); } }", &[]), [704, 704]);
        assert_eq!(codes("fn h(m) { log.info(`at ${run.attempt}`); [1].map(|x| x + 1); }", &[]), Vec::<u16>::new());
    }

    #[test]
    fn texts_are_parsed_strictly() {
        assert_eq!(codes("fn h(m) { nowhere }", &[]), [702]);
        assert_eq!(codes("fn h(m) { let x = ; }", &[]), [702]);
        assert_eq!(codes("fn g(m) { }", &[]), [701]);
        assert_eq!(codes("fn h(m, n) { }", &[]), [706]);
    }
}
