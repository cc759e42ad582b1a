//! The process that holds a vault: one writer of its control state, its replication schedule, its runs.
//!
//! ```text
//!   command ──> Access ──┬─ in this process ──────────> Control ──> Executor ──> Steps ──> sites
//!                        └─ over the local socket ──────^  └──────> Replicator ──────────> sites
//! ```

use crate::answers::*;
use crate::dossier;
use crate::forgotten;
use crate::guarded::Guarded;
use crate::history::evidence;
use crate::repoint;
use crate::request::{Event, Request, SOCKET_PROTOCOL, Sink};
use crate::runs::{ActiveRuns, Follow};
use crate::sites::Sites;
use crate::upkeep;
use muster_executor::{Executor, TakenOver};
use muster_hooks::HookHost;
use muster_journal::{Opening, RunState, RunStatus, RunStore, RunSummary};
use muster_ports::*;
use muster_replication::{Folding, Recovery, Replicator, SeedReport};
use muster_runsheet::{Action, Estate, Kind, Node, PlanState, PointChoice, Runsheet};
use muster_steps::Steps;
use muster_vault::Place;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a holder works with.
#[derive(Debug)]
pub struct Control {
    /// `muster 4711 on hq-ops: replicate`.
    pub(crate) name: String,
    vault_url: String,
    store: Arc<dyn StateStore>,
    replicator: Arc<Replicator>,
    runs: ActiveRuns,
    clock: Arc<dyn Clock>,
    schedule: Mutex<Option<JoinHandle<()>>>,
    /// Why this process may not go on: it was fenced.
    lost: Mutex<Option<Failure>>,
    /// Requests of other commands under way.
    at_work: watch::Sender<Work>,
    /// Who can write layers anew; set once the vault's key is at hand.
    folding: OnceLock<Arc<dyn Folding>>,
}

/// How often lineages are looked through for layers to fold: far more often than [`muster_replication::folding`] finds
/// enough of them.
const FOLD_EVERY: Duration = Duration::from_secs(60);

async fn fold(replicator: &Replicator, folding: &dyn Folding) {
    match replicator.fold(folding).await {
        Ok(report) if report.folds > 0 => tracing::info!(?report, "layers were folded"),
        Ok(_) => {}
        // The layers stay as they are, and are looked at again.
        Err(failure) => tracing::warn!("layers were not folded: {failure}"),
    }
}

/// Never ends.
async fn fold_for_ever(replicator: Arc<Replicator>, folding: Option<Arc<dyn Folding>>, clock: Arc<dyn Clock>) {
    let Some(folding) = folding else { return std::future::pending().await };
    loop {
        clock.sleep(FOLD_EVERY).await;
        fold(&replicator, folding.as_ref()).await;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Work {
    requests: usize,
    /// No further request is taken.
    closing: bool,
}

/// As long as it is there, the holder has work of another command.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<Control>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.send_modify(|work| work.requests = work.requests.saturating_sub(1));
    }
}

/// What [`Control::new`] is made of.
#[derive(Debug)]
pub struct Parts {
    pub name: String,
    pub vault_url: String,
    pub store: Arc<dyn StateStore>,
    pub sites: Sites,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// Whether the points that a sheet will pick are there: better said now than once production has been stopped.
pub(crate) async fn check_points(replicator: &Replicator, sheet: &Runsheet) -> Result<()> {
    for node in &sheet.nodes {
        if let Action::PickPoint { group, choice } = &node.action
            && *choice != PointChoice::Final
        {
            replicator.pick(group, choice).await?;
        }
    }
    Ok(())
}

impl Control {
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { name, vault_url, store, sites, clock, random } = parts;
        let sites = sites.0;
        let replicator =
            Arc::new(Replicator::new(store.clone(), sites.clone(), vault_url.clone(), clock.clone(), random.clone()));
        let guard = |(name, site)| (name, Arc::new(Guarded::new(site, store.clone())) as Arc<dyn Site>);
        let sites = sites.into_iter().map(guard).collect();
        let hooks = HookHost::new(clock.clone(), random.clone());
        let recovery: Arc<dyn Recovery> = replicator.clone();
        let steps = Arc::new(Steps::new(sites, recovery, store.clone(), hooks, clock.clone()));
        let executor = Arc::new(Executor::new(store.clone(), steps, clock.clone(), random));
        let runs = ActiveRuns::new(executor, clock.clone());
        let schedule = Mutex::new(None);
        Arc::new(Self {
            name,
            vault_url,
            store,
            replicator,
            runs,
            clock,
            schedule,
            lost: Mutex::new(None),
            at_work: watch::Sender::default(),
            folding: OnceLock::new(),
        })
    }

    pub async fn handle(self: &Arc<Self>, request: Request, sink: Arc<dyn Sink>) -> Result<Value> {
        match request {
            Request::Hello { protocol } if protocol != SOCKET_PROTOCOL => Err(Failure::refused(format!(
                "the muster that holds the vault speaks protocol {SOCKET_PROTOCOL}, this one {protocol}"
            ))
            .help("use the same version of muster for both")),
            Request::Hello { .. } => Ok(json!({ "name": self.name })),
            Request::Status => answer(&self.status().await?),
            Request::Points { group } => answer(&points(&self.replicator, group).await?),
            Request::Image { point, machine } => answer(&image(&self.replicator, &point, &machine).await?),
            Request::Protect { estate, groups } => answer(&self.protect(*estate, groups).await?),
            Request::Cycle { groups } => {
                self.cycle(groups, sink.as_ref()).await?;
                answer(&self.status().await?)
            }
            Request::ExportSeed { groups, to } => answer(&self.export_seed(groups, &to, sink.as_ref()).await?),
            Request::ImportSeed { groups, from } => answer(&self.import_seed(groups, &from, sink.as_ref()).await?),
            Request::Schedule { groups, pause, who, why } => answer(&self.pause(groups, pause, &who, &why).await?),
            Request::Replicate => {
                self.keep_replicating();
                answer(&self.status().await?)
            }
            Request::CleanupSheet { plan } => answer(&cleanup_sheet(&self.store, &plan).await?),
            Request::Start { sheet, who, why, wait, presigned } => {
                self.keep_replicating();
                check_points(&self.replicator, &sheet).await?;
                let opening = Opening { who, why, incident: None, signed: presigned };
                answer(&self.runs.start(*sheet, opening, Follow { sink, wait }).await?)
            }
            Request::Cleanup { plan, who, why, wait } => {
                self.keep_replicating();
                let sheet = cleanup_sheet(&self.store, &plan).await?;
                let opening = Opening { who, why, incident: None, signed: None };
                answer(&self.runs.start(sheet, opening, Follow { sink, wait }).await?)
            }
            Request::Resume { run, wait, by } => {
                self.keep_replicating();
                answer(&self.runs.resume(run, by, Follow { sink, wait }).await?)
            }
            Request::Pause { run, who, why } => Ok(json!({ "driven": self.runs.pause(&run, who, why).await? })),
            Request::Amend { run, sheet, who, why } => {
                Ok(json!({ "driven": self.runs.amend(&run, &sheet, who, why).await? }))
            }
            Request::RepointSheet { plan, point } => {
                answer(&repoint::planned(&self.store, &self.replicator, &plan, &point).await?)
            }
            Request::Repoint { plan, point, who, why, wait } => {
                self.keep_replicating();
                let opening = Opening { who, why, incident: None, signed: None };
                answer(&self.repoint(&plan, &point, opening, Follow { sink, wait }).await?)
            }
            Request::CancelRun { run, who, why } => {
                answer(&self.runs.cancel(run, &who, &why, Follow { sink, wait: true }).await?)
            }
            Request::Decide { run, step, decision, who, why } => {
                let driven = self.runs.decide(&run, step, decision, who, why).await?;
                Ok(json!({ "driven": driven }))
            }
            Request::Answer { run, step, answer } => {
                let driven = self.runs.answer_question(&run, step, answer).await?;
                Ok(json!({ "driven": driven }))
            }
            Request::Keep { point, until, who, why } => {
                answer(&self.replicator.keep(&point, until, &who, &why).await?.words(self.clock.now()))
            }
            Request::Lift { point } => {
                answer(&self.replicator.lift(&point).await?.map(|keep| keep.words(self.clock.now())))
            }
            Request::DropPoint { point } => answer(&self.replicator.drop_point(&point).await?),
            Request::Gc { grace_millis } => {
                let grace = Duration::from_millis(grace_millis);
                answer(&upkeep::gc(&self.replicator, &self.vault_url, grace).await?)
            }
            Request::Runs => answer(&newest_first(&self.store).await?),
            Request::Evidence { plan } => {
                answer(&evidence(&self.store, &self.replicator, &plan, self.clock.now()).await?)
            }
            Request::Log { run, after } => answer(&log(&self.store, run, after).await?),
            Request::Dossier { run } => answer(&dossier::dossier(&self.store, &self.replicator, run).await?),
            Request::Catalogue => answer(&dossier::catalogue(&self.store).await?),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    pub(crate) fn runs(&self) -> &ActiveRuns {
        &self.runs
    }

    async fn status(&self) -> Result<StatusAnswer> {
        let mut status = status(&self.store, &self.replicator).await?;
        status.holder = Some(self.name.clone());
        Ok(status)
    }

    /// Records what the plans say, and the intent for these groups; replication of a group that runs already goes on.
    async fn protect(&self, estate: Estate, groups: Vec<GroupName>) -> Result<Vec<GroupName>> {
        let groups = if groups.is_empty() {
            estate.groups.values().filter(|group| group.policy.is_some()).map(|group| group.name.clone()).collect()
        } else {
            groups
        };
        for group in &groups {
            if !estate.groups.contains_key(group) {
                let known: Vec<&str> = estate.groups.keys().map(|group| group.as_str()).collect();
                return Err(Failure::permanent(format!("there is no group `{group}` in the plans"))
                    .help(format!("the groups there: {}", known.join(", "))));
            }
            self.replicator.protect(&estate, group).await?;
        }
        let value = serde_json::to_vec(&estate).map_err(not_json)?;
        self.store.write(vec![Write::put("estate", value)]).await?;
        Ok(groups)
    }

    /// Lands the newest failover of a plan again. One that is stuck past no return is left as it stands first.
    async fn repoint(&self, plan: &PlanName, point: &str, opening: Opening, follow: Follow) -> Result<RunAnswer> {
        let found = repoint::failover(&self.store, plan).await?;
        let sheet = repoint::sheet(&self.store, &found, point).await?;
        check_points(&self.replicator, &sheet).await?;
        if found.state.status == RunStatus::Open {
            self.runs.leave_open(&found.run, &opening.who, &opening.why).await?;
        }
        self.runs.start(sheet, opening, follow).await
    }

    /// Says in the control state, and in each run taken up from there, who had this process become the writer.
    pub(crate) async fn took_over(&self, taken: TakenOver) -> Result<()> {
        let epoch = self.store.epoch();
        let value = json!({
            "from": taken.from, "who": taken.by.who, "why": taken.by.why, "at": self.clock.now(),
        });
        let key = format!("engine/takeover/{:010}", epoch.0);
        self.store.write(vec![Write::put(key, value.to_string())]).await?;
        self.runs.executor().note_takeover(taken);
        Ok(())
    }

    /// These groups, or all that are protected.
    async fn or_all(&self, groups: Vec<GroupName>) -> Result<Vec<GroupName>> {
        if !groups.is_empty() {
            return Ok(groups);
        }
        Ok(self.replicator.status().await?.into_iter().map(|status| status.group).collect())
    }

    async fn export_seed(&self, groups: Vec<GroupName>, to: &str, sink: &dyn Sink) -> Result<Vec<SeedReport>> {
        let mut reports = Vec::new();
        for group in self.or_awaiting_seed(groups).await? {
            let told = Told { sink, what: group.to_string() };
            reports.push(self.replicator.export_seed(&group, to, &told).await?);
        }
        Ok(reports)
    }

    async fn import_seed(&self, groups: Vec<GroupName>, from: &str, sink: &dyn Sink) -> Result<Vec<SeedReport>> {
        let (from, vault) = (Place::open(from, false)?, Place::open(&self.vault_url, false)?);
        let mut reports = Vec::new();
        for group in self.or_awaiting_seed(groups).await? {
            let told = Told { sink, what: group.to_string() };
            reports.push(self.replicator.import_seed(&group, &from, &vault, &told).await?);
        }
        Ok(reports)
    }

    async fn or_awaiting_seed(&self, groups: Vec<GroupName>) -> Result<Vec<GroupName>> {
        if !groups.is_empty() {
            return Ok(groups);
        }
        let waiting = self.replicator.awaiting_seed().await?;
        if waiting.is_empty() {
            return Err(Failure::refused("no group waits for its first copy on a disk")
                .help("`initial-copy = offline` in its policy, before it is protected, makes it wait"));
        }
        Ok(waiting)
    }

    async fn pause(&self, groups: Vec<GroupName>, pause: bool, who: &str, why: &str) -> Result<Vec<GroupName>> {
        let groups = self.or_all(groups).await?;
        for group in &groups {
            match pause {
                true => self.replicator.pause(group, who, why).await?,
                false => self.replicator.resume(group).await?,
            }
        }
        Ok(groups)
    }

    /// Folds long lineages with this from now on: every cycle's layers would otherwise be read one by one for ever.
    pub(crate) fn fold_with(&self, folding: Arc<dyn Folding>) {
        // The first one stays: it is set once, when the vault is opened.
        let _ = self.folding.set(folding);
    }

    async fn cycle(&self, groups: Vec<GroupName>, sink: &dyn Sink) -> Result<()> {
        let awaiting = if groups.is_empty() { self.replicator.awaiting_seed().await? } else { Vec::new() };
        let groups = self.or_all(groups).await?;
        for group in groups {
            if awaiting.contains(&group) {
                sink.tell(Event::Note { text: format!("{group}: waits for its first copy on a disk (`muster seed`)") });
                continue;
            }
            let told = Told { sink, what: group.to_string() };
            let point = self.replicator.cycle(&group, &told).await?;
            sink.tell(Event::Note { text: format!("{group}: point {}", point.id) });
        }
        if let Some(folding) = self.folding.get() {
            fold(&self.replicator, folding.as_ref()).await;
        }
        Ok(())
    }

    /// Runs the schedule from now on, until [`stop`](Self::stop).
    pub fn keep_replicating(self: &Arc<Self>) {
        let Ok(mut schedule) = self.schedule.lock() else { return };
        if schedule.is_none() {
            let control = Arc::downgrade(self);
            let replicator = self.replicator.clone();
            let (folding, clock) = (self.folding.get().cloned(), self.clock.clone());
            *schedule = Some(tokio::spawn(async move {
                let folds = fold_for_ever(replicator.clone(), folding, clock.clone());
                let beside = async { tokio::join!(folds, forgotten::take_away(control.clone(), clock)).0 };
                if let Err(failure) = replicator.run_until(beside).await {
                    tracing::error!(%failure, "replication ends here");
                    if let Some(control) = control.upgrade()
                        && let Ok(mut lost) = control.lost.lock()
                    {
                        *lost = Some(failure);
                    }
                }
            }));
        }
    }

    pub fn lost(&self) -> Option<Failure> {
        self.lost.lock().ok().and_then(|lost| lost.clone())
    }

    /// Takes a request of another command on, unless this process is ending.
    pub(crate) fn at_work(self: &Arc<Self>) -> Option<AtWork> {
        let taken = self.at_work.send_if_modified(|work| {
            work.requests += usize::from(!work.closing);
            !work.closing
        });
        taken.then(|| AtWork(self.clone()))
    }

    /// Returns when no other command has work here, and none will be taken on: a failover of theirs must not break off
    /// because ours was done first.
    pub async fn quiet(&self) {
        let mut work = self.at_work.subscribe();
        if work.borrow().requests > 0 {
            tracing::warn!("other commands work through this process, which ends after them; `muster runs` lists them");
        }
        loop {
            // The sender lives as long as we do.
            let _ = work.wait_for(|work| work.requests == 0).await;
            let mut closed = false;
            self.at_work.send_if_modified(|work| {
                closed = work.requests == 0;
                work.closing = closed;
                closed
            });
            if closed {
                return;
            }
        }
    }

    /// Ends the schedule. A cycle in the middle is given up; the next holder heals it.
    pub fn stop(&self) {
        if let Ok(mut schedule) = self.schedule.lock()
            && let Some(task) = schedule.take()
        {
            task.abort();
        }
    }
}

/// Progress of long work as events.
struct Told<'a> {
    sink: &'a dyn Sink,
    what: String,
}

impl Progress for Told<'_> {
    fn report(&self, done: u64, total: Option<u64>) {
        self.sink.tell(Event::Progress { what: self.what.clone(), done, total });
    }
}

pub(crate) fn answer(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> Failure {
    Failure::permanent(format!("an answer cannot be written as JSON: {error}"))
}

/// Where everything stands, by the store alone.
pub(crate) async fn status(store: &Arc<dyn StateStore>, replicator: &Replicator) -> Result<StatusAnswer> {
    let plans = plan_states(store).await?;
    let (groups, runs) = (replicator.status().await?, newest_first(store).await?);
    let drills_until = forgotten::until(store, &plans, &runs).await;
    Ok(StatusAnswer { holder: None, plans, drills_until, groups, runs })
}

/// Of plans that have ever been run.
pub(crate) async fn plan_states(store: &Arc<dyn StateStore>) -> Result<BTreeMap<String, PlanState>> {
    let mut plans = BTreeMap::new();
    for (key, value) in store.scan("plan/").await? {
        if let Some(plan) = key.strip_prefix("plan/").and_then(|rest| rest.strip_suffix("/state")) {
            let state: PlanState = serde_json::from_slice(&value).map_err(|error| {
                Failure::diverged(format!("the state of plan `{plan}` does not read back: {error}"))
            })?;
            plans.insert(plan.to_owned(), state);
        }
    }
    Ok(plans)
}

pub(crate) async fn points(replicator: &Replicator, group: Option<GroupName>) -> Result<PointsAnswer> {
    let known: Vec<GroupName> = replicator.status().await?.into_iter().map(|status| status.group).collect();
    let groups = match group {
        Some(group) if !known.contains(&group) => return Err(not_protected(&group, &known)),
        Some(group) => vec![group],
        None => known,
    };
    let mut points = Vec::new();
    let (mut barriers, mut times) = (BTreeMap::new(), BTreeMap::new());
    for group in groups {
        for record in replicator.point_records(&group).await? {
            barriers.insert(record.summary.id.clone(), record.barriers);
            times.extend(record.times.map(|times| (record.summary.id.clone(), times)));
            points.push(record.summary);
        }
    }
    Ok(PointsAnswer { points, kept: upkeep::kept(replicator).await?, barriers, times })
}

fn not_protected(group: &GroupName, known: &[GroupName]) -> Failure {
    let known: Vec<&str> = known.iter().map(GroupName::as_str).collect();
    let help = match known.as_slice() {
        [] => "no group is protected yet; `muster protect` does it".to_owned(),
        known => format!("the protected groups: {}", known.join(", ")),
    };
    Failure::permanent(format!("there is no group `{group}` in this vault")).help(help)
}

/// The disks of a machine at a point, in its disk order.
pub(crate) async fn image(
    replicator: &Replicator,
    point: &PointId,
    machine: &MachineName,
) -> Result<Vec<(DiskName, ReplicaImage)>> {
    replicator.images(point, machine).await
}

pub(crate) async fn newest_first(store: &Arc<dyn StateStore>) -> Result<Vec<RunSummary>> {
    let mut runs = RunStore::new(store.clone()).list().await?;
    runs.sort_by(|a, b| b.id.cmp(&a.id));
    Ok(runs)
}

pub(crate) async fn log(store: &Arc<dyn StateStore>, run: Option<RunId>, after: Option<u64>) -> Result<LogAnswer> {
    let run = match run {
        Some(run) => run,
        None => {
            let newest = newest_first(store).await?.into_iter().next();
            newest.ok_or_else(|| Failure::permanent("there is no run in this vault yet"))?.id
        }
    };
    let runs = RunStore::new(store.clone());
    let records = match after {
        Some(after) => runs.records_after(&run, after).await?,
        None => runs.load(&run).await?.records,
    };
    Ok(LogAnswer { run, records })
}

/// The sheet that takes the newest standing drill of a plan away, compiled from what the drill's journal says it made.
pub(crate) async fn cleanup_sheet(store: &Arc<dyn StateStore>, plan: &PlanName) -> Result<Runsheet> {
    let runs = newest_first(store).await?;
    let newest = runs.into_iter().filter(|run| run.plan == *plan).find(|run| match run.operation.kind {
        Kind::Test => true,
        Kind::Cleanup => run.status == RunStatus::Done,
        _ => false,
    });
    // A drill that was undone or aborted has left nothing: its steps have taken back what they made.
    let stands = |run: &RunSummary| matches!(run.status, RunStatus::Done | RunStatus::Failed);
    let Some(drill) = newest.filter(|run| run.operation.kind == Kind::Test && stands(run)) else {
        return Err(Failure::refused(format!("there is no drill of `{plan}` to take away"))
            .help("`muster status` shows what stands; an unfinished drill is stopped with `muster cancel`"));
    };
    let loaded = RunStore::new(store.clone()).load(&drill.id).await?;
    let made = made_by(&loaded.sheet, &loaded.state);
    let now = plan_state(store, plan).await?;
    Ok(muster_compiler::cleanup_sheet_from(&loaded.sheet, drill.id.as_str(), &made, now))
}

/// The machines a drill has begun to make; one that came half into being is among them.
fn made_by(sheet: &Runsheet, state: &RunState) -> Vec<MachineName> {
    let begun = |node: &&Node| state.node(&node.id).is_some_and(|node| node.attempted());
    let machine = |node: &Node| match &node.action {
        Action::Clone { machine, .. } => Some(machine.clone()),
        _ => None,
    };
    sheet.nodes.iter().filter(begun).filter_map(machine).collect()
}

pub(crate) async fn plan_state(store: &Arc<dyn StateStore>, plan: &PlanName) -> Result<PlanState> {
    match store.get(&muster_steps::plan_state_key(plan)).await? {
        Some(value) => serde_json::from_slice(&value)
            .map_err(|error| Failure::diverged(format!("the state of plan `{plan}` does not read back: {error}"))),
        None => Ok(PlanState::HOME),
    }
}
