//! Stages as groups, steps as actions.

use crate::export::{Members, item_id, line, runbook_id};
use crate::{Notes, Source};
use muster_syntax::ast::{Access, Body, ExprKind, Line, Plan, Ref, Stage, Step, Verb, When};
use serde_json::{Value, json};

/// All groups of a plan, in their order.
pub(crate) struct Groups {
    pub all: Vec<Value>,
    /// Some actions are runbooks.
    pub runbooks: bool,
}

/// The operations a step runs in, as bits: test, planned and unplanned out, then the same back.
type Operations = u8;
const ALL: Operations = 0b11_1111;
const OUT: Operations = 0b00_0111;
const LIVE: Operations = 0b11_0110;
const TYPES: [(&str, Operations); 3] =
    [("TestFailover", 0b001), ("PlannedFailover", 0b010), ("UnplannedFailover", 0b100)];

pub(crate) fn groups(source: &Source, plan: &Plan, members: &Members, notes: &mut Notes) -> Groups {
    let mut writer = Writer { source, members, notes, runbooks: false };
    let stages = writer.in_line(plan);
    let mut shutdown = [Vec::new(), Vec::new()];
    let mut landed = Vec::new();
    let mut boots = Vec::new();
    let last = stages.len().saturating_sub(1);
    for (number, stage) in stages.iter().enumerate() {
        let group = writer.stage(stage, number == last, boots.is_empty());
        let [before, behind] = group.down;
        shutdown[0].extend(before);
        shutdown[1].extend(behind);
        if group.machines.is_empty() && boots.is_empty() {
            landed.extend(group.before);
        } else {
            let items: Vec<Value> = group.machines.iter().map(|machine| json!({ "id": item_id(machine) })).collect();
            boots.push(json!({
                "groupType": "Boot",
                "replicationProtectedItems": items,
                "startGroupActions": group.before,
                "endGroupActions": group.behind,
            }));
        }
    }
    let [before, behind] = shutdown;
    let empty = |kind: &str, before: Vec<Value>, behind: Vec<Value>| json!({ "groupType": kind, "replicationProtectedItems": [], "startGroupActions": before, "endGroupActions": behind });
    let mut all = vec![empty("Shutdown", before, behind), empty("Failover", Vec::new(), landed)];
    all.extend(boots);
    Groups { all, runbooks: writer.runbooks }
}

/// One stage as it is being written.
#[derive(Default)]
struct Group {
    machines: Vec<String>,
    before: Vec<Value>,
    behind: Vec<Value>,
    /// On the way down: before machines are stopped, and after.
    down: [Vec<Value>; 2],
}

struct Writer<'a> {
    source: &'a Source,
    members: &'a Members,
    notes: &'a mut Notes,
    runbooks: bool,
}

impl Writer<'_> {
    fn note(&mut self, offset: u32, text: impl Into<String>) {
        self.notes.add(&self.source.name, &line(self.source, offset), text);
    }

    /// One stage behind the other, each behind those it is `after`.
    fn in_line<'p>(&mut self, plan: &'p Plan) -> Vec<&'p Stage> {
        let mut waiting: Vec<&Stage> = plan.stages.iter().collect();
        let mut ordered: Vec<&Stage> = Vec::new();
        while !waiting.is_empty() {
            let ready = |stage: &&Stage| {
                stage.after.iter().all(|name| ordered.iter().any(|known| known.name.text == name.text))
            };
            // A circle is an error of the plan, which its check says; here its order stands.
            let next = waiting.iter().position(ready).unwrap_or(0);
            let stage = waiting.remove(next);
            if let Some(before) = ordered.last()
                && !stage.after.iter().any(|name| name.text == before.name.text)
            {
                let text = format!(
                    "`{}` and `{}` run side by side; as groups the second waits for the first",
                    before.name.text, stage.name.text
                );
                self.note(stage.name.span.start, text);
            }
            ordered.push(stage);
        }
        ordered
    }

    fn stage(&mut self, stage: &Stage, last: bool, first: bool) -> Group {
        let mut group = Group::default();
        self.body(&stage.body, ALL, &mut group);
        for line in &stage.body.lines {
            let Line::Down { body, span } = line else { continue };
            let [before, behind] = self.down(body);
            if (!before.is_empty() && !last) || (!behind.is_empty() && !first) {
                self.note(
                    span.start,
                    "the way down is one group: what surrounds the stop of one stage surrounds that of all",
                );
            }
            group.down[0].extend(before);
            group.down[1].extend(behind);
        }
        group
    }

    fn body(&mut self, body: &Body, operations: Operations, group: &mut Group) {
        for line in &body.lines {
            match line {
                Line::Step(step) => self.step(step, operations, group),
                Line::When { when, body } => {
                    let inner = operations & named(when);
                    self.body(body, inner, group);
                }
                Line::Parallel { span, body } => {
                    self.note(span.start, "actions of a group run one after the other: `parallel` is lost");
                    self.body(body, operations, group);
                }
                Line::Require { span, .. } => {
                    self.note(span.start, "`require` is a matter of the check here: left out")
                }
                Line::Down { .. } => {}
            }
        }
    }

    fn down(&mut self, body: &Body) -> [Vec<Value>; 2] {
        let mut sides = [Group::default(), Group::default()];
        let mut stopped = false;
        self.down_lines(body, LIVE, &mut stopped, &mut sides);
        sides.map(|side| [side.before, side.behind].concat())
    }

    fn down_lines(&mut self, body: &Body, operations: Operations, stopped: &mut bool, sides: &mut [Group; 2]) {
        for line in &body.lines {
            match line {
                Line::Step(Step { verb: Verb::Stop { .. }, .. }) => *stopped = true,
                Line::Step(step) => self.step(step, operations, &mut sides[usize::from(*stopped)]),
                Line::When { when, body } => self.down_lines(body, operations & named(when), stopped, sides),
                Line::Parallel { body, .. } => self.down_lines(body, operations, stopped, sides),
                Line::Require { .. } | Line::Down { .. } => {}
            }
        }
    }

    fn step(&mut self, step: &Step, operations: Operations, group: &mut Group) {
        let at = step.span.start;
        let operations = step.clauses.when.as_ref().map_or(operations, |when| operations & named(when));
        if step.clauses.retry.is_some() {
            self.note(at, "actions are not repeated by themselves: `retry` is lost");
        }
        if step.clauses.otherwise.is_some() {
            self.note(at, "what follows a failure is not said there: `else` is lost");
        }
        let label = step.clauses.label.as_ref().map(|label| label.text.clone());
        let (name, details) = match &step.verb {
            Verb::Start { machines, in_turn } => return self.start(step, machines, *in_turn, operations, group),
            Verb::Manual { text, by } | Verb::Approve { text, by } => {
                let ExprKind::Text(value) = &text.kind else {
                    return self.note(at, "its text is not written here: left out");
                };
                let shown = shown(&value.text);
                if has_reference(&value.text) {
                    self.note(at, "names in braces are not filled in there");
                }
                if by.head.text != "anyone" {
                    self.note(at, format!("who is asked (`{}`) is not said there", by.head.text));
                }
                let approves = matches!(step.verb, Verb::Approve { .. });
                let word = label.unwrap_or_else(|| if approves { "approve".into() } else { "manual".into() });
                // Read back, a question is an approval; what is none says it by its name.
                let tells = approves && !shown.trim_end().ends_with('?') && !word.starts_with("approve");
                let name = if tells { format!("approve-{word}") } else { word };
                (name, json!({ "instanceType": "ManualActionDetails", "description": shown }))
            }
            Verb::Run { hook } => {
                let word = hook.callee.head.text.clone();
                self.runbooks = true;
                self.note(
                    at,
                    format!("what `{word}` does has to be written as a runbook of that name; its arguments are lost"),
                );
                let details = json!({
                    "instanceType": "AutomationRunbookActionDetails",
                    "runbookId": runbook_id(&word),
                    "timeout": self.seconds(step).map(|seconds| seconds.to_string()),
                    "fabricLocation": "Recovery",
                });
                (label.unwrap_or(word), details)
            }
            other => return self.note(at, format!("`{}` has no counterpart there: left out", word(other))),
        };
        let into = if group.machines.is_empty() { &mut group.before } else { &mut group.behind };
        into.extend(actions(&name, operations, &details));
    }

    fn start(&mut self, step: &Step, machines: &[Ref], in_turn: bool, operations: Operations, group: &mut Group) {
        let at = step.span.start;
        if in_turn {
            self.note(at, "machines of a group start side by side: `in turn` is lost");
        }
        if operations != ALL {
            self.note(at, "machines of a group start in every operation: the condition is lost");
        }
        if !group.behind.is_empty() {
            self.note(at, "steps between two starts of one stage run behind both");
        }
        for machine in machines {
            match self.machines_of(machine) {
                Some(names) => group.machines.extend(names),
                None => self.note(machine.span.start, "which machines these are is not known: left out"),
            }
        }
    }

    fn machines_of(&self, reference: &Ref) -> Option<Vec<String>> {
        match reference.path.as_slice() {
            [] => Some(vec![reference.head.text.clone()]),
            [Access::Field(field)] if field.text == "machines" => self.members.get(&reference.head.text).cloned(),
            [Access::Field(field), Access::Index(index, _)] if field.text == "machines" => {
                let all = self.members.get(&reference.head.text)?;
                Some(vec![all.get(usize::try_from(*index).ok()?)?.clone()])
            }
            _ => None,
        }
    }

    /// The limit of a step, when it is a plain duration.
    fn seconds(&mut self, step: &Step) -> Option<u64> {
        let within = step.clauses.within.as_ref()?;
        let ExprKind::Quantity(parts) = &within.kind else {
            self.note(within.span.start, "a limit that is worked out is lost");
            return None;
        };
        parts.iter().try_fold(0u64, |sum, part| {
            let unit = match part.unit.text.as_str() {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                "d" => 86_400,
                "w" => 604_800,
                _ => return None,
            };
            sum.checked_add(part.number.parse::<u64>().ok()?.checked_mul(unit)?)
        })
    }
}

/// One action; two where the two directions differ in more than a product of both can say.
fn actions(name: &str, operations: Operations, details: &Value) -> Vec<Value> {
    let (out, back) = (operations & OUT, operations >> 3);
    let action = |name: String, types: Operations, directions: &[&str]| {
        let types: Vec<&str> = TYPES.iter().filter(|(_, bit)| types & bit != 0).map(|(word, _)| *word).collect();
        json!({ "actionName": name, "failoverTypes": types, "failoverDirections": directions, "customDetails": details })
    };
    if out == back {
        return vec![action(name.to_owned(), out, &["PrimaryToRecovery", "RecoveryToPrimary"])];
    }
    let mut all = Vec::new();
    if out != 0 {
        all.push(action(name.to_owned(), out, &["PrimaryToRecovery"]));
    }
    if back != 0 {
        let name = if out == 0 { name.to_owned() } else { format!("{name}-back") };
        all.push(action(name, back, &["RecoveryToPrimary"]));
    }
    all
}

/// The operations that the words of a `when` name, any of them.
fn named(when: &When) -> Operations {
    when.names.iter().fold(0, |all, name| {
        all | match name.text.as_str() {
            "test" => 0b00_1001,
            "planned" => 0b01_0010,
            "unplanned" => 0b10_0100,
            "live" => LIVE,
            "failback" => LIVE & !OUT,
            "out" => OUT,
            "back" => ALL & !OUT,
            "any" => ALL,
            _ => 0,
        }
    })
}

/// A text without the escapes that keep braces apart.
fn shown(text: &str) -> String {
    text.replace("\\{", "{").replace("\\}", "}")
}

fn has_reference(text: &str) -> bool {
    text.replace("\\{", "").contains('{')
}

fn word(verb: &Verb) -> &'static str {
    match verb {
        Verb::Start { .. } => "start",
        Verb::Stop { .. } => "stop",
        Verb::Create { .. } => "create",
        Verb::Check { .. } => "check",
        Verb::Run { .. } => "run",
        Verb::Apply { .. } => "apply",
        Verb::Approve { .. } => "approve",
        Verb::Manual { .. } => "manual",
        Verb::Wait { .. } => "wait",
        Verb::Notify { .. } => "notify",
    }
}
