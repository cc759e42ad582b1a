//! What the compiler says: spans, one [`Diagnostic`] for terminal, JSON and editor alike, and one page per code.
//!
//! Text in, words out: no I/O, no colour decisions (the renderer takes a flag).

pub mod diagnostic;
pub mod fixes;
pub mod nearest;
pub mod pages;
pub mod render;
pub mod sarif;
pub mod source;

pub use diagnostic::{Applicability, Code, Diagnostic, Fix, Label, Severity};
pub use nearest::{nearest, only_nearest};
pub use pages::{explain, parse_code};
pub use render::{CHECK_FORMAT, CheckReport, Located, LocatedFix, RenderOptions, located, render};
pub use source::{FileId, SourceFile, SourceMap, Span};
