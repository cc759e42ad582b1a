//! Views of a runsheet for people: the time-first table, mermaid and dot. And the estimate they show.
//!
//! Pure: nothing measured, nothing asked. A duration that nobody has measured or written is *assumed*, and marked.

mod estimate;
mod graph;
mod table;

pub use estimate::{Estimate, Span};
pub use graph::{dot, mermaid};
pub use table::{probe_words, table, words};
