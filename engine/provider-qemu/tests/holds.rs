//! Guests that wait for a cut are let go, whatever fails. The machines are sockets that misbehave on demand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

mod common;

use common::fake::{Fake, Freeze};
use common::{agent, both, held, kill_group, open};
use muster_ports::*;
use muster_provider_qemu::{QemuProvider, Watchdog};
use rustix::process::{Pid, Signal};
use std::sync::Arc;
use std::time::Duration;

/// Waits for a state; `seconds` is what is promised, with room for a loaded host.
async fn within(seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = SystemClock.now().plus(Duration::from_secs(seconds));
    while !done() {
        assert!(SystemClock.now() < deadline, "{what}: not within {seconds} s");
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_that_comes_late_does_not_last() {
    let site = tempfile::tempdir().unwrap();
    let db = Fake::new(site.path(), "db");
    db.state().freeze = Freeze::Late(Duration::from_secs(6));
    let provider = open(site.path());
    // Neither the freeze nor any question after it is answered; seconds later it happens. The cut does without.
    let report = provider.cut(&held(Consistency::App, Duration::from_secs(20))).await.unwrap();
    assert_eq!(report.consistency, Consistency::Crash, "{:?}", report.notes);
    assert!(report.notes[1].contains("`db` may still freeze"), "{:?}", report.notes);
    assert!(db.is_free() && db.is_noted_as_held());
    within(20, "the late freeze happens", || db.seen().count("freeze") == 1).await;
    within(20, "the guest goes on", || db.is_free() && !db.is_noted_as_held()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_paused_stays_paused() {
    let site = tempfile::tempdir().unwrap();
    let db = Fake::new(site.path(), "db");
    db.state().status = "paused";
    let provider = open(site.path());
    for consistency in [Consistency::Crash, Consistency::App] {
        let report = provider.cut(&held(consistency, Duration::from_secs(10))).await.unwrap();
        assert_eq!(report.consistency, Consistency::Crash);
        provider.settle(&report.barrier, CutOutcome::Committed).await.unwrap();
    }
    let state = db.seen();
    assert_eq!((state.status, state.count("cont"), state.count("stop")), ("paused", 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_moment_of_a_cut_is_that_of_its_transaction() {
    let site = tempfile::tempdir().unwrap();
    let db = Fake::new(site.path(), "db");
    db.state().freeze = Freeze::Slow(Duration::from_secs(1));
    let provider = open(site.path());
    let report = provider.cut(&held(Consistency::App, Duration::from_secs(20))).await.unwrap();
    let (frozen, cut) = (db.seen().when("freeze").unwrap(), db.seen().when("transaction").unwrap());
    assert!((frozen..=cut).contains(&report.at.0), "frozen at {frozen}, cut at {cut}, said to be at {}", report.at.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thawing_is_tried_until_it_works() {
    let site = tempfile::tempdir().unwrap();
    let db = Fake::new(site.path(), "db");
    db.state().thaws_refused = u32::MAX;
    let provider = open(site.path());
    let failure = provider.cut(&held(Consistency::App, Duration::from_secs(10))).await.unwrap_err();
    assert!(failure.message.contains("other worries"), "{failure}");
    assert!(db.seen().frozen && db.is_noted_as_held());
    // Replication goes on, and says in every cycle how the guest stands.
    let order = CutOrder { barrier: BarrierId::new("b2"), ..held(Consistency::App, Duration::from_secs(10)) };
    let report = provider.cut(&order).await.unwrap();
    assert_eq!(report.consistency, Consistency::Crash);
    let note = &report.notes[0];
    assert!(note.contains("`db` may still be held, since the cut `b1`") && note.contains("other worries"), "{note}");
    assert!(db.seen().frozen && db.seen().status == "running" && db.is_noted_as_held());
    provider.settle(&report.barrier, CutOutcome::Committed).await.unwrap();
    // The agent is killed and its watchdog too; the next agent does it before anything else.
    drop(provider);
    kill_watchdog(&db);
    db.state().thaws_refused = 2;
    let provider = open(site.path());
    within(20, "the guest goes on", || db.is_free() && !db.is_noted_as_held()).await;
    let order = CutOrder { barrier: BarrierId::new("b3"), ..order };
    let report = provider.cut(&order).await.unwrap();
    assert_eq!((report.consistency, report.notes), (Consistency::App, Vec::new()));
}

fn kill_watchdog(held: &Fake) {
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(held.home.join("hold.json")).unwrap()).unwrap();
    kill(record["watchdog"]["pid"].as_u64().unwrap(), Signal::KILL);
}

fn kill(pid: u64, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Whoever keeps watch below a site's folder; watchdogs of other tests are not counted.
fn watchdog_of(fake: &Fake) -> Option<u64> {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(fake.home.join("hold.json")).ok()?).ok()?;
    record["watchdog"]["pid"].as_u64()
}

fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_with_its_whole_group_leaves_nobody_waiting() {
    let site = tempfile::tempdir().unwrap();
    let (db, ghost) = (Fake::new(site.path(), "db"), Fake::new(site.path(), "ghost"));
    // While the second machine does not answer, the first one waits.
    ghost.state().freeze = Freeze::Never;
    ghost.state().stop_unanswered = true;
    for (consistency, seen) in [(Consistency::App, "freeze-heard"), (Consistency::Crash, "stop")] {
        let mut agent = agent(site.path(), &both(consistency, Duration::from_secs(60)));
        within(30, "both are held", || !db.is_free() && ghost.seen().count(seen) > 0).await;
        let watchdog = watchdog_of(&db).unwrap();
        assert!(is_alive(watchdog));
        // A second agent that is started by mistake leaves alone what the first one holds.
        let second = open(site.path());
        SystemClock.sleep(Duration::from_secs(1)).await;
        drop(second);
        assert!(!db.is_free() && is_alive(watchdog));
        kill_group(&agent);
        let killed = SystemClock.now();
        within(10, "they go on", || db.is_free() && ghost.is_free()).await;
        eprintln!("{consistency:?}: free {} ms after the kill", SystemClock.now().since(killed).as_millis());
        within(10, "nothing is left", || !is_alive(watchdog) && !db.is_noted_as_held() && !ghost.is_noted_as_held())
            .await;
        agent.wait().unwrap();
    }
    // The next agent finds a cut that was never whole, and makes one.
    ghost.state().freeze = Freeze::Works;
    let report = open(site.path()).cut(&both(Consistency::App, Duration::from_secs(30))).await.unwrap();
    assert_eq!(report.consistency, Consistency::App, "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_move_any_more_holds_nobody_beyond_the_deadline() {
    let site = tempfile::tempdir().unwrap();
    let (db, ghost) = (Fake::new(site.path(), "db"), Fake::new(site.path(), "ghost"));
    ghost.state().stop_unanswered = true;
    let mut agent = agent(site.path(), &both(Consistency::Crash, Duration::from_secs(4)));
    within(30, "both are held", || !db.is_free() && ghost.seen().count("stop") > 0).await;
    let watchdog = watchdog_of(&db).unwrap();
    kill(u64::from(agent.id()), Signal::STOP);
    // The agent still has the monitor's connection: there is a second monitor.
    within(30, "they go on", || db.is_free() && ghost.is_free()).await;
    within(10, "the watchdog ends, although the agent does not hang up", || !is_alive(watchdog)).await;
    kill(u64::from(agent.id()), Signal::CONT);
    // It finds its time over; what it held is free, and the cut is none.
    assert!(!agent.wait().unwrap().success());
    within(30, "nothing is left", || !is_alive(watchdog) && !db.is_noted_as_held()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_held_without_a_watchdog() {
    let site = tempfile::tempdir().unwrap();
    let db = Fake::new(site.path(), "db");
    let watchdog = Watchdog { program: "/bin/false".into(), arguments: Vec::new() };
    let folder = site.path().to_owned();
    let provider = QemuProvider::open(SiteName::new("hq"), folder, Arc::new(SystemClock), watchdog).unwrap();
    let failure = provider.cut(&held(Consistency::App, Duration::from_secs(10))).await.unwrap_err();
    assert!(failure.is_retryable() && failure.message.contains("start the watchdog"), "{failure}");
    // A machine by itself can do without.
    let order = CutOrder { hold: false, ..held(Consistency::App, Duration::from_secs(10)) };
    let report = provider.cut(&order).await.unwrap();
    assert_eq!((report.consistency, report.notes.len()), (Consistency::Crash, 1));
    let state = db.seen();
    assert_eq!((state.count("freeze"), state.count("stop")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_thaws_by_itself_is_found_out() {
    let site = tempfile::tempdir().unwrap();
    let (db, _ghost) = (Fake::new(site.path(), "db"), Fake::new(site.path(), "ghost"));
    db.state().thawed_early = true;
    let provider = open(site.path());
    let report = provider.cut(&held(Consistency::App, Duration::from_secs(10))).await.unwrap();
    assert_eq!(report.consistency, Consistency::Crash);
    assert!(report.notes[0].contains("`db` was thawed by somebody"), "{:?}", report.notes);
    // Of two machines nothing could be promised.
    let failure = provider.cut(&both(Consistency::App, Duration::from_secs(10))).await.unwrap_err();
    assert!(failure.is_retryable() && failure.message.contains("before the last machine was cut"), "{failure}");
    assert!(!db.is_noted_as_held());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_froze_stays_frozen() {
    let site = tempfile::tempdir().unwrap();
    let db = Fake::new(site.path(), "db");
    db.state().frozen = true;
    let report = open(site.path()).cut(&held(Consistency::App, Duration::from_secs(10))).await.unwrap();
    assert_eq!(report.consistency, Consistency::Crash);
    assert!(report.notes[0].contains("somebody else has frozen it"), "{:?}", report.notes);
    let state = db.seen();
    assert!(state.frozen && state.status == "running" && state.count("thaw") == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_that_is_broken_off_leaves_nobody_waiting() {
    let site = tempfile::tempdir().unwrap();
    let (db, ghost) = (Fake::new(site.path(), "db"), Fake::new(site.path(), "ghost"));
    ghost.state().freeze = Freeze::Never;
    let provider = open(site.path());
    let order = both(Consistency::App, Duration::from_secs(60));
    tokio::select! {
        _ = provider.cut(&order) => panic!("it was to be broken off"),
        () = within(30, "both are held", || db.seen().frozen && ghost.seen().count("freeze-heard") > 0) => {}
    }
    within(20, "they go on", || db.is_free() && !db.is_noted_as_held() && !ghost.is_noted_as_held()).await;
}
