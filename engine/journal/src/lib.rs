//! The record of a run, and the store it lies in.
//!
//! ```text
//!   Event -> Record (seq, epoch, hash of the one before) -> StateStore     append: durable, then known
//!   StateStore -> verify the chain -> fold -> RunState                     load: nothing is believed unchecked
//! ```
//!
//! It decides nothing: what follows a state is the executor's. It is not a log for debugging either: what a person reads
//! in the morning and what an engine resumes from are the same records.
//!
//! Architecture invariant: the journal is durable before the effect and again after it; memory is a fold of the
//! journal, never the reverse.

pub mod amend;
pub mod call;
pub mod error;
pub mod event;
pub mod lease;
pub mod memory;
pub mod outcome;
pub mod outputs;
pub mod read;
pub mod run;
pub mod seal;
pub mod slate;
pub mod stand;
pub mod state;
pub mod team;

pub use call::{CallJournal, CallRecord};
pub use error::JournalError;
pub use event::{Decision, Event, GroupLoss, RUN_FORMAT, RUN_FORMATS, Record, RunStatus, Signed, SkippedBy};
pub use lease::{LEASE_TTL, Lease, Owner, TakeOver};
pub use memory::{Fault, MemoryStore};
pub use outcome::{Answer, Question, QuestionKind, StepOutput};
pub use outputs::Outputs;
pub use read::Followed;
pub use run::{LoadedRun, Opening, RunJournal, RunStore, RunSummary, verify};
pub use seal::{Sealed, Unsound};
pub use slate::{OpenError, SlateReader, SlateStore};
pub use stand::Stand;
pub use state::{NodeState, RunState, effect_key, fold};
pub use team::Team;
