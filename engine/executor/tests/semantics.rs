//! One rule of a run at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

mod common;

use common::*;
use muster_executor::*;
use muster_journal::*;
use muster_ports::{Clock, FailureClass, RunId, StateStore, Timestamp};
use muster_runsheet::{Duration, NodeKind, Otherwise, RetrySheet};
use std::sync::{Arc, Mutex};

fn decide_as(node: &str, decision: Decision) -> Command {
    Command::Decide { node: node.into(), decision, who: WHO.into(), why: "because".into() }
}
fn cancel() -> Command {
    Command::Cancel { who: WHO.into(), why: "wrong plan".into() }
}
fn yes(node: &str) -> Command {
    Command::Answer { node: node.into(), answer: Answer { yes: true, who: WHO.into(), why: String::new() } }
}
fn failure_of(end: &RunEnd) -> muster_ports::Failure {
    match end {
        RunEnd::Paused { waiting } => match &waiting[0] {
            Waiting::Decision { why, .. } | Waiting::Stuck { why, .. } => why.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_pauses_and_other_branches_go_on() {
    let sheet =
        sheet(vec![act("bad"), act("after-bad"), act("other"), act("after-other")], "bad>after-bad other>after-other");
    let bench = Bench::new(&sheet, &[("bad", Behaviour::Permanent)], &[]).await;
    let end = bench.drive().await.unwrap();
    assert_eq!(failure_of(&end).message, "no such image");
    assert_eq!(bench.stand("after-other").await, Stand::Succeeded);
    assert_eq!(bench.stand("after-bad").await, Stand::Waiting);

    bench.say(decide_as("bad", Decision::DoneByHand)).await.unwrap();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    assert!(bench.state().await.node(&"bad".into()).unwrap().by_hand);
    // Once more is not once again.
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    assert!(bench.say(decide_as("bad", Decision::Retry)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_is_retried_and_within_covers_all_attempts() {
    let mut flaky = act("flaky");
    flaky.retry = retry(3);
    let one = sheet(vec![flaky.clone()], "");
    let bench = Bench::new(&one, &[("flaky", Behaviour::Transient(3))], &[]).await;
    let before = bench.clock.now();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    assert_eq!(bench.world.acts("flaky"), 4);
    // 20 s, 40 s, 80 s and at most a fifth more, and four seconds of work.
    let took = bench.clock.now().since(before).as_secs();
    assert!((144..=172).contains(&took), "{took} s");

    let bench = Bench::new(&one, &[("flaky", Behaviour::Permanent)], &[]).await;
    bench.drive().await.unwrap();
    assert_eq!(bench.world.acts("flaky"), 1);

    flaky.within = Duration::from_secs(50);
    let bench = Bench::new(&sheet(vec![flaky.clone()], ""), &[("flaky", Behaviour::Transient(9))], &[]).await;
    bench.drive().await.unwrap();
    assert_eq!(bench.world.acts("flaky"), 2, "the second retry would come after the limit");

    let bench = Bench::new(&sheet(vec![flaky], ""), &[("flaky", Behaviour::Hangs)], &[]).await;
    let before = bench.clock.now();
    let failure = failure_of(&bench.drive().await.unwrap());
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Timeout, "not done within 50s"));
    assert_eq!(bench.clock.now().since(before).as_secs(), 50);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_leaves_time_for_the_next() {
    let mut stuck = act("stuck");
    stuck.within = Duration::from_mins(10);
    stuck.retry = retry(2).map(|retry| RetrySheet { each: Some(Duration::from_secs(30)), ..retry });
    let bench = Bench::new(&sheet(vec![stuck.clone()], ""), &[("stuck", Behaviour::Hangs)], &[]).await;
    let before = bench.clock.now();
    let failure = failure_of(&bench.drive().await.unwrap());
    assert_eq!(failure.class, FailureClass::Timeout);
    assert_eq!(failure.message, "not done within 30s, the limit of each attempt");
    assert_eq!(bench.world.acts("stuck"), 3);
    // Three times 30 s; 20 s and 40 s between them, and at most a fifth more.
    let took = bench.clock.now().since(before).as_secs();
    assert!((150..=162).contains(&took), "{took} s");

    // `within` stays the last word.
    stuck.within = Duration::from_secs(20);
    let bench = Bench::new(&sheet(vec![stuck], ""), &[("stuck", Behaviour::Hangs)], &[]).await;
    let failure = failure_of(&bench.drive().await.unwrap());
    assert_eq!(failure.message, "not done within 20s");
}

#[tokio::test(start_paused = true)]
async fn an_effect_whose_answer_was_lost_is_adopted() {
    let mut lossy = act("lossy");
    lossy.retry = retry(1);
    let bench = Bench::new(&sheet(vec![lossy], ""), &[("lossy", Behaviour::AnswerLost)], &[]).await;
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    assert_eq!(bench.world.acts("lossy"), 1);
    let state = bench.state().await;
    let node = state.node(&"lossy".into()).unwrap();
    assert!(node.adopted && !node.found, "it is ours to take back");
}

#[tokio::test(start_paused = true)]
async fn continue_degrades_and_only_ends_edges_go_on() {
    let mut bad = act("bad");
    bad.otherwise = Otherwise::Continue;
    let sheet = sheet(vec![bad, act("needs"), act("ends"), act("after-needs")], "bad>needs bad~ends needs~after-needs");
    let bench = Bench::new(&sheet, &[("bad", Behaviour::Permanent)], &[]).await;
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec!["bad".into(), "needs".into()] });
    assert_eq!(bench.world.standing(), ["after-needs", "ends"]);
}

#[tokio::test(start_paused = true)]
async fn approvals_are_shown_filled_in_and_a_no_stops_at_the_door() {
    let sheet = sheet(vec![act("land"), node("door", NodeKind::Gate), act("swing")], "land>door door>swing");
    let bench = Bench::new(&sheet, &[], &[]).await;
    let RunEnd::Paused { waiting } = bench.drive().await.unwrap() else { panic!("it asks") };
    let Waiting::Question { question, .. } = &waiting[0] else { panic!("{waiting:?}") };
    assert_eq!((question.text.as_str(), question.to.as_str()), ("go to dr?", "leads"));
    // Hours without an engine do not use up the approver's time.
    tokio::time::sleep(std::time::Duration::from_secs(7_200)).await;
    let no = Answer { yes: false, who: "ben".into(), why: "not today".into() };
    bench.say(Command::Answer { node: "door".into(), answer: no }).await.unwrap();
    let end = bench.drive().await.unwrap();
    assert_eq!(failure_of(&end).message, "ben said no: not today");
    assert_eq!(bench.world.standing(), ["land"]);
    bench.say(decide_as("door", Decision::Retry)).await.unwrap();
    bench.drive().await.unwrap();
    bench.say(yes("door")).await.unwrap();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
}

#[tokio::test(start_paused = true)]
async fn nobody_answers() {
    let bench = Bench::new(&sheet(vec![node("door", NodeKind::Gate)], ""), &[], &[]).await;
    let (_sender, receiver) = commands();
    let executor = bench.executor();
    let before = bench.clock.now();
    let driving = executor.drive(&bench.run, receiver, Arc::new(Unwatched), OnPause::Wait);
    // The sender lives: the driver stays and listens, over the limit of the question and beyond.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(3_600), driving).await;
    assert!(ended.is_err(), "{ended:?}");
    let node = bench.state().await.node(&"door".into()).unwrap().clone();
    assert_eq!((node.stand, node.failure.unwrap().class), (Stand::Paused, FailureClass::Timeout));
    assert!(bench.clock.now().since(before).as_secs() >= 900);
}

#[tokio::test(start_paused = true)]
async fn an_old_approval_is_asked_again_before_no_return_and_not_after() {
    for passed in [false, true] {
        let door = node("door", NodeKind::Gate);
        let nodes = vec![act("a"), no_return("gone"), door, act("slow"), act("swing")];
        let edges =
            if passed { "a>gone gone>door door>swing slow>swing" } else { "a>door door>swing slow>swing swing>gone" };
        let bench = Bench::new(&sheet(nodes, edges), &[("slow", Behaviour::Permanent)], &[]).await;
        bench.drive().await.unwrap();
        bench.say(yes("door")).await.unwrap();
        bench.drive().await.unwrap();
        assert_eq!(bench.stand("door").await, Stand::Succeeded);
        tokio::time::sleep(std::time::Duration::from_secs(3_700)).await;
        bench.drive().await.unwrap();
        let expected = if passed { Stand::Succeeded } else { Stand::Asking };
        assert_eq!(bench.stand("door").await, expected);
    }
}

/// Found by the simulation: the record that the answer was too old and the one of no return came in one batch.
#[tokio::test(start_paused = true)]
async fn an_approval_that_grew_too_old_does_not_let_no_return_pass() {
    for n in 1..20 {
        let nodes = vec![node("door", NodeKind::Gate), no_return("gone"), act("b")];
        let mut bench = Bench::new(&sheet(nodes, "door>gone gone>b"), &[], &[]).await;
        bench.drive().await.unwrap();
        bench.say(yes("door")).await.unwrap();
        bench.store.inject(Some(Fault::DieAfter(bench.store.writes() + n)));
        let _ = bench.drive().await;
        bench.store = Arc::new(bench.store.reopen());
        if (bench.stand("door").await, bench.stand("gone").await) != (Stand::Succeeded, Stand::Waiting) {
            continue;
        }
        tokio::time::sleep(std::time::Duration::from_secs(3_700)).await;
        bench.drive().await.unwrap();
        assert_eq!((bench.stand("door").await, bench.stand("gone").await), (Stand::Asking, Stand::Waiting));
        return;
    }
    panic!("the engine never died between the answer and the point of no return");
}

#[tokio::test(start_paused = true)]
async fn cancel_takes_back_in_reverse_and_not_after_no_return() {
    let nodes = || vec![act("a"), act("b"), act("c"), no_return("gone"), act("d")];
    let edges = "a>b b>c c>gone gone>d";
    let bench = Bench::new(&sheet(nodes(), edges), &[("c", Behaviour::Permanent)], &[]).await;
    bench.drive().await.unwrap();
    bench.say(cancel()).await.unwrap();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Aborted { why: "wrong plan".into() });
    assert_eq!(bench.world.order(), ["a", "b", "undo b", "undo a"]);
    assert_eq!(bench.stand("c").await, Stand::Undone, "tried is taken back too");

    let bench = Bench::new(&sheet(nodes(), edges), &[("d", Behaviour::Permanent)], &[]).await;
    bench.drive().await.unwrap();
    for command in [cancel(), decide_as("d", Decision::Abort)] {
        let Err(ExecutorError::Refused(failure)) = bench.say(command).await else { panic!("it is too late") };
        assert!(failure.message.contains("no return"), "{failure}");
        assert!(failure.help.unwrap().contains("muster cancel"));
    }
    assert_eq!(bench.world.standing(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_stuck_until_a_person_decides() {
    let mut bad = act("bad");
    bad.otherwise = Otherwise::Undo;
    let sheet = sheet(vec![act("a"), act("b"), bad], "a>b b>bad");
    let behaviour = [("bad", Behaviour::Permanent), ("b", Behaviour::UndoFails(1))];
    let bench = Bench::new(&sheet, &behaviour, &[]).await;
    let end = bench.drive().await.unwrap();
    assert_eq!(failure_of(&end).message, "taking back `b`: it will not go");
    assert_eq!(bench.stand("a").await, Stand::Succeeded, "what the stuck one may stand on stays");
    bench.say(decide_as("b", Decision::Skip)).await.unwrap();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Failed { left: vec!["b".into()] });
    assert_eq!(bench.world.standing(), ["b"]);

    let bench = Bench::new(&sheet, &behaviour, &[]).await;
    bench.drive().await.unwrap();
    bench.say(decide_as("b", Decision::Retry)).await.unwrap();
    assert!(matches!(bench.drive().await.unwrap(), RunEnd::Undone { .. }));
    assert_eq!(bench.world.standing(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn redo_has_a_new_key_and_a_fence_is_not_skipped() {
    let sheet = sheet(vec![fence("f"), act("a")], "f>a");
    let bench = Bench::new(&sheet, &[("f", Behaviour::Permanent)], &[]).await;
    bench.drive().await.unwrap();
    let Err(ExecutorError::Refused(failure)) = bench.say(decide_as("f", Decision::Skip)).await else { panic!() };
    assert!(failure.help.unwrap().contains("done-by-hand"));
    bench.say(decide_as("f", Decision::Redo)).await.unwrap();
    bench.drive().await.unwrap();
    let loaded = bench.executor().runs().load(&bench.run).await.unwrap();
    let keys: Vec<_> = loaded
        .records
        .iter()
        .filter_map(|record| match &record.event {
            Event::AttemptStarted { key, .. } => Some(key.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(keys, [effect_key(&bench.run, &"f".into(), 0), effect_key(&bench.run, &"f".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_signature_leads_back_into_the_step_that_asked() {
    let bench = Bench::new(&sheet(vec![fence("f")], ""), &[("f", Behaviour::Asks)], &[]).await;
    let RunEnd::Paused { waiting } = bench.drive().await.unwrap() else { panic!("it asks") };
    assert!(matches!(&waiting[0], Waiting::Question { question, .. } if question.kind == QuestionKind::SplitBrain));
    bench.say(yes("f")).await.unwrap();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    let records = bench.executor().runs().load(&bench.run).await.unwrap().records;
    assert!(records.iter().any(|record| matches!(record.event, Event::FenceProven { .. })));
}

fn signed_in_advance() -> Opening {
    Opening { signed: Some(Answer { yes: true, who: WHO.into(), why: "the room is flooded".into() }), ..opening() }
}

/// Killed before and after each of its writes: whoever goes on finds the signature in the journal and asks nobody.
#[tokio::test(start_paused = true)]
async fn a_signature_given_with_the_order_outlives_whoever_took_it() {
    for write in 1..=7 {
        let mut bench =
            Bench::opened(&sheet(vec![fence("f")], ""), &[("f", Behaviour::Asks)], &[], signed_in_advance()).await;
        let writer = bench.store.reopen();
        writer.inject(Some(Fault::DieAfter(bench.store.writes() + write)));
        bench.store = Arc::new(writer);
        assert_eq!(bench.drive_out().await, RunEnd::Done { degraded: vec![] }, "killed after write {write}");
        let records = bench.executor().runs().load(&bench.run).await.unwrap().records;
        let answers: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.event {
                Event::Answered { answer, .. } => Some(answer.why.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(answers, ["the room is flooded"], "killed after write {write}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_given_with_the_order_does_not_answer_for_ever() {
    let bench = Bench::opened(&sheet(vec![fence("f")], ""), &[("f", Behaviour::Asks)], &[], signed_in_advance()).await;
    tokio::time::sleep(ANSWER_AGE_MAX + std::time::Duration::from_secs(1)).await;
    let RunEnd::Paused { waiting } = bench.drive().await.unwrap() else { panic!("it asks anew") };
    assert!(matches!(&waiting[0], Waiting::Question { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_after_a_crash_is_for_a_person() {
    let chain = sheet(vec![act("dark"), act("next")], "dark>next");
    let mut bench = Bench::new(&chain, &[("dark", Behaviour::Dark)], &[]).await;
    // Without a crash it acts.
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });

    bench = Bench::new(&chain, &[("dark", Behaviour::Dark)], &[]).await;
    bench.world.die_at(1, &bench.store);
    assert!(bench.drive().await.is_err());
    bench.world.live_on();
    bench.store = Arc::new(bench.store.reopen());
    let failure = failure_of(&bench.drive().await.unwrap());
    assert_eq!(failure.class, FailureClass::Diverged);
    assert!(failure.message.contains("the site does not answer"), "{failure}");
    assert_eq!(bench.world.acts("dark"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_act_whose_limit_ran_out_without_an_engine_is_only_looked_at() {
    for boundary in [1, 2] {
        let mut bench = Bench::new(&sheet(vec![act("a")], ""), &[], &[]).await;
        bench.world.die_at(boundary, &bench.store);
        assert!(bench.drive().await.is_err());
        tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
        bench.world.live_on();
        bench.store = Arc::new(bench.store.reopen());
        let end = bench.drive().await.unwrap();
        // At the second boundary the effect had happened.
        if boundary == 2 {
            assert_eq!(end, RunEnd::Done { degraded: vec![] });
        } else {
            assert_eq!(failure_of(&end).class, FailureClass::Timeout);
        }
        assert_eq!(bench.world.acts("a"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_overdue_timer_fires_at_once_and_keeps_its_time() {
    let mut bench = Bench::new(&sheet(vec![node("hold", NodeKind::Timer), act("a")], "hold>a"), &[], &[]).await;
    bench.store.inject(Some(Fault::DieAfter(3)));
    assert!(bench.drive().await.is_err());
    tokio::time::sleep(std::time::Duration::from_secs(400)).await;
    bench.store = Arc::new(bench.store.reopen());
    let before = bench.clock.now();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    assert_eq!(
        bench.clock.now().since(before).as_secs(),
        201,
        "ten minutes from the beginning, and one second of work"
    );
}

#[tokio::test(start_paused = true)]
async fn at_most_eight_boots_at_a_site_and_one_step_on_a_machine() {
    let mut nodes: Vec<_> = (0..20).map(|n| act(&format!("s{n:02}"))).collect();
    for (n, node) in nodes.iter_mut().enumerate() {
        node.locks = vec!["boots@dr".into(), format!("machine:{}", n / 2)];
    }
    let bench = Bench::new(&sheet(nodes, ""), &[], &[]).await;
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    assert_eq!(bench.world.most_running("boots@dr"), 8);
    assert_eq!(bench.world.most_running("machine:3"), 1);
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<(u64, RunStatus)>>);

impl RunObserver for Seen {
    fn recorded(&self, record: &Record, state: &RunState) {
        self.0.lock().unwrap().push((record.seq, state.status));
    }
}

#[tokio::test(start_paused = true)]
async fn people_speak_to_a_run_while_it_is_driven() {
    let sheet = sheet(vec![act("a"), act("b"), act("c")], "a>b b>c");
    let bench = Bench::new(&sheet, &[], &[]).await;
    let (sender, receiver) = commands();
    let seen = Arc::new(Seen::default());
    let executor = bench.executor();
    let driving = executor.drive(&bench.run, receiver, seen.clone(), OnPause::Wait);
    let speaking = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let pause = Command::Pause { who: WHO.into(), why: "wait".into() };
        sender.send(pause.clone()).await.unwrap();
        assert!(sender.send(pause).await.is_err(), "it is paused already");
        assert!(matches!(executor.decide_offline(&bench.run, &cancel()).await, Err(ExecutorError::Busy(_))));
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
        assert_eq!(bench.world.standing(), ["a"], "what ran has ended, nothing else began");
        sender.send(Command::Resume { who: WHO.into(), why: String::new() }).await.unwrap();
    };
    let (end, ()) = tokio::join!(driving, speaking);
    assert_eq!(end.unwrap(), RunEnd::Done { degraded: vec![] });
    let seen = seen.0.lock().unwrap().clone();
    assert!(seen.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "every record, in order");
    assert_eq!(seen.last().unwrap().1, RunStatus::Done);
    let list = executor.runs().list().await.unwrap();
    assert_eq!((list[0].status, list[0].waiting), (RunStatus::Done, 0));
}

#[tokio::test(start_paused = true)]
async fn what_held_before_the_run_is_not_taken_back() {
    let mut bad = act("bad");
    bad.otherwise = Otherwise::Undo;
    let sheet = sheet(vec![act("a"), bad], "a>bad");
    let bench = Bench::new(&sheet, &[("bad", Behaviour::Permanent)], &[]).await;
    bench.world.already(&["a"]);
    assert!(matches!(bench.drive().await.unwrap(), RunEnd::Undone { .. }));
    assert_eq!(bench.world.standing(), ["a"]);
    assert_eq!(bench.world.acts("a"), 0);
}

#[test]
fn decide_is_pure() {
    let sheet = Arc::new(sheet(vec![act("a"), act("b")], ""));
    let chart = Chart::new(sheet.clone()).unwrap();
    let run = RunId::from("r1");
    let opened = Event::RunOpened {
        format: RUN_FORMAT.into(),
        sheet: sheet.hash(),
        plan: "shop".into(),
        operation: sheet.operation,
        who: WHO.into(),
        why: String::new(),
        incident: None,
        signed: None,
    };
    let record = Record {
        seq: 0,
        time: Timestamp(0),
        epoch: Default::default(),
        prev_hash: muster_runsheet::Hash::of(""),
        event: opened,
    };
    let state = fold(&run, &sheet, &[record]).unwrap();
    let first = decide(&chart, &state, Timestamp(5));
    assert_eq!(first.len(), 2);
    assert!(
        matches!(&first[0], Do::Attempt(attempt) if attempt.look == Look::First && attempt.deadline == Timestamp(900_005))
    );
    assert_eq!(first, decide(&chart, &state, Timestamp(5)));
}

/// Three leads, two of whom have to agree.
fn with_team(mut sheet: muster_runsheet::Runsheet) -> muster_runsheet::Runsheet {
    let members = ["anna@example.com", "ben@example.com", "carl@example.com"].map(str::to_owned).to_vec();
    sheet.teams.insert("leads".into(), muster_runsheet::TeamSheet { members, quorum: 2 });
    sheet
}

fn says(who: &str, yes: bool) -> Command {
    Command::Answer { node: "door".into(), answer: Answer { yes, who: who.into(), why: "it is time".into() } }
}

#[tokio::test(start_paused = true)]
async fn a_team_agrees_across_crashes_and_old_words_expire_with_the_first_one() {
    let sheet = with_team(sheet(vec![node("door", NodeKind::Gate), act("swing")], "door>swing"));
    let bench = Bench::new(&sheet, &[], &[]).await;
    bench.drive().await.unwrap();
    let refused = bench.say(says("dora", true)).await.unwrap_err().to_string();
    assert!(refused.contains("`dora` may not answer `door`"), "{refused}");
    bench.say(says("anna", true)).await.unwrap();
    assert!(bench.say(says("anna@example.com", true)).await.unwrap_err().to_string().contains("already"));
    let RunEnd::Paused { waiting } = bench.drive().await.unwrap() else { panic!("one is not enough") };
    let Waiting::Question { agreed, quorum, .. } = &waiting[0] else { panic!("{waiting:?}") };
    assert_eq!((agreed.as_slice(), *quorum), (&["anna@example.com".to_owned()][..], 2));

    // More than an hour later nobody remembers why anna said so.
    tokio::time::sleep(std::time::Duration::from_secs(3_700)).await;
    bench.drive().await.unwrap();
    assert_eq!(bench.stand("door").await, Stand::Asking);
    assert!(bench.state().await.node(&"door".into()).unwrap().agreed.is_empty(), "everybody is asked again");
    bench.say(says("carl", true)).await.unwrap();
    bench.say(says("anna", true)).await.unwrap();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
}

#[tokio::test(start_paused = true)]
async fn one_no_of_a_team_stops_at_the_door() {
    let sheet = with_team(sheet(vec![node("door", NodeKind::Gate), act("swing")], "door>swing"));
    let bench = Bench::new(&sheet, &[], &[]).await;
    bench.drive().await.unwrap();
    bench.say(says("anna", true)).await.unwrap();
    bench.say(says("ben", false)).await.unwrap();
    let end = bench.drive().await.unwrap();
    assert_eq!(failure_of(&end).message, "ben@example.com said no: it is time");
    assert!(bench.world.standing().is_empty());
}

fn amend(sheet: &muster_runsheet::Runsheet) -> Command {
    Command::Amend { sheet: sheet.to_json(), who: WHO.into(), why: "better so".into() }
}

#[tokio::test(start_paused = true)]
async fn what_has_not_begun_is_amended_and_what_has_is_not() {
    let first = sheet(vec![act("a"), node("door", NodeKind::Gate), act("b")], "a>door door>b");
    let bench = Bench::new(&first, &[], &[]).await;
    bench.drive().await.unwrap();
    let refused = async |sheet: muster_runsheet::Runsheet, part: &str| {
        let failure = bench.say(amend(&sheet)).await.unwrap_err().to_string();
        assert!(failure.contains(part), "{failure}");
    };
    refused(first.clone(), "changes nothing").await;
    refused(sheet(vec![node("door", NodeKind::Gate), act("b")], "door>b"), "no step `a`, which is succeeded").await;
    let mut longer = first.clone();
    longer.nodes[0].within = Duration::from_mins(99);
    refused(longer, "changes step `a`").await;
    refused(
        sheet(vec![act("z"), act("a"), node("door", NodeKind::Gate), act("b")], "z>a a>door door>b"),
        "what comes before step `a`",
    )
    .await;
    let mut elsewhere = first.clone();
    elsewhere.vault = "file:///elsewhere".into();
    refused(elsewhere, "for vault `file:///elsewhere`").await;
    let mut other = first.clone();
    other.target = "moon".into();
    refused(other, "from hq to moon").await;

    // `b` goes, `c` and `d` come, in front of each other and of what is done.
    let better = sheet(vec![act("d"), act("a"), node("door", NodeKind::Gate), act("c")], "a>door door>c c>d");
    // Edges point forward in what the compiler writes; nothing depends on it.
    bench.say(amend(&better)).await.unwrap();
    bench.say(yes("door")).await.unwrap();
    assert_eq!(bench.drive().await.unwrap(), RunEnd::Done { degraded: vec![] });
    assert_eq!(bench.world.order(), ["a", "c", "d"]);
    let loaded = RunStore::new(bench.store.clone()).load(&bench.run).await.unwrap();
    assert_eq!(*loaded.sheet, better);
    let Some(Event::Amended { changes, who, .. }) =
        loaded.records.iter().map(|record| &record.event).find(|event| matches!(event, Event::Amended { .. }))
    else {
        panic!("{:?}", loaded.records)
    };
    assert_eq!((changes.join(", ").as_str(), who.as_str()), ("without `b`, with `c`, with `d`", WHO));

    // A changed byte of the new sheet is found like one of the first.
    let key = bench.store.scan("run/").await.unwrap().into_iter().find(|(key, _)| key.contains("/amended/")).unwrap();
    let text = String::from_utf8(key.1.to_vec()).unwrap().replace("\"id\": \"d\"", "\"id\": \"e\"");
    bench.store.tamper(&key.0, Some(text.into()));
    let error = RunStore::new(bench.store.clone()).load(&bench.run).await.unwrap_err().to_string();
    assert!(error.contains("the sheet that it was amended to is missing"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_guard_is_not_amended_away() {
    let nodes = |guards: bool| {
        let mut all = vec![node("door", NodeKind::Gate)];
        if guards {
            all.push(no_return("gone"));
        }
        all.push(act("swing"));
        all
    };
    let first = sheet(nodes(true), "door>gone gone>swing");
    let bench = Bench::new(&first, &[], &[]).await;
    bench.drive().await.unwrap();
    for (other, part) in [
        (sheet(nodes(false), "door>swing"), "leaves out or changes `gone`"),
        (sheet(nodes(true), "door>gone door>swing"), "`swing` no longer comes after `gone`"),
    ] {
        let failure = bench.say(amend(&other)).await.unwrap_err().to_string();
        assert!(failure.contains(part), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_left_for_another_one_only_past_no_return() {
    let leave = || Command::LeaveOpen { who: WHO.into(), why: "another point".into() };
    let sheet = sheet(vec![act("a"), no_return("gone"), act("bad")], "a>gone gone>bad");
    let bench = Bench::new(&sheet, &[("a", Behaviour::Permanent), ("bad", Behaviour::Permanent)], &[]).await;
    bench.drive().await.unwrap();
    assert!(bench.say(leave()).await.unwrap_err().to_string().contains("has not passed"));
    bench.say(decide_as("a", Decision::DoneByHand)).await.unwrap();
    bench.drive().await.unwrap();
    bench.say(leave()).await.unwrap();
    assert_eq!(bench.state().await.status, RunStatus::Failed);
    assert!(bench.say(leave()).await.unwrap_err().to_string().contains("has ended"));
}

#[tokio::test(start_paused = true)]
async fn the_longest_way_to_the_end_begins_first() {
    let mut nodes = vec![act("short"), act("long"), act("after"), act("middle")];
    for (at, seconds) in [(0, 5), (1, 10), (2, 600), (3, 90)] {
        nodes[at].usually = Some(Duration::from_secs(seconds));
        // One at a time.
        nodes[at].locks = vec!["machine:one".into()];
    }
    let bench = Bench::new(&sheet(nodes, "long>after"), &[], &[]).await;
    bench.drive().await.unwrap();
    assert_eq!(bench.world.order(), ["long", "after", "middle", "short"]);
}

#[test]
fn semaphores_follow_from_what_a_step_does() {
    use muster_executor::chart::{BOOTS_AT_ONCE, COPIES_AT_ONCE, lock_capacity};
    let mut resync = act("resync");
    resync.action = muster_runsheet::Action::Resync { group: "orders".into() };
    let chart = Chart::new(Arc::new(sheet(vec![resync], ""))).unwrap();
    assert_eq!(chart.locks(0), ["group:orders", "copies@hq>dr"]);
    let capacities = ["machine:db", "group:orders", "boots@dr", "boots@dr:2", "copies@hq>dr"].map(lock_capacity);
    assert_eq!(capacities, [1, 1, BOOTS_AT_ONCE, 2, COPIES_AT_ONCE]);
}
