//! What a sheet or a policy says that an engine has to be able to do, and that doing nothing about would be a lie.
//!
//! The plans say more than every engine carries out. An engine compares this with what it can do, and refuses the rest by
//! name before anything is touched.

use crate::estate::{InitialCopy, PolicySheet};
use crate::operation::Kind;
use crate::sheet::Runsheet;
use std::fmt;

/// Something a run has to be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunNeed {
    /// Landed machines have to ask other name servers.
    Resolvers,
}

/// Something replication has to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyNeed {
    /// `replicate = continuous`.
    Continuous,
    /// `encryption = …`: a key of its own.
    OwnKey,
    /// `initial-copy = offline`.
    OfflineSeed,
}

impl fmt::Display for RunNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolvers => f.write_str("the name servers of the route (`resolver … <-> …`)"),
        }
    }
}

impl fmt::Display for PolicyNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continuous => "`replicate = continuous`",
            Self::OwnKey => "`encryption` with a key of its own",
            Self::OfflineSeed => "`initial-copy = offline`",
        })
    }
}

impl Runsheet {
    /// What this run needs beyond its steps. An unplanned failover needs no more than it can have: it is never refused for
    /// its name servers.
    pub fn needs(&self) -> Vec<RunNeed> {
        let mut needs = Vec::new();
        if matches!(self.operation.kind, Kind::Test | Kind::Planned) && !self.resolvers.is_empty() {
            needs.push(RunNeed::Resolvers);
        }
        needs
    }
}

impl PolicySheet {
    /// What replication needs for this policy beyond cycles over the wire.
    pub fn needs(&self) -> Vec<PolicyNeed> {
        let asked = [
            (self.continuous, PolicyNeed::Continuous),
            (self.encryption.is_some(), PolicyNeed::OwnKey),
            (self.initial_copy == InitialCopy::Offline, PolicyNeed::OfflineSeed),
        ];
        asked.into_iter().filter(|(asked, _)| *asked).map(|(_, need)| need).collect()
    }
}
