//! One cycle: cut, ship, commit, settle.
//!
//! A `together` group is one cut: the I/O of every member is held before the first disk is cut and until after the last.
//! Any other group still gets one point per cycle, but each machine is a cut of its own, one after another and without a
//! hold: the point's moment is that of its oldest member, and nothing is promised between members.
//!
//! What can go wrong, and what then holds:
//!
//! | where | what the store says | what heals it |
//! | --- | --- | --- |
//! | before the cut is written down | nothing | nothing to heal |
//! | between that and the commit | open, abandoned | settle(abandoned) now, or by the next cycle |
//! | the commit's answer is lost | either | the next cycle reads which, and settles accordingly |
//! | between commit and settle | open, committed | the next cycle settles(committed) before it cuts |

use crate::catalogue::put;
use crate::history;
use crate::records::*;
use crate::recovery::{PointKind, PointSummary};
use crate::replicator::{Gate, Replicator, lock};
use crate::seed::{self, Seed};
use crate::windows;
use futures::StreamExt;
use muster_ports::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Longest time guests may stay frozen for one cut. Windows gives a frozen volume 10 s before it thaws it by itself.
pub(crate) const HOLD_LIMIT: Duration = Duration::from_secs(10);
/// Disks of a group shipped at once: enough to hide one disk's waits behind another's work, memory is a constant times it.
const SHIPS_AT_ONCE: usize = 2;
/// Time given to a site to take back a cut after a failure; the next cycle asks again.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// Cuts of earlier sources kept to be settled should their site come back; older ones are forgotten.
const LEFTOVERS_MAX: usize = 16;

/// What the cycle is for.
pub(crate) enum Wish {
    /// A crash or app point, by the policy.
    Regular,
    /// The same, because its time has come and not because somebody asked: keeps to the policy's hours.
    Scheduled,
    /// The last point of machines that are off.
    Final(EffectKey),
    /// The first copy, into this store at the source.
    Seed(String),
}

/// What was cut, member by member.
struct Cuts {
    barriers: Vec<BarrierId>,
    reports: Vec<CutReport>,
}

/// One disk on its way.
struct Shipment {
    member: usize,
    disk: usize,
    size_bytes: u64,
    /// When the disk begins anew.
    lineage: Option<Lineage>,
    order: ShipOrder,
    expected_bytes: u64,
}

impl Replicator {
    /// A cycle of a group whose gate is held.
    pub(crate) async fn locked_cycle(
        &self,
        group: &GroupName,
        gate: &Gate,
        wish: Wish,
        progress: &dyn Progress,
    ) -> Result<Point> {
        let mut interrupts = gate.interrupts();
        let mut protection = self.catalogue.protection(group).await?;
        if let (Some(run), Wish::Regular | Wish::Scheduled) = (&protection.suspended, &wish) {
            return Err(Failure::refused(format!("the replication of `{group}` is suspended by run `{run}`"))
                .help("production has left its source; commit and reprotect, or cancel the failover"));
        }
        if seed::is_awaited(&protection) && !matches!(wish, Wish::Seed(_)) {
            return Err(seed::awaited(group));
        }
        let site = Arc::clone(self.site(&protection.source)?);
        let started = self.clock.now();
        protection.last_attempt = Some(started);
        let ready = async {
            let left = self.heal(&protection, site.as_ref()).await?;
            if let Wish::Final(_) = &wish {
                self.all_off(&protection, site.as_ref()).await?;
            }
            Ok(left)
        };
        let ready = tokio::select! {
            biased;
            _ = interrupts.changed() => Err(gave_way(group)),
            ready = ready => ready,
        };
        match ready {
            Ok(left) => protection.open = left,
            Err(failure) => return Err(self.failed(protection, failure).await),
        }
        let point = PointId::new(self.random.sortable_id(started));
        let orders = cut_orders(&protection, &point, &wish, started);
        let barriers: Vec<_> = orders.iter().map(|order| order.barrier.clone()).collect();
        protection.open.push(OpenCut {
            site: protection.source.clone(),
            barriers: barriers.clone(),
            outcome: CutOutcome::Abandoned,
        });
        self.catalogue.save(&protection).await?;
        let work = self.cut_and_ship(&mut protection, site.as_ref(), &orders, &wish, progress);
        let shipped = tokio::select! {
            biased;
            _ = interrupts.changed() => Err(gave_way(group)),
            shipped = work => shipped,
        };
        match shipped {
            Ok((cuts, shipments, shipped)) => {
                let seed = if let Wish::Seed(to) = &wish { Some(to.clone()) } else { None };
                let commit = Commit { point, started, orders, cuts, shipments, shipped, wish };
                if let Some(to) = seed {
                    return self.keep_seed(protection, site.as_ref(), commit, to, &mut interrupts).await;
                }
                self.commit(protection, site.as_ref(), commit, &mut interrupts).await
            }
            Err(failure) => {
                self.abandon(&mut protection, site.as_ref(), &barriers).await;
                Err(self.failed(protection, failure).await)
            }
        }
    }

    /// Ends the cuts that an earlier cycle, or an earlier process, left open; what is still open comes back. The own
    /// source has to answer; the others may be gone for good. When this fails or is given up, all count as open still:
    /// to settle twice does no harm, to forget an open cut does.
    async fn heal(&self, protection: &Protection, site: &dyn Site) -> Result<Vec<OpenCut>> {
        let mut left = Vec::new();
        for open in &protection.open {
            if open.barriers.iter().all(|barrier| lock(&self.settled).contains(barrier)) {
                continue;
            }
            if open.site == protection.source {
                for barrier in &open.barriers {
                    let settled = site.settle(barrier, open.outcome).await;
                    settled.map_err(|failure| failure.during("settle the last cut"))?;
                }
            } else if !self.settle_leftover(open).await {
                left.push(open.clone());
            }
        }
        let ended = protection.open.iter().filter(|open| !left.contains(open)).flat_map(|open| &open.barriers);
        ended.for_each(|barrier| {
            lock(&self.settled).remove(barrier);
        });
        let surplus = left.len().saturating_sub(LEFTOVERS_MAX);
        Ok(left.split_off(surplus))
    }

    async fn settle_leftover(&self, open: &OpenCut) -> bool {
        let Ok(site) = self.site(&open.site) else { return true };
        for barrier in &open.barriers {
            let settled = tokio::select! {
                settled = site.settle(barrier, open.outcome) => settled.is_ok(),
                () = self.clock.sleep(SETTLE_LIMIT) => false,
            };
            if !settled {
                return false;
            }
        }
        true
    }

    async fn abandon(&self, protection: &mut Protection, site: &dyn Site, barriers: &[BarrierId]) {
        for barrier in barriers {
            tokio::select! {
                settled = site.settle(barrier, CutOutcome::Abandoned) => {
                    if settled.is_err() { return }
                }
                () = self.clock.sleep(SETTLE_LIMIT) => return,
            }
        }
        protection.open.retain(|open| open.barriers != barriers);
    }

    /// Writes down that a cycle failed, and hands the failure on.
    async fn failed(&self, mut protection: Protection, failure: Failure) -> Failure {
        let in_a_row = protection.last_error.as_ref().map_or(0, |error| error.in_a_row).saturating_add(1);
        protection.resync = None;
        protection.totals.failed_cycles += 1;
        protection.last_error = Some(CycleError { at: self.clock.now(), failure: failure.clone(), in_a_row });
        match self.catalogue.save(&protection).await {
            Ok(()) => failure,
            Err(worse) => worse.during(format!("write down that a cycle failed ({failure})")),
        }
    }

    async fn all_off(&self, protection: &Protection, site: &dyn Site) -> Result<()> {
        let on = |machine: &MachineName, seen: &[InstanceState]| {
            let instance = InstanceName::live(machine);
            seen.iter().any(|state| state.instance == instance && state.power == Power::On)
        };
        let seen = site.instances().await?;
        match protection.members.iter().find(|member| on(&member.machine, &seen)) {
            None => Ok(()),
            Some(member) => Err(Failure::refused(format!(
                "`{}` is still on at `{}`: a final point needs every machine of `{}` off",
                member.machine, protection.source, protection.group
            ))),
        }
    }

    async fn cut_and_ship(
        &self,
        protection: &mut Protection,
        site: &dyn Site,
        orders: &[CutOrder],
        wish: &Wish,
        progress: &dyn Progress,
    ) -> Result<(Cuts, Vec<Shipment>, Vec<ShippedDisk>)> {
        let mut cuts = Cuts { barriers: Vec::new(), reports: Vec::new() };
        for order in orders {
            let report = site.cut(order).await.map_err(|failure| failure.during("cut"))?;
            cuts.barriers.push(order.barrier.clone());
            cuts.reports.push(report);
        }
        let (mut shipments, resync) = self.plan_shipments(protection, &cuts).await?;
        if let (Some(why), Wish::Scheduled) = (&resync, wish) {
            self.keep_to_window(protection, why)?;
        }
        match wish {
            // Production stands still until it is through.
            Wish::Final(_) => {}
            Wish::Seed(to) => shipments.iter_mut().for_each(|shipment| shipment.order.seed = Some(to.clone())),
            Wish::Regular | Wish::Scheduled => self.set_pace(protection, &mut shipments),
        }
        if protection.resync != resync {
            protection.resync = resync;
            self.catalogue.save(protection).await?;
        }
        let totals = Shares {
            done: shipments.iter().map(|_| AtomicU64::new(0)).collect(),
            expected: shipments.iter().map(|shipment| shipment.expected_bytes).sum(),
            sink: progress,
        };
        let totals = &totals;
        let ships = shipments.iter().enumerate().map(|(index, shipment)| async move {
            site.ship(&shipment.order, &Part { totals, index }).await.map(|shipped| (index, shipped))
        });
        let mut shipped = vec![ShippedDisk::default(); shipments.len()];
        let ships: Vec<_> = ships.collect();
        let mut ships = futures::stream::iter(ships).buffer_unordered(SHIPS_AT_ONCE);
        while let Some(done) = ships.next().await {
            let (index, disk) = done?;
            shipped[index] = disk;
        }
        drop(ships);
        Ok((cuts, shipments, shipped))
    }

    async fn plan_shipments(&self, protection: &Protection, cuts: &Cuts) -> Result<(Vec<Shipment>, Option<String>)> {
        let lineages = self.catalogue.lineages().await?;
        let mut shipments = Vec::new();
        let mut resync = None;
        for (member_index, member) in protection.members.iter().enumerate() {
            for (disk_index, disk) in member.disks.iter().enumerate() {
                let (barrier, cut) = find_cut(cuts, &member.machine, &disk.disk)?;
                let resized = disk.tip.is_some() && cut.size_bytes != disk.size_bytes;
                let lineage = resized.then(|| self.new_lineage(&protection.group, &member.machine, &disk.disk, None));
                let mode = match (&disk.tip, &cut.tracking) {
                    (None, _) => ShipMode::Full,
                    _ if resized => ShipMode::Full,
                    (Some(_), Tracking::Since { barrier }) if Some(barrier) == member.base.as_ref() => ShipMode::Delta,
                    (Some(tip), tracking) => {
                        resync = Some(lost(&member.machine, &disk.disk, tracking));
                        ShipMode::Compare { image: self.image(&lineages, protection, disk.size_bytes, tip).await? }
                    }
                };
                let expected_bytes = if mode == ShipMode::Delta { cut.dirty_bytes } else { cut.size_bytes };
                let into = lineage.as_ref().map_or(&disk.lineage, |lineage| &lineage.id).clone();
                shipments.push(Shipment {
                    member: member_index,
                    disk: disk_index,
                    size_bytes: cut.size_bytes,
                    lineage,
                    order: ShipOrder {
                        vault: self.vault.clone(),
                        epoch: self.catalogue.store.epoch(),
                        barrier: barrier.clone(),
                        machine: member.machine.clone(),
                        disk: disk.disk.clone(),
                        lineage: into,
                        mode,
                        compression: protection.policy.compression,
                        rate_limit: None,
                        pace: None,
                        seed: None,
                    },
                    expected_bytes,
                });
            }
        }
        Ok((shipments, resync))
    }

    /// A resync reads everything, so one that begins by itself waits for the policy's window. Asked for by a person, or
    /// by a plan, it begins at once.
    fn keep_to_window(&self, protection: &mut Protection, why: &str) -> Result<()> {
        let now = self.clock.now();
        let window = protection.policy.resync_window.as_ref();
        let Some(from) = window.and_then(|window| windows::next_open(window, now)).filter(|from| *from > now) else {
            return Ok(());
        };
        let since = protection.resync_required.as_ref().map_or(now, |required| required.since);
        protection.resync_required = Some(ResyncRequired { why: why.to_owned(), since, from });
        let name = protection.policy.resync_window.as_ref().map_or("", |window| window.name.as_str());
        Err(Failure::refused(format!("resync required: {why}; it waits for the window `{name}`"))
            .help("`muster replicate --once` begins it now"))
    }

    /// The rates of the policy's hours, shared by all disks of the group. A final sync has none: production stands still
    /// until it is through.
    fn set_pace(&self, protection: &Protection, shipments: &mut [Shipment]) {
        let Some(spans) = windows::pace(&protection.policy, self.clock.now()) else { return };
        let at_once = SHIPS_AT_ONCE.min(shipments.len()).max(1) as u64;
        let now = spans.first().and_then(|span| span.bytes_per_second);
        for shipment in shipments {
            shipment.order.rate_limit = now.map(|rate| (rate / at_once).max(1));
            let shared_by = protection.group.to_string();
            shipment.order.pace = Some(Pace { shared_by, spans: spans.clone() });
        }
    }

    async fn image(
        &self,
        lineages: &history::Lineages,
        protection: &Protection,
        size_bytes: u64,
        tip: &Tip,
    ) -> Result<ReplicaImage> {
        Ok(ReplicaImage {
            vault: self.vault.clone(),
            point: protection.newest.clone().or(protection.origin.clone()).unwrap_or_else(|| PointId::new("none")),
            size_bytes,
            segments: self.catalogue.segments(lineages, tip).await?,
        })
    }

    /// Makes everything true in one batch, then tells the tracker.
    async fn commit(
        &self,
        mut protection: Protection,
        site: &dyn Site,
        commit: Commit,
        interrupts: &mut watch::Receiver<u64>,
    ) -> Result<Point> {
        let group = protection.group.clone();
        let (point, mut batch) = commit.apply(&mut protection, self.clock.now())?;
        batch.push(put(point_key(&group, &point.summary.id), &point)?);
        batch.push(put(protection_key(&group), &protection)?);
        // When the answer is lost the point may stand or not: the store tells the next cycle, so nothing is settled here.
        self.catalogue.store.write(batch).await.map_err(|error| Failure::from(error).during("commit the point"))?;
        self.settle_committed(&group, &point.barriers, site, interrupts).await;
        Ok(point)
    }

    /// What was cut stands. A site that dies now must hold up neither it nor the recovery that waits for the group.
    async fn settle_committed(
        &self,
        group: &GroupName,
        barriers: &[BarrierId],
        site: &dyn Site,
        interrupts: &mut watch::Receiver<u64>,
    ) {
        for barrier in barriers {
            let settled = tokio::select! {
                biased;
                _ = interrupts.changed() => Err(gave_way(group)),
                settled = site.settle(barrier, CutOutcome::Committed) => settled,
                () = self.clock.sleep(SETTLE_LIMIT) => Err(Failure::transient("no answer")),
            };
            match settled {
                Ok(()) => {
                    lock(&self.settled).insert(barrier.clone());
                }
                Err(failure) => {
                    tracing::info!("the cut `{barrier}` is settled by the next cycle: {failure}");
                    break;
                }
            }
        }
    }

    /// The copy lies beside the vault and is no point yet: what will make it one waits until the copy has arrived. The
    /// tracker goes on from the cut, so that all later cycles send what has changed since.
    async fn keep_seed(
        &self,
        mut protection: Protection,
        site: &dyn Site,
        commit: Commit,
        to: String,
        interrupts: &mut watch::Receiver<u64>,
    ) -> Result<Point> {
        let mut after = protection.clone();
        let (point, batch) = commit.apply(&mut after, self.clock.now())?;
        let seed = Seed::new(point, to, after, batch)?;
        if let Some(open) = protection.open.iter_mut().find(|open| open.barriers == seed.point.barriers) {
            open.outcome = CutOutcome::Committed;
        }
        protection.last_error = None;
        let batch =
            vec![put(seed_key(&protection.group), &seed)?, put(protection_key(&protection.group), &protection)?];
        self.catalogue.store.write(batch).await.map_err(|error| Failure::from(error).during("note the seed"))?;
        self.settle_committed(&protection.group, &seed.point.barriers, site, interrupts).await;
        Ok(seed.point)
    }
}

/// Everything a cycle has to make true.
struct Commit {
    point: PointId,
    started: Timestamp,
    orders: Vec<CutOrder>,
    cuts: Cuts,
    shipments: Vec<Shipment>,
    shipped: Vec<ShippedDisk>,
    wish: Wish,
}

impl Commit {
    fn apply(self, protection: &mut Protection, now: Timestamp) -> Result<(Point, Vec<Write>)> {
        let mut batch = Vec::new();
        let mut disks = Vec::new();
        protection.seq += 1;
        let notes = self.notes(protection);
        self.keep_time(protection, now);
        let sum = |value: fn(&ShippedDisk) -> u64| self.shipped.iter().map(value).sum::<u64>();
        self.count(&mut protection.totals, protection.resync.is_some());
        let longest = |value: fn(&CutReport) -> u64| self.cuts.reports.iter().map(value).max().unwrap_or(0);
        let times = CutTimes {
            flush_micros: longest(|report| report.flush_micros),
            hold_micros: longest(|report| report.hold_micros),
            transaction_micros: longest(|report| report.transaction_micros),
        };
        let cycle = CycleSummary {
            point: self.point.clone(),
            started: self.started,
            ended: now,
            read_bytes: sum(|disk| disk.read_bytes),
            sent_bytes: sum(|disk| disk.sent_bytes),
            stored_bytes: sum(|disk| disk.stored_bytes),
            flush_micros: times.flush_micros,
            hold_micros: times.hold_micros,
            notes,
        };
        for (shipment, shipped) in self.shipments.iter().zip(self.shipped) {
            let member = &mut protection.members[shipment.member];
            let disk = &mut member.disks[shipment.disk];
            if let Some(lineage) = &shipment.lineage {
                batch.push(put(lineage_key(&lineage.id), lineage)?);
                disk.replaced.extend(disk.tip.take());
                disk.lineage = lineage.id.clone();
            }
            let tip = Tip { lineage: disk.lineage.clone(), seq: protection.seq };
            if !shipped.segments.is_empty() {
                let layer = Layer { lineage: tip.lineage.clone(), seq: tip.seq, segments: shipped.segments };
                batch.push(put(layer_key(&layer.lineage, layer.seq), &layer)?);
            }
            disk.size_bytes = shipment.size_bytes;
            disk.tip = Some(tip.clone());
            disks.push(PointDisk {
                machine: member.machine.clone(),
                disk: disk.disk.clone(),
                size_bytes: shipment.size_bytes,
                tip,
            });
            member.base = Some(shipment.order.barrier.clone());
        }
        let wanted_app = self.orders.iter().any(|order| order.consistency == Consistency::App);
        let reached_app = self.cuts.reports.iter().all(|report| report.consistency == Consistency::App);
        let (kind, key) = match self.wish {
            Wish::Final(key) => (PointKind::Final, Some(key)),
            _ if wanted_app && reached_app => (PointKind::App, None),
            _ => (PointKind::Crash, None),
        };
        if wanted_app {
            protection.last_app = Some(self.started);
        }
        let summary = PointSummary {
            id: self.point.clone(),
            group: protection.group.clone(),
            at: self.cuts.reports.iter().map(|report| report.at).min().unwrap_or(self.started),
            kind,
            machines: protection.members.iter().map(|member| member.machine.clone()).collect(),
        };
        if let Some(open) = protection.open.iter_mut().find(|open| open.barriers == self.cuts.barriers) {
            open.outcome = CutOutcome::Committed;
        }
        protection.newest = Some(self.point);
        protection.last_cycle = Some(cycle);
        protection.last_error = None;
        protection.resync = None;
        protection.resync_required = None;
        Ok((Point { summary, barriers: self.cuts.barriers, key, disks, times: Some(times) }, batch))
    }

    fn count(&self, totals: &mut Totals, resync: bool) {
        totals.cycles += 1;
        totals.resyncs += u64::from(resync);
        for disk in &self.shipped {
            totals.read_bytes += disk.read_bytes;
            totals.sent_bytes += disk.sent_bytes;
            totals.zero_bytes += disk.zero_bytes;
            totals.stored_bytes += disk.stored_bytes;
        }
    }

    /// Remembers how long a regular cycle takes; the next one begins early by as much.
    fn keep_time(&self, protection: &mut Protection, now: Timestamp) {
        let deltas = self.shipments.iter().all(|shipment| shipment.order.mode == ShipMode::Delta);
        if !deltas || matches!(self.wish, Wish::Final(_)) {
            return;
        }
        let millis = u64::try_from(now.since(self.started).as_millis()).unwrap_or(u64::MAX);
        protection.cycle_times.push(millis);
        let surplus = protection.cycle_times.len().saturating_sub(CYCLE_TIMES_KEPT);
        protection.cycle_times.drain(..surplus);
    }

    fn notes(&self, protection: &Protection) -> Vec<String> {
        let mut notes: Vec<String> = self.cuts.reports.iter().flat_map(|report| report.notes.clone()).collect();
        for shipment in &self.shipments {
            let of = format!("`{}/{}`", shipment.order.machine, shipment.order.disk);
            let cut = find_cut(&self.cuts, &shipment.order.machine, &shipment.order.disk);
            match (&shipment.order.mode, &shipment.lineage) {
                (ShipMode::Full, Some(_)) => notes.push(format!("first copy of {of}: its size has changed")),
                (ShipMode::Full, None) => notes.push(format!("first copy of {of}")),
                (ShipMode::Compare { .. }, _) => {
                    if let Ok((_, cut)) = cut {
                        notes.push(lost(&cut.machine, &cut.disk, &cut.tracking));
                    }
                }
                (ShipMode::Delta, _) => {}
            }
        }
        for cut in self.cuts.reports.iter().flat_map(|report| &report.disks) {
            let known = protection
                .members
                .iter()
                .any(|member| member.machine == cut.machine && member.disks.iter().any(|disk| disk.disk == cut.disk));
            if !known {
                notes.push(format!("`{}/{}` is not replicated: protect the group again", cut.machine, cut.disk));
            }
        }
        notes
    }
}

pub(crate) fn gave_way(group: &GroupName) -> Failure {
    Failure::refused(format!("the work on `{group}` gave way to a recovery, or to a person's word"))
}

/// One order for a group that is cut together, else one per machine.
fn cut_orders(protection: &Protection, point: &PointId, wish: &Wish, now: Timestamp) -> Vec<CutOrder> {
    let consistency = match wish {
        // Machines that are off are cut as they lie: there is nothing to freeze.
        Wish::Final(_) => Consistency::Crash,
        _ if history::app_is_due(protection, now) => Consistency::App,
        _ => Consistency::Crash,
    };
    let member = |member: &Member| CutMember {
        instance: InstanceName::live(&member.machine),
        machine: member.machine.clone(),
        base: member.base.clone(),
    };
    let order = |barrier: String, members| CutOrder {
        barrier: BarrierId::new(barrier),
        members,
        consistency,
        hold: protection.together,
        hold_limit: HOLD_LIMIT,
    };
    if protection.together {
        return vec![order(point.to_string(), protection.members.iter().map(member).collect())];
    }
    let each = protection.members.iter().enumerate();
    each.map(|(index, one)| order(format!("{point}-{index}"), vec![member(one)])).collect()
}

fn find_cut<'a>(cuts: &'a Cuts, machine: &MachineName, disk: &DiskName) -> Result<(&'a BarrierId, &'a DiskCut)> {
    for (barrier, report) in cuts.barriers.iter().zip(&cuts.reports) {
        if let Some(cut) = report.disks.iter().find(|cut| cut.machine == *machine && cut.disk == *disk) {
            return Ok((barrier, cut));
        }
    }
    Err(Failure::permanent(format!("the disk `{disk}` of `{machine}` was not in the cut"))
        .help("it is not attached any more: pull the inventory and protect the group again"))
}

fn lost(machine: &MachineName, disk: &DiskName, tracking: &Tracking) -> String {
    match tracking {
        Tracking::Lost { reason } => format!("resync of `{machine}/{disk}`: {reason}"),
        Tracking::Since { barrier } => {
            format!(
                "resync of `{machine}/{disk}`: its changes are known since `{barrier}`, which is not the last point"
            )
        }
    }
}

/// Progress of several disks as one.
struct Shares<'a> {
    done: Vec<AtomicU64>,
    expected: u64,
    sink: &'a dyn Progress,
}

struct Part<'a> {
    totals: &'a Shares<'a>,
    index: usize,
}

impl Progress for Part<'_> {
    fn report(&self, done: u64, _total: Option<u64>) {
        if let Some(part) = self.totals.done.get(self.index) {
            part.store(done, Ordering::Relaxed);
        }
        let sum = self.totals.done.iter().map(|part| part.load(Ordering::Relaxed)).sum();
        self.totals.sink.report(sum, Some(self.totals.expected));
    }
}
