//! What a runsheet would do before it is run: how long it takes, what is lost, how it looks, and what changed between two.
//!
//! ```text
//! Runsheet + Evidence (past runs, lags) + Conditions (what if)
//!     -> Spread of each step -> Chart (graph and semaphores) -> Course (one trial) -> Estimate (2,000 of them)
//!     -> Forecast -> table, mermaid, dot, svg, JSON
//! ```
//!
//! Architecture invariant: pure. No clock: ages come with the evidence. No ambient chance: a [`Dice`] is passed in, and the
//! same dice give the same bytes. Nothing here decides what a run does; it only says beforehand what it will be like.

mod chance;
mod chart;
mod cheapest;
mod conditions;
mod course;
mod diff;
mod drift;
mod effects;
mod estimate;
mod evidence;
mod forecast;
mod loss;
mod quantile;
mod spread;
pub mod view;

pub use chance::Dice;
pub use cheapest::Saving;
pub use conditions::{Conditions, ConditionsError};
pub use diff::{Change, SheetDiff, Shift, diff};
pub use drift::{Drift, drift};
pub use effects::HookEffects;
pub use estimate::{Estimate, Fate, Span, Trials, WrittenTime, attempt_times, signature_time, written_time};
pub use evidence::{Drills, Evidence, History, LastDrill, Sample, what_of};
pub use forecast::{Forecast, Question};
pub use loss::{GroupLoss, Worst};
pub use spread::Origin;

/// Resamplings of a sheet, unless it has thousands of steps. Enough for a p95 that is steady to a percent; a sheet of a
/// hundred steps takes some 25 ms.
pub const TRIALS: u32 = 2_000;
