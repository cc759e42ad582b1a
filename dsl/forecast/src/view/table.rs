//! The table people read before they start a run: when, how long, who, what.

use crate::conditions::times_of;
use crate::estimate::{Estimate, Fate, Span};
use crate::evidence::Drills;
use crate::forecast::Forecast;
use crate::loss::Worst;
use crate::view::effects::effects;
use crate::view::fold::{WIDTH, fold, hang, width};
use crate::{GroupLoss, Origin};
use muster_runsheet::{Action, Duration, FenceProof, Kind, Node, NodeKind, Otherwise, Runsheet, SheetPhase, view};
use std::fmt::Write;

const CRITICAL: &str = "*";
const ASSUMED: &str = "~";
/// Beyond this the stage is cut: the path of the step is in the JSON.
const STAGE_WIDTH_MAX: usize = 14;
/// So that the heading fits.
const STAGE_WIDTH_MIN: usize = 5;
/// Of the column that says who wrote a step.
const MAKER_WIDTH_MAX: usize = 20;

/// How a table is to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks<'a> {
    /// Derived steps are dimmed, and the longest way is bright.
    pub color: bool,
    /// When each step would begin without the conditions.
    pub beside: Option<&'a Estimate>,
}

/// Steps of one line that begin and end together.
struct Row<'a> {
    nodes: Vec<&'a Node>,
    span: &'a Span,
}

/// Time first, because at night the question is how long still.
///
/// Production waits for the steps down to `healthy` (or `end`); what runs behind it stands below, with how long it takes
/// but not when it begins: production does not wait for it, though the run and its locks end only behind it.
pub fn table(forecast: &Forecast<'_>, looks: Looks<'_>) -> String {
    let (sheet, estimate) = (forecast.sheet, &forecast.estimate);
    let mut out = head(forecast);
    let rows = rows(sheet, estimate);
    let columns = Columns::of(&rows, looks);
    let behind = |row: &Row<'_>| {
        let settles = rises(sheet) && row.nodes[0].phase == SheetPhase::Settle;
        settles && estimate.total.is_some() && row.span.start.is_none_or(|start| Some(start) >= estimate.total)
    };
    let (background, awaited): (Vec<&Row<'_>>, Vec<&Row<'_>>) = rows.iter().partition(|row| behind(row));
    out.push('\n');
    out.push_str(&columns.heading());
    for row in awaited {
        if matches!(row.nodes[0].action, Action::NoReturn) {
            let _ = writeln!(out, " {} no return {}", "─".repeat(24), "─".repeat(24)); // to a String: cannot fail
            continue;
        }
        out.push_str(&columns.row(row, looks, row.span.start.map_or("never".to_owned(), clock)));
    }
    out.push_str(&columns.end(sheet, estimate, looks));
    if !background.is_empty() {
        let until = estimate.whole.map(|whole| format!(" until {}", clock(whole))).unwrap_or_default();
        let _ = writeln!(out, "\nbehind it, in the background{until}:");
        for row in background {
            let at = if row.span.start.is_some() { String::new() } else { "never".to_owned() };
            out.push_str(&columns.row(row, looks, at));
        }
    }
    out.push_str(&foot(forecast));
    out
}

/// The application runs at the end of it.
fn rises(sheet: &Runsheet) -> bool {
    sheet.operation.kind.is_live() || sheet.operation.kind == Kind::Test
}

/// By time; the order of the sheet is kept among those that begin together, and nothing passes the point of no return.
fn rows<'a>(sheet: &'a Runsheet, estimate: &'a Estimate) -> Vec<Row<'a>> {
    let shown = |node: &&Node| node.kind != NodeKind::Barrier || matches!(node.action, Action::NoReturn);
    let mut rows: Vec<Row<'_>> = sheet
        .nodes
        .iter()
        .zip(&estimate.steps)
        .filter(|(node, _)| shown(node))
        .map(|(node, span)| Row { nodes: vec![node], span })
        .collect();
    rows.sort_by_key(|row| {
        let node = row.nodes[0];
        let never = row.span.start.is_none();
        (node.after_no_return, matches!(node.action, Action::NoReturn), never, row.span.start)
    });
    let mut joined: Vec<Row<'_>> = Vec::new();
    for row in rows {
        match joined.iter_mut().rev().take(JOIN_REACH).find(|earlier| alike(earlier, &row)) {
            Some(earlier) => earlier.nodes.extend(row.nodes),
            None => joined.push(row),
        }
    }
    joined
}

/// How many rows back a line's other machines are looked for.
const JOIN_REACH: usize = 64;

fn alike(a: &Row<'_>, b: &Row<'_>) -> bool {
    let (first, second) = (a.nodes[0], b.nodes[0]);
    let times = |span: &Span| (span.start, span.took, span.origin, span.fate, span.critical, span.failures);
    let head = |node: &Node| split(&node.action).map(|(head, _, _)| head);
    head(first).is_some()
        && head(first) == head(second)
        && std::mem::discriminant(&first.action) == std::mem::discriminant(&second.action)
        && (first.stage.as_ref(), &first.made_by, first.otherwise)
            == (second.stage.as_ref(), &second.made_by, second.otherwise)
        && times(a.span) == times(b.span)
        && (first.phase != SheetPhase::Rise
            || crate::cheapest::line_of(first.id.as_str()) == crate::cheapest::line_of(second.id.as_str()))
}

/// The words of a step before the machine, the machine, and behind it.
fn split(action: &Action) -> Option<(String, String, String)> {
    let machine = action.machine()?.as_str();
    let words = view::words(action);
    let verb = words.find(' ')?;
    // The first word is the verb, which may look like the machine's name.
    let at = verb + words[verb..].find(&format!(" {machine}"))? + 1;
    Some((words[..at].to_owned(), machine.to_owned(), words[at + machine.len()..].to_owned()))
}

/// With blanks at which no line is broken.
fn whole(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

fn step_words(row: &Row<'_>) -> String {
    let mut text = view::words(&row.nodes[0].action);
    let parts: Vec<(String, String, String)> = row.nodes.iter().filter_map(|node| split(&node.action)).collect();
    if let ([(head, _, tail), _, ..], true) = (parts.as_slice(), parts.len() == row.nodes.len()) {
        text = if parts.iter().all(|(_, _, other)| other == tail) {
            let names: Vec<&str> = parts.iter().map(|(_, machine, _)| machine.as_str()).collect();
            format!("{head}{}{tail}", names.join(", "))
        } else {
            let each: Vec<String> = parts.iter().map(|(_, machine, tail)| whole(&format!("{machine}{tail}"))).collect();
            format!("{head}{}", each.join(" · "))
        };
    }
    let otherwise = match row.nodes[0].otherwise {
        Otherwise::Continue => "  else\u{a0}continue",
        Otherwise::Undo => "  else\u{a0}undo",
        Otherwise::Pause => "",
    };
    let fate = match row.span.fate {
        Fate::Done if row.span.failures > 0 => format!("  ← fails {} first", times_of(row.span.failures)),
        Fate::Waived => "  ← no answer: the fence decides".to_owned(),
        Fate::Degraded => "  ← fails: goes on degraded".to_owned(),
        Fate::Stuck if row.nodes[0].otherwise == Otherwise::Undo => "  ← fails: everything is taken back".to_owned(),
        Fate::Stuck => "  ← fails: a person has to decide".to_owned(),
        Fate::Done | Fate::Never => String::new(),
    };
    let fate = whole(fate.trim_start());
    text + otherwise + if fate.is_empty() { "" } else { "  " } + &fate
}

/// Who wrote the step: a line of a plan, or a rule.
fn maker(node: &Node) -> (String, bool) {
    match node.made_by.strip_prefix("rule: ") {
        // The operation is in the head of the table: what is left is the phase.
        Some(rule) => {
            let short = rule.rsplit(", ").next().unwrap_or(rule);
            (short.strip_prefix("the ").map_or_else(|| format!("rule: {short}"), str::to_owned), true)
        }
        None => (node.made_by.rsplit('/').next().unwrap_or(&node.made_by).to_owned(), false),
    }
}

/// Widths that fit all rows.
struct Columns {
    at: usize,
    was: usize,
    took: usize,
    stage: usize,
    step: usize,
}

impl Columns {
    fn of(rows: &[Row<'_>], looks: Looks<'_>) -> Self {
        let most = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
        let at = most(&mut rows.iter().map(|row| width(&row.span.start.map_or("never".to_owned(), clock)))).max(5);
        let was = match looks.beside {
            Some(plain) => {
                let starts = plain.steps.iter().filter_map(|span| span.start);
                most(&mut starts.map(|start| width(&clock(start)))).max(5) + 2
            }
            None => 0,
        };
        let took = most(&mut rows.iter().map(|row| width(&takes(row.span)))).max(5);
        let stage =
            most(&mut rows.iter().filter_map(|row| row.nodes[0].stage.as_ref()).map(|stage| width(stage.as_str())));
        let stage = stage.clamp(STAGE_WIDTH_MIN, STAGE_WIDTH_MAX);
        let maker = most(&mut rows.iter().map(|row| width(&maker(row.nodes[0]).0))).min(MAKER_WIDTH_MAX);
        let step = WIDTH - (3 + at + was + 2 + took + 2 + stage + 2 + 2 + maker);
        Self { at, was, took, stage, step }
    }

    fn times(&self, mark: &str, at: &str, was: &str, took: &str) -> String {
        let was = if self.was > 0 { format!("{was:>width$}", width = self.was) } else { String::new() };
        format!(" {mark:1} {at:>at_width$}{was}  {took:>took_width$}", at_width = self.at, took_width = self.took)
    }

    fn heading(&self) -> String {
        let line = format!(
            "{}  {:stage$}  {:step$}  made by",
            self.times("", "at", "plain", "takes"),
            "stage",
            "step",
            stage = self.stage,
            step = self.step
        );
        line.trim_end().to_owned() + "\n"
    }

    fn row(&self, row: &Row<'_>, looks: Looks<'_>, at: String) -> String {
        let (maker, derived) = maker(row.nodes[0]);
        let stage = row.nodes[0].stage.as_ref().map_or("·", |stage| stage.as_str());
        let stage: String = stage.chars().take(self.stage).collect();
        let mark = if row.span.critical && row.span.took != Duration::ZERO { CRITICAL } else { "" };
        let plain = looks.beside.filter(|_| !at.is_empty()).and_then(|plain| plain.span(&row.span.id)?.start);
        let was = plain.map(clock).unwrap_or_default();
        let took = if row.span.start.is_some() { takes(row.span) } else { String::new() };
        let times = self.times(mark, &at, &was, &took);
        let indent = width(&times) + 2 + self.stage + 2;
        let makers = fold(&maker, MAKER_WIDTH_MAX);
        let steps = fold(&step_words(row), self.step);
        let mut out = String::new();
        for line in 0..steps.len().max(makers.len()) {
            let before = match line {
                0 => format!("{times}  {stage:width$}  ", width = self.stage),
                _ => " ".repeat(indent),
            };
            let step = steps.get(line).map_or("", String::as_str);
            let maker = makers.get(line).map_or("", String::as_str);
            let text = format!("{before}{step:width$}  {maker}", width = self.step);
            out.push_str(&paint(text.trim_end(), derived, row.span.critical && !mark.is_empty(), looks.color));
            out.push('\n');
        }
        out
    }

    fn end(&self, sheet: &Runsheet, estimate: &Estimate, looks: Looks<'_>) -> String {
        let was = looks.beside.and_then(|plain| plain.total).map(clock).unwrap_or_default();
        let (at, word) = match estimate.total {
            Some(total) if rises(sheet) => (clock(total), "healthy"),
            Some(total) => (clock(total), "end"),
            None => ("never".to_owned(), "by itself: a person has to decide first"),
        };
        let was = if self.was > 0 { format!("{was:>width$}", width = self.was) } else { String::new() };
        format!("   {at:>width$}{was}  {word}\n", width = self.at)
    }
}

fn paint(line: &str, derived: bool, critical: bool, color: bool) -> String {
    match (color, derived, critical) {
        (true, true, _) => format!("\x1b[2m{line}\x1b[0m"),
        (true, false, true) => format!("\x1b[1m{line}\x1b[0m"),
        _ => line.to_owned(),
    }
}

fn takes(span: &Span) -> String {
    format!("{}{}", if span.assumed() { ASSUMED } else { "" }, clock(span.took))
}

fn head(forecast: &Forecast<'_>) -> String {
    let sheet = forecast.sheet;
    let title = format!("{} · {} · {} → {}", sheet.plan, sheet.operation, sheet.source, sheet.target);
    let age =
        forecast.inventory_age.map_or_else(|| sheet.inventory.short().to_owned(), |age| format!("{} old", rough(age)));
    let facts = format!("sheet {}  inventory {age}  {}", sheet.hash().short(), drills(&forecast.drills));
    let mut out = if width(&title) + 4 + width(&facts) <= WIDTH {
        format!("{title}    {facts}\n")
    } else {
        format!("{}{}", hang("", &title), hang("           ", &facts))
    };
    for condition in &forecast.conditions {
        out.push_str(&hang("what if    ", condition));
    }
    out.push_str(&hang(if promise(sheet).is_some() { "objective  " } else { "estimate   " }, &time_words(forecast)));
    if let Some(loss) = loss_words(forecast) {
        out.push_str(&hang(if sheet.rpo.is_some() { "objective  " } else { "loss       " }, &loss));
    }
    out
}

fn drills(drills: &Drills) -> String {
    match drills {
        Drills::Unknown => "drills unknown: no vault asked".to_owned(),
        Drills::Never => "never drilled".to_owned(),
        Drills::Last { drill } => {
            let how = if drill.passed { "passed" } else { "failed" };
            format!("last drill {} ago: {how}", rough(drill.age))
        }
    }
}

fn promise(sheet: &Runsheet) -> Option<Duration> {
    sheet.rto.filter(|_| sheet.operation.kind.is_live())
}

/// `rto 15m   estimate ~7m40s   p50 8m   p95 9m   met in 99% of 2000 trials`; no part is broken.
fn time_words(forecast: &Forecast<'_>) -> String {
    let (sheet, estimate) = (forecast.sheet, &forecast.estimate);
    let trials = &estimate.trials;
    let mut parts: Vec<String> = promise(sheet).map(|rto| format!("rto {rto}")).into_iter().collect();
    let head = if parts.is_empty() { "" } else { "estimate " };
    match (estimate.objective, trials.p50, trials.p95) {
        (Some(total), Some(p50), Some(p95)) => {
            let assumed = if estimate.assumed { ASSUMED } else { "" };
            parts.push(format!("{head}{assumed}{}", seconds(total)));
            parts.extend([format!("p50 {}", seconds(p50)), format!("p95 {}", seconds(p95))]);
        }
        (None, _, _) => parts.push(format!("{head}never: a step fails for good, and a person has to decide")),
        _ => parts.push(format!("{head}none: no trial reaches the end by itself")),
    }
    parts.extend(trials.met.map(|met| format!("met in {} of {} trials", percent(met), trials.count)));
    if promise(sheet).zip(estimate.objective).is_some_and(|(rto, total)| total > rto) {
        parts.push("DOES NOT FIT".to_owned());
    }
    if trials.stuck > 0 && estimate.objective.is_some() {
        let share = f64::from(trials.stuck) / f64::from(trials.count.max(1));
        parts.push(format!("in {} a step fails for good", percent(share)));
    }
    if estimate.clock_from != Duration::ZERO {
        parts.push(format!("from the first stop at {}", clock(estimate.clock_from)));
    }
    let parts: Vec<String> = parts.iter().map(|part| whole(part)).collect();
    parts.join("   ")
}

/// Never rounded up to certainty.
fn percent(share: f64) -> String {
    match share * 100.0 {
        all if all >= 100.0 => "100%".to_owned(),
        some if some > 99.0 => format!("{:.1}%", (some * 10.0).floor() / 10.0),
        some => format!("{}%", some.floor()),
    }
}

fn loss_words(forecast: &Forecast<'_>) -> Option<String> {
    let sheet = forecast.sheet;
    let promise = sheet.rpo.map(|rpo| format!("rpo {rpo}   ")).unwrap_or_default();
    match sheet.operation.kind {
        Kind::Planned => return Some(format!("{promise}loss none: the last cycle runs with the machines off")),
        Kind::Unplanned => {}
        Kind::Test => return Some(format!("{promise}loss none: production is not touched")),
        _ => return None,
    }
    if forecast.losses.is_empty() {
        return None;
    }
    let now = |loss: &GroupLoss| loss.now.map(|now| format!("{} {}", loss.group, seconds(now)));
    let known: Vec<String> = forecast.losses.iter().filter_map(now).collect();
    let now = if known.is_empty() { "unknown: no vault asked".to_owned() } else { known.join(" · ") };
    let worst = worst_words(&forecast.losses);
    Some(format!("{promise}loss now: {now}   {}{worst}", whole("at worst by policy: ")))
}

fn worst_words(losses: &[GroupLoss]) -> String {
    let one = |loss: &GroupLoss| match loss.worst {
        Worst::None => "none".to_owned(),
        Worst::Bounded { loss: worst } if loss.churn_unknown => format!("{} and its transfer", seconds(worst)),
        Worst::Bounded { loss } => seconds(loss),
        Worst::Grows => "it grows: more is written than passes".to_owned(),
    };
    let all: Vec<String> = losses.iter().map(one).collect();
    if all.windows(2).all(|pair| pair[0] == pair[1]) {
        return all.into_iter().next().unwrap_or_default();
    }
    let each: Vec<String> = losses.iter().zip(all).map(|(loss, words)| format!("{} {words}", loss.group)).collect();
    each.join(" · ")
}

fn foot(forecast: &Forecast<'_>) -> String {
    let (sheet, estimate) = (forecast.sheet, &forecast.estimate);
    let mut out = String::new();
    if !sheet.left_out.is_empty() {
        let left: Vec<String> = sheet.left_out.iter().map(|left| format!("{} ({})", left.step, left.why)).collect();
        out.push_str(&hang("not run in this operation: ", &left.join(" · ")));
    }
    match &forecast.unrehearsed {
        Some(lines) if !lines.is_empty() && forecast.drills == Drills::Never => {
            out.push_str("never rehearsed by a drill: all of it\n");
        }
        Some(lines) if !lines.is_empty() => out.push_str(&hang("never rehearsed by a drill: ", &lines.join(", "))),
        _ => {}
    }
    out.push_str(&effects(forecast.effects.as_deref().unwrap_or_default()));
    if let Some(saving) = &forecast.cheapest {
        out.push_str(&hang("cheapest minute: ", &format!("{} costs {}", saving.what, seconds(saving.saves))));
    }
    out.push_str(&ways_out(sheet));
    out.push('\n');
    let _ = writeln!(out, "{CRITICAL} on the longest way: a delay here delays the end");
    if estimate.steps.iter().any(|span| span.origin == Origin::Assumed) {
        let what = "assumed by the standard library: nothing was measured, and the plan has no `usually` for it";
        let _ = writeln!(out, "{ASSUMED} {what}");
    }
    out
}

/// What happens when a step fails, and how all of it is taken back: nobody looks that up at night.
fn ways_out(sheet: &Runsheet) -> String {
    if !rises(sheet) {
        return String::new();
    }
    let mut ways: Vec<(String, String)> = Vec::new();
    if sheet.nodes.iter().any(|node| node.otherwise == Otherwise::Pause) {
        let what = "it pauses there, what needs it waits; `muster decide` has it retried, skipped, …";
        ways.push(("a step fails".to_owned(), what.to_owned()));
    }
    let signed = |node: &Node| matches!(&node.action, Action::Fence { proof: FenceProof::PowerOffOrSignature, .. });
    if sheet.nodes.iter().any(signed) {
        let by = sheet.owner.as_deref().unwrap_or("anyone");
        let what = format!("the fence waits until {by} signs with `muster approve` that it is down");
        ways.push((format!("{} is silent", sheet.source), what));
    }
    ways.push(if sheet.operation.kind == Kind::Test {
        ("take it away".to_owned(), format!("`muster cleanup {}`; production never waits for it", sheet.plan))
    } else {
        let what = format!("`muster cancel`, until the commit; after no return what {} wrote is lost", sheet.target);
        ("take it back".to_owned(), what)
    });
    let wide = ways.iter().map(|(head, _)| width(head)).max().unwrap_or(0);
    let line = |(head, what): (String, String)| hang(&format!("  {head:wide$}  "), &what);
    format!("if it goes wrong:\n{}", ways.into_iter().map(line).collect::<String>())
}

/// What the sheet takes for granted, a line each: for whoever approves it.
pub fn assumptions(sheet: &Runsheet) -> String {
    let mut out = "takes for granted\n".to_owned();
    for assumed in &sheet.assumptions {
        out.push_str(&hang(&format!("  {}: ", assumed.about), &assumed.expects));
    }
    out
}

/// `2:50`, `1:02:50`.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.0.div_ceil(1_000);
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// In whole seconds: nobody plans in milliseconds.
pub(crate) fn seconds(duration: Duration) -> String {
    Duration(duration.0.div_ceil(1_000) * 1_000).to_string()
}

/// `12 days`, `2h`, `5m`: an age.
fn rough(age: Duration) -> String {
    const DAY: u64 = 86_400_000;
    match age.0 {
        age if age >= 2 * DAY => format!("{} days", age / DAY),
        age if age >= 3_600_000 => format!("{}h", age / 3_600_000),
        age if age >= 60_000 => format!("{}m", age / 60_000),
        age => format!("{}s", age / 1_000),
    }
}
