//! The literate suite of the language: Markdown pages whose examples are checked, and whose messages are written beneath
//! the lines they are about.
//!
//! ```text
//! *.md -> pages (sections, blocks) -> texts without messages -> muster_compiler::check -> messages beneath their lines
//!                                                                                      -> compared with the page
//! ```
//!
//! A page is prose with examples. Blocks in front of the first `##` are known to every section of the page, those of
//! `estate.md` to every page. A section is one check: its blocks are the files, named behind the language
//! (`plan shop.plan`); a block without a name is `case.plan`. A block named `plan shop.plan fixed` is what
//! `muster check --fix` makes of `shop.plan`.
//!
//! What it is not: a test of operations or of the engine.

pub mod annotate;
pub mod page;

pub use annotate::{Outcome, check_section};
pub use page::{Block, Page, Section};
