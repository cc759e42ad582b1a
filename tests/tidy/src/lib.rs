//! House rules as tests: the top level, the arrows between crates, and what no file may hold.
//!
//! Nothing lives here but `tests/`; run it with `cargo test -p muster-tidy`.
