//! The reconciler: which groups are replicated from where, and when the next cycle of each is due.

use crate::catalogue::{Catalogue, put};
use crate::cycle::Wish;
use crate::history;
use crate::records::*;
use crate::recovery::PointSummary;
use crate::retention;
use futures::future::join_all;
use muster_ports::*;
use muster_runsheet::{Estate, GroupSheet, MachineSheet, PolicySheet, RouteSheet};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often points that are too old are looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(60);
/// Longest sleep of the driver between two looks at what is due, so that changed policies are seen.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Shortest sleep of the driver, so that a cycle shorter than its own work does not spin.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// Keeps recovery points coming, and answers what recovery asks of them.
///
/// One work at a time per group: a cycle, or a change of its protection. Groups do not wait for each other.
#[derive(Debug)]
pub struct Replicator {
    pub(crate) catalogue: Catalogue,
    pub(crate) sites: BTreeMap<SiteName, Arc<dyn Site>>,
    pub(crate) vault: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    gates: Mutex<BTreeMap<GroupName, Arc<Gate>>>,
    /// Held while points are held or dropped, so that no point goes between being chosen and being held.
    pub(crate) points_lock: tokio::sync::Mutex<()>,
    /// Cuts settled by this process, which need no healing.
    pub(crate) settled: Mutex<BTreeSet<BarrierId>>,
    last_retention: Mutex<Option<Timestamp>>,
    /// Lineages that a fold is being written for: what it has stored so far is named by no record.
    pub(crate) folding: Mutex<BTreeSet<LineageId>>,
}

/// How often a cycle is told again to give way.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// One group's door.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) work: tokio::sync::Mutex<()>,
    /// Rises when a cycle under way has to give way: recovery does not wait for a transfer from a dying site.
    interrupt: watch::Sender<u64>,
}

impl Gate {
    pub(crate) fn interrupts(&self) -> watch::Receiver<u64> {
        self.interrupt.subscribe()
    }
    /// Takes the door for a recovery: the cycle that holds it gives way. It is told again and again, since a cycle may
    /// have begun after the first word and before this one stood in line.
    pub(crate) async fn take(&self, clock: &dyn Clock) -> tokio::sync::MutexGuard<'_, ()> {
        let mut work = std::pin::pin!(self.work.lock());
        loop {
            self.interrupt.send_modify(|count| *count += 1);
            tokio::select! {
                biased;
                work = &mut work => return work,
                () = clock.sleep(TELL_AGAIN) => {}
            }
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replicator {
    pub fn new(
        store: Arc<dyn StateStore>,
        sites: BTreeMap<SiteName, Arc<dyn Site>>,
        vault_url: impl Into<String>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            catalogue: Catalogue { store },
            sites,
            vault: vault_url.into(),
            clock,
            random,
            gates: Mutex::default(),
            points_lock: tokio::sync::Mutex::default(),
            settled: Mutex::default(),
            last_retention: Mutex::default(),
            folding: Mutex::default(),
        }
    }

    pub(crate) fn gate(&self, group: &GroupName) -> Arc<Gate> {
        let mut gates = lock(&self.gates);
        let new = || Arc::new(Gate { work: tokio::sync::Mutex::default(), interrupt: watch::Sender::new(0) });
        Arc::clone(gates.entry(group.clone()).or_insert_with(new))
    }

    pub(crate) fn site(&self, site: &SiteName) -> Result<&Arc<dyn Site>> {
        self.sites.get(site).ok_or_else(|| {
            Failure::permanent(format!("no agent is known for the site `{site}`"))
                .help("the site has to be in the plans that this muster was started with")
        })
    }

    /// Starts replicating a group, or brings its protection in line with the plans: a changed policy counts from now, a
    /// new disk gets a first copy, a machine that left the group is no longer cut. The direction is not touched.
    pub async fn protect(&self, estate: &Estate, group: &GroupName) -> Result<()> {
        let (sheet, policy, machines) = intent(estate, group)?;
        let gate = self.gate(group);
        let _work = gate.work.lock().await;
        let before = self.catalogue.find_protection(group).await?;
        let mut batch = Vec::new();
        let mut members = Vec::new();
        for machine in machines {
            let old = before.as_ref().and_then(|protection| find_member(protection, &machine.facts.name));
            members.push(self.member(group, machine, old, &mut batch)?);
        }
        let protection = match before {
            Some(mut protection) => {
                protection.policy = policy.clone();
                protection.together = sheet.together;
                protection.members = members;
                protection
            }
            None => Protection {
                group: group.clone(),
                policy: policy.clone(),
                together: sheet.together,
                source: home_of(sheet, estate)?,
                target: sheet.away.clone(),
                members,
                seq: 0,
                newest: None,
                origin: None,
                suspended: None,
                open: Vec::new(),
                last_attempt: None,
                cycle_times: Vec::new(),
                last_app: None,
                last_cycle: None,
                last_error: None,
                resync: None,
                resync_required: None,
                paused: None,
                totals: Totals::default(),
            },
        };
        self.site(&protection.source)?;
        batch.push(put(protection_key(group), &protection)?);
        Ok(self.catalogue.store.write(batch).await?)
    }

    fn member(
        &self,
        group: &GroupName,
        machine: &MachineSheet,
        old: Option<&Member>,
        batch: &mut Vec<Write>,
    ) -> Result<Member> {
        let mut disks = Vec::new();
        for facts in &machine.facts.disks {
            let known = old.and_then(|member| member.disks.iter().find(|disk| disk.disk == facts.name));
            disks.push(match known {
                Some(known) => known.clone(),
                None => {
                    let lineage = self.new_lineage(group, &machine.facts.name, &facts.name, None);
                    batch.push(put(lineage_key(&lineage.id), &lineage)?);
                    MemberDisk {
                        disk: facts.name.clone(),
                        size_bytes: facts.size_bytes,
                        lineage: lineage.id,
                        tip: None,
                        replaced: Vec::new(),
                    }
                }
            });
        }
        Ok(Member { machine: machine.facts.name.clone(), base: old.and_then(|member| member.base.clone()), disks })
    }

    pub(crate) fn new_lineage(
        &self,
        group: &GroupName,
        machine: &MachineName,
        disk: &DiskName,
        parent: Option<Tip>,
    ) -> Lineage {
        let now = self.clock.now();
        Lineage {
            id: LineageId::new(format!("{machine}-{disk}-{}", self.random.sortable_id(now))),
            group: group.clone(),
            machine: machine.clone(),
            disk: disk.clone(),
            parent,
            created: now,
        }
    }

    /// Stops replicating a group and drops its points, but those that a run or a person holds. Nothing when it is not protected.
    /// What they occupied is reclaimed by [`gc`](Self::gc).
    pub async fn unprotect(&self, group: &GroupName) -> Result<()> {
        let gate = self.gate(group);
        let _work = gate.take(self.clock.as_ref()).await;
        let Some(protection) = self.catalogue.find_protection(group).await? else { return Ok(()) };
        if let Ok(site) = self.site(&protection.source) {
            for member in &protection.members {
                // A site that is gone tracks nothing either.
                if let Err(failure) = site.untrack(&InstanceName::live(&member.machine)).await {
                    tracing::warn!("changes of `{}` are still tracked: {failure}", member.machine);
                }
            }
        }
        let _points = self.points_lock.lock().await;
        let held = self.held().await?;
        let points = self.catalogue.points(group).await?;
        let dropped = points.iter().map(|point| &point.summary.id).filter(|id| !held.contains(*id));
        let mut batch: Vec<Write> = dropped.map(|id| Write::delete(point_key(group, id))).collect();
        batch.push(Write::delete(protection_key(group)));
        batch.push(Write::delete(seed_key(group)));
        Ok(self.catalogue.store.write(batch).await?)
    }

    /// Groups whose next cycle is due.
    pub async fn due(&self) -> Result<Vec<GroupName>> {
        let now = self.clock.now();
        let all = self.catalogue.protections().await?;
        let due = all.into_iter().filter(|protection| history::due_at(protection, now).is_some_and(|due| due <= now));
        Ok(due.map(|protection| protection.group).collect())
    }

    /// When there will be something to do; `None` when nothing is protected.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        let now = self.clock.now();
        Ok(self.catalogue.protections().await?.iter().filter_map(|protection| history::due_at(protection, now)).min())
    }

    /// Runs the cycles that are due, all at once, and drops points that are too old. A group that is at work already is
    /// left alone.
    pub async fn tick(&self) -> Result<Vec<(GroupName, Result<PointSummary>)>> {
        let due = self.due().await?;
        let cycles = due.into_iter().map(|group| async move {
            let gate = self.gate(&group);
            let Ok(_work) = gate.work.try_lock() else { return None };
            let result = self.locked_cycle(&group, &gate, Wish::Scheduled, &Silent).await;
            Some((group, result.map(|point| point.summary)))
        });
        let done = join_all(cycles).await.into_iter().flatten().collect();
        self.retention_when_due().await?;
        Ok(done)
    }

    /// Runs cycles on the policies' clock until `stop` is ready. Each group goes at its own pace. Failures of cycles are
    /// part of the status; only a control state that was taken over or is damaged ends this.
    pub async fn run_until(&self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut running: BTreeSet<GroupName> = BTreeSet::new();
        // A failure that could not be written down, on a full disk or after a takeover, leaves its group due as before.
        let mut resting: BTreeMap<GroupName, Timestamp> = BTreeMap::new();
        let mut cycles = futures::stream::FuturesUnordered::new();
        tokio::pin!(stop);
        loop {
            let due = match self.due().await {
                Ok(due) => due,
                Err(failure) if failure.is_retryable() => {
                    tracing::warn!("cannot tell what is due: {failure}");
                    Vec::new()
                }
                Err(failure) => return Err(failure),
            };
            let now = self.clock.now();
            resting.retain(|_, until| *until > now);
            for group in due {
                if !resting.contains_key(&group) && running.insert(group.clone()) {
                    cycles.push(self.tick_group(group));
                }
            }
            let next = self.next_due().await.ok().flatten();
            let now = self.clock.now();
            let sleep = next.map_or(LOOK_EVERY, |due| due.since(now)).clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY);
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some((group, result)) = futures::StreamExt::next(&mut cycles), if !cycles.is_empty() => {
                    running.remove(&group);
                    if let Err(failure) = result {
                        tracing::warn!("cycle of `{group}`: {failure}");
                        resting.insert(group, self.clock.now().plus(LOOK_EVERY));
                    }
                }
                () = self.clock.sleep(sleep) => {}
            }
            if let Err(failure) = self.retention_when_due().await {
                tracing::warn!("points that are too old were not dropped: {failure}");
            }
        }
    }

    async fn tick_group(&self, group: GroupName) -> (GroupName, Result<()>) {
        let gate = self.gate(&group);
        let Ok(_work) = gate.work.try_lock() else { return (group, Ok(())) };
        let result = self.locked_cycle(&group, &gate, Wish::Scheduled, &Silent).await.map(|_| ());
        (group, result)
    }

    async fn retention_when_due(&self) -> Result<()> {
        let now = self.clock.now();
        {
            let mut last = lock(&self.last_retention);
            if last.is_some_and(|last| now.since(last) < RETENTION_EVERY) {
                return Ok(());
            }
            *last = Some(now);
        }
        self.retain().await.map(|_| ())
    }

    /// Drops the points that are older than their group's policy keeps, and those that it lets thin out. Never the newest
    /// one, one that a run or a person holds, or the one its direction began with; nothing of a group that is suspended, since its failover may want any of them.
    pub async fn retain(&self) -> Result<Vec<PointId>> {
        let _points = self.points_lock.lock().await;
        let held = self.held().await?;
        let lineages = self.catalogue.lineages().await?;
        let mut dropped = Vec::new();
        let mut batch = self.stale_keeps().await?;
        for protection in self.catalogue.protections().await? {
            if protection.suspended.is_some() {
                continue;
            }
            let points = self.catalogue.points(&protection.group).await?;
            let newest = points.iter().rfind(|point| history::is_on_way(&lineages, &protection, point));
            let newest = newest.map(|point| point.summary.id.clone());
            let retain = protection.policy.retain.std();
            let now = self.clock.now();
            let origin = protection.origin.as_ref();
            let mut old = history::aged_out(&points, newest.as_ref(), origin, &held, now, retain);
            let stays = |id: &PointId| Some(id) == newest.as_ref() || Some(id) == origin || held.contains(id);
            let thinned = retention::thinned_out(&points, &protection.policy, now);
            let surplus: Vec<_> = thinned.into_iter().filter(|id| !stays(id) && !old.contains(id)).collect();
            old.extend(surplus);
            batch.extend(old.iter().map(|id| Write::delete(point_key(&protection.group, id))));
            dropped.extend(old);
        }
        if !batch.is_empty() {
            self.catalogue.store.write(batch).await?;
        }
        Ok(dropped)
    }
}

pub(crate) fn find_member<'a>(protection: &'a Protection, machine: &MachineName) -> Option<&'a Member> {
    protection.members.iter().find(|member| member.machine == *machine)
}

fn intent<'a>(
    estate: &'a Estate,
    group: &GroupName,
) -> Result<(&'a GroupSheet, &'a PolicySheet, Vec<&'a MachineSheet>)> {
    let sheet = estate.groups.get(group).ok_or_else(|| {
        Failure::permanent(format!("the plans have no group `{group}`"))
            .help(format!("they have {}", list(estate.groups.keys())))
    })?;
    let policy = sheet.policy.as_ref().ok_or_else(|| {
        Failure::permanent(format!("the group `{group}` has `policy = none`: it is not to be replicated"))
    })?;
    let policy = estate.policies.get(policy).ok_or_else(|| {
        Failure::permanent(format!("the group `{group}` names a policy `{policy}` that is not there"))
    })?;
    if policy.cycle.as_millis() == 0 {
        return Err(Failure::permanent(format!("the policy `{}` has a cycle of no time", policy.name)));
    }
    let needs: Vec<String> = policy.needs().iter().map(ToString::to_string).collect();
    if !needs.is_empty() {
        return Err(Failure::permanent(format!(
            "the policy `{}` asks for what this muster does not do yet: {}",
            policy.name,
            needs.join(", ")
        ))
        .help("replicate in cycles (`every 10s`) over the wire, with the vault's key"));
    }
    let find = |name: &MachineName| {
        let found = estate.machines.get(name);
        found.ok_or_else(|| Failure::permanent(format!("the group `{group}` names `{name}`, which no site has")))
    };
    let machines = sheet.machines.iter().map(find).collect::<Result<Vec<_>>>()?;
    if machines.is_empty() {
        return Err(Failure::permanent(format!("the group `{group}` has no machines")));
    }
    let carried = |machine: &&MachineSheet| {
        let by = |route: &'a RouteSheet| Some((route, route.carriers_from(&machine.home).next()?));
        estate.routes.iter().find_map(by)
    };
    if let Some((route, carrier)) = machines.iter().find_map(carried) {
        return Err(Failure::permanent(format!(
            "route `{} <-> {}` wants data carried by `{carrier}`, which this muster does not do yet",
            route.left, route.right
        ))
        .help("take `through` and `target` out of the route: the site agents carry data to the vault themselves"));
    }
    if let Some((machine, known)) = machines.iter().find_map(|machine| Some((machine, machine.known_as.as_ref()?))) {
        let (name, home) = (&machine.facts.name, &machine.home);
        return Err(Failure::permanent(format!(
            "site `{home}` calls `{name}` `{known}`: names are not translated yet"
        ))
        .help("give the machine a name at its site that plans can write, then pull the inventory again"));
    }
    Ok((sheet, policy, machines))
}

fn home_of(sheet: &GroupSheet, estate: &Estate) -> Result<SiteName> {
    let homes: BTreeSet<&SiteName> =
        sheet.machines.iter().filter_map(|name| estate.machines.get(name)).map(|machine| &machine.home).collect();
    match (&sheet.home, homes.len()) {
        (Some(home), _) => Ok(home.clone()),
        (None, 1) => Ok(homes.into_iter().next().cloned().unwrap_or_else(|| SiteName::new(""))),
        (None, _) => {
            Err(Failure::permanent(format!("the machines of `{}` are at several sites: {}", sheet.name, list(homes)))
                .help("machines of one group are replicated from one site; make one group per site"))
        }
    }
}

fn list(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
