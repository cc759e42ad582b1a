//! Points, the last cycle, the turn of direction: what recovery steps ask of replication.

use crate::Steps;
use crate::context::{drill_of, text};
use crate::locks::{LandedRecord, LockRecord, failover_of, landed_key, lock_key};
use muster_executor::StepContext;
use muster_journal::StepOutput;
use muster_ports::*;
use muster_replication::PointSummary;
use muster_runsheet::{Estate, PointChoice};
use std::time::Duration;

/// Between two looks at a lag that is still too long.
const LAG_POLL: Duration = Duration::from_secs(2);

impl Steps {
    pub(crate) async fn act_sync_final(&self, cx: StepContext<'_>, group: &GroupName) -> Result<StepOutput> {
        // First, so that the scheduler does not begin a cycle of a group that is leaving.
        self.recovery.suspend(group, cx.run).await?;
        let point = self.recovery.sync_final(group, cx.key, cx.progress).await?;
        self.recovery.hold(&point.id, cx.run).await?;
        Ok(output(&point, Duration::ZERO))
    }

    pub(crate) async fn act_pick_point(
        &self,
        cx: StepContext<'_>,
        group: &GroupName,
        choice: &PointChoice,
    ) -> Result<StepOutput> {
        let made_here = cx.point(group.as_str()).filter(|_| *choice == PointChoice::Final);
        if cx.sheet.operation.kind.is_live() {
            self.recovery.suspend(group, cx.run).await?;
        }
        let point = match &made_here {
            Some(point) => self.recovery.point(point).await?,
            None => self.recovery.pick(group, choice).await?,
        };
        self.recovery.hold(&point.id, &failover_of(cx)).await?;
        let loss = if made_here.is_some() { Duration::ZERO } else { self.clock.now().since(point.at) };
        Ok(output(&point, loss))
    }

    /// The group has not left after all: cycles go on, and its points are free again.
    pub(crate) async fn undo_point(&self, cx: StepContext<'_>, group: &GroupName) -> Result<()> {
        if cx.sheet.continues().is_some() {
            // The failover goes on standing on the points that it holds.
            return Ok(());
        }
        if cx.sheet.operation.kind.is_live() {
            self.recovery.restore(group, cx.run).await?;
        }
        self.recovery.release(cx.run).await
    }

    pub(crate) async fn landed(&self, cx: StepContext<'_>) -> Result<Option<LandedRecord>> {
        self.read(&landed_key(&cx.sheet.plan)).await
    }

    /// The point that production was landed from, as the failover left it in the control state.
    async fn landed_point(&self, cx: StepContext<'_>, group: &GroupName) -> Result<PointId> {
        self.landed(cx).await?.and_then(|landed| landed.points.get(group).cloned()).ok_or_else(|| {
            Failure::permanent(format!("it is not recorded which point group `{group}` of plan `{}` was landed from", cx.sheet.plan))
                .help("`muster status` shows where the plan stands; only a finished failover can be committed or turned round")
        })
    }

    pub(crate) async fn act_drop_points(&self, cx: StepContext<'_>, group: &GroupName) -> Result<StepOutput> {
        let keep = self.landed_point(cx, group).await?;
        self.recovery.drop_before(group, &keep).await?;
        Ok(text(format!("points before {keep} are dropped")))
    }

    pub(crate) async fn act_reverse(
        &self,
        cx: StepContext<'_>,
        group: &GroupName,
        source: &SiteName,
        target: &SiteName,
    ) -> Result<StepOutput> {
        let point = self.landed_point(cx, group).await?;
        self.recovery.reverse(group, source, target, &point).await?;
        Ok(text(format!("replicates from {source} to {target}, from point {point} on")))
    }

    pub(crate) async fn act_resync(&self, cx: StepContext<'_>, group: &GroupName) -> Result<StepOutput> {
        let point = self.recovery.cycle(group, cx.progress).await?;
        Ok(text(format!("point {} made", point.id)))
    }

    /// Waits until the group is fresh. Makes a cycle when it is not: nobody else may be doing so.
    pub(crate) async fn act_await_lag(
        &self,
        cx: StepContext<'_>,
        group: &GroupName,
        at_most: Duration,
    ) -> Result<StepOutput> {
        let wanted = muster_runsheet::Duration::from(at_most);
        loop {
            let lag = self.recovery.lag(group).await?;
            let shown = lag.map(|lag| muster_runsheet::Duration(lag.as_secs() * 1_000));
            if let (Some(lag), Some(shown)) = (lag, shown)
                && lag <= at_most
            {
                return Ok(text(format!("newest point {shown} old, at most {wanted} wanted")));
            }
            if self.left(cx) <= LAG_POLL {
                let shown = shown.map_or("there is none".to_owned(), |shown| format!("it is {shown} old"));
                return Err(Failure::timeout(format!("the newest point of group `{group}` is to be at most {wanted} old, but {shown}"))
                    .help("see `muster status` for what holds its replication up: a slow link, or a site that does not answer"));
            }
            match self.recovery.cycle(group, cx.progress).await {
                Ok(_) => {}
                Err(failure) if failure.is_retryable() => {}
                Err(failure) => return Err(failure),
            }
            if self.recovery.lag(group).await?.is_none_or(|lag| lag > at_most) {
                self.clock.sleep(LAG_POLL).await;
            }
        }
    }

    /// A drill must not have stopped replication: points were made while it stood, unless it was too short to tell.
    pub(crate) async fn act_assert_replicating(&self, cx: StepContext<'_>, group: &GroupName) -> Result<StepOutput> {
        let Some(since) = self.drill_began(cx, group).await? else {
            return Ok(text("the drill left no lock, so how long it stood is not known"));
        };
        let points = self.recovery.points_since(group, since).await?;
        let stood = self.clock.now().since(since);
        let shown = muster_runsheet::Duration(stood.as_secs() * 1_000);
        if points > 0 {
            return Ok(text(format!("{points} points in the {shown} that the drill stood")));
        }
        let estate: Option<Estate> = self.read("estate").await?;
        let cycle = estate.as_ref().and_then(|estate| {
            let policy = estate.groups.get(group)?.policy.as_ref()?;
            Some(estate.policies.get(policy)?.cycle)
        });
        match cycle {
            // Two cycles: one may have begun just before the drill.
            Some(cycle) if stood > cycle.std() * 2 => Err(Failure::permanent(format!(
                "group `{group}` got no recovery point in the {shown} that the drill stood, though its policy says every {cycle}"
            ))
            .help("see whether `muster replicate` or `muster serve` is running and what `muster status` says, then decide `retry` or `skip`")),
            _ => Ok(text(format!("the drill stood {shown}, less than two cycles: no point was due for certain"))),
        }
    }

    async fn drill_began(&self, cx: StepContext<'_>, group: &GroupName) -> Result<Option<Timestamp>> {
        let drill = drill_of(cx);
        let machines = cx.sheet.groups.get(group).map(|group| group.machines.as_slice()).unwrap_or_default();
        for machine in machines {
            if let Some(lock) = self.read::<LockRecord>(&lock_key(machine, true)).await?
                && drill.as_ref().is_none_or(|drill| *drill == lock.run)
            {
                return Ok(Some(lock.since));
            }
        }
        Ok(None)
    }
}

fn output(point: &PointSummary, loss: Duration) -> StepOutput {
    StepOutput::Point {
        group: point.group.to_string(),
        point: point.id.clone(),
        at: point.at,
        loss_millis: u64::try_from(loss.as_millis()).unwrap_or(u64::MAX),
    }
}
