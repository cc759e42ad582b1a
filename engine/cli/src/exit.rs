//! Exit codes, documented in the book and the help text; errors on their way to the terminal.

use muster_ports::{Failure, FailureClass};
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    /// clap's own code for wrong usage.
    Usage = 2,
    PlansHaveErrors = 3,
    WaitsForPerson = 4,
    Refused = 5,
    Degraded = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The code a failure ends with.
pub fn of(failure: &Failure) -> Exit {
    match failure.class {
        FailureClass::Refused => Exit::Refused,
        _ => Exit::Failed,
    }
}
