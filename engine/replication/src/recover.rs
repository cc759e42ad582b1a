//! What the steps of a run ask for.

use crate::catalogue::put;
use crate::cycle::Wish;
use crate::history;
use crate::records::*;
use crate::recovery::{PointKind, PointSummary, Recovery};
use crate::replicator::Replicator;
use async_trait::async_trait;
use muster_ports::*;
use muster_runsheet::PointChoice;
use std::time::Duration;

/// Fewest characters by which a person may name a point.
const POINT_PREFIX_MIN: usize = 4;

impl Replicator {
    /// Points on the way to what runs now, oldest first.
    async fn usable(&self, group: &GroupName) -> Result<Vec<Point>> {
        let protection = self.catalogue.protection(group).await?;
        let lineages = self.catalogue.lineages().await?;
        let mut points = self.catalogue.points(group).await?;
        points.retain(|point| history::is_on_way(&lineages, &protection, point));
        Ok(points)
    }

    /// The point a person has named. A plan has one wish and may have several groups: for a group that the point does
    /// not belong to, the newest of its own points that is not later.
    async fn named(&self, group: &GroupName, wanted: &str) -> Result<Point> {
        let own = self.catalogue.points(group).await?;
        if let Some(point) = only_one(&own, wanted)? {
            return Ok(point.clone());
        }
        for other in self.catalogue.protections().await? {
            let points = self.catalogue.points(&other.group).await?;
            let Some(chosen) = only_one(&points, wanted)? else { continue };
            let at = chosen.summary.at;
            let mut earlier = self.usable(group).await?;
            earlier.retain(|point| point.summary.at <= at);
            return earlier.into_iter().max_by_key(|point| point.summary.at).ok_or_else(|| {
                Failure::permanent(format!(
                    "the group `{group}` has no point as early as `{wanted}` of `{}`; {}",
                    other.group,
                    history::describe(&own)
                ))
                .help("choose a later point: each group goes back to its newest point that is not later")
            });
        }
        Err(Failure::permanent(format!("no group has a point `{wanted}`; of `{group}` {}", history::describe(&own)))
            .help("`muster points` lists them"))
    }

    /// Takes the group's door after sending away a cycle that may hang on a dying site.
    async fn change<F>(&self, group: &GroupName, change: F) -> Result<()>
    where
        F: FnOnce(&mut Protection) -> Result<bool> + Send,
    {
        let gate = self.gate(group);
        let _work = gate.take(self.clock.as_ref()).await;
        let mut protection = self.catalogue.protection(group).await?;
        if change(&mut protection)? {
            self.catalogue.save(&protection).await?;
        }
        Ok(())
    }

    /// The new direction: lineages that fork from the point, and a base that stands for the landing.
    fn turn(
        &self,
        protection: &mut Protection,
        lineages: &history::Lineages,
        source: &SiteName,
        target: &SiteName,
        point: &Point,
    ) -> Result<Vec<Write>> {
        let mut batch = Vec::new();
        let group = protection.group.clone();
        for member in &mut protection.members {
            let machine = member.machine.clone();
            for disk in &mut member.disks {
                let at = point.disks.iter().find(|at| at.machine == machine && at.disk == disk.disk);
                let tip = at.map(|at| at.tip.clone());
                let lineage = self.new_lineage(&group, &machine, &disk.disk, tip.clone());
                let past = match &tip {
                    Some(tip) => history::chain(lineages, tip)?,
                    None => Vec::new(),
                };
                disk.replaced.retain(|end| !past.iter().any(|step| step.lineage == end.lineage));
                if let Some(at) = at {
                    disk.size_bytes = at.size_bytes;
                }
                disk.tip = tip;
                disk.lineage = lineage.id.clone();
                batch.push(put(lineage_key(&lineage.id), &lineage)?);
            }
            member.base = Some(BarrierId::landed(&point.summary.id));
        }
        protection.source = source.clone();
        protection.target = Some(target.clone());
        protection.origin = Some(point.summary.id.clone());
        protection.newest = Some(point.summary.id.clone());
        protection.suspended = None;
        protection.paused = None;
        protection.resync_required = None;
        protection.last_attempt = None;
        protection.last_app = None;
        protection.last_error = None;
        protection.resync = None;
        batch.push(put(protection_key(&group), protection)?);
        Ok(batch)
    }
}

#[async_trait]
impl Recovery for Replicator {
    async fn sync_final(&self, group: &GroupName, key: &EffectKey, progress: &dyn Progress) -> Result<PointSummary> {
        let gate = self.gate(group);
        let _work = gate.work.lock().await;
        let points = self.catalogue.points(group).await?;
        if let Some(point) = points.into_iter().find(|point| point.key.as_ref() == Some(key)) {
            return Ok(point.summary);
        }
        Ok(self.locked_cycle(group, &gate, Wish::Final(key.clone()), progress).await?.summary)
    }

    async fn pick(&self, group: &GroupName, choice: &PointChoice) -> Result<PointSummary> {
        if let PointChoice::Named { point } = choice {
            return Ok(self.named(group, point).await?.summary);
        }
        let points = self.usable(group).await?;
        let newest = |wanted: fn(&PointSummary) -> bool| {
            points.iter().rev().map(|point| &point.summary).find(|point| wanted(point)).cloned()
        };
        let (found, what) = match choice {
            // A committed point needs no further work here: `latest processed` is the latest.
            PointChoice::Latest | PointChoice::LatestProcessed | PointChoice::Named { .. } => (newest(|_| true), ""),
            // A machine that was shut down in an orderly way is as good as frozen.
            PointChoice::LatestApp => {
                (newest(|point| matches!(point.kind, PointKind::App | PointKind::Final)), "app-consistent ")
            }
            PointChoice::Final => (newest(|_| true).filter(|point| point.kind == PointKind::Final), "final "),
        };
        found.ok_or_else(|| {
            let there = history::describe(&points);
            Failure::permanent(format!("the group `{group}` has no {what}recovery point to use; {there}"))
                .help("choose one with `--point`, or let replication make one first")
        })
    }

    async fn point(&self, point: &PointId) -> Result<PointSummary> {
        Ok(self.catalogue.point(point).await?.summary)
    }

    async fn images(&self, point: &PointId, machine: &MachineName) -> Result<Vec<(DiskName, ReplicaImage)>> {
        let record = self.catalogue.point(point).await?;
        let lineages = self.catalogue.lineages().await?;
        let mut images = Vec::new();
        for disk in record.disks.iter().filter(|disk| disk.machine == *machine) {
            let image = ReplicaImage {
                vault: self.vault.clone(),
                point: point.clone(),
                size_bytes: disk.size_bytes,
                segments: self.catalogue.segments(&lineages, &disk.tip).await?,
            };
            images.push((disk.disk.clone(), image));
        }
        if images.is_empty() {
            return Err(Failure::permanent(format!("the point `{point}` does not hold the machine `{machine}`"))
                .help("the machine joined its group later; choose a newer point"));
        }
        Ok(images)
    }

    async fn hold(&self, point: &PointId, run: &RunId) -> Result<()> {
        let _points = self.points_lock.lock().await;
        let record = self.catalogue.point(point).await?;
        let value = serde_json::json!({ "group": record.summary.group, "since": self.clock.now() });
        Ok(self.catalogue.store.write(vec![put(hold_key(run, point), &value)?]).await?)
    }

    async fn release(&self, run: &RunId) -> Result<()> {
        let held = self.catalogue.store.scan(&format!("hold/{run}/")).await?;
        if held.is_empty() {
            return Ok(());
        }
        Ok(self.catalogue.store.write(held.into_iter().map(|(key, _)| Write::delete(key)).collect()).await?)
    }

    async fn suspend(&self, group: &GroupName, run: &RunId) -> Result<()> {
        // A newer run takes over from one that was given up: production leaves now, whoever asked before.
        self.change(group, |protection| {
            let changed = protection.suspended.as_ref() != Some(run);
            protection.suspended = Some(run.clone());
            protection.resync = None;
            Ok(changed)
        })
        .await
    }

    async fn restore(&self, group: &GroupName, run: &RunId) -> Result<()> {
        self.change(group, |protection| match &protection.suspended {
            None => Ok(false),
            Some(by) if by == run => {
                protection.suspended = None;
                protection.last_attempt = None;
                Ok(true)
            }
            Some(by) => Err(Failure::refused(format!(
                "the replication of `{}` is suspended by run `{by}`, not by `{run}`",
                protection.group
            ))),
        })
        .await
    }

    async fn reverse(&self, group: &GroupName, source: &SiteName, target: &SiteName, point: &PointId) -> Result<()> {
        self.site(source)?;
        let gate = self.gate(group);
        let _work = gate.take(self.clock.as_ref()).await;
        let mut protection = self.catalogue.protection(group).await?;
        if protection.source == *source && protection.origin.as_ref() == Some(point) {
            if protection.suspended.take().is_some() {
                self.catalogue.save(&protection).await?;
            }
            return Ok(());
        }
        let _points = self.points_lock.lock().await;
        let from = self.catalogue.point(point).await?;
        if from.summary.group != *group {
            return Err(Failure::permanent(format!("the point `{point}` is of the group `{}`", from.summary.group)));
        }
        let lineages = self.catalogue.lineages().await?;
        let batch = self.turn(&mut protection, &lineages, source, target, &from)?;
        Ok(self.catalogue.store.write(batch).await?)
    }

    async fn cycle(&self, group: &GroupName, progress: &dyn Progress) -> Result<PointSummary> {
        let gate = self.gate(group);
        let _work = gate.work.lock().await;
        Ok(self.locked_cycle(group, &gate, Wish::Regular, progress).await?.summary)
    }

    async fn lag(&self, group: &GroupName) -> Result<Option<Duration>> {
        let points = self.usable(group).await?;
        Ok(points.last().map(|point| self.clock.now().since(point.summary.at)))
    }

    async fn drop_before(&self, group: &GroupName, keep: &PointId) -> Result<()> {
        let _points = self.points_lock.lock().await;
        let keep = self.catalogue.point(keep).await?.summary;
        if keep.group != *group {
            return Err(Failure::permanent(format!("the point `{}` is of the group `{}`", keep.id, keep.group)));
        }
        let origin = self.catalogue.find_protection(group).await?.and_then(|protection| protection.origin);
        let held = self.held().await?;
        let points = self.catalogue.points(group).await?;
        let older = points.iter().map(|point| &point.summary).filter(|point| {
            (point.at, &point.id) < (keep.at, &keep.id)
                && !held.contains(&point.id)
                && Some(&point.id) != origin.as_ref()
        });
        let batch: Vec<Write> = older.map(|point| Write::delete(point_key(group, &point.id))).collect();
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.catalogue.store.write(batch).await?)
    }

    async fn points_since(&self, group: &GroupName, since: Timestamp) -> Result<u32> {
        let points = self.catalogue.points(group).await?;
        Ok(u32::try_from(points.iter().filter(|point| point.summary.at > since).count()).unwrap_or(u32::MAX))
    }
}

/// The point with this id, or whose id begins so.
fn only_one<'a>(points: &'a [Point], wanted: &str) -> Result<Option<&'a Point>> {
    let mut found = points.iter().filter(|point| {
        let id = point.summary.id.as_str();
        id == wanted || (wanted.len() >= POINT_PREFIX_MIN && id.starts_with(wanted))
    });
    match (found.next(), found.next()) {
        (Some(point), Some(_)) => {
            Err(Failure::permanent(format!("several points of `{}` begin with `{wanted}`", point.summary.group))
                .help("write more of its id"))
        }
        (point, _) => Ok(point),
    }
}
