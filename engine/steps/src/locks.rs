//! The gate before anything happens, the machines taken for one run, and where the plan stands afterwards.

use crate::Steps;
use crate::context::{drill_of, put, text};
use muster_executor::{Observation, StepContext};
use muster_journal::StepOutput;
use muster_ports::*;
use muster_runsheet::{Action, FenceProof, Kind, Operation, Phase, PlanState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who holds a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    pub run: RunId,
    pub since: Timestamp,
}

/// What production was landed from, kept from the failover until the plan is protected again: commit, cancel and
/// reprotect need it, and it keeps those points held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandedRecord {
    pub run: RunId,
    pub points: BTreeMap<GroupName, PointId>,
}

/// Last part of [`landed_key`].
pub const LANDED_KEY: &str = "landed";

pub fn landed_key(plan: &PlanName) -> String {
    format!("plan/{plan}/{LANDED_KEY}")
}

pub fn plan_state_key(plan: &PlanName) -> String {
    format!("plan/{plan}/state")
}

pub fn lock_key(machine: &MachineName, drill: bool) -> String {
    format!("lock/{machine}/{}", if drill { "drill" } else { "live" })
}

impl Steps {
    pub(crate) async fn act_verify(
        &self,
        cx: StepContext<'_>,
        required: &[SiteName],
        probed: &[SiteName],
    ) -> Result<StepOutput> {
        self.plan_allows(cx).await?;
        // A rehearsal shows what the plan would do, whoever carries it out.
        if self.outside.is_none() {
            carried_out(cx)?;
        }
        let mut can = BTreeMap::new();
        for site in required {
            let facts = self.soon(site, self.site(site)?.facts()).await?;
            can_do(cx, site, &facts.capabilities)?;
            can.insert(site.clone(), facts.capabilities);
        }
        let mut silent = Vec::new();
        for site in probed {
            match self.soon(site, self.site(site)?.facts()).await {
                Ok(facts) => drop(can.insert(site.clone(), facts.capabilities)),
                // The failover never needs it, whatever is wrong there: nobody answers, or somebody who is not believed.
                Err(failure) => silent.push(failure.message),
            }
        }
        silent.extend(self.hooks_can_run(cx, &can).await?);
        for line in &silent {
            cx.calls.note(line).await?;
        }
        Ok(if silent.is_empty() { StepOutput::None } else { text(silent.join("; ")) })
    }

    async fn plan_allows(&self, cx: StepContext<'_>) -> Result<()> {
        let state: PlanState = self.read(&plan_state_key(&cx.sheet.plan)).await?.unwrap_or(PlanState::HOME);
        if state.allows(cx.sheet.operation) || self.goes_on(cx, state).await? {
            return Ok(());
        }
        let legal: Vec<_> = state.legal().iter().map(Operation::to_string).collect();
        let phase = match state.phase {
            Phase::Protected => "protected",
            Phase::FailedOver => "failed over and not committed",
            Phase::Committed => "committed and not protected",
        };
        let drilled = if state.drilled { ", with a drill beside it" } else { "" };
        Err(Failure::refused(format!(
            "E0601: plan `{}` is {phase}{drilled}: `{}` is not legal now; legal are `{}`",
            cx.sheet.plan,
            cx.sheet.operation,
            legal.join("`, `")
        ))
        .help("`muster status` shows where every plan stands and what it can do next"))
    }

    /// A repoint of a failover that got stuck past no return: its plan still counts as protected, and its machines are held
    /// by it.
    async fn goes_on(&self, cx: StepContext<'_>, state: PlanState) -> Result<bool> {
        if cx.sheet.continues().is_none() || state.phase != Phase::Protected {
            return Ok(false);
        }
        let first = failover_of(cx);
        for machine in cx.sheet.machines.keys() {
            if self.read::<LockRecord>(&lock_key(machine, false)).await?.is_some_and(|lock| lock.run == first) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) async fn observe_lock(
        &self,
        cx: StepContext<'_>,
        machines: &[MachineName],
        drill: bool,
    ) -> Result<Observation> {
        for machine in machines {
            match self.read::<LockRecord>(&lock_key(machine, drill)).await? {
                Some(lock) if lock.run == *cx.run => {}
                _ => return Ok(Observation::DoesNotHold),
            }
        }
        Ok(Observation::Holds(StepOutput::None))
    }

    pub(crate) async fn act_lock(
        &self,
        cx: StepContext<'_>,
        machines: &[MachineName],
        drill: bool,
    ) -> Result<StepOutput> {
        let mine = LockRecord { run: cx.run.clone(), since: self.clock.now() };
        let cleaned = drill_of(cx);
        let mut batch = Vec::new();
        for machine in machines {
            let key = lock_key(machine, drill);
            match self.read::<LockRecord>(&key).await? {
                Some(lock) if lock.run == *cx.run => {}
                // A cleanup works on what the drill holds; the record stays, since it says when the drill began.
                Some(lock) if cleaned.as_ref() == Some(&lock.run) => {}
                // A failover that is landed again may hold them still.
                Some(lock) if failover_of(cx) == lock.run => {}
                Some(lock) => return Err(held(machine, &lock)),
                None => batch.push(put(key, &mine)?),
            }
        }
        if !batch.is_empty() {
            self.store.write(batch).await?;
        }
        Ok(StepOutput::None)
    }

    pub(crate) async fn undo_lock(&self, cx: StepContext<'_>, machines: &[MachineName], drill: bool) -> Result<()> {
        let batch = self.locks_of(machines, &[drill], std::slice::from_ref(cx.run)).await?;
        if !batch.is_empty() {
            self.store.write(batch).await?;
        }
        Ok(())
    }

    /// Deletions of the locks that these runs hold.
    async fn locks_of(&self, machines: &[MachineName], kinds: &[bool], runs: &[RunId]) -> Result<Vec<Write>> {
        let mut batch = Vec::new();
        for machine in machines {
            for drill in kinds {
                let key = lock_key(machine, *drill);
                if self.read::<LockRecord>(&key).await?.is_some_and(|lock| runs.contains(&lock.run)) {
                    batch.push(Write::delete(key));
                }
            }
        }
        Ok(batch)
    }

    /// The state alone is no proof: it may have stood like this before. Only after an act of this run it is.
    pub(crate) async fn observe_unlock(&self, cx: StepContext<'_>, wanted: PlanState) -> Result<Observation> {
        let state: Option<PlanState> = self.read(&plan_state_key(&cx.sheet.plan)).await?;
        let done: Option<RunId> = self.read(&unlocked_key(cx)).await?;
        let holds = state == Some(wanted) && done.as_ref() == Some(cx.run);
        Ok(if holds { Observation::Holds(StepOutput::None) } else { Observation::DoesNotHold })
    }

    pub(crate) async fn act_unlock(
        &self,
        cx: StepContext<'_>,
        machines: &[MachineName],
        state: PlanState,
    ) -> Result<StepOutput> {
        let kind = cx.sheet.operation.kind;
        let landed = self.landed(cx).await?;
        // Replication first: a crash in between repeats it, while the record that names the run is still there.
        match kind {
            Kind::Cancel => {
                let left_by = landed.as_ref().map_or(cx.run, |landed| &landed.run);
                for group in cx.sheet.groups.values().filter(|group| group.policy.is_some()) {
                    self.recovery.restore(&group.name, left_by).await?;
                }
            }
            Kind::Cleanup => {
                if let Some(drill) = drill_of(cx) {
                    self.recovery.release(&drill).await?;
                }
            }
            _ => {}
        }
        let ends_failover = matches!(kind, Kind::Cancel | Kind::Reprotect);
        if let Some(landed) = landed.as_ref().filter(|_| ends_failover) {
            self.recovery.release(&landed.run).await?;
        }
        // A drill's clones still read their points, and the way home forks from the point of a failover.
        if !matches!(kind, Kind::Test | Kind::Planned | Kind::Unplanned | Kind::Repoint) {
            self.recovery.release(cx.run).await?;
        }
        let mut batch = match kind {
            // The drill stands: its machines stay taken until the cleanup.
            Kind::Test => Vec::new(),
            _ => {
                let runs: Vec<_> = [cx.run.clone(), failover_of(cx)].into_iter().chain(drill_of(cx)).collect();
                self.locks_of(machines, &[true, false], &runs).await?
            }
        };
        batch.push(put(plan_state_key(&cx.sheet.plan), &state)?);
        batch.push(put(unlocked_key(cx), cx.run)?);
        match kind {
            Kind::Planned | Kind::Unplanned | Kind::Repoint => {
                batch.push(put(landed_key(&cx.sheet.plan), &landed_here(cx))?);
            }
            _ if ends_failover => batch.push(Write::delete(landed_key(&cx.sheet.plan))),
            _ => {}
        }
        self.store.write(batch).await?;
        Ok(StepOutput::None)
    }
}

/// Which run has set the state of the plan last.
fn unlocked_key(cx: StepContext<'_>) -> String {
    format!("plan/{}/set-by", cx.sheet.plan)
}

fn landed_here(cx: StepContext<'_>) -> LandedRecord {
    let points = cx
        .outputs
        .values()
        .filter_map(|output| match output {
            StepOutput::Point { group, point, .. } => Some((GroupName::from(group.as_str()), point.clone())),
            _ => None,
        })
        .collect();
    LandedRecord { run: failover_of(cx), points }
}

/// The run that has left the source: groups are suspended and points are held in its name. For a failover that is landed
/// again it is the first one.
pub(crate) fn failover_of(cx: StepContext<'_>) -> RunId {
    cx.sheet.continues().map_or_else(|| cx.run.clone(), RunId::new)
}

fn held(machine: &MachineName, lock: &LockRecord) -> Failure {
    Failure::refused(format!("machine `{machine}` is held by run `{}`", lock.run)).help(format!(
        "look with `muster log {0}`; finish that run with `muster resume {0}`, clean its drill up, or abort it, then decide `retry`",
        lock.run
    ))
}

/// What the plans say and this engine does not do is refused before anything is touched: to do nothing about it would be a
/// lie.
fn carried_out(cx: StepContext<'_>) -> Result<()> {
    let missing: Vec<String> = cx.sheet.needs().iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::permanent(format!("this muster does not carry out yet: {}", missing.join(", ")))
        .help("take it out of the plans, and do by hand (`manual`) or by a hook what it was to do"))
}

/// What the steps of this sheet need of a site, against what it says it can do.
fn can_do(cx: StepContext<'_>, site: &SiteName, can: &Capabilities) -> Result<()> {
    let mut missing = Vec::new();
    for node in &cx.sheet.nodes {
        let (at, held, what) = match &node.action {
            Action::Bubble { site, .. } => (site, can.bubbles, "isolated networks for drills"),
            Action::Stop { site, .. } if cx.sheet.operation.kind == Kind::Planned => {
                (site, can.planned_shutdown, "an orderly shutdown from outside")
            }
            Action::Fence { site, proof: FenceProof::PowerOff, .. } => (site, can.power_fencing, "proof of power-off"),
            Action::Reverse { source, .. } => (source, can.host_tracking, "tracking of changes below the guest"),
            _ => continue,
        };
        if at == site && !held && !missing.contains(&what) {
            missing.push(what);
        }
    }
    if *site == cx.sheet.target && !cx.sheet.test_networks.is_empty() && !can.test_networks {
        missing.push("drills in a network that is there for tests");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::permanent(format!(
        "site `{site}` cannot do what `{}` needs: {}",
        cx.sheet.operation,
        missing.join(", ")
    ))
    .help("`muster status` shows what each site can do; choose another operation or another site for this plan"))
}
