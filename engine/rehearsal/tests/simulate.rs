//! Rehearsals of the shop of `plans/shop`: every operation, under circumstances, the same bytes each time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_compiler::{Checked, World};
use muster_provider_simulated::EstateSpec;
use muster_rehearsal::{Conditions, Entry, Outcome, Reply, Status, run_test, simulate, table};
use muster_runsheet::inventory::{Capabilities, MachineFacts, Power};
use muster_runsheet::{Direction, Duration, Inventory, Kind, Operation, Rate, SiteInventory};

struct Folder(&'static str);

impl World for Folder {
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(format!("{}/{path}", self.0)).ok()
    }
}

/// The machines of the shop as its site agent describes them.
fn inventory() -> String {
    let facts = |machine: &muster_provider_simulated::MachineSpec| MachineFacts {
        name: machine.name.clone(),
        cpus: machine.cpus,
        memory_bytes: machine.memory_bytes,
        disks: machine.disks.clone(),
        nics: machine.nics.clone(),
        guest_agent: true,
        // So that the link matters: a database writes more than a web server.
        churn_bytes_per_second: match machine.name.as_str() {
            "db" => 400_000,
            "app" => 50_000,
            _ => 5_000,
        },
        churn: None,
        containers: Default::default(),
        tags: Vec::new(),
        power: Power::On,
    };
    let site = |machines: Vec<MachineFacts>| SiteInventory {
        pulled_at: 0,
        provider: "qemu".to_owned(),
        capabilities: Capabilities {
            planned_shutdown: true,
            power_fencing: true,
            host_tracking: true,
            app_consistency: true,
            instant_recovery: true,
            bubbles: true,
            test_networks: false,
            guest_ssh: true,
            disk_files: true,
        },
        machines,
        aliases: Default::default(),
    };
    let machines = EstateSpec::default().machines().iter().map(facts).collect();
    let mut inventory = Inventory::default();
    inventory.sites.insert("hq".into(), site(machines));
    inventory.sites.insert("dr".into(), site(Vec::new()));
    serde_json::to_string(&inventory).unwrap()
}

fn shop() -> Checked {
    shop_with("")
}

fn shop_with(more: &'static str) -> Checked {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plans/shop");
    struct Shop(Folder, &'static str);
    impl World for Shop {
        fn read(&self, path: &str) -> Option<String> {
            match path {
                "inventory.json" => Some(inventory()),
                "shop.plan" => self.0.read(path).map(|text| text + self.1),
                path => self.0.read(path),
            }
        }
    }
    let checked = muster_compiler::check(&Shop(Folder(folder), more), &["shop.plan".to_owned()]);
    assert!(!checked.has_errors(), "{:#?}", checked.diagnostics);
    checked
}

fn out(kind: Kind) -> Operation {
    Operation { kind, direction: Direction::Out }
}

fn run(checked: &Checked, operation: Operation, conditions: &Conditions) -> Outcome {
    simulate(checked, "shop", operation, conditions).unwrap_or_else(|error| panic!("{operation}: {error:?}"))
}

#[test]
fn a_planned_failover_moves_everything_and_loses_nothing() {
    let outcome = run(&shop(), out(Kind::Planned), &Conditions::default());
    println!("{}\n{:#?}\n{:?}", table(&outcome.timeline), outcome.assumed, outcome.effects);
    assert_eq!(outcome.status, Status::Done, "{}", table(&outcome.timeline));
    assert_eq!(outcome.running["dr"].len(), 3);
    assert!(outcome.running["hq"].is_empty());
    assert_eq!(outcome.loss["orders"], Duration::ZERO);
    assert!(outcome.elapsed > Duration::from_mins(3), "{}", outcome.elapsed);
}

#[test]
fn every_operation_in_both_directions_ends_well() {
    let checked = shop();
    for direction in [Direction::Out, Direction::Back] {
        for kind in
            [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Cleanup, Kind::Cancel, Kind::Commit, Kind::Reprotect]
        {
            let outcome = run(&checked, Operation { kind, direction }, &Conditions::default());
            assert_eq!(outcome.status, Status::Done, "{kind:?} {direction:?}\n{}", table(&outcome.timeline));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let checked = shop();
    let print = |seed| {
        let mut conditions = Conditions { seed, ..Conditions::default() };
        conditions.world.dead.insert("hq".into());
        let outcome = run(&checked, out(Kind::Unplanned), &conditions);
        format!("{}{}", table(&outcome.timeline), serde_json::to_string(&outcome).unwrap())
    };
    let first = print(7);
    for _ in 0..3 {
        assert_eq!(first, print(7));
    }
    assert_ne!(first, print(8));
}

#[test]
fn a_dead_site_costs_what_was_written_since_the_newest_point() {
    let checked = shop();
    for seed in 0..5 {
        let mut conditions = Conditions { seed, ..Conditions::default() };
        conditions.world.dead.insert("hq".into());
        let outcome = run(&checked, out(Kind::Unplanned), &conditions);
        assert!(outcome.status.is(Status::Done), "{}", table(&outcome.timeline));
        let loss = outcome.loss["orders"];
        assert!(loss > Duration::ZERO && loss < Duration::from_mins(2), "{loss}");
        assert!(outcome.assumed.iter().any(|line| line.contains("fence")), "{:?}", outcome.assumed);
        assert!(outcome.running["hq"].is_empty());
    }
}

#[test]
fn a_step_fails_as_often_as_it_is_told_to() {
    let mut conditions = Conditions::default();
    conditions.world.fail.insert("database.start/db".into(), 2);
    conditions.world.fail.insert("application.set-db-host".into(), 1);
    let outcome = run(&shop(), out(Kind::Planned), &conditions);
    // A start is tried again by itself; of a hook nothing in the plan says so, and a person has to decide.
    assert_eq!(outcome.status, Status::Paused, "{}", table(&outcome.timeline));
    assert_eq!(outcome.attempts(&"database.start/db".into()), 3);
    assert_eq!(outcome.attempts(&"application.set-db-host".into()), 1);
    assert!(outcome.waiting[0].contains("made to fail"), "{:?}", outcome.waiting);
}

#[test]
fn a_refused_approval_stops_at_the_door() {
    let no = Reply { yes: false, after: Some(Duration::from_mins(4)) };
    let conditions = Conditions { answers: [("doors.approve".into(), no)].into(), ..Conditions::default() };
    let outcome = run(&shop(), out(Kind::Planned), &conditions);
    assert_eq!(outcome.status, Status::Paused, "{}", table(&outcome.timeline));
    assert!(outcome.running["hq"].is_empty());
    assert!(outcome.timeline.iter().any(|entry| entry.text == "rehearsal answers no"));
}

#[test]
fn an_engine_that_dies_at_every_record_does_the_same() {
    let checked = shop();
    let calm = run(&checked, out(Kind::Planned), &Conditions::default());
    assert!(calm.effects.iter().any(|effect| effect.contains("set-db-host")), "{:?}", calm.effects);
    let conditions = Conditions { crashes: true, ..Conditions::default() };
    let outcome = run(&checked, out(Kind::Planned), &conditions);
    assert_eq!(outcome.status, Status::Done, "{}", table(&outcome.timeline));
    assert!(outcome.crashes >= 80, "{}", outcome.crashes);
    assert_eq!(outcome.effects, calm.effects);
    assert_eq!(outcome.elapsed, calm.elapsed, "death costs no time");
}

#[test]
fn a_link_that_never_catches_up_is_refused() {
    let mut conditions = Conditions::default();
    // The shop writes 3.6 Mbit/s.
    conditions.world.slow.push(("hq".into(), "dr".into(), Rate(1_000_000)));
    let refused = simulate(&shop(), "shop", out(Kind::Planned), &conditions).unwrap_err();
    assert!(refused.to_string().contains("it never catches up"), "{refused}");
}

#[test]
fn machines_boot_one_after_another_when_there_is_no_room_for_two() {
    let texts = SIDE_BY_SIDE;
    struct Text(&'static str);
    impl World for Text {
        fn read(&self, path: &str) -> Option<String> {
            (path == "p.plan").then(|| self.0.to_owned())
        }
    }
    let checked = muster_compiler::check(&Text(texts), &["p.plan".to_owned()]);
    assert!(!checked.has_errors(), "{:#?}", checked.diagnostics);
    let took = |boots| {
        let mut conditions = Conditions::default();
        conditions.world.boots.insert("dr".into(), boots);
        let outcome = simulate(&checked, "p", out(Kind::Planned), &conditions).unwrap();
        assert_eq!(outcome.status, Status::Done, "{}", table(&outcome.timeline));
        outcome.elapsed.0
    };
    assert_eq!(took(1) - took(4), 3 * 60_000, "four boots of a minute, one at a time");
    assert_eq!(took(2) - took(4), 60_000);
}

const SIDE_BY_SIDE: &str = "edition 2026
site hq {
  provider = simulated(\"127.0.0.1:1\")
  network data = 10.10.20.0/24
}
site dr {
  provider = simulated(\"127.0.0.1:2\")
  network data = 10.60.20.0/24
}
route hq <-> dr {
  vault = \"file:///v\"
  data <-> data test isolated
}
policy gold { rpo = 5m; replicate = every 30s; retain = 1d }
machine a at hq { disks = [\"root\"]; network = data; ip = 10.10.20.11; mac = 52:54:00:00:20:01 }
machine b at hq { disks = [\"root\"]; network = data; ip = 10.10.20.12; mac = 52:54:00:00:20:02 }
machine c at hq { disks = [\"root\"]; network = data; ip = 10.10.20.13; mac = 52:54:00:00:20:03 }
machine d at hq { disks = [\"root\"]; network = data; ip = 10.10.20.14; mac = 52:54:00:00:20:04 }
group all { policy = gold; machines = [a, b, c, d] }
plan p {
  move = hq -> dr
  stage s { start a, b, c, d usually 1m }
}
";

#[test]
fn an_expectation_that_does_not_hold_has_its_code_its_line_and_its_moment() {
    let checked = shop_with(
        "\ntest \"nothing is started\" {\n  simulate shop planned seed 3\n  expect db before web\n  expect never start\n}\n",
    );
    let title = "nothing is started";
    let test = checked.tests.iter().find(|test| test.title == title).expect("the test that was added");
    let result = run_test(&checked, &Folder(""), test, 1);
    assert!(test.sound, "{:#?}", checked.diagnostics);
    let [failure] = result.failures.as_slice() else { panic!("one expectation of two fails: {result:#?}") };
    let diagnostic = &failure.diagnostic;
    assert!(diagnostic.is_error());
    assert_eq!(diagnostic.code.to_string(), "E0906");
    let span = diagnostic.primary.span;
    let file = checked.sources.get(span.file).expect("the file of the test");
    assert!(file.text[span.start as usize..span.end as usize].contains("never start"), "{diagnostic:?}");
    assert!(!failure.timeline.is_empty(), "it shows the start");
}

#[test]
fn a_time_that_is_too_long_is_shown_where_it_ends() {
    let checked = shop_with("\ntest \"in no time\" {\n  simulate shop unplanned seed 3\n  expect elapsed <= 1m\n}\n");
    let test = checked.tests.iter().find(|test| test.title == "in no time").expect("the test that was added");
    let result = run_test(&checked, &Folder(""), test, 1);
    let [failure] = result.failures.as_slice() else { panic!("its one expectation fails: {result:#?}") };
    // Behind the last step that production waits for come ten minutes of hydration.
    let is_door = |entry: &Entry| entry.step.as_ref().is_some_and(|step| step.as_str().starts_with("doors."));
    assert!(failure.timeline.iter().any(is_door), "{:#?}", failure.timeline);
}
