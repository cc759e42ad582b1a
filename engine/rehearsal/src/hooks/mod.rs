//! Hooks tried out by themselves: run once, tested, and read again from the journal of a run.
//!
//! ```text
//!   step of a plan, or words --> HookCase --.
//!                 fakes, cassette, live --> Bench <-- Try --> HookHost (the real one)
//!                                             '-- BenchCall: what was asked, of whom, who answered what
//! ```
//!
//! Real here: the interpreter, its limits, the host with its record and replay, every check of the contract. Pretended: the
//! answers of the world, but for those that somebody has asked to be real, by name.

mod bench;
mod case;
mod cassette;
mod fakes;
mod play;
mod run;
mod trace;
mod trials;

pub use bench::{AnsweredBy, BenchCall, call_line};
pub use case::{HookCase, hook_case_of_step, hook_cases};
pub use cassette::{CASSETTE_BYTES_MAX, CASSETTE_FORMAT, Cassette};
pub use fakes::{FAKES_BYTES_MAX, FAKES_FORMAT, Fakes};
pub use run::{HookRun, HookWorld, run_hook};
pub use trace::{HookTrace, TracedCall, trace_hook};
pub use trials::{HookTrial, HookVerdict, test_hook};

/// The limits of one attempt.
pub fn limits() -> muster_hooks::Budget {
    muster_hooks::Budget::default()
}
