//! The vocabulary that ships inside the binary: modules written in the language itself with the scripts of their hooks,
//! and the table of timings.
//!
//! Data, no behaviour: the compiler reads these texts as it reads a user's. They are versioned with the edition.

/// Every module: its path, its text, and its scripts when it has hooks.
macro_rules! library {
    (modules: [$($module:literal),* $(,)?], scripts: [$($script:literal),* $(,)?] $(,)?) => {
        /// Modules of the standard library, for suggestions and completion.
        pub const MODULES: &[&str] = &[$(concat!("std/", $module)),*];
        const TEXTS: &[(&str, &str)] =
            &[$((concat!("std/", $module), include_str!(concat!("../", $module, ".plan")))),*];
        const SCRIPTS: &[(&str, &str)] =
            &[$((concat!("std/", $script, ".rhai"), include_str!(concat!("../", $script, ".rhai")))),*];
    };
}

library! {
    modules: [
        "probe",
        "active-directory",
        "dns",
        "kubernetes",
        "load-balancer",
        "mssql",
        "mysql",
        "notify",
        "oracle",
        "postgres",
        "three-tier",
    ],
    scripts: [
        "probe",
        "active-directory",
        "dns",
        "dns-http",
        "kubernetes",
        "load-balancer",
        "load-balancer-here",
        "mssql",
        "mysql",
        "notify",
        "notify-mail",
        "oracle",
        "postgres",
    ],
}

/// The table of default limits and assumed durations, as text.
pub const TIMINGS: &str = include_str!("../timings");

/// The scripts of the hooks of a module, as its `.plan` names them: `std/postgres.rhai`.
pub fn script(path: &str) -> Option<&'static str> {
    SCRIPTS.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}

/// The text of a module of the standard library: `std/probe`.
pub fn module(path: &str) -> Option<&'static str> {
    TEXTS.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}

/// What the world answers to the hooks of the library when they are tested, as JSON: `muster.fakes/1`.
pub const FAKES: &str = include_str!("../fakes.json");

/// What healthy guests print in a rehearsal, as text.
const REHEARSED: &str = include_str!("../rehearsed");

/// What a command in a guest prints in a rehearsal, by a part of the command: the first that fits.
pub fn rehearsed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = REHEARSED.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" => "))
}

/// One line of [`TIMINGS`]. Durations are in the language's own spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub verb: &'static str,
    /// The limit of a step that names none.
    pub within: &'static str,
    /// How long it is assumed to take while nothing has been measured.
    pub assumed: &'static str,
    /// Further attempts after a passing failure.
    pub retries: u32,
    pub doc: &'static str,
}

/// All lines of the table, in its order.
pub fn timings() -> impl Iterator<Item = Timing> {
    TIMINGS.lines().filter_map(parse)
}

pub fn timing(verb: &str) -> Option<Timing> {
    timings().find(|timing| timing.verb == verb)
}

fn parse(line: &'static str) -> Option<Timing> {
    let mut rest = line.split('#').next()?.trim();
    let mut word = || {
        let (head, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = tail.trim_start();
        (!head.is_empty()).then_some(head)
    };
    let (verb, within, assumed, retries) = (word()?, word()?, word()?, word()?.parse().ok()?);
    Some(Timing { verb, within, assumed, retries, doc: rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read_once() {
        let lines = TIMINGS.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
        let mut verbs: Vec<_> = timings().map(|timing| timing.verb).collect();
        assert_eq!(verbs.len(), lines);
        verbs.sort();
        verbs.dedup();
        assert_eq!(verbs.len(), lines, "a verb stands twice");
        assert_eq!(timing("start").map(|timing| timing.within), Some("8m"));
        assert!(timings().all(|timing| !timing.doc.is_empty()));
    }

    #[test]
    fn every_rehearsed_answer_is_read() {
        let lines = REHEARSED.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(rehearsed().count(), lines);
        assert!(rehearsed().any(|answer| answer == ("pg_is_in_recovery", "f")));
    }

    #[test]
    fn modules_are_found_by_path() {
        assert!(MODULES.iter().all(|path| module(path).is_some()));
        assert!(module("std/nothing").is_none());
    }
}
