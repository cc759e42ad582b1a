//! From text to shape. Parsing never fails: it returns a tree and diagnostics.
//!
//! Architecture invariant: no pest type leaves this crate.

pub mod ast;
pub mod tree;

use muster_diagnostics::{Diagnostic, FileId, Span};
use std::sync::Arc;

/// All that one file gave.
#[derive(Clone, Debug)]
pub struct Parse {
    /// What could be read; the rest is in `diagnostics`.
    pub ast: ast::File,
    pub tree: tree::Tree,
    pub diagnostics: Vec<Diagnostic>,
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
    let _ = file;
    let root = tree::Node {
        kind: tree::NodeKind::File,
        range: 0..text.len(),
        children: vec![tree::Element::Token(tree::Token { kind: tree::TokenKind::Junk, range: 0..text.len() })],
    };
    Parse { ast: ast::File::default(), tree: tree::Tree::new(Arc::from(text), root), diagnostics: Vec::new() }
}
