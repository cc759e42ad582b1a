//! The table people read before they start a run: when, how long, who, what.

use crate::sheet::{Action, Node, NodeKind, Otherwise, PointChoice, ProbeCall, Runsheet};
use crate::units::Duration;
use crate::value::Value;
use crate::view::{Estimate, Span};
use std::fmt::Write;

/// So that the heading fits.
const STAGE_WIDTH_MIN: usize = 5;
const STEP_WIDTH: usize = 62;
const CRITICAL: &str = "*";
const ASSUMED: &str = "~";

/// Time first, because at night the question is how long still.
///
/// Production waits for the steps down to `healthy` (or `end`); what runs behind it stands below, with how long it takes
/// but not when it begins: production does not wait for it, though the run and its locks end only behind it.
pub fn table(sheet: &Runsheet) -> String {
    let estimate = Estimate::of(sheet);
    let mut out = head(sheet, &estimate);
    let mut rows: Vec<(&Node, Span)> = sheet
        .nodes
        .iter()
        .filter(|node| node.kind != NodeKind::Barrier || matches!(node.action, Action::NoReturn))
        .filter_map(|node| Some((node, *estimate.steps.get(&node.id)?)))
        .collect();
    // The order of the nodes is kept among those that begin together; nothing passes the point of no return.
    rows.sort_by_key(|(node, span)| (node.after_no_return, matches!(node.action, Action::NoReturn), span.start));
    let width = rows.iter().filter_map(|(node, _)| node.stage.as_ref()).map(|stage| stage.as_str().chars().count());
    let width = width.max().unwrap_or(0).max(STAGE_WIDTH_MIN);
    let (behind, awaited): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(node, span)| is_behind(sheet, node, *span, &estimate));
    let _ = writeln!(out, "\n     {:>6}  {:>7}  {:width$}  step", "at", "takes", "stage");
    for (node, span) in awaited {
        if matches!(node.action, Action::NoReturn) {
            let _ = writeln!(out, " {} no return {}", "─".repeat(24), "─".repeat(24));
            continue;
        }
        row(&mut out, node, span, width, &clock(span.start));
    }
    let _ = writeln!(out, "     {:>6}  {}", clock(estimate.total), if rises(sheet) { "healthy" } else { "end" });
    if !behind.is_empty() {
        let _ = writeln!(out, "\nbehind it, in the background until {}:", clock(estimate.whole));
        for (node, span) in behind {
            row(&mut out, node, span, width, "");
        }
    }
    foot(&mut out, sheet, &estimate);
    out
}

fn head(sheet: &Runsheet, estimate: &Estimate) -> String {
    let mut out = format!(
        "{} · {} · {} → {}    sheet {}  inventory {}\n",
        sheet.plan,
        sheet.operation,
        sheet.source,
        sheet.target,
        sheet.hash().short(),
        sheet.inventory.short(),
    );
    let assumed = if estimate.assumed { ASSUMED } else { "" };
    let until = if rises(sheet) { "until healthy" } else { "until the end" };
    let estimated = format!("{assumed}{} {until}", estimate.total);
    if let Some(rto) = sheet.rto.filter(|_| sheet.operation.kind.is_live()) {
        let verdict = if estimate.total <= rto { "" } else { "   DOES NOT FIT" };
        let _ = writeln!(out, "objective  rto {rto}   estimate {estimated}{verdict}");
    } else {
        let _ = writeln!(out, "estimate   {estimated}");
    }
    if let Some(rpo) = sheet.rpo {
        let loss = match sheet.operation.kind {
            crate::Kind::Planned => "none: the last cycle runs with the machines off".to_owned(),
            crate::Kind::Unplanned => "what was written since the point of each group".to_owned(),
            _ => "none: production is not touched".to_owned(),
        };
        let _ = writeln!(out, "objective  rpo {rpo}   loss {loss}");
    }
    out
}

/// The application runs at the end of it.
fn rises(sheet: &Runsheet) -> bool {
    sheet.operation.kind.is_live() || sheet.operation.kind == crate::Kind::Test
}

fn is_behind(sheet: &Runsheet, node: &Node, span: Span, estimate: &Estimate) -> bool {
    rises(sheet) && node.phase == crate::SheetPhase::Settle && span.start >= estimate.total
}

/// `*` marks the longest way, `~` a time that is neither measured nor written.
fn row(out: &mut String, node: &Node, span: Span, width: usize, at: &str) {
    let stage = node.stage.as_ref().map_or("·", |stage| stage.as_str());
    let critical = if span.critical && span.took != Duration::ZERO { CRITICAL } else { "" };
    let takes = format!("{}{}", if span.assumed { ASSUMED } else { "" }, clock(span.took));
    let otherwise = match node.otherwise {
        Otherwise::Continue => "else continue",
        Otherwise::Undo => "else undo",
        Otherwise::Pause => "",
    };
    let step = words(&node.action);
    let line = format!("  {critical:1}  {at:>6}  {takes:>7}  {stage:width$}  {step:STEP_WIDTH$}  {otherwise}");
    let _ = writeln!(out, "{}", line.trim_end());
}

fn foot(out: &mut String, sheet: &Runsheet, estimate: &Estimate) {
    if !sheet.left_out.is_empty() {
        let left: Vec<String> = sheet.left_out.iter().map(|left| format!("{} ({})", left.step, left.why)).collect();
        let _ = writeln!(out, "not run in this operation: {}", left.join(" · "));
    }
    let _ = writeln!(out, "\n{CRITICAL} on the longest way: a delay here delays the end");
    if estimate.steps.values().any(|span| span.assumed) {
        let _ = writeln!(out, "{ASSUMED} assumed by the standard library: the plan has no `usually` for it");
    }
}

/// `2:50`, `1:02:50`.
fn clock(duration: Duration) -> String {
    let seconds = duration.0.div_ceil(1_000);
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn value(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Int(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Duration(duration) => duration.to_string(),
        Value::Size(size) => size.to_string(),
        Value::Rate(rate) => rate.to_string(),
        Value::Percent(percent) => format!("{percent}%"),
        Value::Ip(ip) => ip.to_string(),
        Value::Port(port) => port.to_string(),
        Value::Machine(name) => name.to_string(),
        Value::Group(name) => name.to_string(),
        Value::Site(name) => name.to_string(),
        Value::Network(name) => name.to_string(),
        Value::Secret { name, .. } => format!("secret {name}"),
        Value::List(items) => format!("[{}]", items.iter().map(self::value).collect::<Vec<_>>().join(", ")),
    }
}

fn arguments(all: &std::collections::BTreeMap<String, Value>) -> String {
    all.iter().map(|(name, argument)| format!("{name} = {}", value(argument))).collect::<Vec<_>>().join(", ")
}

fn nics(nics: &[crate::NicShape]) -> String {
    let ips: Vec<String> =
        nics.iter().map(|nic| nic.ip.map_or_else(|| nic.network.to_string(), |ip| ip.to_string())).collect();
    ips.join(", ")
}

/// A probe in words.
pub fn probe_words(probe: &ProbeCall) -> String {
    match probe {
        ProbeCall::Tcp { port } => format!("tcp {port}"),
        ProbeCall::Http { port, path } => format!("http :{port}{path}"),
        ProbeCall::Guest => "guest".to_owned(),
        ProbeCall::Command { program, arguments } => {
            format!("command {program} {}", arguments.join(" ")).trim_end().to_owned()
        }
        ProbeCall::Hook { hook, arguments: given } => format!("{hook}({})", arguments(given)),
    }
}

fn choice(choice: &PointChoice) -> String {
    match choice {
        PointChoice::Latest => "latest".to_owned(),
        PointChoice::LatestApp => "latest-app".to_owned(),
        PointChoice::LatestProcessed => "latest-processed".to_owned(),
        PointChoice::Final => "final".to_owned(),
        PointChoice::Named { point } => point.clone(),
    }
}

/// A step in words, as in the table and in progress lines.
pub fn words(action: &Action) -> String {
    match action {
        Action::Start { machine, site } => format!("start {machine} at {site}"),
        Action::Stop { machine, site } => format!("stop {machine} at {site}"),
        Action::Create { machine, from, .. } => format!("create {machine} from {from:?}"),
        Action::Check { machine, probe: asked, .. } => format!("check {machine} {}", probe_words(asked)),
        Action::Run { hook, arguments: given } => format!("run {hook}({})", arguments(given)),
        Action::Approve { text, by } => format!("approve {text:?} by {by}"),
        Action::Manual { text, by } => format!("manual {text:?} by {by}"),
        Action::Wait { duration } => format!("wait {duration}"),
        Action::Notify { to, text } => format!("notify {to} {text:?}"),
        Action::Barrier => "barrier".to_owned(),
        Action::Verify { required, probed } if probed.is_empty() => format!("verify {}", list(required)),
        Action::Verify { required, probed } => format!("verify {}, probe {}", list(required), list(probed)),
        Action::Lock { machines, drill } => format!("lock {}{}", list(machines), if *drill { " (drill)" } else { "" }),
        Action::SyncFinal { group } => format!("last cycle of {group}, machines off"),
        Action::PickPoint { group, choice: chosen } => format!("pick point of {group}: {}", choice(chosen)),
        Action::NoReturn => "no return".to_owned(),
        Action::Fence { site, proof: crate::FenceProof::PowerOff, .. } => {
            format!("fence {site}: prove its machines off")
        }
        Action::Fence { site, .. } => format!("⚠ fence {site}: prove it off, or sign for split-brain"),
        Action::Unfence { site, .. } => format!("unfence {site}"),
        Action::Bubble { site, networks } => {
            let names: Vec<String> =
                networks.iter().map(|network| format!("{} {}", network.name, network.cidr)).collect();
            format!("bubble at {site}: {}", names.join(", "))
        }
        Action::Clone { machine, nics: cards, .. } => format!("clone {machine} → {}", nics(cards)),
        Action::Promote { machine, nics: cards, differences, .. } => {
            let how = if *differences { " (differences only)" } else { "" };
            format!("promote {machine} → {}{how}", nics(cards))
        }
        Action::Hydrate { machine, .. } => format!("hydrate {machine}"),
        Action::Discard { machine, site, drill: Some(_) } => format!("discard clone of {machine} at {site}"),
        Action::Discard { machine, site, drill: None } => format!("discard {machine} at {site}"),
        Action::DiscardBubble { site, .. } => format!("discard bubble at {site}"),
        Action::DropPoints { group } => format!("drop older points of {group}"),
        Action::Reverse { group, source, target } => format!("reverse {group}: {source} → {target}"),
        Action::Resync { group } => format!("resync {group}"),
        Action::AwaitLag { group, at_most } => format!("wait until {group} lags at most {at_most}"),
        Action::AssertReplicating { group } => format!("assert that {group} kept replicating"),
        Action::Unlock { machines, .. } => format!("unlock {}", list(machines)),
        Action::Report => "report".to_owned(),
    }
}
