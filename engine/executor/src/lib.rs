//! Carries out a runsheet: a pure `decide` over the folded journal, and a thin driver that does what it says.
//!
//! ```text
//!   journal -- fold --> RunState -- decide(chart, state, now) --> [Do] -- driver --> records, attempts
//!      ^                                                                     |
//!      '---- durable before the effect and after it --------- StepRunner <---'
//! ```
//!
//! It knows no site and no machine: what a step does is the runner's. It never recompiles: the stored runsheet is all.
//!
//! Delivery is at-least-once: a crash between an effect and its record makes the effect be asked for again, with the same
//! key. That it happens once is what observing, keys and recorded calls make of it.

pub mod agenda;
mod attempt;
pub mod chart;
pub mod command;
pub mod decide;
mod driver;
pub mod executor;
pub mod observer;
pub mod runner;
mod scribe;
mod semaphores;
pub mod testing;
pub mod text;

pub use agenda::Agenda;
pub use chart::Chart;
pub use command::{Command, CommandReceiver, CommandSender, Waiting, accept, commands, waiting};
pub use decide::{ANSWER_AGE_MAX, Attempt, Do, Look, decide};
pub use executor::{Executor, ExecutorError, OnPause, RunEnd, TakenOver};
pub use observer::{RunObserver, Unwatched};
pub use runner::{Acted, Observation, StepContext, StepRunner};
pub use text::{fill, moment};
