//! How a single step stands, and the table of how it may go on.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stand {
    /// Not begun, or to be begun again.
    #[default]
    Waiting,
    /// An attempt has begun and not ended. Nobody may be at it any more: see [`crate::NodeState::orphaned`].
    Running,
    /// An attempt failed; the next one has its time.
    Retrying,
    /// A timer runs.
    Sleeping,
    Asking,
    Answered,
    /// Failed, and what follows is not recorded yet.
    Failed,
    /// Waits for a person's decision.
    Paused,
    Succeeded,
    Degraded,
    Skipped,
    Undoing,
    /// Taking it back failed, and what follows is not recorded yet.
    UndoFailed,
    UndoRetrying,
    /// Cannot be taken back without a person.
    Stuck,
    Undone,
    /// A person decided not to take it back.
    Left,
}

use Stand::*;

/// Every transition there is. What is not here is a defect or a damaged journal.
const LEGAL: &[(Stand, &[Stand])] = &[
    (Waiting, &[Running, Sleeping, Asking, Succeeded, Skipped]),
    (Running, &[Running, Succeeded, Failed, Asking, Undoing]),
    (Retrying, &[Running, Undoing]),
    (Sleeping, &[Succeeded]),
    (Asking, &[Asking, Answered, Failed, Waiting, Undoing]),
    (Answered, &[Running, Succeeded, Failed, Waiting, Undoing]),
    (Failed, &[Retrying, Paused, Degraded, Undoing]),
    (Paused, &[Waiting, Skipped, Succeeded, Undoing]),
    (Succeeded, &[Waiting, Undoing]),
    (Degraded, &[Waiting, Undoing]),
    (Skipped, &[Waiting, Undoing]),
    (Undoing, &[Undoing, Undone, UndoFailed]),
    (UndoFailed, &[UndoRetrying, Stuck]),
    (UndoRetrying, &[Undoing]),
    (Stuck, &[UndoRetrying, Undone, Left]),
    (Undone, &[]),
    (Left, &[]),
];

impl Stand {
    pub const ALL: [Self; 17] = [
        Waiting,
        Running,
        Retrying,
        Sleeping,
        Asking,
        Answered,
        Failed,
        Paused,
        Succeeded,
        Degraded,
        Skipped,
        Undoing,
        UndoFailed,
        UndoRetrying,
        Stuck,
        Undone,
        Left,
    ];

    pub fn may_become(self, next: Self) -> bool {
        LEGAL.iter().any(|(from, to)| *from == self && to.contains(&next))
    }
    pub fn word(self) -> &'static str {
        match self {
            Waiting => "waiting",
            Running => "running",
            Retrying => "waiting to retry",
            Sleeping => "sleeping",
            Asking => "asking",
            Answered => "answered",
            Failed => "failed",
            Paused => "paused",
            Succeeded => "succeeded",
            Degraded => "degraded",
            Skipped => "skipped",
            Undoing => "being undone",
            UndoFailed => "failed to undo",
            UndoRetrying => "waiting to retry its undo",
            Stuck => "stuck",
            Undone => "undone",
            Left => "left as it is",
        }
    }
    /// It will not move by itself again (before an undo).
    pub fn has_ended(self) -> bool {
        matches!(self, Succeeded | Degraded | Skipped)
    }
    /// Only a person can move it.
    pub fn waits_for_person(self) -> bool {
        matches!(self, Asking | Paused | Stuck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stand_has_one_row_and_no_row_leads_to_itself_by_accident() {
        for stand in Stand::ALL {
            assert_eq!(LEGAL.iter().filter(|(from, _)| *from == stand).count(), 1, "{stand:?}");
        }
        let again: Vec<_> = Stand::ALL.into_iter().filter(|stand| stand.may_become(*stand)).collect();
        // A crash begins these again; an asking step may put a new question.
        assert_eq!(again, [Running, Asking, Undoing]);
    }

    #[test]
    fn nothing_leads_out_of_an_undone_step_and_everything_can_be_reached() {
        for stand in Stand::ALL {
            assert!(!Undone.may_become(stand) && !Left.may_become(stand));
            assert!(stand == Waiting || Stand::ALL.iter().any(|from| from.may_become(stand)), "{stand:?}");
        }
    }
}
