//! `plan.lock`: which texts of others were reviewed. One line a file, as `b3sum` prints it.
//!
//! ```text
//! 5f1c…  vendor/acme/lb@1.4.plan
//! ```
//!
//! What lies below `vendor/` is read only when its text is the one that is locked: E0213.

use crate::context::Context;
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::Hash;

pub(crate) const LOCK_PATH: &str = "plan.lock";
const VENDOR: &str = "vendor/";
/// Hex digits of a BLAKE3.
const DIGITS: usize = 64;

/// The file of `use acme/lb@1.4`.
pub(crate) fn vendored(path: &str) -> Option<String> {
    let name = path.split_once('@').is_some_and(|(name, version)| name.contains('/') && !version.is_empty());
    (name && !path.starts_with('.')).then(|| format!("{VENDOR}{path}.plan"))
}

/// A file of others, by its place.
pub(crate) fn is_vendored(path: &str) -> bool {
    path.starts_with(VENDOR)
}

/// Whether the text may be read; says why not, at the place that asks for it.
pub(crate) fn check(cx: &mut Context<'_>, path: &str, text: &str, asked: Span) -> Option<()> {
    if !is_vendored(path) {
        return Some(());
    }
    let hash = Hash::of(text).0;
    let line = format!("`{hash}  {path}`");
    let Some(lock) = cx.world.read(LOCK_PATH) else {
        return cx.report(
            Diagnostic::error(213, format!("`{path}` is not locked"), asked, "a text of others")
                .note(format!("there is no `{LOCK_PATH}` beside the plans"))
                .help(format!("review the text, then write this line into `{LOCK_PATH}`: {line}")),
        );
    };
    match locked(&lock, path) {
        Ok(Some(known)) if known == hash => Some(()),
        Ok(Some(_)) => cx.report(
            Diagnostic::error(213, format!("`{path}` is not the text that was locked"), asked, "has changed since")
                .help(format!("bring the old text back; or review the new one and lock it: {line}")),
        ),
        Ok(None) => cx.report(
            Diagnostic::error(213, format!("`{path}` is not locked"), asked, "a text of others")
                .help(format!("review the text, then add this line to `{LOCK_PATH}`: {line}")),
        ),
        Err((start, end)) => {
            let known = cx.sources.iter().find(|(_, file)| file.path == LOCK_PATH).map(|(id, _)| id);
            let file = known.unwrap_or_else(|| cx.sources.add(LOCK_PATH, lock));
            cx.report(
                Diagnostic::error(213, "this is not a line of a lock", Span::new(file, start, end), "not readable")
                    .help("a line is a BLAKE3 and a path, as `b3sum` prints them"),
            )
        }
    }
}

/// The hash of a path; the place of a line that is none.
fn locked<'l>(lock: &'l str, path: &str) -> Result<Option<&'l str>, (u32, u32)> {
    let mut found = None;
    let mut start = 0u32;
    for line in lock.split_inclusive('\n') {
        let text = line.trim_end();
        let end = start + u32::try_from(text.len()).unwrap_or(0);
        if !text.is_empty() && !text.starts_with('#') {
            let (hash, of) = text.split_once("  ").ok_or((start, end))?;
            if hash.len() != DIGITS || !hash.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
                return Err((start, end));
            }
            if of == path {
                found = Some(hash);
            }
        }
        start = start.saturating_add(u32::try_from(line.len()).unwrap_or(0));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_what_b3sum_prints() {
        let hash = Hash::of("text").0;
        let lock = format!("# reviewed by Anna\n{hash}  vendor/acme/lb@1.4.plan\n\n{}  other\n", Hash::of("").0);
        assert_eq!(locked(&lock, "vendor/acme/lb@1.4.plan"), Ok(Some(hash.as_str())));
        assert_eq!(locked(&lock, "vendor/acme/lb@1.5.plan"), Ok(None));
        assert_eq!(locked("vendor/a sha256\n", "x"), Err((0, 15)));
        assert_eq!(locked("# a\nAB  x\n", "x"), Err((4, 9)));
    }

    #[test]
    fn only_versions_are_of_others() {
        assert_eq!(vendored("acme/lb@1.4"), Some("vendor/acme/lb@1.4.plan".into()));
        for own in ["./sites", "std/mssql", "sites", "lb@1.4", "acme/lb@", "./acme/lb@1"] {
            assert_eq!(vendored(own), None, "{own}");
        }
    }
}
