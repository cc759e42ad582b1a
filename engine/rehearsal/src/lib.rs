//! Rehearsals: a plan carried out on an estate that exists only in memory, in virtual time.
//!
//! ```text
//!   Checked --compile--> Runsheet -----------.
//!      |                                     v
//!      '-- Estate --> simulated sites <-- Steps <-- Paced <-- Executor <--> MemoryStore (dies when told to)
//!                          ^                 |        '-- takes as long as the forecast says
//!                          '-- Replicator    '-- hooks --> Pretended (no network)
//! ```
//!
//! Real here: the compiler, the executor with its journal, every step, the hooks, replication with its points and its
//! policies. Simulated: machines, disks (a mebibyte each), guests, the world beyond the sites, and the clock. What nobody
//! can know here is pretended, and [`Outcome::assumed`] says so line by line.
//!
//! Architecture invariant: no I/O, no ambient time, no ambient chance. The same [`Checked`](muster_compiler::Checked), the
//! same conditions and the same seed give the same bytes.

mod carrier;
mod conditions;
mod effects;
mod engine;
pub mod hooks;
mod outcome;
mod outside;
mod pace;
mod people;
mod simulate;
mod stage;
mod store;
mod timeline;
mod trial;
mod verdict;
mod world;

pub use conditions::{Conditions, GuestReply, HttpAnswer, Reply};
pub use effects::effects;
pub use outcome::{Outcome, Status, StepOutcome};
pub use simulate::{RehearsalError, simulate, simulate_sheet};
pub use stage::Stage;
pub use timeline::{Entry, table};
pub use trial::{TestFailure, TestResult, run_test};
