//! The whole engine on the simulated estate, in virtual time: the process that carries out a planned failover dies before
//! and after every single record of the control state, and another one resumes.
//!
//! Real here: compiler, executor, steps, hooks, replicator, pipeline, vault (on disk), site agents in-process. Simulated:
//! the machines and the clock. The store is in memory, so that it can die at an exact write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_agent::LocalSite;
use muster_compiler::{Checked, CompileOptions, World as Files};
use muster_control::service::{Control, Parts};
use muster_control::sites::Sites;
use muster_control::{Event, Request, Sink};
use muster_journal::{Answer, Fault, MemoryStore, RunStatus};
use muster_ports::*;
use muster_provider_simulated::{
    CallClass, EstateSpec, MachineSpec, PowerWitness, SeededRandom, SimulatedProvider, VirtualClock, machines_on_twice,
};
use muster_runsheet::{Direction, Inventory, Kind, Operation, SiteInventory};
use muster_vault::{KeySource, Vault};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const BEGINNING: Timestamp = Timestamp(1_800_000_000_000);

struct Texts(BTreeMap<&'static str, String>);

impl Files for Texts {
    fn read(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
}

/// Two sites and a vault; the control process comes and goes.
struct Estate {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    hq: SimulatedProvider,
    dr: SimulatedProvider,
    witness: PowerWitness,
    sites: BTreeMap<SiteName, Arc<dyn Site>>,
    vault: String,
    checked: Checked,
    _folder: tempfile::TempDir,
}

fn site(name: &str) -> SiteName {
    SiteName::new(name)
}

fn live(machine: &str) -> InstanceName {
    InstanceName::live(&MachineName::new(machine))
}

/// The folder of a test on memory, where there is such a place: what is durable here is decided by the store's faults.
fn folder() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The plan of the shop over the machines as the simulator makes them.
fn plan(machines: &[MachineSpec], vault: &str) -> String {
    let mut networks: BTreeMap<String, String> = BTreeMap::new();
    for nic in machines.iter().flat_map(|machine| &machine.nics) {
        let ip = nic.ip.unwrap().to_string();
        let net = ip.rsplit_once('.').unwrap().0.to_owned();
        networks.insert(nic.network.to_string(), net);
    }
    let list = |prefix: &str| {
        let line = |(name, net): (&String, &String)| {
            let net = net.replacen("10.10", prefix, 1);
            format!("  network {name} = {net}.0/24\n")
        };
        networks.iter().map(line).collect::<String>()
    };
    let pairs: String = networks.keys().map(|name| format!("  {name} <-> {name} test isolated\n")).collect();
    let port = |name: &str| {
        let machine = machines.iter().find(|machine| machine.name.as_str() == name).unwrap();
        machine.program.as_ref().unwrap().port
    };
    let db = machines.iter().find(|machine| machine.name.as_str() == "db").unwrap().nics[0].ip.unwrap();
    format!(
        r#"edition 2026
site hq {{
  provider = simulated("127.0.0.1:1")
{}}}
site dr {{
  provider = simulated("127.0.0.1:2")
{}}}
route hq <-> dr {{
  vault = "{vault}"
{pairs}}}
policy gold {{
  rpo       = 5m
  replicate = every 30s
  retain    = 1d
}}
group orders {{
  policy   = gold
  machines = [db, app, web]
  together = true
}}
hook set-db-host(app: machine, host: ip) {{
  needs = [guest]
  body  = """
    let answer = app.exec(["/bin/set-db-host", `${{host}}`]);
    if answer.code != 0 {{ throw fail(answer.err); }}
  """
}}
plan shop {{
  move = hq -> dr
  stage database {{
    start db
    check db tcp({})
  }}
  stage front after database {{
    start app, web
    run   set-db-host(app = app, host = {db})
    check app tcp({})
  }}
}}
"#,
        list("10.10"),
        list("10.60"),
        port("db"),
        port("app"),
    )
}

impl Estate {
    async fn new(seed: u64) -> Self {
        let folder = folder();
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(BEGINNING));
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed));
        let spec = EstateSpec::tiny();
        let hq = SimulatedProvider::in_memory(site("hq"), clock.clone(), random.clone()).unwrap();
        let dr = SimulatedProvider::in_memory(site("dr"), clock.clone(), random.clone()).unwrap();
        hq.add_estate(&spec).unwrap();
        let witness = PowerWitness::new();
        hq.set_witness(witness.clone());
        dr.set_witness(witness.clone());

        let key = KeySource::generate_file(&folder.path().join("key"), random.as_ref()).unwrap();
        let url = format!("file://{}", folder.path().join("vault").display());
        let vault = Vault::init(&url, &key, random.as_ref()).await.unwrap().url().to_owned();
        let mut sites: BTreeMap<SiteName, Arc<dyn Site>> = BTreeMap::new();
        let mut inventory = Inventory::default();
        for provider in [&hq, &dr] {
            let name = provider.site().clone();
            let home = folder.path().join(name.as_str());
            std::fs::create_dir_all(&home).unwrap();
            let local = LocalSite::new(Arc::new(provider.clone()), name.clone(), home, key.clone(), random.as_ref());
            let facts = local.facts().await.unwrap();
            let machines = local.inventory().await.unwrap();
            let entry = SiteInventory {
                pulled_at: BEGINNING.0,
                provider: facts.provider,
                capabilities: facts.capabilities,
                machines,
                aliases: BTreeMap::new(),
            };
            inventory.sites.insert(name.clone(), entry);
            sites.insert(name, Arc::new(local));
        }
        let texts = Texts(BTreeMap::from([
            ("shop.plan", plan(&spec.machines(), &vault)),
            ("inventory.json", serde_json::to_string(&inventory).unwrap()),
        ]));
        let checked = muster_compiler::check(&texts, &["shop.plan".to_owned()]);
        assert!(!checked.has_errors(), "{:#?}", checked.diagnostics);
        for machine in ["db", "app", "web"] {
            sites[&site("hq")].start(&live(machine)).await.unwrap();
        }
        Self { clock, random, hq, dr, witness, sites, vault, checked, _folder: folder }
    }

    /// A control process over this store. What it starts dies with it.
    fn control(&self, store: MemoryStore) -> Arc<Control> {
        Control::new(Parts {
            name: "simulation".to_owned(),
            vault_url: self.vault.clone(),
            store: Arc::new(store),
            sites: Sites(self.sites.clone()),
            clock: self.clock.clone(),
            random: self.random.clone(),
        })
    }

    /// Protected, with a first point.
    async fn protected(&self) -> MemoryStore {
        let store = MemoryStore::new();
        let control = self.control(store.reopen());
        let protect = Request::Protect { estate: Box::new((*self.checked.estate).clone()), groups: Vec::new() };
        ask(&control, protect).await.unwrap();
        ask(&control, Request::Cycle { groups: Vec::new() }).await.unwrap();
        control.stop();
        store
    }

    fn start(&self, kind: Kind, direction: Direction) -> Request {
        let (who, why) = ("test".to_owned(), String::new());
        if kind == Kind::Cleanup {
            return Request::Cleanup { plan: PlanName::new("shop"), who, why, wait: false };
        }
        let sheet = self.checked.compile("shop", Operation { kind, direction }, CompileOptions::default()).unwrap();
        Request::Start { sheet: Box::new(sheet), who, why, wait: false, presigned: Some(signature()) }
    }

    /// Runs one operation with a store that may die at a write, then resumes with further processes until it is done.
    async fn survive(&self, store: &MemoryStore, kind: Kind, direction: Direction, faults: &[Fault]) {
        let runs_before = runs(store).await;
        for attempt in 0..=faults.len() {
            let writer = store.reopen();
            let fault = faults.get(attempt).map(|fault| match *fault {
                Fault::DieBefore(n) => Fault::DieBefore(store.writes() + n),
                Fault::DieAfter(n) => Fault::DieAfter(store.writes() + n),
            });
            writer.inject(fault);
            let control = self.control(writer);
            let request = match newest_run(store).await {
                // The process died before the run was opened: nothing has happened, the person asks again.
                _ if runs(store).await == runs_before => self.start(kind, direction),
                Some(RunStatus::Open) => Request::Resume { run: None, wait: false, by: None },
                // The last record was durable and only its answer was lost.
                _ => {
                    control.stop();
                    return;
                }
            };
            // Never asked for a signature: the one given with the order is in the journal.
            let ended = ask(&control, request).await;
            control.stop();
            match ended {
                Ok(answer) if answer["end"] == "done" => return,
                Ok(answer) if fault.is_none() => panic!("{kind:?} {direction:?} after {faults:?}: {answer:#}"),
                Err(failure) if fault.is_none() => panic!("{kind:?} {direction:?} after {faults:?}: {failure}"),
                Ok(_) | Err(_) => {}
            }
        }
        assert_eq!(newest_run(store).await, Some(RunStatus::Done), "{kind:?} {direction:?} after {faults:?}");
    }

    /// Who is lost and who is left when a site dies before this move.
    fn dead_and_alive(&self, direction: Direction) -> (&SimulatedProvider, &SimulatedProvider) {
        match direction {
            Direction::Out => (&self.hq, &self.dr),
            Direction::Back => (&self.dr, &self.hq),
        }
    }

    /// The one right outcome, whatever happened on the way.
    async fn assert_moved(&self, store: &MemoryStore, when: &str) {
        assert!(machines_on_twice(&[&self.hq, &self.dr]).is_empty(), "{when}: a machine runs on both sides");
        assert_eq!(self.witness.doubles(), [], "{when}: a machine has run on both sides");
        let on = self.dr.live_machines_on();
        assert_eq!(on.len(), 3, "{when}: on at dr: {on:?}");
        for machine in ["db", "app", "web"] {
            for (provider, class) in [(&self.dr, CallClass::Start), (&self.dr, CallClass::Define)] {
                let done = provider
                    .effects()
                    .into_iter()
                    .filter(|effect| effect.class == class && effect.subject == machine && effect.changed);
                assert_eq!(done.count(), 1, "{when}: {class:?} of {machine} at dr");
            }
            let stops = self
                .hq
                .effects()
                .into_iter()
                .filter(|effect| effect.class == CallClass::Stop && effect.subject == machine && effect.changed);
            assert_eq!(stops.count(), 1, "{when}: stops of {machine} at hq");
        }
        let data = DiskName::new("data");
        let had = self.hq.check(&live("db"), &data).unwrap();
        let has = self.dr.check(&live("db"), &data).unwrap();
        assert!(had.is_sound() && has.is_sound(), "{when}: {:?} {:?}", had.problems, has.problems);
        assert!(has.newest >= had.newest, "{when}: records to {} of {} came over", has.newest, had.newest);
        let state = store.get("plan/shop/state").await.unwrap().expect("the plan's state");
        let state: muster_runsheet::PlanState = serde_json::from_slice(&state).unwrap();
        assert_eq!(state.phase, muster_runsheet::Phase::FailedOver, "{when}");
    }
}

async fn ask(control: &Arc<Control>, request: Request) -> Result<serde_json::Value> {
    let silent = |_: Event| {};
    control.handle(request, Arc::new(silent) as Arc<dyn Sink>).await
}

fn signature() -> Answer {
    Answer { yes: true, who: "test".to_owned(), why: "the site is down".to_owned() }
}

async fn runs(store: &MemoryStore) -> usize {
    store.scan("runs/").await.unwrap().len()
}

/// How the newest run stands, by the durable state alone.
async fn newest_run(store: &MemoryStore) -> Option<RunStatus> {
    let pairs = store.scan("runs/").await.unwrap();
    let (_, head) = pairs.last()?;
    let head: serde_json::Value = serde_json::from_slice(head).unwrap();
    Some(serde_json::from_value(head["status"].clone()).unwrap())
}

/// A planned failover whose process dies at this write, and another one that resumes it.
async fn crash_at(fault: Option<Fault>, seed: u64) -> (u64, Estate, MemoryStore) {
    let estate = Estate::new(seed).await;
    let store = estate.protected().await;
    let before = store.writes();
    let faults: Vec<Fault> = fault.into_iter().collect();
    estate.survive(&store, Kind::Planned, Direction::Out, &faults).await;
    (store.writes() - before, estate, store)
}

#[tokio::test(start_paused = true)]
async fn an_undisturbed_failover_moves_everything() {
    let (writes, estate, store) = crash_at(None, 1).await;
    estate.assert_moved(&store, "undisturbed").await;
    assert!(writes >= 50, "a failover has {writes} durable writes");
}

/// Every `stride`-th write from `first` on, so that several tests share the work.
async fn crash_everywhere(first: u64, stride: u64) {
    let (writes, _, _) = crash_at(None, 1).await;
    let mut n = first;
    while n <= writes {
        for fault in [Fault::DieBefore(n), Fault::DieAfter(n)] {
            let (_, estate, store) = crash_at(Some(fault), n).await;
            estate.assert_moved(&store, &format!("{fault:?} of {writes} writes")).await;
        }
        n += stride;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failover_survives_death_at_every_odd_write() {
    crash_everywhere(1, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_failover_survives_death_at_every_even_write() {
    crash_everywhere(2, 2).await;
}

/// The whole life of a plan, both ways, with a death or two in every operation, and the loss of a site at its end.
async fn a_life_with_deaths(seed: u64, operations: &[(Kind, Direction)]) {
    let estate = Estate::new(seed).await;
    let store = estate.protected().await;
    for &(kind, direction) in operations {
        if kind == Kind::Unplanned {
            let (dead, _) = estate.dead_and_alive(direction);
            dead.kill_site().unwrap();
            dead.set_down(true);
        }
        let draw = |limit: u64| 1 + estate.random.next_u64() % limit;
        let deaths: Vec<Fault> = (0..draw(3))
            .map(|_| if draw(2) == 1 { Fault::DieBefore(draw(40)) } else { Fault::DieAfter(draw(40)) })
            .collect();
        estate.survive(&store, kind, direction, &deaths).await;
        assert_eq!(
            estate.witness.doubles(),
            [],
            "seed {seed}: {kind:?} {direction:?}: a machine has run on both sides"
        );
        // The shop writes on for a while, so that the next operation has something to carry.
        estate.clock.sleep(std::time::Duration::from_secs(20)).await;
    }
    let (_, alive) = estate.dead_and_alive(operations.last().unwrap().1);
    assert_eq!(alive.live_machines_on().len(), 3, "seed {seed}");
    let has = alive.check(&live("db"), &DiskName::new("data")).unwrap();
    assert!(has.is_sound() && has.newest > 0, "seed {seed}: {:?}", has.problems);
}

use Direction::{Back, Out};
const OUT: [(Kind, Direction); 3] = [(Kind::Planned, Out), (Kind::Commit, Out), (Kind::Reprotect, Out)];
const HOME: [(Kind, Direction); 3] = [(Kind::Planned, Back), (Kind::Commit, Back), (Kind::Reprotect, Back)];

#[tokio::test(start_paused = true)]
async fn a_plan_survives_deaths_until_home_is_lost() {
    let drill = [(Kind::Test, Out), (Kind::Cleanup, Out)];
    let operations = [&drill[..], &OUT, &HOME, &[(Kind::Unplanned, Out)]].concat();
    for seed in 0..12 {
        a_life_with_deaths(seed, &operations).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_survives_deaths_until_the_recovery_site_is_lost() {
    let drill = [(Kind::Test, Back), (Kind::Cleanup, Back)];
    let operations = [&OUT[..], &drill, &[(Kind::Unplanned, Back)]].concat();
    for seed in 100..112 {
        a_life_with_deaths(seed, &operations).await;
    }
}
