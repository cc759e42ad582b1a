//! Names of the language for names of the world: every word once, none that means something already.

use std::collections::{BTreeMap, BTreeSet};

/// Characters of a name; longer ones are cut.
const NAME_MAX: usize = 40;

/// Words of the language, conditions, and what is always in scope.
const TAKEN: &[&str] = &[
    "edition",
    "use",
    "as",
    "let",
    "secret",
    "site",
    "network",
    "route",
    "resolver",
    "test",
    "isolated",
    "window",
    "team",
    "policy",
    "group",
    "like",
    "hook",
    "probe",
    "list",
    "template",
    "plan",
    "move",
    "back",
    "stage",
    "after",
    "before",
    "down",
    "parallel",
    "require",
    "start",
    "stop",
    "create",
    "from",
    "check",
    "run",
    "apply",
    "approve",
    "manual",
    "by",
    "wait",
    "notify",
    "in",
    "turn",
    "within",
    "expect",
    "usually",
    "retry",
    "every",
    "else",
    "pause",
    "continue",
    "undo",
    "when",
    "place",
    "machine",
    "at",
    "for",
    "compile",
    "simulate",
    "seed",
    "given",
    "engine",
    "crashes",
    "step",
    "unreachable",
    "fails",
    "times",
    "answered",
    "yes",
    "no",
    "never",
    "error",
    "live",
    "planned",
    "unplanned",
    "failback",
    "out",
    "any",
    "anyone",
    "none",
    "latest",
    "target",
    "source",
    "point",
    "loss",
    "guest",
    "disk",
    "bubble",
    "tcp",
    "http",
    "https",
    "command",
    "sql",
    "select",
    "keyring",
    "len",
    "true",
    "false",
    "vault",
    "through",
    "online",
    "offline",
    "continuous",
    "file",
    "body",
    "needs",
    "machines",
    "text",
    "int",
    "bool",
    "duration",
    "size",
    "rate",
    "percent",
    "ip",
    "cidr",
    "mac",
    "port",
    "service",
    "mail",
    "dns",
    "log",
    "net",
    "fail",
    "saved",
    "checkpoint",
    "guest-service",
    "end",
];

/// A name as the language writes names: `SQL PROD (01)` is `sql-prod-01`.
pub(crate) fn slug(text: &str, fallback: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        let character = character.to_ascii_lowercase();
        if character.is_ascii_alphanumeric() {
            name.push(character);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() >= NAME_MAX {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    match name.chars().next() {
        None => fallback.to_owned(),
        Some(first) if first.is_ascii_lowercase() => name.to_owned(),
        Some(_) => format!("{fallback}-{name}"),
    }
}

/// Words that cannot name a stage or a step: the grammar's own, and the name that the end of a stage has.
const TAKEN_IN_PLANS: &[&str] =
    &["edition", "use", "when", "stage", "after", "down", "parallel", "within", "retry", "else", "every", "end"];

/// Gives each thing a name that nothing else has.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
    given: BTreeMap<String, String>,
    in_plan: bool,
}

impl Names {
    /// Names of stages, or of the steps of one stage: they stand in the place of nothing else.
    pub(crate) fn in_plan() -> Self {
        Self { in_plan: true, ..Self::default() }
    }

    /// A new name close to `text`.
    pub(crate) fn give(&mut self, text: &str, fallback: &str) -> String {
        let wish = slug(text, fallback);
        let taken = if self.in_plan { TAKEN_IN_PLANS } else { TAKEN };
        let mut name = wish.clone();
        let mut number = 2usize;
        while taken.contains(&name.as_str()) || self.taken.contains(&name) {
            name = format!("{wish}-{number}");
            number += 1;
        }
        self.taken.insert(name.clone());
        name
    }

    /// The name of the thing with this key; a new one when it has none yet.
    pub(crate) fn of(&mut self, key: &str, text: &str, fallback: &str) -> String {
        if let Some(name) = self.given.get(key) {
            return name.clone();
        }
        let name = self.give(text, fallback);
        self.given.insert(key.to_owned(), name.clone());
        name
    }

    pub(crate) fn known(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str)
    }
}

/// What the names of machines begin with, when all begin alike: `sql` of `sql-01` and `sql-02`.
pub(crate) fn common_word(names: &[String]) -> Option<String> {
    let word = |name: &String| name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
    let first = word(names.first()?);
    (first.len() > 1 && names.iter().all(|name| word(name) == first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_the_language() {
        assert_eq!(slug("SQL PROD (01)", "machine"), "sql-prod-01");
        assert_eq!(slug("01-web", "machine"), "machine-01-web");
        assert_eq!(slug("日本", "site"), "site");
        assert_eq!(slug("--", "x"), "x");
        let mut names = Names::default();
        assert_eq!(names.give("db", "m"), "db");
        assert_eq!(names.give("DB", "m"), "db-2");
        assert_eq!(names.give("stage", "m"), "stage-2");
        assert_eq!(Names::in_plan().give("dns", "step"), "dns");
        assert_eq!(Names::in_plan().give("end", "step"), "end-2");
        assert_eq!(names.of("id-1", "App", "m"), names.of("id-1", "other", "m"));
    }

    #[test]
    fn machines_with_one_word_name_their_stage() {
        let names = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(common_word(&names(&["sql-01", "sql-02"])), Some("sql".into()));
        assert_eq!(common_word(&names(&["sql-01", "app-02"])), None);
        assert_eq!(common_word(&[]), None);
    }
}
