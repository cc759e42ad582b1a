//! A forecast for people and for other programs.

mod effects;
mod fold;
mod graph;
mod json;
mod picture;
mod table;

pub use effects::effects;
pub(crate) use fold::fold as fold_words;
pub use graph::{dot, mermaid};
pub use json::json;
pub use muster_runsheet::view::words;
pub use picture::svg;
pub(crate) use table::seconds as seconds_words;
pub use table::{Looks, assumptions, clock, table};
