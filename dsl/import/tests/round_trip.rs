//! A plan as a template and back: the same stages, the same steps.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;

use common::{ASR, checked, errors, sources};
use muster_diagnostics::FileId;
use muster_import::{Members, Source, asr, export_asr};
use muster_syntax::ast::{Body, ExprKind, Item, Line, Plan, Ref, Verb, When};
use proptest::prelude::*;
use std::fmt::Write;

/// Operations as bits: test, planned, unplanned out, then back.
fn bits(when: &When) -> u8 {
    when.names.iter().fold(0, |all, name| {
        all | match name.text.as_str() {
            "test" => 0b001_001,
            "planned" => 0b010_010,
            "unplanned" => 0b100_100,
            "live" => 0b110_110,
            "failback" => 0b110_000,
            "out" => 0b000_111,
            "back" => 0b111_000,
            _ => 0b111_111,
        }
    })
}

fn names(machines: &[Ref]) -> String {
    machines.iter().map(|machine| machine.head.text.clone()).collect::<Vec<_>>().join(",")
}

fn lines(body: &Body, operations: u8, down: bool, out: &mut Vec<String>) {
    for line in &body.lines {
        match line {
            Line::When { when, body } => lines(body, operations & bits(when), down, out),
            Line::Down { body, .. } => lines(body, 0b110_110, true, out),
            Line::Step(step) => {
                let operations = step.clauses.when.as_ref().map_or(operations, |when| operations & bits(when));
                let text = |expr: &muster_syntax::ast::Expr| match &expr.kind {
                    ExprKind::Text(value) => value.text.clone(),
                    _ => String::new(),
                };
                let what = match &step.verb {
                    Verb::Start { machines, .. } => format!("start {}", names(machines)),
                    Verb::Stop { machines, .. } => format!("stop {}", names(machines)),
                    Verb::Manual { text: what, .. } => format!("manual {}", text(what)),
                    Verb::Approve { text: what, .. } => format!("approve {}", text(what)),
                    Verb::Run { hook } => format!("run {}", hook.callee.head.text),
                    other => format!("{other:?}"),
                };
                let within = step.clauses.within.is_some() && matches!(step.verb, Verb::Run { .. });
                out.push(format!(
                    "{}{what} {operations:06b}{}",
                    if down { "down " } else { "" },
                    if within { " within" } else { "" }
                ));
            }
            _ => {}
        }
    }
}

/// What a plan does, stage by stage.
fn meaning(text: &str) -> Vec<Vec<String>> {
    let parsed = muster_syntax::parse(FileId(0), text);
    assert!(!parsed.has_errors(), "{text}");
    let plan: &Plan =
        parsed.ast.items.iter().find_map(|item| if let Item::Plan(plan) = item { Some(plan) } else { None }).unwrap();
    plan.stages
        .iter()
        .map(|stage| {
            let mut out = Vec::new();
            lines(&stage.body, 0b111_111, false, &mut out);
            out
        })
        .collect()
}

#[derive(Clone, Debug)]
struct Step {
    verb: usize,
    when: usize,
    words: String,
}

#[derive(Clone, Debug)]
struct Stage {
    machines: usize,
    before: Vec<Step>,
    behind: Vec<Step>,
}

/// Conditions that a group action can say in one piece.
const WHEN: [&str; 12] = [
    "",
    " when test",
    " when live",
    " when planned",
    " when unplanned",
    " when test, planned",
    " when out",
    " when back",
    " when failback",
    " when planned, unplanned",
    " when test, unplanned",
    " when any",
];
const WHEN_DOWN: [&str; 4] = ["", " when planned", " when unplanned", " when failback"];

fn step() -> impl Strategy<Value = Step> {
    (0usize..3, 0..WHEN.len(), "[A-Za-z äé.,:;!()'/-]{1,30}").prop_map(|(verb, when, words)| Step {
        verb,
        when,
        words: format!("x{}", words.trim()),
    })
}

fn stage() -> impl Strategy<Value = Stage> {
    (1usize..4, prop::collection::vec(step(), 0..3), prop::collection::vec(step(), 0..3))
        .prop_map(|(machines, before, behind)| Stage { machines, before, behind })
}

fn write_step(text: &mut String, step: &Step, number: &mut usize, when: &str) {
    *number += 1;
    let words = &step.words;
    match step.verb {
        0 => writeln!(text, "    manual \"{words}\" by anyone as m{number}{when}"),
        1 => writeln!(text, "    approve \"{words}\" by anyone as a{number}{when}"),
        _ => writeln!(text, "    run hook-{number}() within 2m{when}"),
    }
    .unwrap();
}

fn plan_text(stages: &[Stage], down: &[Vec<Step>; 2]) -> String {
    let mut text = String::from("edition 2026\nplan p {\n  move = hq -> dr\n");
    let (mut machine, mut number) = (0, 0);
    for (at, stage) in stages.iter().enumerate() {
        let after = if at > 0 { format!(" after s{}", at - 1) } else { String::new() };
        writeln!(text, "  stage s{at}{after} {{").unwrap();
        for step in &stage.before {
            write_step(&mut text, step, &mut number, WHEN[step.when]);
        }
        let names: Vec<String> = (machine..machine + stage.machines).map(|machine| format!("m-{machine}")).collect();
        machine += stage.machines;
        writeln!(text, "    start {}", names.join(", ")).unwrap();
        for step in &stage.behind {
            write_step(&mut text, step, &mut number, WHEN[step.when]);
        }
        let before = if at + 1 == stages.len() { &down[0][..] } else { &[] };
        let behind = if at == 0 { &down[1][..] } else { &[] };
        if !(before.is_empty() && behind.is_empty()) {
            text.push_str("    down {\n");
            for step in before {
                write_step(&mut text, step, &mut number, WHEN_DOWN[step.when % WHEN_DOWN.len()]);
            }
            if !behind.is_empty() {
                writeln!(text, "    stop {}", names.join(", ")).unwrap();
            }
            for step in behind {
                write_step(&mut text, step, &mut number, WHEN_DOWN[step.when % WHEN_DOWN.len()]);
            }
            text.push_str("    }\n");
        }
        text.push_str("  }\n");
    }
    text + "}\n"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn stages_and_steps_come_back(
        stages in prop::collection::vec(stage(), 1..5),
        before in prop::collection::vec(step(), 0..3),
        behind in prop::collection::vec(step(), 0..3),
    ) {
        let text = plan_text(&stages, &[before, behind]);
        let exported = export_asr(&Source::new("p.plan", text.clone()), Some("p"), &Members::new()).unwrap();
        let imported = asr(&[Source::new("p.json", exported.text.clone())]).unwrap();
        prop_assert_eq!(meaning(&imported.text), meaning(&text), "{}\n{}\n{}", text, exported.text, imported.text);
        prop_assert_eq!(errors(&checked(&imported.text)), "", "{}", imported.text);
    }
}

#[test]
fn plans_that_came_over_go_back() {
    for (name, files) in ASR {
        let first = asr(&sources(files)).unwrap().text;
        let exported = export_asr(&Source::new("first.plan", first.clone()), None, &Members::new()).unwrap();
        let again = asr(&[Source::new("again.json", exported.text)]).unwrap().text;
        assert_eq!(meaning(&again), meaning(&first), "{name}");
    }
}

#[test]
fn what_the_service_cannot_say_is_listed() {
    let text = "edition 2026
plan shop {
  move  = hq -> azure
  rto   = 45m
  stage db { start orders.machines in turn else continue; check sql-01 tcp(1433) retry 3 every 20s }
  stage side { start web; wait 5m; approve \"Go on to {target}\" by leads within 15m as doors }
  stage end after db { notify leads \"done\"; run swing(to = web) when test, back }
}
";
    let members = Members::from([("orders".to_owned(), vec!["sql-01".to_owned(), "sql-02".to_owned()])]);
    let exported = export_asr(&Source::new("shop.plan", text), None, &members).unwrap();
    let notes: String =
        exported.notes.iter().map(|note| format!("{} {}: {}\n", note.file, note.path, note.text)).collect();
    insta::assert_snapshot!(format!("{}\n---\n{notes}", exported.text));
}

#[test]
fn a_file_without_that_plan_says_what_it_has() {
    let refused = |text: &str, plan: Option<&str>| {
        let refusal = export_asr(&Source::new("a.plan", text), plan, &Members::new()).unwrap_err();
        format!("{refusal}; {}", refusal.help)
    };
    let two = "edition 2026\nplan a { move = x -> y }\nplan b { move = x -> y }\n";
    assert_eq!(refused("", None), "`a.plan`: no plan is in it; name a file with a `plan`");
    assert_eq!(refused(two, None), "`a.plan`: it has several plans; name one of them: a, b");
    assert_eq!(refused(two, Some("c")), "`a.plan`: there is no plan `c`; it has a, b");
    assert_eq!(refused("plan {", None), "`a.plan`: it has errors; `muster check` shows them");
}
