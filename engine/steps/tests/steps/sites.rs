//! Machines, landing, networks and fences.

use crate::fakes::*;
use muster_executor::{Acted, Observation, StepRunner};
use muster_journal::{Answer, QuestionKind, StepOutput};
use muster_ports::*;
use muster_runsheet::*;
use std::sync::atomic::Ordering;

fn start(site: &str) -> Action {
    Action::Start { machine: "db".into(), site: site.into() }
}
fn stop(site: &str) -> Action {
    Action::Stop { machine: "db".into(), site: site.into() }
}
fn promote(differences: bool) -> Action {
    Action::Promote { machine: "db".into(), site: "dr".into(), nics: vec![nic("10.60.0.5")], differences }
}
fn clone() -> Action {
    Action::Clone { machine: "db".into(), site: "dr".into(), nics: vec![nic("10.10.0.5")] }
}
fn bubble() -> Action {
    Action::Bubble {
        site: "dr".into(),
        networks: vec![NetworkShape { name: "data".into(), cidr: "10.10.0.0/24".into() }],
    }
}
fn fence(proof: FenceProof) -> Action {
    Action::Fence { site: "hq".into(), machines: vec!["db".into()], proof }
}

/// What every effect at a site has to keep: one effect however often it is asked for, found again after a lost answer,
/// gone after its undo, and no harm from an undo before it.
async fn keeps_its_word(kind: Kind, action: Action, prepare: fn(&Bench), after_undo: &[&str]) {
    let bench = Bench::new(kind, action.clone());
    prepare(&bench);
    bench.undo().await;
    assert_eq!((bench.hq.effects(), bench.dr.effects()), (vec![], vec![]), "undo before the act: {action:?}");
    assert_eq!(bench.observe().await, Observation::DoesNotHold, "{action:?}");
    bench.act().await;
    let once = (bench.hq.effects(), bench.dr.effects());
    assert_eq!(once.0.len() + once.1.len(), 1, "{action:?}: {once:?}");
    bench.act().await;
    assert_eq!((bench.hq.effects(), bench.dr.effects()), once, "twice is once: {action:?}");
    assert!(matches!(bench.observe().await, Observation::Holds(_)), "{action:?}");
    bench.undo().await;
    let mut effects = bench.hq.effects();
    effects.extend(bench.dr.effects());
    assert_eq!(effects[1..], *after_undo, "{action:?}");

    let bench = Bench::new(kind, action.clone());
    prepare(&bench);
    bench.hq.reply_lost.store(true, Ordering::SeqCst);
    bench.dr.reply_lost.store(true, Ordering::SeqCst);
    let failure = bench.try_act().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient, "{action:?}: {failure}");
    assert!(failure.message.contains("site `hq`") || failure.message.contains("site `dr`"), "{failure}");
    assert!(matches!(bench.observe().await, Observation::Holds(_)), "after a lost answer: {action:?}");

    let bench = Bench::new(kind, action.clone());
    bench.hq.down.store(true, Ordering::SeqCst);
    bench.dr.down.store(true, Ordering::SeqCst);
    let failure = bench.fails().await;
    assert_eq!(failure.class, FailureClass::Transient, "{action:?}: {failure}");
    assert!(failure.message.contains("site `"), "{failure}");
}

#[tokio::test]
async fn effects_at_sites_keep_their_word() {
    keeps_its_word(Kind::Planned, start("dr"), |bench| bench.dr.add("db", Power::Off), &["stop db"]).await;
    keeps_its_word(Kind::Test, start("dr"), |bench| bench.dr.add("db~r1", Power::Off), &["cut db~r1"]).await;
    keeps_its_word(Kind::Planned, stop("hq"), |bench| bench.hq.add("db", Power::On), &["start db"]).await;
    keeps_its_word(Kind::Test, bubble(), |_| {}, &["discard bubble r1"]).await;
    keeps_its_word(Kind::Test, clone(), |_| {}, &["undefine db~r1 with disks"]).await;
    keeps_its_word(Kind::Planned, promote(false), |_| {}, &["undefine db with disks"]).await;
    keeps_its_word(Kind::Planned, promote(true), |bench| bench.dr.add("db", Power::Off), &["undefine db"]).await;
    keeps_its_word(Kind::Planned, fence(FenceProof::PowerOff), |bench| bench.hq.add("db", Power::On), &["unfence db"])
        .await;
    let unfence = Action::Unfence { site: "hq".into(), machines: vec!["db".into()] };
    let bench = Bench::new(Kind::Cancel, unfence);
    bench.hq.add("db", Power::Off);
    bench.hq.change("db", |state| state.fenced = true);
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    bench.act().await;
    bench.act().await;
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    bench.undo().await;
    assert_eq!(bench.hq.effects(), ["unfence db", "fence db"]);
}

#[tokio::test]
async fn a_drill_touches_its_clones_only() {
    let bench = Bench::new(Kind::Test, start("dr"));
    bench.dr.add("db", Power::Off);
    bench.dr.add("db~r1", Power::Off);
    bench.act().await;
    assert_eq!(bench.dr.effects(), ["start db~r1"]);
    assert_eq!(bench.dr.get("db").unwrap().power, Power::Off);
}

#[tokio::test]
async fn a_machine_that_was_off_is_not_started_by_an_undo() {
    let bench = Bench::new(Kind::Planned, stop("hq"));
    bench.hq.add("db", Power::Off);
    assert!(
        matches!(bench.observe().await, Observation::Holds(StepOutput::Text { text }) if text.contains("already off"))
    );
    bench.act().await;
    bench.undo().await;
    assert_eq!(bench.hq.effects(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stubborn_machine_pauses_a_planned_run_and_not_an_unplanned_one() {
    let bench = Bench::new(Kind::Planned, stop("hq"));
    bench.hq.add("db", Power::On);
    bench.hq.stubborn.store(true, Ordering::SeqCst);
    let failure = bench.fails().await;
    assert_eq!(failure.class, FailureClass::Timeout);
    assert!(failure.message.contains("`db` at site `hq` has not shut down"), "{failure}");
    assert_eq!(bench.hq.get("db").unwrap().power, Power::On, "never cut off in silence");

    let bench = Bench::new(Kind::Unplanned, stop("hq"));
    bench.hq.down.store(true, Ordering::SeqCst);
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    assert!(matches!(bench.act().await, StepOutput::Text { text } if text.contains("not stopped at `hq`")));
    assert_eq!(bench.journal.notes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_fenced_or_missing_machine_is_not_started() {
    let bench = Bench::new(Kind::Planned, start("dr"));
    assert_eq!(bench.fails().await.class, FailureClass::Permanent);
    bench.dr.add("db", Power::Off);
    bench.dr.change("db", |state| state.fenced = true);
    assert_eq!(bench.fails().await.class, FailureClass::Refused);
    assert!(bench.dr.effects().is_empty());
}

#[tokio::test]
async fn landings_say_exactly_what_is_to_be() {
    let bench = Bench::new(Kind::Planned, promote(false));
    assert!(matches!(bench.act().await, StepOutput::Bytes { fetched: 10, .. }));
    let order = bench.dr.landed.lock().unwrap()[0].clone();
    assert_eq!(order.mode, LandMode::Instant);
    assert_eq!(order.shape.instance.as_str(), "db");
    assert_eq!(order.shape.nics, [nic("10.60.0.5")]);
    assert_eq!(order.shape.track_from, Some(BarrierId::landed(&"p1".into())));
    assert_eq!(order.shape.labels["muster.key"], "key1");
    assert_eq!(order.shape.labels["muster.step"], "step");
    assert_eq!(order.images.keys().map(DiskName::as_str).collect::<Vec<_>>(), ["root"]);

    let bench = Bench::new(Kind::Planned, promote(false));
    bench.dr.can.lock().unwrap().instant_recovery = false;
    bench.act().await;
    assert_eq!(bench.dr.landed.lock().unwrap()[0].mode, LandMode::Full);

    let bench = Bench::new(Kind::Test, clone());
    bench.act().await;
    let order = bench.dr.landed.lock().unwrap()[0].clone();
    assert_eq!(order.shape.scope, NetworkScope::Bubble { bubble: "r1".into() });
    assert_eq!((order.shape.instance.as_str(), order.shape.track_from), ("db~r1", None));

    let mut bench = Bench::new(Kind::Test, clone());
    bench.outputs = Default::default();
    assert!(bench.fails().await.message.contains("no recovery point was chosen for group `dbs`"));
}

#[tokio::test]
async fn nothing_is_landed_over_a_machine_that_runs_or_is_not_ours() {
    for differences in [false, true] {
        let bench = Bench::new(Kind::Planned, promote(differences));
        bench.dr.add("db", Power::On);
        assert_eq!(bench.fails().await.class, FailureClass::Refused);
        assert!(bench.dr.effects().is_empty());
    }
    let bench = Bench::new(Kind::Planned, promote(false));
    bench.dr.add("db", Power::Off);
    assert!(bench.fails().await.message.contains("that muster did not make"));

    bench.dr.change("db", |state| {
        state.labels.insert("muster.run".into(), "r0".into());
        state.labels.insert("muster.key".into(), "key0".into());
    });
    bench.act().await;
    assert_eq!(bench.dr.effects(), ["undefine db with disks", "land db Instant"]);
    bench.undo().await;
    assert!(bench.dr.get("db").is_none());
}

#[tokio::test]
async fn the_way_home_lifts_the_fence_of_the_way_out() {
    let bench = Bench::new(Kind::Planned, promote(true));
    bench.dr.add("db", Power::Off);
    bench.dr.change("db", |state| state.fenced = true);
    bench.act().await;
    assert_eq!(bench.dr.effects(), ["land db Differences", "unfence db"]);
}

#[tokio::test]
async fn hydrate_cuts_the_tie_once() {
    let bench = Bench::new(Kind::Planned, Action::Hydrate { machine: "db".into(), site: "dr".into() });
    bench.dr.add("db", Power::On);
    bench.dr.change("db", |state| state.tied = true);
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    bench.act().await;
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    bench.undo().await;
    assert_eq!(bench.dr.effects(), ["hydrate db"]);
}

#[tokio::test]
async fn discards_take_away_what_was_made() {
    let action = Action::Discard { machine: "db".into(), site: "dr".into(), drill: Some("d1".into()) };
    let bench = Bench::new(Kind::Cleanup, action);
    bench.dr.add("db", Power::On);
    bench.dr.add("db~d1", Power::On);
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    bench.act().await;
    bench.act().await;
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    assert_eq!(bench.dr.effects(), ["cut db~d1", "undefine db~d1 with disks"]);

    let live = Action::Discard { machine: "db".into(), site: "dr".into(), drill: None };
    let mut bench = Bench::new(Kind::Cancel, live);
    bench.dr.add("db", Power::On);
    bench.act().await;
    assert_eq!(bench.dr.effects(), ["stop db", "undefine db with disks"]);
    bench.dr.add("db", Power::Off);
    bench.sheet.operation.direction = Direction::Back;
    bench.act().await;
    assert_eq!(bench.dr.effects().last().unwrap(), "undefine db");

    let bench = Bench::new(Kind::Cleanup, Action::DiscardBubble { site: "dr".into(), drill: "d1".into() });
    bench.dr.bubbles.lock().unwrap().insert("d1".into());
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    bench.act().await;
    bench.act().await;
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    assert_eq!(bench.dr.effects(), ["discard bubble d1"]);
}

#[tokio::test]
async fn create_adopts_or_says_what_to_do() {
    let bench =
        Bench::new(Kind::Planned, Action::Create { machine: "redis".into(), site: "dr".into(), from: "golden".into() });
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    let failure = bench.fails().await;
    assert_eq!(failure.class, FailureClass::Permanent);
    assert!(failure.help.unwrap().contains("by hand"));
    bench.dr.add("redis", Power::Off);
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    bench.act().await;
    bench.undo().await;
    assert!(bench.dr.effects().is_empty());
}

#[tokio::test]
async fn a_silent_site_needs_a_signature() {
    let mut bench = Bench::new(Kind::Unplanned, fence(FenceProof::PowerOffOrSignature));
    bench.hq.down.store(true, Ordering::SeqCst);
    bench.recovery.lags.lock().unwrap().push(std::time::Duration::from_millis(95_300));
    assert_eq!(bench.observe().await, Observation::DoesNotHold);
    let Acted::Ask(question) = bench.steps.act(bench.cx()).await.unwrap() else { panic!("it has to ask") };
    assert_eq!((question.kind, question.to.as_str()), (QuestionKind::SplitBrain, "dr-leads"));
    for part in ["`hq` does not answer", "connection refused", "db", "dbs 1m35s ago", "split-brain"] {
        assert!(question.text.contains(part), "{part}: {}", question.text);
    }
    let answer = |yes| Some(Answer { yes, who: "anna".into(), why: "saw the smoke".into() });
    bench.answer = answer(false);
    let failure = bench.fails().await;
    assert_eq!((failure.class, failure.message.contains("anna did not sign")), (FailureClass::Refused, true));
    bench.answer = answer(true);
    assert_eq!(bench.act().await, StepOutput::Fence { how: "signed by anna: saw the smoke".into() });
    // It came back: proof is better than a signature.
    bench.hq.down.store(false, Ordering::SeqCst);
    bench.hq.add("db", Power::On);
    assert_eq!(bench.act().await, StepOutput::Fence { how: "powered off and barred from starting".into() });
    assert_eq!(bench.hq.get("db").unwrap().power, Power::Off);
}

/// The way home lands onto a machine that the failover fenced; the fence goes once it has landed.
#[tokio::test]
async fn a_crash_between_landing_and_unfencing_skips_nothing() {
    let bench = Bench::new(Kind::Planned, promote(true));
    bench.dr.add("db", Power::Off);
    bench.act().await;
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
    bench.dr.change("db", |state| state.fenced = true);
    assert_eq!(bench.observe().await, Observation::DoesNotHold, "it may not start yet");
    bench.act().await;
    assert!(!bench.dr.get("db").unwrap().fenced);
    assert!(matches!(bench.observe().await, Observation::Holds(_)));
}
