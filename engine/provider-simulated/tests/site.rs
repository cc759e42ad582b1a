//! A simulated site as its agent uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_ports::*;
use muster_provider_simulated::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn clock() -> Arc<dyn Clock> {
    Arc::new(VirtualClock::starting_at(Timestamp(1_800_000_000_000)))
}

fn random() -> Arc<dyn Random> {
    Arc::new(SeededRandom::new(1))
}

fn open(site: &str, folder: &Path) -> SimulatedProvider {
    SimulatedProvider::open(SiteName::new(site), folder, clock(), random()).unwrap()
}

fn shop(folder: &Path) -> SimulatedProvider {
    create_estate(folder, &SiteName::new("hq"), &EstateSpec::tiny(), clock(), random()).unwrap();
    open("hq", folder)
}

fn memory(site: &str) -> SimulatedProvider {
    SimulatedProvider::in_memory(SiteName::new(site), clock(), random()).unwrap()
}

fn name(text: &str) -> InstanceName {
    InstanceName::new(text)
}

fn order(barrier: &str, base: Option<&str>) -> CutOrder {
    CutOrder {
        barrier: BarrierId::new(barrier),
        members: vec![CutMember {
            instance: name("db"),
            machine: MachineName::new("db"),
            base: base.map(BarrierId::new),
        }],
        consistency: Consistency::Crash,
        hold: true,
        hold_limit: Duration::from_secs(10),
    }
}

fn data_tracking(report: &CutReport) -> &Tracking {
    &report.disks.iter().find(|disk| disk.disk.as_str() == "data").unwrap().tracking
}

async fn exec(site: &SimulatedProvider, machine: &str, words: &[&str]) -> GuestOutput {
    let command = GuestCommand {
        program: words[0].to_owned(),
        arguments: words[1..].iter().map(|word| (*word).to_owned()).collect(),
        stdin: None,
        within: Duration::from_secs(5),
    };
    site.guest_exec(&name(machine), &command).await.unwrap()
}

const ORDERLY: StopMode = StopMode::Orderly { within: Duration::from_secs(60) };

#[tokio::test(start_paused = true)]
async fn guests_write_depend_on_each_other_and_answer() {
    let folder = tempfile::tempdir().unwrap();
    let site = shop(folder.path());
    for machine in ["db", "app", "web"] {
        site.start(&name(machine)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spec = EstateSpec::tiny();
    let within = Duration::from_secs(1);
    let http = Probe::Http { ip: spec.web_ip, port: 80, path: "/".into(), within };
    let answer = site.probe(&NetworkScope::Live, &http).await.unwrap();
    assert!(answer.status == 200 && answer.body.starts_with("web last="), "{answer:?}");
    let talk = Probe::Talk { ip: spec.db_ip, port: DATABASE_PORT, send: "status\n".into(), within };
    assert!(site.probe(&NetworkScope::Live, &talk).await.unwrap().body.starts_with("database last=1"));
    let closed = Probe::Tcp { ip: spec.db_ip, port: 22, within };
    assert!(site.probe(&NetworkScope::Live, &closed).await.unwrap_err().is_retryable());
    assert_eq!(exec(&site, "db", &["/usr/bin/true"]).await.code, 0);
    assert_eq!(exec(&site, "app", &["set-db-host", "nonsense"]).await.code, 2);
    assert_eq!(exec(&site, "web", &["/bin/set-app-host", "10.10.20.99"]).await.code, 0);
    assert!(site.probe(&NetworkScope::Live, &http).await.unwrap_err().message.contains("502"), "nobody is there");
    assert_eq!(exec(&site, "web", &["/bin/set-app-host", &spec.app_ip.to_string()]).await.code, 0);
    assert_eq!(site.probe(&NetworkScope::Live, &http).await.unwrap().status, 200);
    assert_eq!(exec(&site, "app", &["rm", "-rf"]).await.code, 127);
    for machine in ["web", "app", "db"] {
        site.stop(&name(machine), ORDERLY).await.unwrap();
    }
    let path = |file: &str| folder.path().join("machines").join(file);
    let db = check_file(&path("db/data.raw")).unwrap();
    let app = check_file(&path("app/root.raw")).unwrap();
    assert!(db.is_sound() && db.clean && db.newest > 150, "{db:?}");
    assert!(app.is_sound() && app.newest_cause > 150, "{app:?}");
    check_causality(&db, &app).unwrap();
    assert!(check_file(&path("db/root.raw")).unwrap().is_sound());
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_keeps_the_change_map_and_a_kill_loses_it() {
    let folder = tempfile::tempdir().unwrap();
    let site = shop(folder.path());
    site.start(&name("db")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.cut(&order("b1", None)).await.unwrap();
    site.settle(&BarrierId::new("b1"), CutOutcome::Committed).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.stop(&name("db"), ORDERLY).await.unwrap();
    drop(site);

    let site = open("hq", folder.path());
    let cut = site.cut(&order("b2", Some("b1"))).await.unwrap();
    assert_eq!(*data_tracking(&cut), Tracking::Since { barrier: BarrierId::new("b1") });
    let dirty: u64 = cut.disks.iter().map(|disk| disk.dirty_bytes).sum();
    assert!((65_536..=4 * 65_536).contains(&dirty), "{dirty}");
    site.settle(&BarrierId::new("b2"), CutOutcome::Committed).await.unwrap();
    let last = site.check(&name("db"), &DiskName::new("data")).unwrap().newest;
    site.start(&name("db")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The process ends without a word.
    drop(site);

    let site = open("hq", folder.path());
    let states = site.instances().await.unwrap();
    assert!(states.iter().all(|state| state.power == Power::Off), "nothing starts by itself");
    let cut = site.cut(&order("b3", Some("b2"))).await.unwrap();
    let Tracking::Lost { reason } = data_tracking(&cut) else { panic!("{cut:?}") };
    assert!(reason.contains("killed"), "{reason}");
    let db = site.check(&name("db"), &DiskName::new("data")).unwrap();
    assert!(db.is_sound() && !db.clean && db.newest > last, "{db:?}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_change_map_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let site = shop(folder.path());
    site.cut(&order("b1", None)).await.unwrap();
    site.settle(&BarrierId::new("b1"), CutOutcome::Committed).await.unwrap();
    drop(site);
    let file = folder.path().join("machines/db/data.track");
    let text = std::fs::read_to_string(&file).unwrap();
    for damaged in [text.replace("\"b1\"", "\"b0\""), text[..text.len() / 2].to_owned(), String::new()] {
        std::fs::write(&file, damaged).unwrap();
        let site = open("hq", folder.path());
        let cut = site.cut(&order("b2", Some("b1"))).await.unwrap();
        assert!(matches!(data_tracking(&cut), Tracking::Lost { reason } if reason.contains("damaged")), "{cut:?}");
    }
    std::fs::write(&file, text).unwrap();
    let site = open("hq", folder.path());
    assert!(matches!(data_tracking(&site.cut(&order("b2", Some("b1"))).await.unwrap()), Tracking::Since { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_cut_shows_its_moment_until_it_is_settled() {
    let site = memory("hq");
    site.add_estate(&EstateSpec::tiny()).unwrap();
    let (db, data) = (name("db"), DiskName::new("data"));
    let mut before = vec![0u8; site.disk_size(&db, &data).unwrap() as usize];
    site.read_disk(&db, &data, 0, &mut before).unwrap();
    let cut = order("b1", None);
    let report = site.cut(&cut).await.unwrap();
    for at in [0u64, 70_000, 1_500_000] {
        site.write_disk(&db, &data, at, &[7; 10_000]).unwrap();
    }
    assert_eq!(site.cut(&cut).await.unwrap(), report, "asked again, it is the same cut");
    let source = site.open_cut(&cut.barrier, &MachineName::new("db"), &data, false).await.unwrap();
    let mut seen = vec![0u8; before.len()];
    source.read_at(0, &mut seen).await.unwrap();
    assert!(seen == before);
    assert!(source.read_at(before.len() as u64 - 1, &mut [0; 2]).await.is_err());
    assert_eq!(site.cut(&order("b2", None)).await.unwrap_err().class, FailureClass::Refused);
    // Abandoned: what had changed before it is still to be sent, and what changed since.
    site.settle(&cut.barrier, CutOutcome::Committed).await.unwrap();
    assert!(source.read_at(0, &mut [0; 512]).await.is_err(), "settled");
    site.write_disk(&db, &data, 200_000, &[1; 512]).unwrap();
    let second = site.cut(&order("b2", Some("b1"))).await.unwrap();
    let dirty = |report: &CutReport| report.disks.iter().map(|disk| disk.dirty_bytes).sum::<u64>();
    // 10,000 bytes at 1,500,000 touch two grains.
    assert_eq!(dirty(&second), 5 * 65_536);
    site.settle(&BarrierId::new("b2"), CutOutcome::Abandoned).await.unwrap();
    site.write_disk(&db, &data, 800_000, &[1; 512]).unwrap();
    assert_eq!(dirty(&site.cut(&order("b3", Some("b1"))).await.unwrap()), 6 * 65_536);
}

#[tokio::test(start_paused = true)]
async fn fences_hold_and_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let site = shop(folder.path());
    site.start(&name("db")).await.unwrap();
    site.fence(&name("db")).await.unwrap();
    site.fence(&name("not-here-yet")).await.unwrap();
    assert!(site.live_machines_on().is_empty());
    drop(site);
    let site = open("hq", folder.path());
    assert_eq!(site.start(&name("db")).await.unwrap_err().class, FailureClass::Refused);
    site.unfence(&name("db")).await.unwrap();
    site.start(&name("db")).await.unwrap();
    let second = SimulatedProvider::open(SiteName::new("hq"), folder.path(), clock(), random()).unwrap_err();
    assert!(second.message.contains("in use by another process"), "{second}");
}

fn shape(instance: &str, key: &str, scope: NetworkScope) -> MachineShape {
    let spec = EstateSpec::tiny();
    let db = spec.machines().remove(0);
    MachineShape {
        instance: name(instance),
        machine: db.name.clone(),
        cpus: 1,
        memory_bytes: 1 << 20,
        disks: db
            .disks
            .iter()
            .map(|disk| DiskShape {
                name: disk.name.clone(),
                size_bytes: disk.size_bytes,
                backing: DiskBacking::Existing,
            })
            .collect(),
        nics: db.nics,
        scope,
        labels: BTreeMap::from([("muster.key".to_owned(), key.to_owned())]),
        track_from: None,
    }
}

async fn copy(site: &SimulatedProvider, from: &str, to: &str) {
    for disk in ["root", "data"].map(DiskName::new) {
        let size = site.disk_size(&name(from), &disk).unwrap();
        let mut bytes = vec![0u8; size as usize];
        site.read_disk(&name(from), &disk, 0, &mut bytes).unwrap();
        let (target, there) = site.open_disk(&name(to), &disk, size).await.unwrap();
        assert!(!there);
        target.write_at(0, &bytes).await.unwrap();
        target.flush().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bubble_reaches_only_its_own() {
    let site = memory("dr");
    let spec = EstateSpec::tiny();
    site.add_estate(&spec).unwrap();
    let bubble = BubbleId::new("drill-1");
    let scope = NetworkScope::Bubble { bubble: bubble.clone() };
    let within = Duration::from_secs(1);
    let probe = Probe::Talk { ip: spec.db_ip, port: DATABASE_PORT, send: String::new(), within };
    assert_eq!(site.probe(&scope, &probe).await.unwrap_err().class, FailureClass::Permanent);
    let made = BubbleShape {
        bubble: bubble.clone(),
        networks: vec![spec.data_network.clone(), spec.web_network.clone()],
        labels: BTreeMap::new(),
    };
    site.create_bubble(&made).await.unwrap();
    site.create_bubble(&made).await.unwrap();
    copy(&site, "db", "db~drill-1").await;
    site.start(&name("db")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(site.probe(&scope, &probe).await.is_err(), "production cannot be reached from the bubble");
    site.define(&shape("db~drill-1", "k1", scope.clone())).await.unwrap();
    site.start(&name("db~drill-1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(105)).await;
    let clone = site.probe(&scope, &probe).await.unwrap().body;
    let live = site.probe(&NetworkScope::Live, &probe).await.unwrap().body;
    assert_eq!((clone.as_str(), live.as_str()), ("database last=10\n", "database last=110\n"));
    assert_eq!(site.live_machines_on(), [MachineName::new("db")]);
    assert_eq!(site.discard_bubble(&bubble).await.unwrap_err().class, FailureClass::Refused);
    site.stop(&name("db~drill-1"), StopMode::Hard).await.unwrap();
    site.undefine(&name("db~drill-1"), true).await.unwrap();
    site.discard_bubble(&bubble).await.unwrap();
    site.discard_bubble(&bubble).await.unwrap();
    assert!(site.bubbles().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn effects_happen_once_and_are_written_down() {
    let site = memory("hq");
    site.add_estate(&EstateSpec::tiny()).unwrap();
    copy(&site, "db", "db2").await;
    let wanted = shape("db2", "k1", NetworkScope::Live);
    site.fail_next(CallClass::Define, Fault::LostReply);
    assert_eq!(site.define(&wanted).await.unwrap_err().class, FailureClass::Timeout);
    site.define(&wanted).await.unwrap();
    let other = MachineShape { labels: BTreeMap::from([("muster.key".to_owned(), "k2".to_owned())]), ..wanted.clone() };
    assert_eq!(site.define(&other).await.unwrap_err().class, FailureClass::Refused);
    let key = Some(EffectKey::new("k1"));
    let made: Vec<bool> = site
        .effects()
        .iter()
        .filter(|effect| effect.class == CallClass::Define && effect.key == key)
        .map(|effect| effect.changed)
        .collect();
    assert_eq!(made, [true, false]);
    let export = MachineShape {
        instance: name("db3"),
        disks: vec![DiskShape {
            name: DiskName::new("root"),
            size_bytes: 1 << 20,
            backing: DiskBacking::Export { socket: "s".into(), export: "e".into() },
        }],
        ..wanted
    };
    let refused = site.define(&export).await.unwrap_err();
    assert!(refused.class == FailureClass::Permanent && refused.help.is_some());
    for wrong in ["../x", "", ".hidden", "a/b"] {
        assert_eq!(
            site.open_disk(&name(wrong), &DiskName::new("d"), 512).await.unwrap_err().class,
            FailureClass::Permanent
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_landing_keeps_its_machine_off() {
    let site = memory("hq");
    site.add_estate(&EstateSpec::tiny()).unwrap();
    let (target, there) = site.open_disk(&name("db"), &DiskName::new("data"), 2 << 20).await.unwrap();
    assert!(there);
    assert_eq!(site.start(&name("db")).await.unwrap_err().class, FailureClass::Refused);
    drop(target);
    site.start(&name("db")).await.unwrap();
    assert!(site.open_disk(&name("db"), &DiskName::new("data"), 2 << 20).await.is_err());
    assert!(site.undefine(&name("db"), true).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_witness_sees_a_machine_on_at_two_sites() {
    let (hq, dr) = (memory("hq"), memory("dr"));
    let witness = PowerWitness::new();
    for site in [&hq, &dr] {
        site.add_estate(&EstateSpec::tiny()).unwrap();
        site.set_witness(witness.clone());
    }
    hq.start(&name("db")).await.unwrap();
    dr.start(&name("app")).await.unwrap();
    assert!(machines_on_twice(&[&hq, &dr]).is_empty() && witness.doubles().is_empty());
    dr.start(&name("db")).await.unwrap();
    assert_eq!(machines_on_twice(&[&hq, &dr])[0].0, MachineName::new("db"));
    hq.stop(&name("db"), StopMode::Hard).await.unwrap();
    assert!(machines_on_twice(&[&hq, &dr]).is_empty());
    assert_eq!(witness.doubles().len(), 1, "it is over, and still known");
}

#[tokio::test(start_paused = true)]
async fn time_and_reachability_are_simulated() {
    let site = memory("hq");
    site.add_estate(&EstateSpec::tiny()).unwrap();
    site.set_timing(Timing::realistic());
    site.start(&name("db")).await.unwrap();
    assert!(site.guest_ping(&name("db")).await.unwrap_err().is_retryable());
    tokio::time::sleep(Duration::from_secs(21)).await;
    site.guest_ping(&name("db")).await.unwrap();
    assert!(site.console(&name("db"), 1000).await.unwrap().contains("booted"));
    let slow = StopMode::Orderly { within: Duration::from_secs(1) };
    assert_eq!(site.stop(&name("db"), slow).await.unwrap_err().class, FailureClass::Timeout);
    assert_eq!(site.live_machines_on().len(), 1, "it is still on");
    site.set_down(true);
    assert_eq!(site.inventory().await.unwrap_err().class, FailureClass::Transient);
    assert_eq!(site.live_machines_on().len(), 1, "a site that is cut off runs on");
    site.kill_site().unwrap();
    site.set_down(false);
    assert!(site.live_machines_on().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cut_says_the_moment_of_its_first_transaction() {
    let clock = clock();
    let site = SimulatedProvider::in_memory(SiteName::new("hq"), Arc::clone(&clock), random()).unwrap();
    site.add_estate(&EstateSpec::tiny()).unwrap();
    site.set_timing(Timing { transaction: Duration::from_millis(40), ..Timing::default() });
    let before = clock.now();
    let report = site.cut(&order("b1", None)).await.unwrap();
    assert_eq!((report.at, clock.now()), (before, before.plus(Duration::from_millis(40))));
    assert_eq!(report.transaction_micros, 40_000);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_faults() {
    let faults = |seed| async move {
        let site = memory("hq");
        site.add_estate(&EstateSpec::tiny()).unwrap();
        let rates = FaultRates {
            transient: 200,
            timeout: 100,
            permanent: 50,
            lost_reply: 100,
            slow: 50,
            ..FaultRates::default()
        };
        site.set_faults(FaultPlan::everywhere(seed, rates, 1000));
        let mut seen = Vec::new();
        for _ in 0..50 {
            seen.push(site.fence(&name("db")).await.err().map(|failure| failure.class));
        }
        seen
    };
    assert_eq!(faults(3).await, faults(3).await);
    assert_ne!(faults(3).await, faults(4).await);
}
