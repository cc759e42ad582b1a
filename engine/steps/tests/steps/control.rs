//! Locks, gates, replication, notes.

use crate::fakes::*;
use muster_executor::{Observation, StepRunner};
use muster_journal::{Answer, StepOutput};
use muster_ports::*;
use muster_runsheet::*;
use muster_steps::{LandedRecord, LockRecord};
use std::sync::atomic::Ordering;
use std::time::Duration as Span;

fn lock(drill: bool) -> Action {
    Action::Lock { machines: vec!["db".into(), "web".into()], drill }
}
fn state(phase: Phase, drilled: bool) -> PlanState {
    PlanState { phase, direction: Direction::Out, drilled }
}
fn unlock(state: PlanState) -> Action {
    Action::Unlock { machines: vec!["db".into(), "web".into()], state }
}
fn landed() -> LandedRecord {
    LandedRecord { run: "r0".into(), points: [("dbs".into(), "p0".into())].into() }
}

#[tokio::test]
async fn locks_belong_to_one_run() {
    let mut bench = Bench::new(Kind::Planned, lock(false));
    bench.undo().await;
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    bench.act().await;
    let writes = bench.store.writes();
    bench.act().await;
    assert_eq!(bench.store.writes(), writes, "twice is once");
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    assert_eq!(bench.stored::<LockRecord>("lock/db/live").await.unwrap().run.as_str(), "r1");

    bench.run = "r2".into();
    let failure = bench.fails().await;
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.message.contains("`db` is held by run `r1`") && failure.help.unwrap().contains("muster resume r1"));
    bench.undo().await;
    assert!(bench.stored::<LockRecord>("lock/db/live").await.is_some(), "another run's lock stays");
    bench.sheet.nodes[0].action = lock(true);
    bench.act().await;
    bench.run = "r1".into();
    bench.sheet.nodes[0].action = lock(false);
    bench.undo().await;
    assert!(bench.stored::<LockRecord>("lock/db/live").await.is_none());
    assert!(bench.stored::<LockRecord>("lock/db/drill").await.is_some());
}

#[tokio::test]
async fn verify_names_what_is_legal_and_what_is_missing() {
    let verify = Action::Verify { required: vec!["dr".into()], probed: vec!["hq".into()] };
    let mut bench = Bench::new(Kind::Unplanned, verify);
    bench.hq.down.store(true, Ordering::SeqCst);
    assert!(
        matches!(bench.act().await, StepOutput::Text { text } if text.contains("site `hq`")),
        "probed, never waited for"
    );
    bench.hq.strange.store(true, Ordering::SeqCst);
    let noted = bench.act().await;
    assert!(
        matches!(&noted, StepOutput::Text { text } if text.contains("does not believe")),
        "a lost site may answer in any way: {noted:?}"
    );
    bench.dr.down.store(true, Ordering::SeqCst);
    let failure = bench.fails().await;
    assert_eq!((failure.class, failure.message.contains("site `dr`")), (FailureClass::Transient, true));
    bench.dr.down.store(false, Ordering::SeqCst);

    bench.store("plan/shop/state", &state(Phase::FailedOver, false)).await;
    let failure = bench.fails().await;
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.message.contains("E0601") && failure.message.contains("legal are `commit`, `cancel`"), "{failure}");
    bench.store("plan/shop/state", &PlanState::HOME).await;

    bench.sheet.nodes.push(node(Action::Bubble { site: "dr".into(), networks: vec![] }, SheetPhase::Land));
    bench.dr.can.lock().unwrap().bubbles = false;
    assert!(bench.fails().await.message.contains("isolated networks"));
    bench.dr.can.lock().unwrap().bubbles = true;
    bench.sheet.test_networks = vec!["web-test".into()];
    assert!(bench.fails().await.message.contains("a network that is there for tests"));
    bench.sheet.test_networks.clear();

    // What nobody would do is refused by name; an unplanned failover is not held up for its name servers.
    bench.sheet.resolvers = vec![("10.0.0.53".parse().unwrap(), "10.1.0.53".parse().unwrap())];
    bench.act().await;
    bench.sheet.operation.kind = Kind::Planned;
    assert!(bench.fails().await.message.contains("the name servers of the route"));
    bench.sheet.operation.kind = Kind::Unplanned;
    bench.dr.can.lock().unwrap().bubbles = false;
    bench.undo().await;
}

fn hook_of(needs: Vec<Need>) -> HookSheet {
    HookSheet {
        name: "patch".into(),
        function: "patch".into(),
        probe: false,
        parameters: vec![("m".into(), "machine".into())],
        needs,
        undo: None,
        origin: "shop.plan:1".into(),
        text: "now();".into(),
        hash: Hash::of("now();"),
    }
}

fn verify_with(needs: Vec<Need>) -> Bench {
    let verify = Action::Verify { required: vec!["dr".into(), "hq".into()], probed: vec![] };
    let mut bench = Bench::new(Kind::Planned, verify);
    bench.hq.add("db", Power::On);
    bench.sheet.hooks.insert("patch".into(), hook_of(needs));
    let arguments = [("m".to_owned(), Value::List(vec![Value::Machine("db".into())]))].into();
    bench.sheet.nodes.push(node(Action::Run { hook: "patch".into(), arguments }, SheetPhase::Rise));
    bench.sheet.nodes[1].id = "app/patch".into();
    bench
}

#[tokio::test]
async fn a_hook_that_cannot_do_its_work_is_refused_before_anything_is_touched() {
    let secret = Need::Secret { name: "key".into(), key: "nobody/has/this-key".into() };
    for (need, words) in [
        (Need::Disk, "`patch` needs `disk`, and site `dr` cannot reach files on disks"),
        (Need::Ssh, "`patch` needs `ssh`, and site `dr` has no SSH client"),
        (secret, "`patch` needs the secret `key`: the keyring has no `nobody/has/this-key`"),
    ] {
        let met = !matches!(need, Need::Secret { .. });
        let mut bench = verify_with(vec![need]);
        if met {
            bench.act().await;
        }
        let mut can = bench.dr.can.lock().unwrap().clone();
        (can.disk_files, can.guest_ssh) = (false, false);
        *bench.dr.can.lock().unwrap() = can;
        let failure = bench.fails().await;
        assert!(failure.message.contains(words), "{failure}");
        assert_eq!(failure.message.contains("E0802"), words.contains("secret"), "{failure}");
        assert!(!failure.is_retryable(), "{failure:?}");
        assert!(bench.hq.effects().is_empty() && bench.dr.effects().is_empty(), "nothing was touched");
        assert!(bench.recovery.calls().is_empty());

        // A step that may fail holds nobody up, and an unplanned failover saves what it can: both say it.
        bench.sheet.nodes[1].otherwise = Otherwise::Continue;
        assert!(matches!(bench.act().await, StepOutput::Text { text } if text.contains(words)));
        bench.sheet.nodes[1].otherwise = Otherwise::Pause;
        bench.sheet.operation.kind = Kind::Unplanned;
        assert!(matches!(bench.act().await, StepOutput::Text { text } if text.contains(words)));
    }
}

#[tokio::test]
async fn a_guest_without_an_agent_is_found_out_before_anything_is_touched() {
    let mut bench = verify_with(vec![Need::Guest]);
    bench.act().await;
    bench.sheet.machines.get_mut("db").unwrap().facts.guest_agent = false;
    bench.act().await;
    *bench.hq.answers.lock().unwrap() = vec![Err(Failure::transient("no agent there"))];
    let failure = bench.fails().await;
    assert!(failure.message.contains("no agent answers in `db`"), "{failure}");
    assert!(bench.hq.effects().is_empty() && bench.dr.effects().is_empty(), "nothing was touched");
    // One that is off cannot answer, and may have an agent all the same.
    bench.hq.change("db", |state| state.power = Power::Off);
    bench.act().await;
}

#[tokio::test]
async fn a_disk_is_not_changed_under_a_running_machine() {
    let mut bench = verify_with(vec![Need::Disk]);
    bench.sheet.nodes.push(node(Action::Start { machine: "db".into(), site: "dr".into() }, SheetPhase::Rise));
    bench.sheet.nodes[2].id = "start/db".into();
    let edge = |from: &str, to: &str| Edge { from: from.into(), to: to.into(), kind: EdgeKind::Needs };
    bench.sheet.edges = vec![edge("app/patch", "start/db")];
    bench.act().await;
    bench.sheet.nodes.push(node(Action::Barrier, SheetPhase::Rise));
    bench.sheet.nodes[3].id = "end".into();
    bench.sheet.edges = vec![edge("start/db", "end"), edge("end", "app/patch")];
    assert!(bench.fails().await.message.contains("at step `app/patch`, and `db` is on by then"));
    bench.sheet.edges.clear();
    bench.sheet.nodes[1].phase = SheetPhase::Leave;
    assert!(bench.fails().await.message.contains("`db` is on by then"));
}

#[tokio::test]
async fn a_failover_keeps_its_points_until_the_plan_is_protected_again() {
    let mut bench = Bench::new(Kind::Planned, lock(false));
    bench.act().await;
    bench.sheet.nodes[0].action = unlock(state(Phase::FailedOver, false));
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    bench.act().await;
    bench.act().await;
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    assert!(bench.stored::<LockRecord>("lock/db/live").await.is_none());
    assert_eq!(bench.stored::<PlanState>("plan/shop/state").await.unwrap().phase, Phase::FailedOver);
    let record: LandedRecord = bench.stored("plan/shop/landed").await.unwrap();
    assert_eq!((record.run.as_str(), record.points["dbs"].as_str()), ("r1", "p1"));
    assert!(bench.recovery.calls().is_empty(), "the points stay held");

    bench.sheet.operation.kind = Kind::Reprotect;
    bench.run = "r2".into();
    bench.sheet.nodes[0].action = unlock(PlanState { direction: Direction::Back, ..PlanState::HOME });
    bench.act().await;
    assert_eq!(bench.recovery.calls(), ["release r1", "release r2"]);
    assert!(bench.stored::<LandedRecord>("plan/shop/landed").await.is_none());
}

#[tokio::test]
async fn cancel_restores_replication_in_the_name_of_the_failover() {
    let bench = Bench::new(Kind::Cancel, unlock(PlanState::HOME));
    bench.store("plan/shop/landed", &landed()).await;
    bench.act().await;
    assert_eq!(bench.recovery.calls(), ["restore dbs r0", "release r0", "release r1"]);
}

#[tokio::test]
async fn a_drill_stays_locked_and_held_until_its_cleanup() {
    let mut bench = Bench::new(Kind::Test, lock(true));
    bench.run = "d1".into();
    bench.act().await;
    bench.sheet.nodes[0].action = unlock(state(Phase::Protected, true));
    bench.act().await;
    assert!(bench.stored::<LockRecord>("lock/db/drill").await.is_some());
    assert!(bench.recovery.calls().is_empty());

    bench.run = "r2".into();
    bench.sheet.operation.kind = Kind::Cleanup;
    bench.sheet.nodes[0].action = lock(true);
    bench.sheet.nodes.push(node(Action::DiscardBubble { site: "dr".into(), drill: "d1".into() }, SheetPhase::Land));
    bench.act().await;
    assert_eq!(bench.stored::<LockRecord>("lock/db/drill").await.unwrap().run.as_str(), "d1");
    bench.clock.0.fetch_add(600_000, Ordering::SeqCst);
    bench.sheet.nodes[0].action = Action::AssertReplicating { group: "dbs".into() };
    assert!(
        matches!(bench.act().await, StepOutput::Text { text } if text == "3 points in the 10m that the drill stood")
    );
    *bench.recovery.points.lock().unwrap() = 0;
    let policy = PolicySheet {
        name: "gold".into(),
        rpo: Duration::from_mins(5),
        cycle: Duration::from_secs(30),
        app_every: None,
        retain: Duration::from_mins(60),
        bandwidth: None,
        bandwidth_windows: vec![],
        change_log: None,
        compression: 3,
        continuous: false,
        crash_every: None,
        tiers: Vec::new(),
        retain_all: None,
        encryption: None,
        resync_window: None,
        initial_copy: InitialCopy::Online,
    };
    let estate =
        Estate { policies: [("gold".into(), policy)].into(), groups: bench.sheet.groups.clone(), ..Estate::default() };
    bench.store("estate", &estate).await;
    assert!(bench.fails().await.message.contains("no recovery point in the 10m"));

    bench.sheet.nodes[0].action = unlock(PlanState::HOME);
    bench.act().await;
    assert!(bench.stored::<LockRecord>("lock/db/drill").await.is_none());
    assert_eq!(bench.recovery.calls(), ["release d1", "release r2"]);
}

#[tokio::test]
async fn points_are_chosen_held_and_given_back() {
    let group = GroupName::from("dbs");
    let mut bench = Bench::new(Kind::Planned, Action::SyncFinal { group: group.clone() });
    bench.outputs = Default::default();
    let made = bench.act().await;
    bench.act().await;
    assert!(matches!(&made, StepOutput::Point { loss_millis: 0, point, .. } if point.as_str() == "p-final"));
    assert_eq!(bench.recovery.calls(), ["suspend dbs r1", "final dbs key1", "hold p-final r1"]);
    bench.outputs.insert("final".into(), made.clone());
    bench.sheet.nodes[0].action = Action::PickPoint { group: group.clone(), choice: PointChoice::Final };
    assert_eq!(bench.act().await, made, "the final point of this run is the one");
    bench.undo().await;
    assert_eq!(bench.recovery.calls()[3..], ["restore dbs r1", "release r1"]);

    let bench = Bench::new(Kind::Test, Action::PickPoint { group, choice: PointChoice::Latest });
    assert!(matches!(bench.act().await, StepOutput::Point { loss_millis: 90_000, .. }));
    assert_eq!(bench.recovery.calls(), ["pick dbs Latest", "hold p-picked r1"], "a drill never pauses replication");
    bench.undo().await;
    assert_eq!(bench.recovery.calls().last().unwrap(), "release r1");
}

#[tokio::test]
async fn commit_and_reprotect_know_where_production_was_landed_from() {
    let group = GroupName::from("dbs");
    let reverse = Action::Reverse { group: group.clone(), source: "dr".into(), target: "hq".into() };
    for (action, call) in
        [(reverse, "reverse dbs dr hq p0"), (Action::DropPoints { group: group.clone() }, "drop dbs before p0")]
    {
        let mut bench = Bench::new(Kind::Reprotect, action);
        bench.outputs = Default::default();
        bench.undo().await;
        assert!(bench.fails().await.message.contains("not recorded which point"));
        bench.store("plan/shop/landed", &landed()).await;
        bench.act().await;
        bench.act().await;
        assert_eq!(bench.recovery.calls(), [call]);
        bench.outputs.insert("step".into(), StepOutput::None);
        assert_eq!(bench.steps.undo(bench.cx()).await.unwrap_err().class, FailureClass::Refused);
    }
    let bench = Bench::new(Kind::Reprotect, Action::Resync { group });
    bench.act().await;
    bench.undo().await;
    assert_eq!(bench.recovery.calls(), ["cycle dbs"]);
}

#[tokio::test]
async fn lag_is_waited_for_and_worked_on() {
    let bench = Bench::new(Kind::Planned, Action::AwaitLag { group: "dbs".into(), at_most: Duration::from_mins(5) });
    *bench.recovery.lags.lock().unwrap() = vec![Span::from_secs(900), Span::from_secs(900), Span::from_secs(10)];
    assert!(matches!(bench.act().await, StepOutput::Text { text } if text.contains("10s old")));
    assert_eq!(bench.recovery.calls(), ["cycle dbs"]);
    *bench.recovery.lags.lock().unwrap() = vec![Span::from_secs(900); 1_000];
    let failure = bench.fails().await;
    assert_eq!((failure.class, failure.message.contains("it is 15m old")), (FailureClass::Timeout, true), "{failure}");
}

#[tokio::test]
async fn notes_and_the_report_say_what_was() {
    let text = "runs at {target}, data up to {point.at}, lost {loss}; {unknown}";
    let mut bench = Bench::new(Kind::Unplanned, Action::Notify { to: "dr-leads".into(), text: text.into() });
    bench.act().await;
    let note = bench.journal.notes.lock().unwrap()[0].clone();
    assert!(note.starts_with("notify dr-leads: runs at dr, data up to 2027-01-15T"), "{note}");
    assert!(note.ends_with("lost 1m30s; {unknown}"), "{note}");

    bench.sheet.nodes[0].action = Action::Report;
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    bench.act().await;
    bench.act().await;
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    bench.undo().await;
    let report: serde_json::Value = bench.stored("run/r1/report").await.unwrap();
    assert_eq!(
        (report["points"][0]["loss_millis"].as_u64(), report["operation"].as_str()),
        (Some(90_500), Some("unplanned"))
    );
}

#[tokio::test]
async fn what_belongs_to_the_executor_is_refused() {
    let bench = Bench::new(Kind::Planned, Action::NoReturn);
    assert!(bench.fails().await.message.contains("belongs to the executor"));
    assert!(bench.steps.observe(bench.cx()).await.is_err());
    bench.undo().await;
}

/// Somebody signed that `hq` is dead; it was only cut off, and is back. Replication is turned after this step.
#[tokio::test]
async fn what_production_has_left_is_found_off_and_barred() {
    let fence =
        Action::Fence { site: "hq".into(), machines: vec!["db".into(), "gone".into()], proof: FenceProof::FoundOff };
    let mut bench = Bench::new(Kind::Reprotect, fence);
    bench.hq.add("db", Power::On);
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    let failure = bench.fails().await;
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.message.contains("`db` is on at site `hq` too"), "{failure}");
    assert!(failure.help.unwrap().contains("muster power off hq db"));
    assert!(bench.hq.effects().is_empty(), "what is on is not cut off");
    bench.hq.down.store(true, Ordering::SeqCst);
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    assert_eq!(bench.fails().await.class, FailureClass::Transient, "what cannot be asked proves nothing");
    bench.answer = Some(Answer { yes: true, who: "anna".into(), why: "saw the smoke".into() });
    assert_eq!(bench.fails().await.class, FailureClass::Transient, "nobody signs for this one");
    bench.hq.down.store(false, Ordering::SeqCst);

    bench.hq.change("db", |state| state.power = Power::Off);
    assert_eq!(bench.observe().await, Observation::DoesNotHold, "it could be started at any time");
    let proven = StepOutput::Fence { how: "found off and barred from starting".into() };
    assert_eq!(bench.act().await, proven);
    assert_eq!((bench.hq.effects(), bench.dr.effects()), (vec!["fence db".to_owned()], vec![]));
    assert_eq!(bench.act().await, proven);
    assert_eq!(bench.hq.effects().len(), 1, "a fence that stands is left alone");
    assert_eq!(bench.observe().await, Observation::Holds(proven));
    bench.undo().await;
    assert!(bench.hq.get("db").unwrap().fenced, "production still runs elsewhere");
}
