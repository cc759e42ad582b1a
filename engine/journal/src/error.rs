//! What can be wrong with a journal.

use muster_ports::{Failure, RunId, StoreError};
use muster_runsheet::{SheetError, StepId};

#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no run `{0}` in this vault")]
    NoSuchRun(RunId),
    #[error("run `{0}` exists already")]
    RunExists(RunId),
    #[error("run `{run}` is written in format `{found}`, this muster reads `{format}` and older ones", format = crate::event::RUN_FORMAT)]
    Format { run: RunId, found: String },
    #[error("the runsheet of run `{run}` cannot be used: {source}")]
    Sheet {
        run: RunId,
        #[source]
        source: SheetError,
    },
    /// The chain of records is broken: something was changed, lost or added outside muster.
    #[error("the journal of run `{run}` is damaged at record {seq}: {what}")]
    Damaged { run: RunId, seq: u64, what: String },
    #[error("record {seq}: `{event}` cannot follow for step `{node}`: it is {from}, which does not lead to {to}")]
    Illegal { seq: u64, event: &'static str, node: StepId, from: &'static str, to: &'static str },
    #[error("record {seq}: `{event}` cannot follow: {why}")]
    IllegalRun { seq: u64, event: &'static str, why: String },
    #[error("record {seq}: the runsheet has no step `{node}`")]
    NoSuchStep { seq: u64, node: StepId },
}

impl JournalError {
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error_help(error),
            Self::NoSuchRun(_) => "`muster runs` lists the runs".to_owned(),
            Self::RunExists(_) => return None,
            Self::Format { .. } => "use the muster that wrote it, or a newer one".to_owned(),
            Self::Sheet { .. } | Self::Damaged { .. } => {
                "do not resume this run: look at the machines themselves, restore the vault's `state` from a copy if \
                 there is one, and bring the plan to a known state by hand"
                    .to_owned()
            }
            Self::Illegal { .. } | Self::IllegalRun { .. } | Self::NoSuchStep { .. } => {
                "this is a defect of muster or a journal changed by hand; `muster log --verify` tells which".to_owned()
            }
        })
    }
}

fn error_help(error: &StoreError) -> Option<String> {
    match error {
        StoreError::Fenced => Some(
            "another muster is the writer now: let it finish, or resume here once it has ended (`muster status` \
             names it)"
                .to_owned(),
        ),
        StoreError::Full { .. } | StoreError::Unavailable(_) | StoreError::Damaged(_) => None,
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let help = error.help();
        let mut failure = match error {
            JournalError::Store(error) => Failure::from(error),
            JournalError::NoSuchRun(_) | JournalError::RunExists(_) => Failure::permanent(error.to_string()),
            _ => Failure::diverged(error.to_string()),
        };
        failure.help = failure.help.or(help);
        failure
    }
}
