//! Operations: compile a runsheet, show it or run it.

use super::{open, plans, stale, watch};
use crate::arguments::{Common, RunOptions};
use crate::exit::Exit;
use crate::output;
use muster_compiler::CompileOptions;
use muster_control::{Project, Request, RunAnswer, StatusAnswer};
use muster_journal::{Answer, RunStatus, Signed};
use muster_ports::{Failure, PlanName, Result, RunId};
use muster_runsheet::{
    Action, Direction, Kind, Operation, Phase, PlanState, PointChoice, Runsheet, SheetError, unseal,
};
use std::path::Path;

/// Compiles one operation of a plan; mistakes are printed.
pub fn compile(
    common: &Common,
    project: &Project,
    plan: &str,
    operation: Operation,
    point: Option<String>,
    drilled: bool,
) -> Result<std::result::Result<Runsheet, Exit>> {
    let names = project.checked.plan_names();
    if !names.iter().any(|name| name.as_str() == plan) {
        let known: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        return Err(Failure::permanent(format!("there is no plan `{plan}` in `{}`", project.folder.display()))
            .help(format!("the plans here: {}", known.join(", "))));
    }
    match project.checked.compile(plan, operation, CompileOptions { point, drilled }) {
        Ok(sheet) => Ok(Ok(sheet)),
        Err(diagnostics) => {
            plans::print(common, &diagnostics, &project.checked.sources);
            Ok(Err(Exit::PlansHaveErrors))
        }
    }
}

/// Where a plan stands, by the vault; the beginning when there is no vault yet.
async fn state_of(common: &Common, project: &Project, plan: &str) -> Result<PlanState> {
    let access = match open::reading(common, Some(project)).await {
        Ok(access) => access,
        Err(failure) => {
            tracing::debug!(%failure, "no vault to ask: the plan stands at its beginning");
            return Ok(PlanState::HOME);
        }
    };
    let status: StatusAnswer = access.ask(&Request::Status, common).await?;
    access.close().await;
    Ok(status.plans.get(plan).copied().unwrap_or(PlanState::HOME))
}

pub fn parse_kind(word: &str) -> Result<Kind> {
    [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Cleanup, Kind::Cancel, Kind::Commit, Kind::Reprotect]
        .into_iter()
        .find(|kind| kind.word() == word)
        .or(match word {
            "drill" => Some(Kind::Test),
            "failover" => Some(Kind::Unplanned),
            "failback" => Some(Kind::Planned),
            _ => None,
        })
        .ok_or_else(|| {
            Failure::permanent(format!("`{word}` is not an operation"))
                .help("operations: test, planned, unplanned, failback, cleanup, commit, cancel, reprotect")
        })
}

/// Reads a runsheet that was written with `dry-run -o`.
pub fn read_sheet(file: &Path) -> Result<Runsheet> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::from(error).during(format!("read `{}`", file.display())))?;
    unseal(&text).map_err(|error| {
        let told = match &error {
            SheetError::Format { .. } => Failure::permanent(format!("`{}`: {error} (E0904)", file.display())),
            SheetError::Damaged(_) => Failure::permanent(format!("`{}`: {error}", file.display())),
            SheetError::Altered(_) => Failure::refused(format!("`{}`: {error}", file.display())),
        };
        told.help("write it anew with `muster dry-run PLAN OPERATION -o FILE`, and have it reviewed")
    })
}

/// The recovery point that a person chose for a sheet.
pub fn named_point(sheet: &Runsheet) -> Option<String> {
    sheet.nodes.iter().find_map(|node| match &node.action {
        Action::PickPoint { choice: PointChoice::Named { point }, .. } => Some(point.clone()),
        _ => None,
    })
}

/// Whether a drill stood beside the plan when the sheet was made: the state that it leaves says so.
pub fn drilled_after(sheet: &Runsheet) -> bool {
    let state = sheet.nodes.iter().find_map(|node| match &node.action {
        Action::Unlock { state, .. } => Some(*state),
        _ => None,
    });
    sheet.operation.kind != Kind::Test && state.is_some_and(|state| state.drilled)
}

pub async fn run_file(common: &Common, file: &Path, options: &RunOptions) -> Result<Exit> {
    let sheet = read_sheet(file)?;
    for_this_vault(common, &sheet)?;
    stale::check(common, &sheet).await?;
    run_sheet(common, None, sheet, false, options).await
}

/// A reviewed sheet names its vault: its points and locks are there, and those of another one are none of them.
pub fn for_this_vault(common: &Common, sheet: &Runsheet) -> Result<()> {
    let Some(vault) = &common.vault else { return Ok(()) };
    if vault.trim_end_matches('/') == sheet.vault.trim_end_matches('/') {
        return Ok(());
    }
    Err(Failure::refused(format!("the sheet is for the vault `{}`, and not for `{vault}`", sheet.vault))
        .help("leave `--vault` out, or write the sheet anew from plans whose route names that vault"))
}

/// What a person has asked for.
struct Asked {
    kind: Kind,
    point: Option<String>,
    presigned: bool,
    /// The way production is to move, and the word for the other way.
    towards: Option<(Direction, &'static str)>,
}

/// Compiles an operation in the direction the plan stands in, and runs it.
pub async fn start(
    common: &Common,
    plan: &str,
    kind: Kind,
    point: Option<String>,
    presigned: bool,
    options: &RunOptions,
) -> Result<Exit> {
    start_asked(common, plan, Asked { kind, point, presigned, towards: None }, options).await
}

pub async fn failover(
    common: &Common,
    plan: &str,
    kind: Kind,
    point: Option<String>,
    presigned: bool,
    options: &RunOptions,
) -> Result<Exit> {
    let towards = Some((Direction::Out, "failback"));
    start_asked(common, plan, Asked { kind, point, presigned, towards }, options).await
}

pub async fn failback(
    common: &Common,
    plan: &str,
    kind: Kind,
    point: Option<String>,
    presigned: bool,
    options: &RunOptions,
) -> Result<Exit> {
    let towards = Some((Direction::Back, "failover"));
    start_asked(common, plan, Asked { kind, point, presigned, towards }, options).await
}

async fn start_asked(common: &Common, plan: &str, asked: Asked, options: &RunOptions) -> Result<Exit> {
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let state = state_of(common, &project, plan).await?;
    let Asked { kind, point, presigned, towards } = asked;
    // Production is not moved the way the person did not say.
    if let Some((direction, other)) = towards
        && state.phase == Phase::Protected
        && state.direction != direction
    {
        return Err(illegal(plan, Operation { kind, direction }, state)
            .help(format!("production would move the other way now: `muster {other} {plan}`")));
    }
    let operation = Operation { kind, direction: state.direction };
    if !state.allows(operation) {
        return Err(illegal(plan, operation, state));
    }
    match compile(common, &project, plan, operation, point, state.drilled)? {
        Ok(sheet) => run_sheet(common, Some(project), sheet, presigned, options).await,
        Err(exit) => Ok(exit),
    }
}

fn illegal(plan: &str, operation: Operation, state: PlanState) -> Failure {
    let legal: Vec<String> = state.legal().iter().map(ToString::to_string).collect();
    Failure::refused(format!("`{operation}` of `{plan}` is not legal now (E0601)"))
        .help(format!("legal now: {}", legal.join(", ")))
}

pub async fn cleanup(common: &Common, plan: String, options: &RunOptions) -> Result<Exit> {
    let access = open::writing(common, None, "cleanup", options).await?;
    let request = Request::Cleanup {
        plan: PlanName::new(plan),
        who: open::who(&options.signature),
        why: options.signature.why.clone(),
        wait: !options.no_wait,
    };
    let answer = watch::follow(&access, &request, common, options).await;
    access.close().await;
    finish(common, answer?)
}

/// Stops an unfinished run of the plan, or takes back a failover that has ended and is not committed.
pub async fn cancel(common: &Common, plan: &str, options: &RunOptions) -> Result<Exit> {
    let access = open::writing(common, None, "cancel", options).await?;
    let status: StatusAnswer = access.ask(&Request::Status, common).await?;
    let unfinished = status.runs.iter().find(|run| run.plan.as_str() == plan && run.status == RunStatus::Open);
    if let Some(run) = unfinished {
        let request = Request::CancelRun {
            run: run.id.clone(),
            who: open::who(&options.signature),
            why: options.signature.why.clone(),
        };
        let answer: Result<RunAnswer> = access.ask(&request, common).await;
        access.close().await;
        return finish(common, answer?);
    }
    access.close().await;
    start(common, plan, Kind::Cancel, None, false, options).await
}

/// Lands the plan's failover again from another point.
pub async fn repoint(common: &Common, plan: String, point: String, options: &RunOptions) -> Result<Exit> {
    let access = open::writing(common, None, "repoint", options).await?;
    let request = Request::Repoint {
        plan: PlanName::new(plan),
        point,
        who: open::who(&options.signature),
        why: options.signature.why.clone(),
        wait: !options.no_wait,
    };
    let answer = watch::follow(&access, &request, common, options).await;
    access.close().await;
    finish(common, answer?)
}

pub async fn resume(common: &Common, run: Option<String>, options: &RunOptions) -> Result<Exit> {
    let access = open::writing(common, None, "resume", options).await?;
    let by = Signed { who: open::who(&options.signature), why: options.signature.why.clone() };
    let request = Request::Resume { run: run.map(RunId::new), wait: !options.no_wait, by: Some(by) };
    let answer = watch::follow(&access, &request, common, options).await;
    access.close().await;
    finish(common, answer?)
}

async fn run_sheet(
    common: &Common,
    project: Option<Project>,
    sheet: Runsheet,
    presigned: bool,
    options: &RunOptions,
) -> Result<Exit> {
    let who = open::who(&options.signature);
    let presigned = presigned.then(|| Answer {
        yes: true,
        who: who.clone(),
        why: format!("signed in advance with --accept-split-brain: {}", options.signature.why),
    });
    let purpose = format!("{} {}", sheet.plan, sheet.operation);
    let access = open::writing_sheet(common, project.as_ref(), &sheet, &purpose, options).await?;
    // A reviewed sheet may be old: refused here, it leaves no run that somebody has to cancel.
    let state = access
        .ask(&Request::Status, common)
        .await
        .map(|status: StatusAnswer| status.plans.get(sheet.plan.as_str()).copied().unwrap_or(PlanState::HOME));
    let legal = state.and_then(|state| match state.allows(sheet.operation) {
        true => Ok(()),
        false => Err(illegal(sheet.plan.as_str(), sheet.operation, state)),
    });
    if let Err(failure) = legal {
        access.close().await;
        return Err(failure);
    }
    let request = Request::Start {
        sheet: Box::new(sheet),
        who,
        why: options.signature.why.clone(),
        wait: !options.no_wait,
        presigned,
    };
    let answer = watch::follow(&access, &request, common, options).await;
    access.close().await;
    finish(common, answer?)
}

/// Says how a run ended, and turns it into an exit code.
pub fn finish(common: &Common, answer: RunAnswer) -> Result<Exit> {
    if common.json {
        output::json(&answer);
    } else {
        output::data(answer.sentence());
        for line in &answer.waiting {
            output::say(format!("  {}: {}", line.step, line.text));
            if let Some(help) = &line.help {
                output::say(format!("    help: {help}"));
            }
            output::say(format!("    {}", line.ways));
        }
    }
    Ok(match answer.end {
        muster_control::End::Done { degraded: false } => Exit::Done,
        muster_control::End::Done { degraded: true } => Exit::Degraded,
        muster_control::End::Undone | muster_control::End::Aborted | muster_control::End::Failed => Exit::Failed,
        muster_control::End::Paused => Exit::WaitsForPerson,
    })
}
