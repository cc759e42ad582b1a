//! A report told from records made by hand: every kind of thing that can happen once, and texts that try to break out.
#![allow(clippy::unwrap_used, clippy::panic)]

use muster_evidence::{Form, Report, Told, report};
use muster_journal::{
    Answer, Decision, Event, Question, QuestionKind, RUN_FORMAT, Record, RunStatus, SkippedBy, StepOutput,
};
use muster_ports::{EffectKey, Epoch, Failure, Hash, RunId, StepId, Timestamp};
use muster_runsheet::{Direction, Kind, Operation, Runsheet};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a machine, an answer or a reason must not do to the page around it.
const NASTY: &str = "</td><script>x</script> | --> `a` **b** [c](http://d)\n# e \u{202e}f";

fn node(id: &str, kind: &str, phase: &str, action: Value) -> Value {
    json!({
        "id": id, "kind": kind, "phase": phase, "stage": null, "action": action, "made_by": "shop.plan:1",
        "within": "5m", "usually": "30s", "retry": null, "otherwise": "pause", "after_no_return": false, "locks": [],
    })
}

fn sheet(kind: Kind) -> Runsheet {
    let nodes = vec![
        node("leave/stop/db", "act", "leave", json!({ "verb": "stop", "machine": "db", "site": "hq" })),
        node("point/orders", "act", "point", json!({ "verb": "sync-final", "group": "orders" })),
        node("join", "barrier", "point", json!({ "verb": "barrier" })),
        node("start/db", "act", "rise", json!({ "verb": "start", "machine": "db", "site": "dr" })),
        node("dns", "hook", "rise", json!({ "verb": "run", "hook": "set-db-host", "arguments": {} })),
        node("ask", "gate", "rise", json!({ "verb": "approve", "text": "Go?", "by": "leads" })),
        node("start/web", "act", "rise", json!({ "verb": "start", "machine": "web", "site": "dr" })),
        node("settle/report", "note", "settle", json!({ "verb": "report" })),
    ];
    serde_json::from_value(json!({
        "format": muster_runsheet::RUNSHEET_FORMAT, "plan": "shop",
        "operation": Operation { kind, direction: Direction::Out }, "source": "hq", "target": "dr",
        "rto": "15m", "rpo": "5m", "owner": null, "keep": null, "vault": "file:///vault", "inventory": "00", "sites": {},
        "groups": {}, "machines": {}, "hooks": {}, "assumptions": [], "nodes": nodes, "edges": [],
        "left_out": [{ "step": "warm-up", "why": "only when test" }],
    }))
    .unwrap()
}

fn at(second: u64) -> Timestamp {
    Timestamp(1_795_403_565_000 + second * 1_000)
}

fn told(kind: Kind, events: Vec<(u64, Event)>) -> Report {
    let record = |(seq, (second, event)): (u64, (u64, Event))| Record {
        seq,
        time: at(second),
        epoch: Epoch(1),
        prev_hash: Hash::of("before"),
        event,
    };
    let records: Vec<Record> = (0..).zip(events).map(record).collect();
    report(Told {
        run: &RunId::new("01ab"),
        sheet: &sheet(kind),
        records: &records,
        head: &Hash::of("head"),
        kinds: &BTreeMap::from([("p1".to_owned(), "final".to_owned())]),
    })
}

fn opened() -> Event {
    Event::RunOpened {
        format: RUN_FORMAT.to_owned(),
        sheet: Hash::of("sheet"),
        plan: "shop".into(),
        operation: Operation { kind: Kind::Planned, direction: Direction::Out },
        who: "anna".to_owned(),
        why: NASTY.to_owned(),
        incident: None,
        signed: None,
    }
}
fn begun(node: &str) -> Event {
    Event::AttemptStarted { node: node.into(), attempt: 1, key: EffectKey::new("k"), deadline: at(9_000) }
}
fn done(node: &str) -> Event {
    Event::NodeSucceeded { node: node.into(), output: StepOutput::None, adopted: false }
}
fn decided(node: &str, decision: Decision) -> Event {
    Event::Decided { node: node.into(), decision, who: "ben".into(), why: "it was the cable".into() }
}

/// Every kind of ending of a step, but for those of an undo.
fn eventful(kind: Kind) -> Vec<(u64, Event)> {
    let question = Question { text: "Go?".into(), to: "leads".into(), kind: QuestionKind::Approve };
    let call = |event| (95, event);
    vec![
        (0, opened()),
        (0, Event::EngineClaimed { engine: "epoch 1".into() }),
        (10, begun("leave/stop/db")),
        (40, done("leave/stop/db")),
        (40, begun("point/orders")),
        (
            60,
            Event::PointChosen {
                node: "point/orders".into(),
                group: "orders".into(),
                point: "p1".into(),
                at: at(41),
                loss_millis: 0,
            },
        ),
        (60, done("point/orders")),
        (60, begun("start/db")),
        (70, Event::AttemptFailed { node: "start/db".into(), attempt: 1, failure: Failure::transient("busy") }),
        (70, begun("start/db")),
        (90, done("start/db")),
        (90, begun("dns")),
        call(Event::EffectIntended {
            node: "dns".into(),
            key: EffectKey::new("k"),
            undo: false,
            call: 1,
            operation: "http_put".into(),
            arguments: NASTY.into(),
        }),
        (96, Event::Paused { node: "dns".into(), why: Failure::permanent("no route") }),
        (200, decided("dns", Decision::DoneByHand)),
        (200, Event::Asked { node: "ask".into(), question, deadline: at(900) }),
        (
            230,
            Event::Answered { node: "ask".into(), answer: Answer { yes: true, who: "carl".into(), why: "ok".into() } },
        ),
        (230, done("ask")),
        (230, begun("start/web")),
        (if kind == Kind::Planned { 310 } else { 250 }, done("start/web")),
    ]
}

fn closed(status: RunStatus, second: u64) -> (u64, Event) {
    let took_millis = second * 1_000;
    (second, Event::RunClosed { status, took_millis, degraded: Vec::new(), losses: Vec::new() })
}

#[test]
fn a_planned_move_is_timed_from_its_first_stop() {
    let mut events = eventful(Kind::Planned);
    events.push(closed(RunStatus::Done, 320));
    let report = told(Kind::Planned, events);
    let clock = &report.clock;
    assert_eq!(clock.began_with, "step leave/stop/db");
    assert_eq!((clock.failover_done_millis, clock.healthy_millis), (Some(300_000), Some(300_000)));
    assert_eq!((clock.whole_millis, clock.kept()), (Some(320_000), Some(true)));
    assert_eq!(report.losses[0].consistency.as_deref(), Some("final"));
    assert_eq!(report.steps.iter().find(|step| step.id.as_str() == "start/db").map(|step| step.attempts), Some(2));
    assert!(!report.calls[0].answered && report.calls[0].hook == "set-db-host");
    assert_eq!(report.render(Form::Markdown), report.render(Form::Markdown));
    insta::assert_snapshot!("planned", report.render(Form::Markdown));
}

#[test]
fn an_unplanned_one_from_its_opening_or_the_incident_that_was_named() {
    let mut events = eventful(Kind::Unplanned);
    assert_eq!(told(Kind::Unplanned, events.clone()).clock.healthy_millis, Some(250_000));
    if let Event::RunOpened { incident, .. } = &mut events[0].1 {
        *incident = Some(Timestamp(at(0).0 - 700_000));
    }
    let clock = told(Kind::Unplanned, events).clock;
    assert_eq!((clock.healthy_millis, clock.kept()), (Some(950_000), Some(false)));
    assert_eq!(clock.began_with, "the incident");
}

#[test]
fn what_was_skipped_is_not_shown_to_be_healthy() {
    let mut events = eventful(Kind::Planned);
    events.pop();
    let skipped = SkippedBy::Person { who: "ben".into() };
    events.push((240, Event::NodeSkipped { node: "start/web".into(), skipped, why: "tomorrow".into() }));
    let report = told(Kind::Planned, events);
    assert_eq!((report.clock.healthy_millis, report.clock.kept()), (None, None));
    assert_eq!(report.clock.not_shown.as_deref(), Some("step start/web: skipped"));
    assert_eq!(report.clock.failover_done_millis, None, "not every machine was started");
    assert!(report.exceptions.iter().any(|exception| exception.step == StepId::new("start/web")));
    assert_eq!(report.status, "open");
}

#[test]
fn nothing_that_was_said_breaks_out_of_a_page() {
    let mut events = eventful(Kind::Planned);
    events.push(closed(RunStatus::Done, 320));
    let report = told(Kind::Planned, events);
    let html = report.render(Form::Html);
    assert!(html.contains("&lt;/td&gt;&lt;script&gt;") && !html.contains("<script"), "{html}");
    assert!(!html.contains("-->") && !html.contains('\u{202e}'), "{html}");
    // Every row of a table has all its cells, and no text has opened a tag: tags are balanced.
    for tag in ["table", "tr", "td", "th", "p", "g", "svg", "div", "h2"] {
        let opens = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opens, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let markdown = report.render(Form::Markdown);
    assert!(!markdown.contains("<script") && !markdown.contains("\n# e"), "{markdown}");
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(next) = lines.peek().filter(|next| line.starts_with('|') && next.starts_with('|')) {
            assert_eq!(columns(line), columns(next), "{line}\n{next}");
        }
    }
}

/// A page of many steps stays a page: the drawing is cut, the table is whole.
#[test]
fn a_report_of_nothing_but_its_opening_renders_too() {
    let report = told(Kind::Test, vec![(0, opened())]);
    for form in [Form::Html, Form::Markdown, Form::Json] {
        assert!(report.render(form).contains("01ab"));
    }
    assert_eq!((report.clock.promised_millis, report.closed), (None, None));
}
