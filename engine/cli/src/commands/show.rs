//! `status`, `points`, `runs`, `log`: looks, and changes nothing.

use super::open;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_control::{LogAnswer, PointsAnswer, Project, Request, StatusAnswer, words};
use muster_ports::{GroupName, Result, RunId, Timestamp};
use muster_replication::GroupPhase;
use muster_runsheet::PlanState;

pub async fn status(common: &Common) -> Result<Exit> {
    let project = Project::load(&common.plans).ok();
    let access = open::reading(common, project.as_ref()).await?;
    let mut status: StatusAnswer = access.ask(&Request::Status, common).await?;
    access.close().await;
    for plan in project.iter().flat_map(|project| project.checked.plan_names()) {
        status.plans.entry(plan.to_string()).or_insert(PlanState::HOME);
    }
    if common.json {
        output::json(&status);
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    let rows: Vec<Vec<String>> = status
        .plans
        .iter()
        .map(|(plan, state)| {
            let legal: Vec<String> = state.legal().iter().map(ToString::to_string).collect();
            vec![plan.clone(), state_words(*state, status.drills_until.get(plan)), legal.join(" · ")]
        })
        .collect();
    text.push_str(&output::table(&["plan", "stands", "legal now"], &rows));
    let rows: Vec<Vec<String>> = status
        .groups
        .iter()
        .map(|group| {
            let lag = group.lag_millis.map_or_else(|| "-".to_owned(), output::duration);
            let promise = output::duration(group.rpo_millis);
            let verdict = if group.within_rpo { "" } else { "  behind" };
            let target = group.target.as_ref().map_or("-", |site| site.as_str());
            let sent =
                group.last_cycle.as_ref().map_or_else(|| "-".to_owned(), |cycle| output::bytes(cycle.sent_bytes));
            vec![
                group.group.to_string(),
                format!("{} -> {target}", group.source),
                phase_words(&group.phase),
                format!("{lag} of {promise}{verdict}"),
                sent,
                group.last_error.as_ref().map(|error| error.failure.message.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&output::table(&["group", "way", "replication", "lag", "last cycle", "last error"], &rows));
    output::data(text);
    for group in &status.groups {
        for note in group.last_cycle.iter().flat_map(|cycle| &cycle.notes) {
            output::say(format!("`{}`, last cycle: {note}", group.group));
        }
    }
    match &status.holder {
        Some(holder) => output::say(format!("the vault is held by {holder}")),
        None => output::say("nobody holds the vault: replication stands still (`muster replicate`)"),
    }
    Ok(Exit::Done)
}

fn phase_words(phase: &GroupPhase) -> String {
    match phase {
        GroupPhase::AwaitsSeed { exported: None } => "waits for `muster seed export`".to_owned(),
        GroupPhase::AwaitsSeed { exported: Some(seed) } => {
            format!("waits for the seed of {}, exported to {}", output::date_time(seed.at.0), seed.to)
        }
        GroupPhase::FirstCopy => "first copy".to_owned(),
        GroupPhase::Replicating => "replicating".to_owned(),
        GroupPhase::Resync { why } => format!("resync: {why}"),
        GroupPhase::ResyncRequired { why, from } => {
            format!("resync required, from {}: {why}", output::date_time(from.0))
        }
        GroupPhase::Paused { by, why, .. } if why.is_empty() => format!("paused by {by}"),
        GroupPhase::Paused { by, why, .. } => format!("paused by {by}: {why}"),
        GroupPhase::Suspended { run } => format!("suspended by run {run}"),
    }
}

fn state_words(state: PlanState, drill_until: Option<&Timestamp>) -> String {
    use muster_runsheet::{Direction, Phase};
    let way = match state.direction {
        Direction::Out => "out",
        Direction::Back => "back",
    };
    let phase = match state.phase {
        Phase::Protected => "protected",
        Phase::FailedOver => "failed over",
        Phase::Committed => "committed",
    };
    let drilled = match drill_until.filter(|_| state.drilled) {
        Some(until) => format!(", a drill stands until {}", output::date_time(until.0)),
        None if state.drilled => ", a drill stands".to_owned(),
        None => String::new(),
    };
    format!("{phase} ({way}){drilled}")
}

pub async fn points(common: &Common, group: Option<String>) -> Result<Exit> {
    let access = open::reading(common, None).await?;
    let answer: PointsAnswer = access.ask(&Request::Points { group: group.map(GroupName::new) }, common).await?;
    access.close().await;
    if common.json {
        output::json(&answer);
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = answer
        .points
        .iter()
        .map(|point| {
            let machines: Vec<&str> = point.machines.iter().map(|machine| machine.as_str()).collect();
            vec![
                point.group.to_string(),
                point.id.to_string(),
                output::date_time(point.at.0),
                format!("{:?}", point.kind).to_lowercase(),
                machines.join(", "),
                answer.kept.get(&point.id).cloned().unwrap_or_default(),
            ]
        })
        .collect();
    output::data(output::table(&["group", "point", "at", "kind", "machines", "kept"], &rows));
    Ok(Exit::Done)
}

pub async fn runs(common: &Common) -> Result<Exit> {
    let access = open::reading(common, None).await?;
    let status: StatusAnswer = access.ask(&Request::Status, common).await?;
    access.close().await;
    if common.json {
        output::json(&status.runs);
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = status
        .runs
        .iter()
        .map(|run| {
            vec![
                run.id.to_string(),
                run.plan.to_string(),
                run.operation.to_string(),
                run.status.to_string(),
                output::date_time(run.started.0),
                run.who.clone(),
            ]
        })
        .collect();
    output::data(output::table(&["run", "plan", "operation", "status", "started", "by"], &rows));
    Ok(Exit::Done)
}

pub async fn log(common: &Common, run: Option<String>, verify: bool) -> Result<Exit> {
    let access = open::reading(common, None).await?;
    let answer: LogAnswer = access.ask(&Request::Log { run: run.map(RunId::new), after: None }, common).await?;
    access.close().await;
    if common.json {
        output::json(&answer);
    } else {
        let mut text = String::new();
        for record in &answer.records {
            let (_, step, words) = words::line(record);
            let step = step.map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("{:>5}  {}  {step:<34}  {words}\n", record.seq, output::date_time(record.time.0)));
        }
        output::data(text);
    }
    // The journal was read with every link of its chain checked; had one been broken, there were no answer.
    if verify {
        output::say(format!("the journal of run {} verifies: {} records", answer.run, answer.records.len()));
    }
    Ok(Exit::Done)
}
