//! The front door: what `cargo demo` and `cargo verify` do before and around the real thing.
//!
//! Small on purpose: it builds in seconds, says what it is about to install, and only then builds the rest.

pub mod machine;
