//! One recovery plan: groups to stages, actions to steps.

use crate::Notes;
use crate::arm::Resource;
use crate::asr::Import;
use crate::draft::{ActionDraft, Deed, HookDraft, PlanDraft, StageDraft, StartDraft, Way, When};
use crate::json::{At, last_segment};
use crate::names::{Names, common_word, slug};

/// Groups, and actions at one end of one group, of one plan: the service allows seven groups.
const GROUPS_MAX: usize = 200;
const ACTIONS_MAX: usize = 500;

/// What a protected item is known by: the last segment of its id; else of the machine it protects.
pub(crate) fn key(entry: &At<'_>) -> Option<String> {
    let id = entry.get("id").text().or_else(|| entry.get("virtualMachineId").text()).or_else(|| entry.text())?;
    Some(last_segment(id).to_lowercase())
}

/// All machines of a plan, in its order.
pub(crate) fn keys(resource: &Resource, notes: &mut Notes) -> Vec<String> {
    let groups = resource.properties().get("groups").items(notes);
    groups
        .iter()
        .flat_map(|group| group.get("replicationProtectedItems").items(notes))
        .filter_map(|entry| key(&entry))
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupKind {
    Shutdown,
    Failover,
    Boot,
}

pub(crate) fn plan(import: &mut Import<'_>, resource: &Resource, from: &str, to: &str) {
    let properties = resource.properties();
    let shown = properties.get("friendlyName").text().unwrap_or(&resource.name).to_owned();
    let name = import.names.give(&shown, "plan");
    let mut reader = Reader {
        import,
        stages: Vec::new(),
        names: Names::in_plan(),
        boots: 0,
        down_before: Vec::new(),
        down_behind: Vec::new(),
        down_labels: Names::in_plan(),
    };
    let mut members = Vec::new();
    let groups = properties.get("groups").items(&mut reader.import.notes);
    if groups.is_empty() {
        properties.get("groups").note(&mut reader.import.notes, "a plan without groups: it starts nothing");
    }
    for group in groups.iter().take(GROUPS_MAX) {
        members.extend(reader.group(group, from, to));
    }
    if groups.len() > GROUPS_MAX {
        properties.get("groups").note(&mut reader.import.notes, format!("only the first {GROUPS_MAX} groups are read"));
    }
    let stages = reader.finish();
    import.groups(&name, members);
    let mut was = format!("Recovery plan {shown}.");
    if let Some(description) = properties.get("description").text() {
        was = format!("{was} {description}");
    }
    import.draft.plans.push(PlanDraft { name, was, from: from.to_owned(), to: to.to_owned(), stages });
}

struct Reader<'i, 'r> {
    import: &'i mut Import<'r>,
    stages: Vec<StageDraft>,
    names: Names,
    /// Groups that boot, as the portal numbers them.
    boots: usize,
    down_before: Vec<ActionDraft>,
    down_behind: Vec<ActionDraft>,
    /// The actions of all groups that shut down end in two stages: their labels have to differ.
    down_labels: Names,
}

impl Reader<'_, '_> {
    /// One group; its machines with what groups them here.
    fn group(&mut self, group: &At<'_>, from: &str, to: &str) -> Vec<(String, crate::asr::GroupKey)> {
        let said = group.get("groupType");
        let kind = match said.text().map(str::to_ascii_lowercase).as_deref() {
            Some("shutdown") => GroupKind::Shutdown,
            Some("failover") => GroupKind::Failover,
            Some("boot") => GroupKind::Boot,
            _ => {
                said.note(&mut self.import.notes, "`Shutdown`, `Failover` or `Boot` was expected: read as `Boot`");
                GroupKind::Boot
            }
        };
        let entries = group.get("replicationProtectedItems").items(&mut self.import.notes);
        let entries = if kind == GroupKind::Boot { entries } else { Vec::new() };
        let members: Vec<_> = entries.iter().filter_map(|entry| self.import.machine(entry, from, to)).collect();
        let machines: Vec<String> = members.iter().map(|(name, _)| name.clone()).collect();
        let shuts_down = kind == GroupKind::Shutdown;
        let mut labels = if shuts_down { std::mem::take(&mut self.down_labels) } else { Names::in_plan() };
        let before = self.actions(&group.get("startGroupActions"), kind, &machines, &mut labels);
        let behind = self.actions(&group.get("endGroupActions"), kind, &machines, &mut labels);
        match kind {
            GroupKind::Shutdown => {
                self.down_labels = labels;
                self.down_before.extend(before);
                self.down_behind.extend(behind);
            }
            GroupKind::Failover => {
                if !before.is_empty() {
                    let at = group.get("startGroupActions");
                    at.note(
                        &mut self.import.notes,
                        "machines land by themselves: these steps run before the first start, not before the landing",
                    );
                }
                if !(before.is_empty() && behind.is_empty()) {
                    let name = self.names.give("landed", "landed");
                    self.stages.push(StageDraft { name, before, behind, ..StageDraft::default() });
                }
            }
            GroupKind::Boot if machines.is_empty() && before.is_empty() && behind.is_empty() => {
                group.note(&mut self.import.notes, "an empty group: left out");
            }
            GroupKind::Boot => {
                self.boots += 1;
                let word = common_word(&machines);
                let name = self.names.give(&word.unwrap_or_else(|| format!("group-{}", self.boots)), "group");
                let starts = vec![StartDraft { machines, ..StartDraft::default() }];
                self.stages.push(StageDraft { name, before, starts, behind, ..StageDraft::default() });
            }
        }
        members
    }

    /// One stage after the other; what surrounds the shutdown goes to the ends of the way down.
    fn finish(mut self) -> Vec<StageDraft> {
        if self.stages.is_empty() && !(self.down_before.is_empty() && self.down_behind.is_empty()) {
            self.stages.push(StageDraft { name: "shutdown".into(), ..StageDraft::default() });
        }
        // The way down begins with the last stage and ends with the first.
        if let Some(last) = self.stages.last_mut() {
            last.down_before = self.down_before;
        }
        let first = self.stages.iter().position(|stage| !stage.machines().is_empty()).unwrap_or(0);
        if let Some(first) = self.stages.get_mut(first) {
            first.down_behind = self.down_behind;
        }
        for number in 1..self.stages.len() {
            let before = self.stages[number - 1].name.clone();
            self.stages[number].after = vec![before];
        }
        self.stages
    }

    fn actions(&mut self, at: &At<'_>, kind: GroupKind, machines: &[String], labels: &mut Names) -> Vec<ActionDraft> {
        let all = at.items(&mut self.import.notes);
        if all.len() > ACTIONS_MAX {
            at.note(&mut self.import.notes, format!("only the first {ACTIONS_MAX} actions are read"));
        }
        all.iter().take(ACTIONS_MAX).filter_map(|action| self.action(action, kind, machines, labels)).collect()
    }

    fn action(&mut self, at: &At<'_>, kind: GroupKind, machines: &[String], labels: &mut Names) -> Option<ActionDraft> {
        let name = at.get("actionName").text().unwrap_or("action");
        let when = self.when(at, kind)?;
        let details = at.get("customDetails");
        let (deed, wish) = match details.get("instanceType").text() {
            Some("ManualActionDetails") => {
                let text = details.get("description").text().unwrap_or(name);
                // Who is asked a question consents; who is told something does it.
                let asks = text.trim_end().ends_with('?') || name.to_ascii_lowercase().starts_with("approve");
                (if asks { Deed::Approve(text.to_owned()) } else { Deed::Manual(text.to_owned()) }, name.to_owned())
            }
            Some("ScriptActionDetails") => {
                let path = details.get("path").text().unwrap_or(name);
                (self.script(&details, "Script", path, name, !machines.is_empty()), name.to_owned())
            }
            Some("AutomationRunbookActionDetails") => {
                let id = details.get("runbookId").text().unwrap_or(name);
                (self.script(&details, "Automation runbook", id, name, !machines.is_empty()), name.to_owned())
            }
            other => {
                let what = other.map_or("does not say what it does".to_owned(), |other| {
                    format!("is of a kind not known here, `{other}`")
                });
                details.note(&mut self.import.notes, format!("the action `{name}` {what}: left out"));
                return None;
            }
        };
        let within_seconds = self.timeout(&details.get("timeout"));
        let wish = match &deed {
            Deed::Run { hook, .. } if slug(&wish, "step") == *hook => hook.clone(),
            _ => wish,
        };
        Some(ActionDraft { label: labels.give(&wish, "step"), deed, when, within_seconds })
    }

    /// A contract for a script or a runbook: one for each, however often it is called.
    fn script(&mut self, details: &At<'_>, what: &str, place: &str, name: &str, machines: bool) -> Deed {
        let side = details.get("fabricLocation");
        let primary = side.text().is_some_and(|side| side.eq_ignore_ascii_case("Primary"));
        if primary {
            side.note(
                &mut self.import.notes,
                "it ran at the primary side; here a hook reaches what its `needs` say, wherever that is",
            );
        }
        let key = format!("{what} {} {machines}", place.to_lowercase());
        let known = self.import.names.known(&format!("hook {key}")).is_some();
        let file = last_segment(place).rsplit('\\').next().unwrap_or(place);
        let stem =
            file.rsplit_once('.').map_or(file, |(stem, extension)| if extension.len() <= 4 { stem } else { file });
        let wish = if stem.trim().is_empty() { name } else { stem };
        let hook = self.import.names.of(&format!("hook {key}"), wish, "hook");
        if !known {
            details.note(
                &mut self.import.notes,
                format!("what {what} `{place}` does is not in the export: hook `{hook}` fails until it is written"),
            );
            self.import.draft.hooks.push(HookDraft {
                name: hook.clone(),
                was: format!("{what} {place}. Its context: `machines` was VmMap; `run` has the plan, the operation and both sites."),
                todo: format!("{hook} is not written yet: it was {what} {file}"),
                machines,
            });
        }
        Deed::Run { hook, machines }
    }

    /// When it runs; `None`, with a note, when no operation here is meant.
    fn when(&mut self, at: &At<'_>, kind: GroupKind) -> Option<When> {
        let mut when = When { test: false, planned: false, unplanned: false, way: None };
        let types = at.get("failoverTypes");
        for item in types.items(&mut self.import.notes) {
            match item.text() {
                Some("TestFailover") => when.test = true,
                Some("PlannedFailover") => when.planned = true,
                Some("UnplannedFailover") => when.unplanned = true,
                other => {
                    let what = other.unwrap_or("nothing");
                    item.note(
                        &mut self.import.notes,
                        format!("no step of a plan belongs to `{what}`: it runs in tests and failovers only"),
                    );
                }
            }
        }
        let (mut out, mut back) = (false, false);
        for item in at.get("failoverDirections").items(&mut self.import.notes) {
            match item.text() {
                Some("PrimaryToRecovery" | "PrimaryToSecondary") => out = true,
                Some("RecoveryToPrimary" | "SecondaryToPrimary") => back = true,
                other => item.note(&mut self.import.notes, format!("`{}` is no direction", other.unwrap_or("nothing"))),
            }
        }
        when.way = match (out, back) {
            (true, false) => Some(Way::Out),
            (false, true) => Some(Way::Back),
            _ => None,
        };
        if !out && !back {
            at.get("failoverDirections").note(&mut self.import.notes, "no direction is named: read as both");
        }
        let down = kind == GroupKind::Shutdown;
        if down && when.test {
            types.note(&mut self.import.notes, "nothing is shut down in a test: it runs in failovers only");
        }
        let never = !(when.planned || when.unplanned || (when.test && !down));
        if never {
            at.note(&mut self.import.notes, "it runs in no operation that a plan describes: left out");
        }
        (!never).then_some(when)
    }

    /// `300`, `00:05:00`, `PT5M`.
    fn timeout(&mut self, at: &At<'_>) -> Option<u64> {
        if at.is_null() || at.value.as_str().is_some_and(|text| text.trim().is_empty()) {
            return None;
        }
        let seconds = at.number().or_else(|| at.text().and_then(crate::tree::seconds));
        match seconds {
            Some(seconds) if (1..=30 * 86_400).contains(&seconds) => Some(seconds),
            _ => {
                at.note(&mut self.import.notes, "this limit of time is not understood: left out");
                None
            }
        }
    }
}
