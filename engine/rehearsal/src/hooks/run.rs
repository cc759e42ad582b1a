//! One run of a hook on the bench, for somebody who wants to see it.

use super::bench::{Bench, BenchCall};
use super::case::HookCase;
use super::cassette::{Cassette, Tape};
use super::fakes::Fakes;
use super::play::{Played, Record, Try, in_virtual_time};
use crate::effects::BEGINNING;
use muster_hooks::{Budget, HookEnd};
use muster_ports::*;
use muster_provider_simulated::VirtualClock;
use muster_runsheet::Need;
use std::sync::Arc;

/// Who answers.
#[derive(Clone, Debug, Default)]
pub struct HookWorld {
    pub fakes: Fakes,
    /// Answers in the place of everything else.
    pub cassette: Option<Cassette>,
    /// Origins and servers where calls are really made, in real time. All others are answered here.
    pub live: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct HookRun {
    pub end: Result<HookEnd>,
    pub calls: Vec<BenchCall>,
    /// Of the limits of one attempt.
    pub used: Budget,
    pub took_millis: u64,
    /// Lines that it wrote for people.
    pub notes: Vec<String>,
}

/// Runs a hook once, and with `undo` what takes it back after it.
///
/// # Errors
/// There is nothing to be taken back with, or the machine has no thread left. How the hook ends is no error.
pub async fn run_hook(case: &HookCase, world: &HookWorld, undo: bool) -> Result<Vec<HookRun>> {
    if undo && case.undo.is_none() {
        return Err(Failure::permanent(format!("hook `{}` declares no undo", case.sheet.name))
            .help("write the hook that takes it back, and name it: `undo = ...`"));
    }
    if !world.live.is_empty() {
        may_be_live(case, &world.live)?;
        return Ok(play(case, world, undo, Arc::new(SystemClock)).await);
    }
    in_virtual_time(|| async { play(case, world, undo, Arc::new(VirtualClock::starting_at(BEGINNING))).await })
}

/// Only what the contract names, and only for the hook that somebody has named.
fn may_be_live(case: &HookCase, live: &[String]) -> Result<()> {
    if let Some(done) = &case.takes_back {
        let name = &case.sheet.name;
        return Err(Failure::refused(format!(
            "hook `{name}` takes back what `{}` did, which would be made first",
            done.name
        ))
        .help(format!("run `{}` for real, with `--undo`", done.name)));
    }
    let needs = case.sheet.needs.iter().map(|need| need.filled(&case.arguments));
    let named = needs.filter_map(|need| match need {
        Need::Http { origin } => Some(origin.trim_end_matches('/').to_owned()),
        Need::Dns { server } | Need::Mail { server } => Some(server),
        _ => None,
    });
    let named: Vec<String> = named.collect();
    match live.iter().find(|name| !named.iter().any(|known| known == name.trim_end_matches('/'))) {
        None => Ok(()),
        Some(other) => {
            let known = if named.is_empty() { "nothing beyond the sites".to_owned() } else { named.join(", ") };
            Err(Failure::refused(format!("the contract of hook `{}` does not name `{other}`", case.sheet.name))
                .help(format!("it names {known}")))
        }
    }
}

async fn play(case: &HookCase, world: &HookWorld, undo: bool, clock: Arc<dyn Clock>) -> Vec<HookRun> {
    let mut bench = Bench::new(case.sheet.name.as_str(), &world.fakes, clock.clone());
    if let Some(back) = &case.undo {
        bench = bench.with_fakes_of(back.name.as_str(), &world.fakes);
    }
    bench.live = world.live.clone();
    let begin = |undo: bool| Try {
        case,
        sheet: if undo { case.undo.as_ref().unwrap_or(&case.sheet) } else { &case.sheet },
        attempt: 1,
        undo,
        budget: Budget::default(),
        deadline: clock.now().plus(case.within),
    };
    // What takes something back is given its calls; alone it finds none of its checkpoints.
    let mut runs = Vec::new();
    let mut did = Vec::new();
    if let Some(done) = &case.takes_back {
        let record = Record::default();
        let played = Try { sheet: done, ..begin(false) }.play(&clock, &bench, &record).await;
        did = record.calls();
        runs.push(told(played, &record));
        bench.afresh(1);
    }
    bench.cassette = world.cassette.clone().map(Tape::new);
    let record = Record::undoing(did);
    let mut played = Try { undo: case.takes_back.is_some(), ..begin(false) }.play(&clock, &bench, &record).await;
    if !undo && let Some(tape) = &bench.cassette {
        played.end = played.end.and_then(|end| tape.ended().map(|()| end));
    }
    let failed = played.end.is_err();
    runs.push(told(played, &record));
    if undo && !failed {
        bench.afresh(1);
        let back = Record::undoing(record.calls());
        let mut played = begin(true).play(&clock, &bench, &back).await;
        if let Some(tape) = &bench.cassette {
            played.end = played.end.and_then(|end| tape.ended().map(|()| end));
        }
        runs.push(told(played, &back));
    }
    runs
}

fn told(played: Played, record: &Record) -> HookRun {
    let notes = record.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    HookRun { end: played.end, calls: played.calls, used: played.used, took_millis: played.took_millis, notes }
}
