//! Cuts: all disks of some machines frozen at one moment, and kept readable until somebody says what became of them.
//!
//! ```text
//!   prepare   scratch image per disk, broken bitmaps away                     (guests run)
//!   hold      freeze file systems, or pause                                   (guests wait)
//!   cut       per machine one transaction: new bitmap, old one off, fleece
//!   release   thaw, go on; see `hold` for all who may have to do it           (guests run)
//!   export    scratch + old bitmap over NBD; reads see the moment of the cut
//!   settle    committed: old bitmap away;  abandoned: new one merged back into it
//! ```
//!
//! What is open is written down before it is made, so that a new agent finds and settles what a killed one left.
//! Whatever fails: guests are released, and no change is forgotten.

use crate::folder::{Folder, MachineRecord, read_json, remove, short_hash, write_json};
use crate::hold::{Hold, HoldRecord};
use crate::host::{Host, NodeFacts, dismiss_attendant, nodes, reach, remove_bitmap};
use crate::process::ProcessId;
use crate::watchdog::{Charge, Watch, Watchdog};
use crate::{disk, limits};
use futures::future::join_all;
use muster_ports::{
    BarrierId, Clock, Consistency, CutMember, CutOrder, CutOutcome, CutReport, DiskCut, DiskName, Failure,
    InstanceName, MachineName, Result, Timestamp, Tracking,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs;
use std::time::Duration;
use tokio::time::{Instant, timeout};

pub(crate) const NBD_SOCKET: &str = "nbd.sock";

/// A cut that is not settled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CutRecord {
    pub(crate) order: CutOrder,
    /// There once the cut is whole.
    pub(crate) report: Option<CutReport>,
    pub(crate) members: Vec<MemberCut>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberCut {
    pub(crate) instance: InstanceName,
    pub(crate) machine: MachineName,
    base: Option<BarrierId>,
    /// Who holds the cut: the machine's process, or the attendant of one that is off.
    pub(crate) holder: Option<ProcessId>,
    pub(crate) disks: Vec<CutDiskRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CutDiskRecord {
    pub(crate) name: DiskName,
    node: String,
    /// The scratch node, the job and the export, all under one name.
    pub(crate) id: String,
    /// The bitmap that says what changed since the base.
    pub(crate) changed: Option<String>,
}

impl CutRecord {
    fn plan(folder: &Folder, order: &CutOrder) -> Result<Self> {
        let hash = short_hash(order.barrier.as_str());
        let member = |member: &CutMember| {
            let record = folder.known(&member.instance)?;
            let disk = |(index, disk): (usize, &crate::folder::DiskRecord)| CutDiskRecord {
                name: disk.name.clone(),
                node: disk::node(index),
                id: format!("cut-{hash}-{index}"),
                changed: None,
            };
            Ok(MemberCut {
                instance: member.instance.clone(),
                machine: member.machine.clone(),
                base: member.base.clone(),
                holder: None,
                disks: record.disks.iter().enumerate().map(disk).collect(),
            })
        };
        let members = order.members.iter().map(member).collect::<Result<_>>()?;
        Ok(Self { order: order.clone(), report: None, members })
    }

    pub(crate) fn holds_all(&self) -> bool {
        self.members.iter().all(|member| member.holder.is_some_and(ProcessId::is_alive))
    }
    pub(crate) fn has(&self, instance: &InstanceName) -> bool {
        self.members.iter().any(|member| member.instance == *instance)
    }
    pub(crate) fn barrier(&self) -> &BarrierId {
        &self.order.barrier
    }
}

pub(crate) fn read(folder: &Folder, barrier: &BarrierId) -> Result<Option<CutRecord>> {
    read_json(&folder.cut(barrier))
}

/// All cuts that are not settled.
pub(crate) fn open_cuts(folder: &Folder) -> Result<Vec<CutRecord>> {
    let home = folder.cuts();
    let mut cuts = Vec::new();
    for entry in fs::read_dir(&home).map_err(|error| crate::folder::at(&home, &error))? {
        let path = entry.map_err(|error| crate::folder::at(&home, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            cuts.extend(read_json::<CutRecord>(&path)?);
        }
    }
    Ok(cuts)
}

/// A member while it is being cut.
#[derive(Debug)]
struct Live {
    member: MemberCut,
    host: Host,
    hold: Hold,
    tracking: Vec<(Tracking, u64)>,
}

/// Where cuts are made, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) watchdog: &'a Watchdog,
}

struct Moment {
    /// Right before the first transaction.
    at: Timestamp,
    flush: Duration,
    hold: Duration,
    transaction: Duration,
}

/// Makes the cut. The caller holds the locks of all members and has settled whatever was open on them.
pub(crate) async fn make(place: Place<'_>, order: &CutOrder) -> Result<CutReport> {
    let folder = place.folder;
    let mut record = CutRecord::plan(folder, order)?;
    let path = folder.cut(&order.barrier);
    write_json(&path, &record)?;
    let outcome = attempt(place, order, &mut record).await;
    match outcome {
        Ok(report) => {
            record.report = Some(report.clone());
            write_json(&path, &record)?;
            Ok(report)
        }
        Err(failure) => {
            if let Err(second) = settle(folder, &record, CutOutcome::Abandoned).await {
                tracing::warn!(barrier = %order.barrier, failure = %second, "a failed cut is not cleaned up yet");
            }
            Err(failure.during(format!("cut `{}`", order.barrier)))
        }
    }
}

async fn attempt(place: Place<'_>, order: &CutOrder, cut: &mut CutRecord) -> Result<CutReport> {
    let folder = place.folder;
    let mut lives = Vec::new();
    for outcome in join_all(cut.members.iter().map(|member| prepare(folder, order, member))).await {
        lives.push(outcome?);
    }
    cut.members = lives.iter().map(|live| live.member.clone()).collect();
    write_json(&folder.cut(&order.barrier), cut)?;
    let watch = arm(place, order, &mut lives).await?;
    let moment = hold_and_cut(place.clock, order, watch.as_ref(), &mut lives).await?;
    drop(watch);
    let mut disks = Vec::new();
    for outcome in join_all(lives.iter_mut().map(export)).await {
        disks.extend(outcome?);
    }
    let frozen = |live: &Live| live.hold.frozen || live.host.attended;
    let app = order.consistency == Consistency::App && lives.iter().all(frozen);
    Ok(CutReport {
        barrier: order.barrier.clone(),
        at: moment.at,
        consistency: if app { Consistency::App } else { Consistency::Crash },
        flush_micros: micros(moment.flush),
        hold_micros: micros(moment.hold),
        transaction_micros: micros(moment.transaction),
        disks,
        notes: lives.into_iter().flat_map(|live| live.hold.notes).collect(),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Everything that can be done while the guest still runs.
async fn prepare(folder: &Folder, order: &CutOrder, member: &MemberCut) -> Result<Live> {
    let machine = folder.known(&member.instance)?;
    let mut host = reach(folder, &machine).await?;
    let mut member = member.clone();
    member.holder = Some(host.process);
    let facts = nodes(&mut host).await?;
    let mut tracking = Vec::new();
    for (disk, record) in member.disks.iter_mut().zip(&machine.disks) {
        let missing = || Failure::diverged(format!("QEMU has no disk `{}` of `{}` open", disk.name, machine.instance));
        let node = facts.iter().find(|(name, _)| *name == disk.node).map(|(_, facts)| facts).ok_or_else(missing)?;
        let found = tracking_of(node, member.base.as_ref());
        disk.changed = match &found {
            Tracking::Since { barrier } => Some(barrier.to_string()),
            Tracking::Lost { .. } => None,
        };
        tracking.push((found, node.size_bytes));
        for bitmap in &node.bitmaps {
            if bitmap.inconsistent || bitmap.name == order.barrier.as_str() {
                remove_bitmap(&mut host, &disk.node, &bitmap.name).await?;
            }
        }
        add_scratch(&mut host, disk, &record.file, node.size_bytes).await?;
    }
    ensure_server(&mut host).await?;
    let mut hold = Hold::none(&member.instance, host.folder());
    if !host.attended {
        hold = Hold::prepare(order, &member.instance, &mut host).await?;
    } else if order.consistency == Consistency::App {
        hold.notes.push(format!("`{}` is off and was cut as it lies", member.instance));
    }
    Ok(Live { member, host, hold, tracking })
}

/// Starts the watchdog, when anybody may be held, and writes down who. Without a watchdog nobody is held: a cut that can
/// do without goes on.
async fn arm(place: Place<'_>, order: &CutOrder, lives: &mut [Live]) -> Result<Option<Watch>> {
    let charge = |live: &Live| {
        let (instance, home) = (live.member.instance.clone(), live.host.folder().to_owned());
        Charge { instance, home, machine: live.host.process }
    };
    let charges: Vec<Charge> = lives.iter().filter(|live| live.hold.may_wait()).map(charge).collect();
    if charges.is_empty() {
        return Ok(None);
    }
    let watch = match Watch::arm(place.watchdog, charges, order.hold_limit).await {
        Ok(watch) => watch,
        Err(failure) if order.hold => return Err(failure),
        Err(failure) => {
            lives.iter_mut().for_each(|live| live.hold.give_up(&failure));
            return Ok(None);
        }
    };
    let since = place.clock.now();
    for live in lives.iter_mut().filter(|live| live.hold.may_wait()) {
        live.hold.note_down(HoldRecord::new(order, live.host.process, watch.process, since), &watch).await?;
    }
    Ok(Some(watch))
}

/// Can the changes since `base` be believed?
fn tracking_of(node: &NodeFacts, base: Option<&BarrierId>) -> Tracking {
    let lost = |reason: String| Tracking::Lost { reason };
    let Some(base) = base else { return lost("everything was asked for".to_owned()) };
    match node.bitmap(base.as_str()) {
        None => lost(format!("the disk has no change record since `{base}`")),
        Some(bitmap) if bitmap.inconsistent => lost(format!(
            "the change record since `{base}` was not stored: the machine's process was killed or lost power"
        )),
        Some(bitmap) if !bitmap.recording => {
            lost(format!("the change record since `{base}` was stopped by a cut that nobody settled"))
        }
        Some(_) => Tracking::Since { barrier: base.clone() },
    }
}

async fn add_scratch(host: &mut Host, disk: &CutDiskRecord, below: &str, size_bytes: u64) -> Result<()> {
    let file = scratch(disk);
    let home = host.folder().to_owned();
    remove(&home.join(&file))?;
    disk::create_over(&home, &file, below, "qcow2", size_bytes).await?;
    let node = json!({
        "driver": "qcow2",
        "node-name": disk.id,
        "file": { "driver": "file", "filename": file },
        "backing": disk.node,
    });
    host.execute("blockdev-add", node).await.map(drop)
}

fn scratch(disk: &CutDiskRecord) -> String {
    format!("{}.qcow2", disk.id)
}

async fn ensure_server(host: &mut Host) -> Result<()> {
    let address = json!({ "addr": { "type": "unix", "data": { "path": NBD_SOCKET } } });
    match host.execute("nbd-server-start", address).await {
        Err(failure) if !failure.message.contains("already running") => Err(failure),
        _ => Ok(()),
    }
}

/// The part with the guests waiting. Whatever happens, they are released before this returns, or left to the agent.
async fn hold_and_cut(
    clock: &dyn Clock,
    order: &CutOrder,
    watch: Option<&Watch>,
    lives: &mut [Live],
) -> Result<Moment> {
    let start = Instant::now();
    let work = async {
        let limit = order.hold_limit;
        let holds = lives.iter_mut().map(|live| live.hold.begin(limit, &mut live.host, watch));
        join_all(holds).await.into_iter().collect::<Result<Vec<()>>>()?;
        let flush = start.elapsed();
        let (at, first) = (clock.now(), Instant::now());
        let cuts = join_all(lives.iter_mut().map(|live| transaction(order, live))).await;
        let transaction = first.elapsed();
        cuts.into_iter().collect::<Result<Vec<()>>>()?;
        let checks = lives.iter_mut().map(|live| live.hold.check(&mut live.host));
        join_all(checks).await.into_iter().collect::<Result<Vec<()>>>()?;
        Ok::<_, Failure>((at, flush, transaction))
    };
    let outcome = timeout(order.hold_limit, work).await.unwrap_or_else(|_| {
        for live in lives.iter_mut() {
            live.host.hang_up();
        }
        Err(Failure::timeout(format!("guests would have been held longer than {} ms", order.hold_limit.as_millis()))
            .help("the next attempt may be luckier; a longer hold limit, or crash-consistent points, always help"))
    });
    let until_release = start.elapsed();
    let released = join_all(lives.iter_mut().map(|live| live.hold.end(&mut live.host, watch))).await;
    let (at, flush, transaction) = outcome?;
    released.into_iter().collect::<Result<Vec<()>>>()?;
    let early = lives.iter().find(|live| live.hold.thawed_early);
    if let Some(live) = early.filter(|_| order.hold && lives.len() > 1) {
        let message = format!("`{}` was thawed by somebody before the last machine was cut", live.member.instance);
        return Err(Failure::transient(message)
            .help("the machines of the group were not cut at one moment; Windows thaws by itself after 10 s"));
    }
    Ok(Moment { at, flush, hold: until_release.saturating_sub(flush), transaction })
}

async fn transaction(order: &CutOrder, live: &mut Live) -> Result<()> {
    let mut actions = Vec::new();
    for disk in &live.member.disks {
        let bitmap = json!({
            "node": disk.node, "name": order.barrier.as_str(), "persistent": true, "granularity": limits::GRAIN_BYTES,
        });
        actions.push(json!({ "type": "block-dirty-bitmap-add", "data": bitmap }));
        if let Some(changed) = &disk.changed {
            let old = json!({ "node": disk.node, "name": changed });
            actions.push(json!({ "type": "block-dirty-bitmap-disable", "data": old }));
        }
        let fleece = json!({ "job-id": disk.id, "device": disk.node, "target": disk.id, "sync": "none" });
        actions.push(json!({ "type": "blockdev-backup", "data": fleece }));
    }
    live.host.execute("transaction", json!({ "actions": actions })).await.map(drop)
}

async fn export(live: &mut Live) -> Result<Vec<DiskCut>> {
    for disk in &live.member.disks {
        let bitmaps: Vec<_> = disk.changed.iter().map(|name| json!({ "node": disk.node, "name": name })).collect();
        let export = json!({ "id": disk.id, "type": "nbd", "node-name": disk.id, "name": disk.id, "bitmaps": bitmaps });
        live.host.execute("block-export-add", export).await?;
    }
    let facts = nodes(&mut live.host).await?;
    let mut cuts = Vec::new();
    for (disk, (tracking, size_bytes)) in live.member.disks.iter().zip(&live.tracking) {
        let node = facts.iter().find(|(name, _)| *name == disk.node).map(|(_, facts)| facts);
        let changed = disk.changed.as_ref().and_then(|name| node?.bitmap(name));
        cuts.push(DiskCut {
            machine: live.member.machine.clone(),
            disk: disk.name.clone(),
            size_bytes: *size_bytes,
            tracking: tracking.clone(),
            dirty_bytes: changed.map_or(*size_bytes, |bitmap| bitmap.dirty_bytes),
        });
    }
    Ok(cuts)
}

/// Ends a cut: exports, jobs and scratch images go, bitmaps become what the outcome says. The caller holds the locks.
pub(crate) async fn settle(folder: &Folder, cut: &CutRecord, outcome: CutOutcome) -> Result<()> {
    for member in &cut.members {
        // A machine that was removed in the meantime took its disks and bitmaps along.
        let Some(machine) = folder.record(&member.instance)? else { continue };
        settle_member(folder, &machine, cut.barrier(), member, outcome)
            .await
            .map_err(|failure| failure.during(format!("settle `{}` of `{}`", cut.barrier(), member.instance)))?;
    }
    remove(&folder.cut(cut.barrier()))
}

async fn settle_member(
    folder: &Folder,
    machine: &MachineRecord,
    barrier: &BarrierId,
    member: &MemberCut,
    outcome: CutOutcome,
) -> Result<()> {
    let mut host = reach(folder, machine).await?;
    for disk in &member.disks {
        dismantle(&mut host, disk).await?;
    }
    let facts = nodes(&mut host).await?;
    for disk in &member.disks {
        let Some((_, node)) = facts.iter().find(|(name, _)| *name == disk.node) else { continue };
        settle_bitmaps(&mut host, disk, node, barrier, outcome).await?;
    }
    if host.attended {
        dismiss_attendant(host.folder()).await?;
    }
    Ok(())
}

async fn dismantle(host: &mut Host, disk: &CutDiskRecord) -> Result<()> {
    if listed(host, "query-block-exports", "id", &disk.id).await? {
        host.execute("block-export-del", json!({ "id": disk.id, "mode": "hard" })).await?;
        until_gone(host, "query-block-exports", "id", &disk.id).await?;
    }
    if listed(host, "query-block-jobs", "device", &disk.id).await? {
        host.execute("block-job-cancel", json!({ "device": disk.id, "force": true })).await?;
        until_gone(host, "query-block-jobs", "device", &disk.id).await?;
    }
    if nodes(host).await?.iter().any(|(name, _)| *name == disk.id) {
        host.execute("blockdev-del", json!({ "node-name": disk.id })).await?;
    }
    remove(&host.folder().join(scratch(disk)))
}

async fn listed(host: &mut Host, query: &str, field: &str, id: &str) -> Result<bool> {
    let answer = host.execute(query, json!({})).await?;
    Ok(answer.as_array().is_some_and(|list| list.iter().any(|item| item[field] == id)))
}

async fn until_gone(host: &mut Host, query: &str, field: &str, id: &str) -> Result<()> {
    let deadline = Instant::now() + limits::JOB_END;
    while listed(host, query, field, id).await? {
        if Instant::now() >= deadline {
            return Err(Failure::timeout(format!("`{id}` does not end within {} s", limits::JOB_END.as_secs())));
        }
        tokio::time::sleep(limits::LOOK).await;
    }
    Ok(())
}

async fn settle_bitmaps(
    host: &mut Host,
    disk: &CutDiskRecord,
    node: &NodeFacts,
    barrier: &BarrierId,
    outcome: CutOutcome,
) -> Result<()> {
    let new = node.bitmap(barrier.as_str()).filter(|bitmap| !bitmap.inconsistent);
    let old = disk.changed.as_ref().and_then(|name| node.bitmap(name)).filter(|bitmap| !bitmap.inconsistent);
    let mut unwanted: Vec<&str> =
        node.bitmaps.iter().filter(|bitmap| bitmap.inconsistent).map(|bitmap| bitmap.name.as_str()).collect();
    match (outcome, new, old) {
        (CutOutcome::Committed, Some(new), _) => {
            unwanted.extend(node.bitmaps.iter().map(|bitmap| bitmap.name.as_str()).filter(|name| *name != new.name));
        }
        (CutOutcome::Abandoned, Some(new), Some(old)) => {
            let actions = json!([
                { "type": "block-dirty-bitmap-merge",
                  "data": { "node": disk.node, "target": old.name, "bitmaps": [new.name] } },
                { "type": "block-dirty-bitmap-enable", "data": { "node": disk.node, "name": old.name } },
            ]);
            host.execute("transaction", json!({ "actions": actions })).await?;
            unwanted.push(&new.name);
        }
        (CutOutcome::Abandoned, Some(new), None) => unwanted.push(&new.name),
        // Stopped by a cut whose own record is gone: what was written since is in neither.
        (_, None, Some(old)) if !old.recording => unwanted.push(&old.name),
        (_, None, _) => {}
    }
    unwanted.sort_unstable();
    unwanted.dedup();
    for name in unwanted {
        remove_bitmap(host, &disk.node, name).await?;
    }
    Ok(())
}

/// Forgets all bitmaps of an instance.
pub(crate) async fn forget(folder: &Folder, machine: &MachineRecord) -> Result<()> {
    let mut host = reach(folder, machine).await?;
    let facts = nodes(&mut host).await?;
    for index in 0..machine.disks.len() {
        let name = disk::node(index);
        for (_, node) in facts.iter().filter(|(node, _)| *node == name) {
            for bitmap in &node.bitmaps {
                remove_bitmap(&mut host, &name, &bitmap.name).await?;
            }
        }
    }
    if host.attended {
        dismiss_attendant(host.folder()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Bitmap;

    fn node(recording: bool, inconsistent: bool) -> NodeFacts {
        let bitmap = Bitmap { name: "b1".to_owned(), dirty_bytes: 0, recording, inconsistent };
        NodeFacts { size_bytes: 1, bitmaps: vec![bitmap] }
    }

    #[test]
    fn only_a_bitmap_that_recorded_all_the_time_is_believed() {
        let base = BarrierId::new("b1");
        assert_eq!(tracking_of(&node(true, false), Some(&base)), Tracking::Since { barrier: base.clone() });
        for doubtful in [node(false, false), node(true, true), node(false, true), NodeFacts::default()] {
            assert!(matches!(tracking_of(&doubtful, Some(&base)), Tracking::Lost { .. }), "{doubtful:?}");
        }
        assert!(matches!(tracking_of(&node(true, false), None), Tracking::Lost { .. }));
        assert!(matches!(tracking_of(&node(true, false), Some(&BarrierId::new("b0"))), Tracking::Lost { .. }));
    }
}
