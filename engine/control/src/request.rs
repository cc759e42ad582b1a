//! What can be asked of the process that holds a vault, and what it tells while it works. The wire contract of the
//! local socket: one JSON line for the request, JSON lines for the events, then the end.

use muster_journal::{Answer, Decision, Record, Signed};
use muster_ports::{Failure, GroupName, MachineName, PlanName, PointId, RunId, StepId, Timestamp};
use muster_runsheet::{Estate, Runsheet};
use serde::{Deserialize, Serialize};

/// Rises when a request or event changes its meaning; both sides must agree.
pub const SOCKET_PROTOCOL: u32 = 2;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Who holds the vault?
    Hello {
        protocol: u32,
    },
    Status,
    Points {
        group: Option<GroupName>,
    },
    /// What the disks of a machine are made of at a point.
    Image {
        point: PointId,
        machine: MachineName,
    },
    /// Records the intent to replicate these groups (all that have a policy when empty).
    Protect {
        estate: Box<Estate>,
        groups: Vec<GroupName>,
    },
    /// Replicate on the clock of the policies from now on, as long as this process holds the vault.
    Replicate,
    /// Stops the schedule of these groups (all when empty), or lets it go on.
    Schedule {
        groups: Vec<GroupName>,
        pause: bool,
        who: String,
        why: String,
    },
    /// The first copies of these groups (all that wait for one when empty) into a store at their source, to travel on a
    /// disk.
    ExportSeed {
        groups: Vec<GroupName>,
        to: String,
    },
    /// First copies that have travelled, into the vault; of all groups of which one was exported when empty.
    ImportSeed {
        groups: Vec<GroupName>,
        from: String,
    },
    /// One cycle of these groups now (all when empty).
    Cycle {
        groups: Vec<GroupName>,
    },
    /// Opens a run and follows it to its end, or to where only a person can go on.
    Start {
        sheet: Box<Runsheet>,
        who: String,
        why: String,
        wait: bool,
        /// For the question of split-brain.
        presigned: Option<Answer>,
    },
    /// The sheet that would take the plan's standing drill away.
    CleanupSheet {
        plan: PlanName,
    },
    /// Compiles the cleanup of the plan's standing drill from its journal and runs it.
    Cleanup {
        plan: PlanName,
        who: String,
        why: String,
        wait: bool,
    },
    Resume {
        run: Option<RunId>,
        wait: bool,
        /// Who lets a run go on that a person has paused.
        by: Option<Signed>,
    },
    /// Begin no further step of a run; what runs goes on to its end.
    Pause {
        run: RunId,
        who: String,
        why: String,
    },
    /// Put another runsheet in the place of the one that a run carries out.
    Amend {
        run: RunId,
        sheet: Box<Runsheet>,
        who: String,
        why: String,
    },
    /// The runsheet that a repoint would carry out.
    RepointSheet {
        plan: PlanName,
        point: String,
    },
    /// Land the plan's failover again from another recovery point.
    Repoint {
        plan: PlanName,
        point: String,
        who: String,
        why: String,
        wait: bool,
    },
    /// Stops an unfinished run: undo before no return.
    CancelRun {
        run: RunId,
        who: String,
        why: String,
    },
    Decide {
        run: RunId,
        step: StepId,
        decision: Decision,
        who: String,
        why: String,
    },
    Answer {
        run: RunId,
        step: StepId,
        answer: Answer,
    },
    /// Keep a point: until that moment, or until somebody lifts it.
    Keep {
        point: PointId,
        until: Option<Timestamp>,
        who: String,
        why: String,
    },
    /// Lift the hold of a point.
    Lift {
        point: PointId,
    },
    /// Drop one point.
    DropPoint {
        point: PointId,
    },
    /// Take away what no point needs, and what was unlinked longer ago than the grace.
    Gc {
        grace_millis: u64,
    },
    Runs,
    /// What past runs of a plan have taken and how old its groups' points are: an [`muster_forecast::Evidence`].
    Evidence {
        plan: PlanName,
    },
    /// A run's records, with the chain checked; the newest run when none is named.
    Log {
        run: Option<RunId>,
        /// Only those after this one, which the asker has; all when none is named.
        #[serde(default)]
        after: Option<u64>,
    },
    /// A run with its sheet, its records and the kinds of its points; the newest when none is named.
    Dossier {
        run: Option<RunId>,
    },
    /// The records of groups, lineages and points as they are stored.
    Catalogue,
}

/// Told while a request is worked on; `Done` or `Failed` is the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first word: from here on the holder stays until the request is answered. A connection that ends without it
    /// has changed nothing.
    Taken,
    /// Bytes of long work: `orders: db/data`.
    Progress {
        what: String,
        done: u64,
        total: Option<u64>,
    },
    Note {
        text: String,
    },
    /// One durable record of a run's journal. [`crate::words::line`] puts it into words.
    Run {
        run: RunId,
        record: Box<Record>,
    },
    Done {
        answer: serde_json::Value,
    },
    Failed {
        failure: Failure,
    },
}

/// Where events of one request go. Dropped events are lost, never waited for: a slow terminal stops no run.
pub trait Sink: Send + Sync {
    fn tell(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> Sink for F {
    fn tell(&self, event: Event) {
        self(event);
    }
}
