//! The live table drawn into memory, 100 columns wide, and its keys.

use super::watch_state::{Act, Estimates, Key, Prompt, State};
use super::watch_view::render;
use muster_journal::{Answer, Event, Question, QuestionKind, RUN_FORMAT, Record, RunStatus, StepOutput};
use muster_ports::{EffectKey, Epoch, Failure, Hash, RunId, StepId, Timestamp};
use muster_runsheet::{Direction, Kind, Operation, Runsheet};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

fn node(id: &str, kind: &str, phase: &str, action: serde_json::Value) -> serde_json::Value {
    json!({
        "id": id, "kind": kind, "phase": phase, "stage": null, "action": action, "made_by": "shop.plan:1",
        "within": "5m", "usually": null, "retry": null, "otherwise": "pause", "after_no_return": false, "locks": [],
    })
}

fn sheet() -> Runsheet {
    let start = |machine: &str| json!({ "verb": "start", "machine": machine, "site": "dr" });
    let check = |port: u16| json!({ "verb": "check", "machine": "db", "site": "dr", "probe": { "probe": "tcp", "port": port } });
    let operation = Operation { kind: Kind::Planned, direction: Direction::Out };
    let nodes = vec![
        node("ready/verify", "act", "ready", json!({ "verb": "verify", "required": ["dr"], "probed": ["hq"] })),
        node("leave/stop/db", "act", "leave", json!({ "verb": "stop", "machine": "db", "site": "hq" })),
        node("point/orders", "act", "point", json!({ "verb": "sync-final", "group": "orders" })),
        node("database.start/db", "act", "rise", start("db")),
        node("database.check-tcp/db-with-a-long-name-of-its-own", "check", "rise", check(5432)),
        node(
            "front.approve",
            "gate",
            "rise",
            json!({ "verb": "approve", "text": "Send customers to dr?", "by": "anyone" }),
        ),
        node("front.start/web", "act", "rise", start("web")),
        node("settle/report", "note", "settle", json!({ "verb": "report" })),
    ];
    serde_json::from_value(json!({
        "format": muster_runsheet::RUNSHEET_FORMAT, "plan": "shop", "operation": operation, "source": "hq", "target": "dr",
        "rto": "15m", "rpo": "5m", "owner": null, "keep": null, "vault": "file:///vault", "inventory": "00", "sites": {},
        "groups": {}, "machines": {}, "hooks": {}, "assumptions": [], "nodes": nodes, "edges": [], "left_out": [],
    }))
    .unwrap()
}

fn estimates() -> Estimates {
    let steps = [
        ("leave/stop/db", 30_000),
        ("point/orders", 60_000),
        ("database.start/db", 45_000),
        ("front.start/web", 20_000),
    ];
    Estimates { steps: steps.map(|(step, took)| (StepId::new(step), took)).into(), whole: Some(400_000) }
}

/// Records at their seconds, counted from 1,000 s after the epoch.
fn told(events: Vec<(u64, Event)>) -> State {
    let mut state = State::new(&RunId::new("01ab"), &sheet(), &estimates());
    for (seq, (second, event)) in (0..).zip(events) {
        let time = at(second);
        let record = Record { seq, time, epoch: Epoch(1), prev_hash: Hash::of("x"), event };
        assert!(state.take(&record));
    }
    state
}

fn at(second: u64) -> Timestamp {
    Timestamp(1_000_000 + second * 1_000)
}
fn step(id: &str) -> StepId {
    StepId::new(id)
}
fn opened() -> Event {
    Event::RunOpened {
        format: RUN_FORMAT.to_owned(),
        sheet: Hash::of("sheet"),
        plan: "shop".into(),
        operation: Operation { kind: Kind::Planned, direction: Direction::Out },
        who: "anna".to_owned(),
        why: String::new(),
        incident: None,
        signed: None,
    }
}
fn begun(id: &str) -> Event {
    Event::AttemptStarted { node: step(id), attempt: 1, key: EffectKey::new("k"), deadline: at(9_000) }
}
fn done(id: &str) -> Event {
    Event::NodeSucceeded { node: step(id), output: StepOutput::None, adopted: false }
}
fn asked(id: &str) -> Event {
    let question =
        Question { text: "Send customers to dr?".to_owned(), to: "anyone".to_owned(), kind: QuestionKind::Approve };
    Event::Asked { node: step(id), question, deadline: at(9_000) }
}

const CHECK: &str = "database.check-tcp/db-with-a-long-name-of-its-own";

fn in_the_middle() -> State {
    let mut state = told(vec![
        (0, opened()),
        (0, begun("ready/verify")),
        (2, done("ready/verify")),
        (2, begun("leave/stop/db")),
        (40, done("leave/stop/db")),
        (40, begun("point/orders")),
        (41, begun("database.start/db")),
        (41, begun(CHECK)),
        (50, Event::Paused { node: step(CHECK), why: Failure::permanent("10.60.20.11:5432 does not answer") }),
        (55, asked("front.approve")),
    ]);
    state.progress("point/orders", 30 << 20, Some(120 << 20));
    state
}

fn drawn(state: &State, second: u64, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(100, height)).unwrap();
    terminal
        .draw(|frame| {
            let area = frame.area();
            render(state, at(second), area, frame.buffer_mut());
        })
        .unwrap();
    let lines: Vec<String> =
        terminal.backend().to_string().lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect();
    lines.join("\n")
}

#[test]
fn people_come_first_then_what_runs_then_what_was_and_comes() {
    insta::assert_snapshot!(drawn(&in_the_middle(), 170, 28));
}

#[test]
fn a_small_terminal_keeps_the_head_the_question_and_the_keys() {
    insta::assert_snapshot!(drawn(&in_the_middle(), 1_000, 10));
    // No size of a terminal is too small to be drawn on.
    for height in 1..6 {
        drawn(&in_the_middle(), 170, height);
    }
}

#[test]
fn the_end_stands_still() {
    let mut events = vec![(0, opened()), (1, begun("leave/stop/db")), (31, done("leave/stop/db"))];
    let closed =
        Event::RunClosed { status: RunStatus::Done, took_millis: 31_000, degraded: Vec::new(), losses: Vec::new() };
    events.push((32, closed));
    let state = told(events);
    assert_eq!(drawn(&state, 40, 20), drawn(&state, 4_000, 20));
    insta::assert_snapshot!(drawn(&state, 40, 20));
}

#[test]
fn what_speaks_to_the_run_is_confirmed_and_what_is_not_asked_is_not_answered() {
    let mut state = in_the_middle();
    assert_eq!(state.press(Key::Yes), None);
    assert_eq!(state.prompt, Some(Prompt::Answer { step: step("front.approve"), yes: true }));
    assert_eq!(state.press(Key::Back), None);
    assert_eq!((state.press(Key::Confirm), state.prompt.clone()), (None, None));
    assert_eq!(state.press(Key::No), None);
    assert_eq!(state.press(Key::Confirm), Some(Act::Answer { step: step("front.approve"), yes: false }));
    assert_eq!((state.press(Key::Pause), state.press(Key::Confirm)), (None, Some(Act::Pause)));
    // Answered by somebody else while the finger was over the key: the prompt goes.
    state.press(Key::Yes);
    let record = Record {
        seq: 10,
        time: at(60),
        epoch: Epoch(1),
        prev_hash: Hash::of("x"),
        event: Event::Answered {
            node: step("front.approve"),
            answer: Answer { yes: false, who: "ben".to_owned(), why: String::new() },
        },
    };
    assert!(state.take(&record) && state.take(&record), "a record seen twice changes nothing");
    assert_eq!((state.prompt.clone(), state.press(Key::Confirm)), (None, None));
    assert_eq!((state.press(Key::Yes), state.message.as_str()), (None, "nothing is asked now"));
    assert!(!state.take(&Record { seq: 12, ..record }), "a record is missing between");
    assert_eq!((state.press(Key::Quit), state.press(Key::Interrupt)), (Some(Act::Leave), Some(Act::Interrupt)));
    state.may_speak = false;
    assert_eq!(state.press(Key::Pause), None);
    assert!(state.message.contains("muster resume"), "{}", state.message);
}

#[test]
fn the_clock_of_the_promise_of_an_orderly_move_begins_with_its_first_stop() {
    let state = told(vec![(0, opened()), (5, begun("ready/verify"))]);
    assert_eq!(state.left(at(100)), None);
    let state = told(vec![(0, opened()), (5, begun("leave/stop/db"))]);
    assert_eq!(state.left(at(105)), Some(800_000));
    assert_eq!(state.left(at(1_000)), Some(-95_000));
    assert_eq!(state.done(), (0, 8));
}
