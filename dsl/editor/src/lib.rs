//! `muster fmt`: one canonical layout of a `.plan` file.
//!
//! Architecture invariant: reads the lossless tree only. A file with syntax errors is never changed, a comment never lost, and
//! what the file means stays what it was.

mod layout;
mod line;

use muster_diagnostics::{Diagnostic, FileId};
use muster_syntax::parse;

/// The first line of a file that did not name its edition.
const EDITION_LINE: &str = "edition 2026\n";

/// The file in canonical layout; its syntax errors when it has any.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let first = parse(FileId(0), text);
    if first.has_errors() {
        return Err(first.diagnostics);
    }
    let formatted = layout::file(&first.tree);
    if first.ast.edition.is_none() {
        let separator = if formatted.is_empty() { "" } else { "\n" };
        return Ok(format!("{EDITION_LINE}{separator}{formatted}"));
    }
    Ok(formatted)
}
