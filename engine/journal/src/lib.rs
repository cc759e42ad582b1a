//! The record of a run, and the store it lies in.
//!
//! Architecture invariant: the journal is durable before the effect and again after it; memory is a fold of the
//! journal, never the reverse.

pub mod call;
pub mod outcome;

pub use call::{CallJournal, CallRecord};
pub use outcome::{Answer, Question, QuestionKind, StepOutput};
