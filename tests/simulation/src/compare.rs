//! Whether a disturbed run came to what an undisturbed one comes to, in all that can be compared.
//!
//! A step that failed and was gone on without, or that a person decided about, may end otherwise, and what it does may be
//! missing. Everything else has to be as if nothing had gone wrong. A run that was taken back has to leave the machines as
//! they were before it.

use crate::cases::{Case, Source};
use crate::play::{Outcome, Played};
use muster_executor::RunEnd;
use muster_journal::{Decision, Event, Stand};
use muster_provider_simulated::CallClass;
use muster_runsheet::{Action, Kind, Node};
use std::collections::{BTreeMap, BTreeSet};

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compared {
    /// Everything.
    Whole,
    /// Everything but how the machines of the source were switched off: by an order, by the fence, or by a person who
    /// signed for it.
    ButTheStop,
    /// Everything but steps that were gone on without or decided about by a person, and what rests on them.
    ButSome,
    /// It was taken back: machines run where they ran before.
    TakenBack,
    /// Nothing: the world it met is another one than that of any undisturbed run, for a reason that is not the engine's.
    Nothing,
}

impl Compared {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Whole => "equal in everything",
            Self::ButTheStop => "equal but for how the source's machines were stopped",
            Self::ButSome => "equal but for the steps that failed or were decided about",
            Self::TakenBack => "taken back, machines as before",
            Self::Nothing => "not comparable",
        }
    }
}

/// What could be compared, and what differs there.
pub fn compare(case: &Case, source: Source, played: &Played, calm: &Outcome) -> (Compared, Vec<String>) {
    let RunEnd::Done { degraded } = &played.outcome.end else { return taken_back(source, played) };
    let touched = touched(played);
    let signed = source == Source::Well && played.was_signed_for();
    let calm = &if signed { switched_off(case, played, calm) } else { calm.clone() };
    let stop_differs = case.kind() == Kind::Unplanned || signed;
    if !touched.is_empty() || !degraded.is_empty() {
        let wrong = but_some(case, played, calm, &touched);
        return (Compared::ButSome, wrong);
    }
    let stops = [CallClass::Stop, CallClass::Fence].map(|class| format!("{}: {class:?}", case.sheet.source));
    let (kind, either_way) = if stop_differs { (Compared::ButTheStop, &stops[..]) } else { (Compared::Whole, &[][..]) };
    (kind, played.differs(calm, either_way).into_iter().collect())
}

/// The undisturbed outcome, as it would be had somebody switched off at the source what is off there now: whoever signs
/// that its machines are off has switched off all of them, of other plans too.
fn switched_off(case: &Case, played: &Played, calm: &Outcome) -> Outcome {
    let mut calm = calm.clone();
    let on = played.outcome.running.get(&case.sheet.source).cloned().unwrap_or_default();
    calm.running.entry(case.sheet.source.clone()).or_default().retain(|machine| on.contains(machine));
    calm
}

/// Steps whose end a failure or a person has changed.
fn touched(played: &Played) -> BTreeSet<String> {
    let by_person = played.loaded.records.iter().filter_map(|record| match &record.event {
        Event::Decided { node, decision, .. } if *decision != Decision::Retry => Some(node.to_string()),
        Event::Answered { node, answer } if !answer.yes => Some(node.to_string()),
        _ => None,
    });
    let without = |stand: &Stand| matches!(stand, Stand::Degraded | Stand::Skipped);
    let without = played.outcome.stands.iter().filter(|(_, stand)| without(stand)).map(|(id, _)| id.to_string());
    by_person.chain(without).collect()
}

/// The machines that a step starts, stops or changes.
fn machines_of(node: &Node) -> BTreeSet<String> {
    let text = serde_json::to_value(&node.action).unwrap_or_default();
    let named = ["machine", "machines"].iter().filter_map(|field| text.get(field));
    let names = named.flat_map(|value| match value {
        serde_json::Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    });
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn but_some(case: &Case, played: &Played, calm: &Outcome, touched: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, stand) in &played.outcome.stands {
        let calm = calm.stands.get(id);
        if !touched.contains(id.as_str()) && calm != Some(stand) {
            wrong.push(format!("{id}: {stand:?}, undisturbed {calm:?}"));
        }
    }
    if played.outcome.plan != calm.plan {
        wrong.push(format!("plan: {:?}, undisturbed {:?}", played.outcome.plan, calm.plan));
    }
    let nodes = case.sheet.nodes.iter().filter(|node| touched.contains(node.id.as_str()));
    let excused: BTreeSet<String> = nodes.clone().flat_map(machines_of).collect();
    for (site, calm) in &calm.running {
        let mine = played.outcome.running.get(site).cloned().unwrap_or_default();
        let other = mine.symmetric_difference(calm).filter(|machine| !excused.contains(machine.as_str()));
        wrong.extend(other.map(|machine| format!("`{machine}` at {site}: not as undisturbed")));
    }
    if !nodes.clone().any(|node| matches!(node.action, Action::Run { .. })) && played.outcome.beyond != calm.beyond {
        wrong.push(format!("beyond: {:?}, undisturbed {:?}", played.outcome.beyond, calm.beyond));
    }
    wrong
}

/// Machines run where they ran before the run, but for those that a person has switched off.
fn taken_back(source: Source, played: &Played) -> (Compared, Vec<String>) {
    let complete = matches!(played.outcome.end, RunEnd::Undone { .. } | RunEnd::Aborted { .. });
    let by_hand = played.loaded.records.iter().any(|record| {
        matches!(&record.event, Event::Decided { decision, .. } if *decision != Decision::Retry && *decision != Decision::Abort)
    });
    if !complete || by_hand || source != Source::Well || played.was_signed_for() {
        return (Compared::Nothing, Vec::new());
    }
    let places: BTreeMap<_, _> =
        played.before.iter().filter(|(site, now)| played.outcome.running.get(*site) != Some(now)).collect();
    let wrong = places.into_iter().map(|(site, before)| {
        format!("taken back, and {site} runs {:?} and not {before:?}", played.outcome.running.get(site))
    });
    (Compared::TakenBack, wrong.collect())
}
