//! The front door: what `cargo demo` and `cargo verify` do before and around the real thing.
//!
//! Small on purpose: it builds in seconds, says what it is about to install, and only then builds the rest.
//!
//! ```text
//!   machine   what this computer can do, and the Debian packages that make it do more
//!   muster    the built binary, driven as a user would: words in, text and exit code out
//!   estate    two sites with the shop on one of them: real machines, or simulated ones over real image files
//!   story     the main job, told once and played on either estate; it measures what it sees
//! ```

pub mod estate;
pub mod machine;
pub mod muster;
pub mod real;
pub mod simulated;
pub mod story;
pub mod summary;

/// What goes wrong here ends the show; it says what and where.
pub type Result<T> = std::result::Result<T, String>;

/// Puts what was being done before an error.
pub fn during<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}
