//! `point hold|release|delete`, `vault gc`, `scrub`, `verify`: what keeps a vault fit for the night it is needed.

use super::open;
use crate::arguments::{Common, PointCommand, RunOptions};
use crate::exit::Exit;
use crate::output::{self, Watcher};
use muster_control::{PointsAnswer, Project, Request, ScrubAnswer, scrub_vault};
use muster_ports::{BarrierId, DiskName, Failure, PointId, Progress, ReplicaImage, Result, Timestamp};
use muster_replication::{CutTimes, GcReport, PointSummary};
use muster_vault::Vault;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub async fn point(common: &Common, command: PointCommand) -> Result<Exit> {
    let (request, options, said) = match command {
        PointCommand::Hold { point, until, options } => {
            let until = until.as_deref().map(moment).transpose()?;
            let (who, why) = (open::who(&options.signature), options.signature.why.clone());
            (Request::Keep { point: PointId::new(point), until, who, why }, options, "now")
        }
        PointCommand::Release { point, options } => (Request::Lift { point: PointId::new(point) }, options, "left"),
        PointCommand::Delete { point, options } => (Request::DropPoint { point: PointId::new(point) }, options, "gone"),
    };
    let access = open::writing(common, None, "keep points", &options).await?;
    let answer: Result<serde_json::Value> = access.ask(&request, common).await;
    access.close().await;
    let answer = answer?;
    if common.json {
        output::json(&serde_json::json!({ said: answer }));
        return Ok(Exit::Done);
    }
    output::say(match (&request, answer.as_str()) {
        (Request::Keep { point, .. }, Some(words)) => format!("point {point}: {words}"),
        (Request::Lift { point }, Some(words)) => format!("point {point} is held no more; {words}"),
        (Request::Lift { point }, None) => format!("point {point} is held no more"),
        (Request::DropPoint { point }, _) => format!("point {point} is gone; `muster vault gc` makes room"),
        _ => "done".to_owned(),
    });
    Ok(Exit::Done)
}

/// A date (its first moment, UTC) or a moment.
fn moment(text: &str) -> Result<Timestamp> {
    let moment = text.parse::<jiff::Timestamp>().or_else(|_| {
        let midnight = text.parse::<jiff::civil::Date>()?.to_zoned(jiff::tz::TimeZone::UTC)?;
        Ok::<_, jiff::Error>(midnight.timestamp())
    });
    let millis = moment.ok().and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
    millis.map(Timestamp).ok_or_else(|| {
        Failure::permanent(format!("`{text}` is no date"))
            .help("write `2034-01-01`, or a moment: `2034-01-01T06:00:00Z`")
    })
}

pub async fn gc(common: &Common, grace: &str, options: &RunOptions) -> Result<Exit> {
    let span: jiff::SignedDuration = grace
        .parse()
        .map_err(|_| Failure::permanent(format!("`{grace}` is no length of time")).help("write `24h`, or `90m`"))?;
    let grace = Duration::try_from(span).map_err(|_| Failure::permanent("the grace cannot be negative"))?;
    let access = open::writing(common, None, "gc", options).await?;
    let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let answer: Result<GcReport> = access.ask(&Request::Gc { grace_millis }, common).await;
    access.close().await;
    let report = answer?;
    if common.json {
        output::json(&report);
        return Ok(Exit::Done);
    }
    output::data(format!(
        "unlinked  {} layers, {}\ndeleted   {} segments, {}\norphans   {} segments, {}\nwaiting   {} segments",
        report.unlinked_layers,
        output::bytes(report.unlinked_bytes),
        report.deleted_segments,
        output::bytes(report.deleted_bytes),
        report.deleted_orphans,
        output::bytes(report.orphan_bytes),
        report.waiting_segments,
    ));
    Ok(Exit::Done)
}

/// Needs the vault's URL and the way to its store, and no key.
pub async fn scrub(common: &Common) -> Result<Exit> {
    let project = Project::load(&common.plans).ok();
    let url = open::vault_url(common, project.as_ref())?;
    let watcher = Watcher::new(common);
    let answer: ScrubAnswer = scrub_vault(&url, &|event| watcher.tell(event)).await?;
    let bad = !answer.damaged.is_empty();
    if common.json {
        output::json(&answer);
    } else {
        output::data(format!("{} segments, {}", answer.segments, output::bytes(answer.bytes)));
        for damage in &answer.damaged {
            output::say(damage);
        }
        if bad {
            let points: Vec<&str> = answer.points.iter().map(PointId::as_str).collect();
            output::say(format!("points that cannot be trusted: {}", points.join(", ")));
            output::say("hint: restore these objects from a copy of the vault, or take a new first copy of the disks");
        } else {
            output::say("every byte is as it was stored");
        }
    }
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

#[derive(Debug, Default, Serialize)]
struct Verified {
    points: Vec<VerifiedPoint>,
    /// Each damage in words; empty is good.
    damaged: Vec<String>,
}

#[derive(Debug, Serialize)]
struct VerifiedPoint {
    point: PointId,
    group: String,
    /// One for a group that is cut together, else one for each machine.
    barriers: Vec<BarrierId>,
    /// What the cut cost the guests.
    times: Option<CutTimes>,
    disks: usize,
    bytes: u64,
    damaged: usize,
}

/// Opens and checks every frame of every disk.
pub async fn verify(common: &Common, point: Option<String>, all: bool) -> Result<Exit> {
    let project = Project::load(&common.plans).ok();
    let url = open::vault_url(common, project.as_ref())?;
    let vault = Vault::open(&url, &common.key()?).await?;
    let access = open::reading(common, project.as_ref()).await?;
    let known: PointsAnswer = access.ask(&Request::Points { group: None }, common).await?;
    let chosen = chosen(&known.points, point.as_deref(), all)?;
    let watcher = Watcher::new(common);
    let mut verified = Verified::default();
    for point in chosen {
        let mut row = VerifiedPoint {
            point: point.id.clone(),
            group: point.group.to_string(),
            barriers: known.barriers.get(&point.id).cloned().unwrap_or_default(),
            times: known.times.get(&point.id).copied(),
            disks: 0,
            bytes: 0,
            damaged: 0,
        };
        for machine in &point.machines {
            let request = Request::Image { point: point.id.clone(), machine: machine.clone() };
            let disks: Vec<(DiskName, ReplicaImage)> = access.ask(&request, common).await?;
            for (disk, image) in disks {
                let told = Told { watcher: &watcher, what: format!("{machine}/{disk}") };
                let report = vault.replica(&image).verify(&told).await?;
                row.disks += 1;
                row.bytes += report.bytes;
                row.damaged += report.damaged.len();
                let damage = report.damaged.iter().map(|damage| format!("{}: {machine}/{disk}: {damage}", point.id));
                verified.damaged.extend(damage);
            }
        }
        verified.points.push(row);
    }
    access.close().await;
    show_verified(common, &verified);
    Ok(if verified.damaged.is_empty() { Exit::Done } else { Exit::Failed })
}

/// One, all, or the newest of each group.
fn chosen<'a>(known: &'a [PointSummary], point: Option<&str>, all: bool) -> Result<Vec<&'a PointSummary>> {
    if let Some(point) = point {
        let found: Vec<_> = known.iter().filter(|known| known.id.as_str() == point).collect();
        if found.is_empty() {
            return Err(
                Failure::permanent(format!("there is no recovery point `{point}`")).help("`muster points` lists them")
            );
        }
        return Ok(found);
    }
    if all {
        return Ok(known.iter().collect());
    }
    let mut newest: BTreeMap<&str, &PointSummary> = BTreeMap::new();
    for point in known {
        let best = newest.entry(point.group.as_str()).or_insert(point);
        if (point.at, &point.id) > (best.at, &best.id) {
            *best = point;
        }
    }
    Ok(newest.into_values().collect())
}

fn show_verified(common: &Common, verified: &Verified) {
    if common.json {
        output::json(verified);
        return;
    }
    let rows: Vec<Vec<String>> = verified
        .points
        .iter()
        .map(|row| {
            let cuts: BTreeSet<&str> = row.barriers.iter().map(BarrierId::as_str).collect();
            let cut = match cuts.len() {
                1 => format!("one ({})", cuts.first().unwrap_or(&"-")),
                several => format!("{several}, one for each machine"),
            };
            let good = if row.damaged == 0 { "whole".to_owned() } else { format!("{} damaged frames", row.damaged) };
            let micros = |value: fn(&CutTimes) -> u64| {
                row.times.as_ref().map_or("-".to_owned(), |times| format!("{:.1} ms", value(times) as f64 / 1e3))
            };
            let (flush, hold) = (micros(|times| times.flush_micros), micros(|times| times.hold_micros));
            let (disks, read) = (row.disks.to_string(), output::bytes(row.bytes));
            vec![row.group.clone(), row.point.to_string(), cut, flush, hold, disks, read, good]
        })
        .collect();
    output::data(output::table(&["group", "point", "cut", "flushed in", "held for", "disks", "read", "is"], &rows));
    for damage in &verified.damaged {
        output::say(damage);
    }
}

struct Told<'a> {
    watcher: &'a Watcher,
    what: String,
}

impl Progress for Told<'_> {
    fn report(&self, done: u64, total: Option<u64>) {
        self.watcher.tell(muster_control::Event::Progress { what: self.what.clone(), done, total });
    }
}
