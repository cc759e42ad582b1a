//! What a hook's text asks of its host, found without running it: calls that the host does not know (E0703), loops that
//! wait for nothing (E0709), and what of its `needs` it never uses (E0710).
//!
//! Rhai finds out about a misspelt call when it gets there. Here every name that is called is held against the names there
//! are: those of the host, of rhai's packages that hooks get, and of the script itself.

use crate::script::Script;
use crate::suggest::{listed, nearest};
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{Duration, Need};
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicStringPackage,
    LogicPackage, MoreStringPackage, Package,
};
use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Position, Stmt};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// The calls of each object that the host gives to a script.
const OBJECTS: [(&str, &[&str]); 6] = [
    ("http", &["get", "put", "post", "patch", "delete"]),
    ("net", &["tcp", "http"]),
    ("dns", &["lookup", "replace"]),
    ("mail", &["send"]),
    ("log", &["info", "warn"]),
    ("run", &["deadline"]),
];
/// Of a machine, in its guest and on its disk.
const MACHINE: [&str; 3] = ["exec", "put", "get"];
const SSH: &str = "ssh";
const DISK: [&str; 3] = ["read", "write", "patch"];
/// Plain words of the host.
const WORDS: [&str; 11] = [
    "secret",
    "checkpoint",
    "saved",
    "now",
    "random",
    "sleep",
    "fail",
    "retry_later",
    "skip",
    "parse_json",
    "parse_int",
];
/// Of values that the host gives: a reply is read with `json`.
const VALUES: [&str; 3] = ["json", "to_string", "to_debug"];
/// Built into the language itself.
const BUILT_IN: [&str; 6] = ["call", "curry", "is_def_var", "is_def_fn", "is_shared", "type_of"];

/// Names of rhai's own functions that hooks have.
fn standard() -> &'static BTreeSet<String> {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut engine = Engine::new_raw();
        ArithmeticPackage::new().register_into_engine(&mut engine);
        BasicStringPackage::new().register_into_engine(&mut engine);
        BasicIteratorPackage::new().register_into_engine(&mut engine);
        BasicFnPackage::new().register_into_engine(&mut engine);
        LogicPackage::new().register_into_engine(&mut engine);
        MoreStringPackage::new().register_into_engine(&mut engine);
        BasicArrayPackage::new().register_into_engine(&mut engine);
        BasicMapPackage::new().register_into_engine(&mut engine);
        let names = engine.collect_fn_metadata(None, |found| Some(found.metadata.name.to_string()), true);
        names.into_iter().chain(BUILT_IN.map(str::to_owned)).collect()
    })
}

/// What a text was found to do.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub diagnostics: Vec<Diagnostic>,
    /// For each of the needs: whether some call may use it.
    pub used: Vec<bool>,
    /// The longest `sleep` of a length that is written there.
    pub sleep: Option<(Duration, Span)>,
}

/// Looks at every call and loop of a text that is valid rhai.
pub(crate) fn look(script: &Script, ast: &AST, parameters: &[String], needs: &[Need]) -> Report {
    let own: BTreeSet<String> = ast.iter_functions().map(|function| function.name.to_owned()).collect();
    let mut look =
        Look { script, parameters, own, report: Report::default(), seen: Seen::default(), said: BTreeSet::new() };
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        match path.last() {
            Some(ASTNode::Expr(expr)) => look.expr(expr),
            Some(ASTNode::Stmt(stmt)) => look.stmt(stmt),
            _ => {}
        }
        true
    });
    let seen = &look.seen;
    look.report.used = needs.iter().map(|need| seen.uses(need)).collect();
    look.report
}

/// Ways in which a text reaches out.
#[derive(Debug, Default)]
struct Seen {
    machine: bool,
    ssh: bool,
    disk: bool,
    objects: BTreeSet<String>,
    secrets: BTreeSet<String>,
    /// A secret whose name is computed: any of them.
    any_secret: bool,
}

impl Seen {
    fn uses(&self, need: &Need) -> bool {
        match need {
            Need::Guest => self.machine,
            Need::Ssh => self.ssh,
            Need::Disk => self.disk,
            Need::Bubble => self.objects.contains("net"),
            Need::Http { .. } => self.objects.contains("http"),
            Need::Dns { .. } => self.objects.contains("dns"),
            Need::Mail { .. } => self.objects.contains("mail"),
            Need::Authority { .. } => ["http", "mail"].iter().any(|object| self.objects.contains(*object)),
            // The host may sign a request with it.
            Need::Secret { name, .. } => self.any_secret || self.secrets.contains(name) || self.reaches_outside(),
        }
    }
    fn reaches_outside(&self) -> bool {
        ["http", "dns", "mail"].iter().any(|object| self.objects.contains(*object))
    }
}

struct Look<'a> {
    script: &'a Script,
    parameters: &'a [String],
    own: BTreeSet<String>,
    report: Report,
    seen: Seen,
    said: BTreeSet<String>,
}

impl Look<'_> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Dot(pair, ..) => {
                if let Expr::Variable(variable, ..) = &pair.lhs
                    && !self.parameters.iter().any(|name| *name == *variable.1)
                    && let Some((object, calls)) = OBJECTS.iter().find(|(object, _)| *variable.1 == **object)
                {
                    self.seen.objects.insert((*object).to_owned());
                    if let Some((call, position)) = first_call(&pair.rhs) {
                        self.of_object(object, calls, &call.name, position);
                    }
                }
            }
            Expr::Property(property, _) if property.2 == "disk" => self.seen.disk = true,
            Expr::MethodCall(call, position) => {
                let name = call.name.as_str();
                self.seen.machine |= MACHINE.contains(&name);
                self.seen.ssh |= name == SSH;
                self.seen.disk |= name == "disk";
                self.known(call, *position, true);
            }
            Expr::FnCall(call, position) => self.call(call, *position),
            _ => {}
        }
    }

    fn call(&mut self, call: &FnCallExpr, position: Position) {
        match (call.name.as_str(), call.args.first()) {
            ("secret", Some(Expr::StringConstant(name, _))) => {
                self.seen.secrets.insert(name.to_string());
            }
            ("secret", _) => self.seen.any_secret = true,
            ("sleep", Some(length)) => {
                let written = match length {
                    Expr::IntegerConstant(seconds, _) => u64::try_from(*seconds).ok().map(Duration::from_secs),
                    Expr::StringConstant(text, _) => text.parse().ok(),
                    _ => None,
                };
                let longest = self.report.sleep.as_ref().map_or(Duration::ZERO, |(longest, _)| *longest);
                if let Some(written) = written.filter(|written| *written > longest) {
                    self.report.sleep = Some((written, self.script.span(position)));
                }
            }
            _ => {}
        }
        self.known(call, position, false);
    }

    /// A call of an object of the host, which knows few.
    fn of_object(&mut self, object: &str, calls: &[&str], name: &str, position: Position) {
        if calls.contains(&name) || !self.said.insert(format!("{position:?}")) {
            return;
        }
        let span = self.script.span(position);
        let diagnostic = Diagnostic::error(703, format!("`{object}` has no `{name}`"), span, "unknown host call");
        self.report.diagnostics.push(match nearest(name, calls.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(span, near, Applicability::Maybe),
            None => diagnostic.help(format!("it has {}", listed(calls.iter().copied()))),
        });
    }

    fn known(&mut self, call: &FnCallExpr, position: Position, method: bool) {
        let name = call.name.as_str();
        let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let of_host = || {
            OBJECTS.iter().flat_map(|(_, calls)| calls.iter()).chain(&MACHINE).chain([&SSH]).chain(&DISK).chain(&VALUES)
        };
        let exists = standard().contains(name)
            || self.own.contains(name)
            || WORDS.contains(&name)
            || method && of_host().any(|known| *known == name)
            || self.parameters.iter().any(|parameter| parameter == name);
        if exists || !is_word || call.is_qualified() || !self.said.insert(format!("{position:?}")) {
            return;
        }
        let span = self.script.span(position);
        let known: Vec<&str> = match method {
            true => of_host().copied().chain(self.own.iter().map(String::as_str)).collect(),
            false => WORDS.iter().copied().chain(self.own.iter().map(String::as_str)).collect(),
        };
        let near =
            nearest(name, known.iter().copied()).or_else(|| nearest(name, standard().iter().map(String::as_str)));
        let diagnostic = Diagnostic::error(703, format!("there is no call `{name}`"), span, "unknown call")
            .note("a script finds out about a misspelt call only when it gets there");
        self.report.diagnostics.push(match near {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(span, near, Applicability::Maybe),
            None => diagnostic.help(format!("the host has {}", listed(known))),
        });
    }

    fn stmt(&mut self, stmt: &Stmt) {
        let position = match stmt {
            Stmt::FnCall(call, position) => return self.call(call, *position),
            Stmt::While(_, position) | Stmt::Do(_, _, position) => *position,
            _ => return,
        };
        if waits_for_nothing(stmt) {
            self.report.diagnostics.push(
                Diagnostic::warning(
                    709,
                    "this loop waits for nothing",
                    self.script.span(position),
                    "never ends by itself",
                )
                .note("nothing in it asks the host, and nothing in it changes what it waits for")
                .help("ask inside it and `sleep` between, or count to an end: `for i in 0..10`"),
            );
        }
    }
}

/// The method that is called first in `a.b().c()`.
fn first_call(expr: &Expr) -> Option<(&FnCallExpr, Position)> {
    match expr {
        Expr::MethodCall(call, position) => Some((call, *position)),
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => first_call(&pair.lhs),
        _ => None,
    }
}

/// A loop without a call that could change anything, without an end inside, and whose condition nothing inside touches.
fn waits_for_nothing(stmt: &Stmt) -> bool {
    let (Stmt::While(flow, _) | Stmt::Do(flow, ..)) = stmt else { return false };
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut calls = false;
    flow.expr.walk(&mut Vec::new(), &mut |path: &[ASTNode<'_>]| {
        match path.last() {
            Some(ASTNode::Expr(Expr::Variable(variable, ..))) => {
                asked.insert(variable.1.to_string());
            }
            Some(ASTNode::Expr(Expr::MethodCall(..))) => calls = true,
            Some(ASTNode::Expr(Expr::FnCall(call, _))) => {
                calls |= call.name.starts_with(|c: char| c.is_ascii_alphabetic());
            }
            _ => {}
        }
        true
    });
    let mut ends = calls;
    for inner in flow.body.statements() {
        inner.walk(&mut Vec::new(), &mut |path: &[ASTNode<'_>]| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::BreakLoop(..) | Stmt::Return(..))) => ends = true,
                Some(ASTNode::Stmt(Stmt::Assignment(pair))) => {
                    ends |= root(&pair.1.lhs).is_some_and(|name| asked.contains(name));
                }
                Some(ASTNode::Expr(Expr::MethodCall(..))) => ends = true,
                Some(ASTNode::Expr(Expr::FnCall(call, _)) | ASTNode::Stmt(Stmt::FnCall(call, _))) => {
                    ends |= call.name.starts_with(|c: char| c.is_ascii_alphabetic());
                }
                _ => {}
            }
            true
        });
    }
    !ends
}

/// `a` of `a.b[0]`.
fn root(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Variable(variable, ..) => Some(variable.1.as_str()),
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => root(&pair.lhs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::script::{Script, check};
    use muster_diagnostics::{FileId, Span};
    use muster_runsheet::Need;

    fn codes(body: &str) -> Vec<u16> {
        let file = FileId(0);
        let text = format!("fn h(m) {{ {body} }}\nfn helper(x) {{ x + 1 }}\n");
        let script = Script::file("h.rhai".into(), file, text, Span::new(file, 0, 0));
        let needs = vec![Need::Guest, Need::Bubble, Need::Http { origin: "https://a".into() }];
        let report = check(&script, "h", &["m".into()], Some(&needs), Span::new(file, 0, 0));
        report.diagnostics.iter().map(|found| found.code.0).collect()
    }

    #[test]
    fn calls_that_nobody_has_are_found() {
        for known in [
            "m.exec([\"a\"]);",
            "let r = http.get(\"/\").json(); log.info(`${r}`);",
            "helper(1); [1, 2].map(|x| x + 1).filter(|x| x > 1);",
            "let t = \"a b\".split(\" \"); t.len(); t.push(\"c\"); parse_int(t[0]).to_string();",
            "if net.tcp(m.ip, 80) { throw fail(\"no\"); }",
            "let i = 0; while i < 3 { i += 1; }",
            "for i in 0..3 { sleep(20); }",
            "loop { if m.exec([\"a\"]).code == 0 { break; } sleep(\"5s\"); }",
        ] {
            assert_eq!(codes(known), Vec::<u16>::new(), "{known}");
        }
        for unknown in
            ["m.state();", "m.exce([\"a\"]);", "http.gte(\"/\");", "retry_latter(\"x\");", "log.error(\"x\");"]
        {
            assert_eq!(codes(unknown), [703], "{unknown}");
        }
    }

    #[test]
    fn loops_that_wait_for_nothing_are_found() {
        assert_eq!(codes("let done = false; while !done { let x = 1; }"), [709]);
        assert_eq!(codes("loop { let x = 1; }"), [709]);
        assert_eq!(codes("loop { if m.name == \"a\" { return; } }"), Vec::<u16>::new());
    }

    #[test]
    fn what_is_used_and_how_long_it_sleeps_is_known() {
        let file = FileId(0);
        let text = "fn h(m) { m.exec([\"a\"]); sleep(\"5m\"); sleep(20); }";
        let script = Script::file("h.rhai".into(), file, text.into(), Span::new(file, 0, 0));
        let needs = vec![Need::Guest, Need::Bubble];
        let report = check(&script, "h", &["m".into()], Some(&needs), Span::new(file, 0, 0));
        assert_eq!(report.used, [true, false]);
        assert_eq!(report.sleep.map(|(length, _)| length.to_string()).as_deref(), Some("5m"));
    }
}
