//! How replication stands, for people.

use crate::history;
use crate::records::*;
use crate::recovery::PointSummary;
use crate::replicator::Replicator;
use crate::seed::{self, Exported, Seed};
use muster_ports::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum GroupPhase {
    /// The first copy is to travel on a disk; with where the last export of it went.
    AwaitsSeed {
        exported: Option<Exported>,
    },
    /// There is no point yet, or a disk has not been copied once.
    FirstCopy,
    Replicating,
    /// A cycle reads everything, because the changes are not known.
    Resync {
        why: String,
    },
    /// The changes of a disk are not known, and the policy's window for reading everything has not opened yet.
    ResyncRequired {
        why: String,
        from: Timestamp,
    },
    /// A person has stopped the schedule.
    Paused {
        since: Timestamp,
        by: String,
        why: String,
    },
    /// Production has left; no cycles until the direction is turned or the failover is cancelled.
    Suspended {
        run: RunId,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    pub group: GroupName,
    pub machines: Vec<MachineName>,
    pub together: bool,
    pub source: SiteName,
    pub target: Option<SiteName>,
    #[serde(flatten)]
    pub phase: GroupPhase,
    pub newest: Option<PointSummary>,
    pub points: usize,
    /// Age of the newest point in milliseconds.
    pub lag_millis: Option<u64>,
    pub rpo_millis: u64,
    /// Whether the promise is kept now; false as long as there is no point.
    pub within_rpo: bool,
    pub next_due: Option<Timestamp>,
    pub last_cycle: Option<CycleSummary>,
    pub last_error: Option<CycleError>,
    #[serde(default)]
    pub totals: Totals,
}

impl Replicator {
    /// How every protected group stands. Reads only, and waits for no cycle.
    pub async fn status(&self) -> Result<Vec<GroupStatus>> {
        let lineages = self.catalogue.lineages().await?;
        let mut all = Vec::new();
        for protection in self.catalogue.protections().await? {
            let points = self.catalogue.points(&protection.group).await?;
            let seed = match seed::is_awaited(&protection) {
                true => self.catalogue.seed(&protection.group).await?,
                false => None,
            };
            all.push(self.status_of(&lineages, protection, &points, seed));
        }
        Ok(all)
    }

    fn status_of(
        &self,
        lineages: &history::Lineages,
        protection: Protection,
        points: &[Point],
        seed: Option<Seed>,
    ) -> GroupStatus {
        let newest = points.iter().rfind(|point| history::is_on_way(lineages, &protection, point));
        let newest = newest.map(|point| point.summary.clone());
        let lag = newest.as_ref().map(|point| self.clock.now().since(point.at));
        let rpo = protection.policy.rpo.std();
        let copied = protection.members.iter().flat_map(|member| &member.disks).all(|disk| disk.tip.is_some());
        let phase = phase_of(&protection, copied, seed);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        GroupStatus {
            machines: protection.members.iter().map(|member| member.machine.clone()).collect(),
            together: protection.together,
            source: protection.source.clone(),
            target: protection.target.clone(),
            phase,
            newest,
            points: points.len(),
            lag_millis: lag.map(millis),
            rpo_millis: millis(rpo),
            within_rpo: lag.is_some_and(|lag| lag <= rpo),
            next_due: history::due_at(&protection, self.clock.now()),
            totals: protection.totals,
            last_cycle: protection.last_cycle,
            last_error: protection.last_error,
            group: protection.group,
        }
    }

    /// All points of a group, oldest first, those of branches that were left included.
    pub async fn points(&self, group: &GroupName) -> Result<Vec<PointSummary>> {
        Ok(self.catalogue.points(group).await?.into_iter().map(|point| point.summary).collect())
    }

    /// The full records, for those that show or verify them.
    pub async fn point_records(&self, group: &GroupName) -> Result<Vec<Point>> {
        self.catalogue.points(group).await
    }
}

fn phase_of(protection: &Protection, copied: bool, seed: Option<Seed>) -> GroupPhase {
    if let Some(run) = &protection.suspended {
        return GroupPhase::Suspended { run: run.clone() };
    }
    if let Some(Paused { since, by, why }) = protection.paused.clone() {
        return GroupPhase::Paused { since, by, why };
    }
    if let Some(why) = &protection.resync {
        return GroupPhase::Resync { why: why.clone() };
    }
    if let Some(required) = &protection.resync_required {
        return GroupPhase::ResyncRequired { why: required.why.clone(), from: required.from };
    }
    if seed::is_awaited(protection) {
        let exported = seed.map(|seed| Exported { to: seed.to, at: seed.exported });
        return GroupPhase::AwaitsSeed { exported };
    }
    if copied { GroupPhase::Replicating } else { GroupPhase::FirstCopy }
}
