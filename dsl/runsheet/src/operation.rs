//! Operations: a kind in a direction, and the acts around them.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From home to the recovery site.
    Out,
    /// Home again, to the `back` site where the plan names one.
    Back,
}

impl Direction {
    pub fn reversed(self) -> Self {
        match self {
            Self::Out => Self::Back,
            Self::Back => Self::Out,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A drill: clones in a bubble, production untouched.
    Test,
    /// Orderly: stop, final sync, no loss.
    Planned,
    /// The source may be gone.
    Unplanned,
    /// Takes a drill away. Compiled from the journal of the drill, not from the plan.
    Cleanup,
    /// Ends a failover before it is committed: back to the source.
    Cancel,
    /// Lands a failover again from another recovery point. Compiled from the failover's sheet, not from the plan.
    Repoint,
    /// Makes a failover final.
    Commit,
    /// Turns replication round.
    Reprotect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Operation {
    pub kind: Kind,
    /// The direction of the move it belongs to: `reprotect` after a failover out has direction `Out`.
    pub direction: Direction,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Planned => "planned",
            Self::Unplanned => "unplanned",
            Self::Cleanup => "cleanup",
            Self::Cancel => "cancel",
            Self::Repoint => "repoint",
            Self::Commit => "commit",
            Self::Reprotect => "reprotect",
        }
    }
    /// Moves production.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Planned | Self::Unplanned)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.direction {
            Direction::Out => f.pad(self.kind.word()),
            Direction::Back => f.pad(&format!("{} back", self.kind.word())),
        }
    }
}

/// Where a plan stands. `language.md` 2.6; the table is [`PlanState::legal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanState {
    pub phase: Phase,
    /// The direction production would move next (`Protected`) or has moved last (`FailedOver`, `Committed`).
    pub direction: Direction,
    /// A drill stands in a bubble beside it.
    pub drilled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Protected,
    FailedOver,
    Committed,
}

impl PlanState {
    pub const HOME: Self = Self { phase: Phase::Protected, direction: Direction::Out, drilled: false };

    /// What may be asked for now.
    pub fn legal(self) -> Vec<Operation> {
        let kinds: &[Kind] = match (self.phase, self.drilled) {
            (Phase::Protected, false) => &[Kind::Test, Kind::Planned, Kind::Unplanned],
            (Phase::Protected, true) => &[Kind::Cleanup, Kind::Planned, Kind::Unplanned],
            (Phase::FailedOver, false) => &[Kind::Commit, Kind::Cancel, Kind::Repoint],
            (Phase::FailedOver, true) => &[Kind::Commit, Kind::Cancel, Kind::Repoint, Kind::Cleanup],
            (Phase::Committed, false) => &[Kind::Reprotect],
            (Phase::Committed, true) => &[Kind::Reprotect, Kind::Cleanup],
        };
        kinds.iter().map(|&kind| Operation { kind, direction: self.direction }).collect()
    }
    pub fn allows(self, operation: Operation) -> bool {
        self.legal().contains(&operation)
    }
    /// The state after `operation` has ended well.
    pub fn after(self, kind: Kind) -> Self {
        match kind {
            Kind::Test => Self { drilled: true, ..self },
            Kind::Cleanup => Self { drilled: false, ..self },
            Kind::Planned | Kind::Unplanned | Kind::Repoint => Self { phase: Phase::FailedOver, ..self },
            Kind::Cancel => Self { phase: Phase::Protected, ..self },
            Kind::Commit => Self { phase: Phase::Committed, ..self },
            Kind::Reprotect => {
                Self { phase: Phase::Protected, direction: self.direction.reversed(), drilled: self.drilled }
            }
        }
    }
}
