//! What steps leave behind in the journal.

use muster_ports::{PointId, Timestamp};
use serde::{Deserialize, Serialize};

/// The output of a step that has succeeded: later steps and the report read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "output", rename_all = "kebab-case")]
pub enum StepOutput {
    #[default]
    None,
    /// The recovery point chosen or made for a group. `loss` is the time between the newest data lost and the point.
    Point {
        group: String,
        point: PointId,
        at: Timestamp,
        loss_millis: u64,
    },
    /// How a fence was proven: `powered off`, `signed by anna: ...`.
    Fence {
        how: String,
    },
    /// What a probe or a hook answered, for people.
    Text {
        text: String,
    },
    Bytes {
        fetched: u64,
        compared: u64,
        written: u64,
        notes: Vec<String>,
    },
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// As shown, everything filled in.
    pub text: String,
    /// Who may answer: a team or a person of the plan; `anyone` when it says nothing.
    pub to: String,
    pub kind: QuestionKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionKind {
    /// yes or no
    Approve,
    /// done or cannot
    Manual,
    /// A signature that both sides may run at once if the signer is wrong.
    SplitBrain,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub yes: bool,
    pub who: String,
    pub why: String,
}
