//! The views and the estimate of a small sheet, made by hand.

#![allow(clippy::unwrap_used)] // tests

use muster_forecast::view::{Looks, dot, mermaid, table};
use muster_forecast::{Conditions, Dice, Estimate, Evidence, Forecast, Question};
use muster_runsheet::*;
use std::collections::BTreeMap;

fn node(id: &str, phase: SheetPhase, action: Action) -> Node {
    Node {
        id: id.into(),
        kind: match &action {
            Action::Barrier | Action::NoReturn => NodeKind::Barrier,
            Action::Verify { .. } | Action::Approve { .. } => NodeKind::Gate,
            _ => NodeKind::Act,
        },
        phase,
        stage: None,
        action,
        made_by: "rule: test".into(),
        within: Duration::from_mins(10),
        usually: None,
        retry: None,
        otherwise: Otherwise::Pause,
        after_no_return: matches!(phase, SheetPhase::Rise | SheetPhase::Settle),
        locks: Vec::new(),
    }
}

fn sheet() -> Runsheet {
    let (hq, dr) = (SiteName::new("hq"), SiteName::new("dr"));
    let machine = MachineName::new("db");
    let mut stop =
        node("leave/a.stop/db", SheetPhase::Leave, Action::Stop { machine: machine.clone(), site: hq.clone() });
    stop.otherwise = Otherwise::Continue;
    let mut start = node("a.start/db", SheetPhase::Rise, Action::Start { machine: machine.clone(), site: dr.clone() });
    start.stage = Some("a".into());
    let text = "Send customers to dr?".into();
    let mut approve = node("a.approve", SheetPhase::Rise, Action::Approve { text, by: "leads".into() });
    approve.stage = Some("a".into());
    approve.usually = Some(Duration::from_mins(4));
    let mut wait = node("a.wait", SheetPhase::Rise, Action::Wait { duration: Duration::from_secs(10) });
    wait.stage = Some("a".into());
    let verify = Action::Verify { required: vec![dr.clone()], probed: vec![hq.clone()] };
    let hydrate = Action::Hydrate { machine, site: dr.clone() };
    let nodes = vec![
        node("ready/verify", SheetPhase::Ready, verify),
        stop,
        node("no-return", SheetPhase::Land, Action::NoReturn),
        start,
        approve,
        wait,
        node("settle/hydrate/db", SheetPhase::Settle, hydrate),
    ];
    let edge = |from: &str, to: &str, kind| Edge { from: from.into(), to: to.into(), kind };
    let edges = vec![
        edge("ready/verify", "leave/a.stop/db", EdgeKind::Needs),
        edge("leave/a.stop/db", "no-return", EdgeKind::Ends),
        edge("no-return", "a.start/db", EdgeKind::Needs),
        edge("a.start/db", "a.approve", EdgeKind::Needs),
        edge("a.start/db", "a.wait", EdgeKind::Needs),
        edge("a.approve", "settle/hydrate/db", EdgeKind::Needs),
    ];
    Runsheet {
        format: RUNSHEET_FORMAT.into(),
        plan: "shop".into(),
        operation: Operation { kind: Kind::Unplanned, direction: Direction::Out },
        source: hq,
        target: dr,
        rto: Some(Duration::from_mins(5)),
        rpo: Some(Duration::from_mins(1)),
        owner: None,
        keep: None,
        vault: "file:///vault".into(),
        carriers: Carriers::default(),
        resolvers: Vec::new(),
        test_networks: Vec::new(),
        teams: BTreeMap::new(),
        inventory: Hash::of(""),
        sites: BTreeMap::new(),
        groups: BTreeMap::new(),
        machines: BTreeMap::new(),
        hooks: BTreeMap::new(),
        assumptions: Vec::new(),
        nodes,
        edges,
        left_out: vec![LeftOut { step: "a.buys-socks/db".into(), why: "when test".into() }],
    }
}

#[test]
fn the_longest_way_is_found_and_settling_is_not_counted() {
    let sheet = sheet();
    let (estate, evidence, conditions) = (Estate::default(), Evidence::default(), Conditions::default());
    let estimate = Estimate::of(&sheet, &estate, &evidence, &conditions, Dice::new(1));
    // verify 5s, stop of an uncertain site 15s, start 30s, approve 4m; hydrate runs behind them.
    assert_eq!(estimate.total, "4m50s".parse().ok());
    assert_eq!(estimate.whole, "14m50s".parse().ok());
    assert!(estimate.assumed);
    let critical: Vec<&str> = estimate.steps.iter().filter(|span| span.critical).map(|span| span.id.as_str()).collect();
    assert_eq!(critical, ["ready/verify", "leave/a.stop/db", "no-return", "a.start/db", "a.approve"]);
    assert!(!estimate.no_evidence, "the plan says how long the approval takes");
}

#[test]
fn views() {
    let sheet = sheet();
    let (estate, evidence, conditions) = (Estate::default(), Evidence::default(), Conditions::default());
    let dice = Dice::new(1);
    let question = Question { sheet: &sheet, estate: &estate, evidence: &evidence, conditions: &conditions, dice };
    let table = table(&Forecast::of(question), Looks::default());
    // The first line carries hashes, which change with every field.
    insta::assert_snapshot!("table", table.lines().skip(1).collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!("mermaid", mermaid(&sheet));
    insta::assert_snapshot!("dot", dot(&sheet));
}

#[test]
fn every_verb_has_a_line_in_the_table_of_timings() {
    for node in sheet().nodes {
        assert!(muster_stdlib::timing(node.action.verb()).is_some(), "{}", node.action.verb());
    }
    for line in muster_stdlib::timings() {
        let (within, assumed) = (line.within.parse::<Duration>(), line.assumed.parse::<Duration>());
        assert!(assumed.unwrap() <= within.unwrap(), "{}", line.verb);
    }
}
