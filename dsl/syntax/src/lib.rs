//! From text to shape. Parsing never fails: it returns a tree and diagnostics.
//!
//! ```text
//! text -> scan (texts, comments, brackets; mends a copy) -> grammar (plan.pest) -> grow  (lossless tree)
//!                                                                              \-> build (typed view) + explain (junk lines)
//! ```
//!
//! Architecture invariant: no pest type leaves this crate.

pub mod ast;
mod build;
mod build_steps;
mod build_tests;
mod build_values;
mod explain;
mod grammar;
mod grow;
mod layout;
mod repair;
mod scan;
mod texts;
pub mod tree;

pub use texts::{Segment, block_offset, common_indent, interpolations, segments};

use muster_diagnostics::{Diagnostic, FileId, Span};
use std::sync::Arc;

/// Messages about one file. Who has more reads these first.
const DIAGNOSTICS_MAX: usize = 100;

/// All that one file gave.
#[derive(Clone, Debug)]
pub struct Parse {
    /// What could be read; the rest is in `diagnostics`.
    pub ast: ast::File,
    pub tree: tree::Tree,
    /// In the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Lines and whole blocks that could not be read and are missing in the typed view. Nothing is to be concluded from
    /// what they would have said.
    pub unread: Vec<Span>,
}

impl Parse {
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// True when something inside `span` could not be read: later phases then do not report what seems to be missing there.
    pub fn is_damaged(&self, span: Span) -> bool {
        self.diagnostics.iter().any(|diagnostic| {
            let place = diagnostic.primary.span;
            diagnostic.is_error() && place.file == span.file && place.start >= span.start && place.end <= span.end
        })
    }
}

/// Reads one file. Never fails, never panics; what it cannot read it reports and leaves out.
pub fn parse(file: FileId, text: &str) -> Parse {
    if text.len() > scan::FILE_BYTES_MAX {
        let message = format!("this file is larger than {} KiB", scan::FILE_BYTES_MAX / 1024);
        let diagnostic = Diagnostic::error(110, message, Span::new(file, 0, 0), "not read")
            .help("split it into files and `use` them");
        return unread(text, diagnostic);
    }
    let mut scan = scan::scan(file, text);
    let mut diagnostics = std::mem::take(&mut scan.diagnostics);
    let Ok(pairs) = grammar::read_file(&scan.mended) else {
        // Every line has `junk` as its last shape, so this is not reached by any text known; it must still not be silent.
        let diagnostic =
            Diagnostic::error(109, "this file cannot be read", Span::new(file, 0, 0), "no part of it was understood")
                .help("compare it with an example; this is also worth a report to the makers of muster");
        diagnostics.push(diagnostic.clone());
        return Parse { diagnostics, ..unread(text, diagnostic) };
    };
    let mut builder = build::Builder { source: text, scan: &scan, diagnostics, unread: Vec::new() };
    let ast = builder.file(&pairs);
    let unread = builder.unread;
    let mut diagnostics = builder.diagnostics;
    diagnostics.sort_by_key(|diagnostic| diagnostic.primary.span.start);
    diagnostics.truncate(DIAGNOSTICS_MAX);
    let root = grow::Grower { source: text, scan: &scan }.root(pairs);
    Parse { ast, tree: tree::Tree::new(Arc::from(text), root), diagnostics, unread }
}

fn unread(text: &str, diagnostic: Diagnostic) -> Parse {
    let range = 0..text.len();
    let token = tree::Element::Token(tree::Token { kind: tree::TokenKind::Junk, range: range.clone() });
    let root = tree::Node { kind: tree::NodeKind::File, range, children: vec![token] };
    let whole = Span::new(diagnostic.primary.span.file, 0, u32::try_from(text.len()).unwrap_or(u32::MAX));
    Parse {
        ast: ast::File::default(),
        tree: tree::Tree::new(Arc::from(text), root),
        diagnostics: vec![diagnostic],
        unread: vec![whole],
    }
}
