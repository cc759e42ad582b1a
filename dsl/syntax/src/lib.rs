//! From text to shape. Parsing never fails: it returns a tree and diagnostics.
//!
//! Architecture invariant: no pest type leaves this crate.

pub mod ast;
