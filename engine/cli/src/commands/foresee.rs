//! What `dry-run` and `what-if` share: the sheet of an operation, and everything that is known about how it will go.

use super::{open, operate, plans};
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_control::{INVENTORY_FILE, Project, Request, StatusAnswer};
use muster_forecast::{Conditions, Dice, Evidence, Forecast, Question};
use muster_ports::{Clock, PlanName, Result, SystemClock, Timestamp};
use muster_runsheet::{Direction, Duration, Estate, Inventory, Kind, Operation, PlanState, Runsheet};

/// The same sheet and evidence always give the same forecast: nobody should wonder why the percent moved.
const DICE: Dice = Dice::new(2026);

/// What the command line says about the operation.
#[derive(Clone, Debug, clap::Args)]
pub struct Asked {
    /// Name of the plan.
    pub plan: String,
    /// test, planned, unplanned, cleanup, commit, cancel, reprotect; the direction follows from the plan's state.
    pub operation: String,
    /// Read the way home, whatever the state.
    #[arg(long)]
    pub back: bool,
    /// Use this recovery point.
    #[arg(long, value_name = "POINT")]
    pub point: Option<String>,
}

/// A sheet and what to forecast it with.
#[derive(Debug)]
pub struct Prepared {
    /// `None` for a sheet that stands alone.
    project: Option<Project>,
    nothing: Estate,
    pub sheet: Runsheet,
    evidence: Evidence,
}

impl Prepared {
    pub fn forecast<'a>(&'a self, conditions: &'a Conditions) -> Forecast<'a> {
        let sheet = &self.sheet;
        let estate = self.project.as_ref().map_or(&self.nothing, |project| &project.checked.estate);
        Forecast::of(Question { sheet, estate, evidence: &self.evidence, conditions, dice: DICE })
    }

    /// Says on stderr what the forecast means for the promise of the plan: E0404, E0412.
    pub fn object(&self, common: &Common, forecast: &Forecast<'_>) {
        let Some(project) = &self.project else { return };
        plans::print(common, &project.checked.objections(forecast), &project.checked.sources);
    }
}

/// Chance for other commands that estimate.
pub const fn dice() -> Dice {
    DICE
}

/// The operation. Plan and operation change places easily; then the other word is one.
fn kind_of(asked: &Asked) -> Result<Kind> {
    let Asked { plan, operation, .. } = asked;
    operate::parse_kind(operation).map_err(|failure| match operate::parse_kind(plan) {
        Ok(_) => failure.help(format!("the plan comes first: `{operation} {plan}`")),
        Err(_) => failure,
    })
}

/// Compiles the operation, and asks the vault, where there is one, what past runs have taken.
pub async fn prepare(common: &Common, asked: &Asked) -> Result<std::result::Result<Prepared, Exit>> {
    let kind = kind_of(asked)?;
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(Err(exit)),
    };
    let (state, mut evidence) = known(common, &project, &asked.plan).await?;
    let home = asked.back || asked.operation == "failback";
    let direction = if home { Direction::Back } else { state.direction };
    let sheet = if kind == Kind::Cleanup {
        let access = open::reading(common, Some(&project)).await?;
        let plan = PlanName::new(&asked.plan);
        let sheet: Result<Runsheet> = access.ask(&Request::CleanupSheet { plan }, common).await;
        access.close().await;
        sheet?
    } else {
        let operation = Operation { kind, direction };
        match operate::compile(common, &project, &asked.plan, operation, asked.point.clone(), state.drilled)? {
            Ok(sheet) => sheet,
            Err(exit) => return Ok(Err(exit)),
        }
    };
    evidence.inventory_age = inventory_age(&project, &sheet);
    Ok(Ok(Prepared { project: Some(project), nothing: Estate::default(), sheet, evidence }))
}

/// A sheet from a file; the plans of the folder say what they know of it, where they are there and have no errors.
pub async fn of_file(common: &Common, sheet: Runsheet) -> Prepared {
    let project = Project::load(&common.plans).ok().filter(|project| !project.has_errors());
    let mut evidence = Evidence::default();
    if let Some(project) = &project
        && let Ok((_, known)) = known(common, project, sheet.plan.as_str()).await
    {
        evidence = known;
        evidence.inventory_age = inventory_age(project, &sheet);
    }
    Prepared { project, nothing: Estate::default(), sheet, evidence }
}

/// Where a plan stands and what its runs have taken, by the vault; the beginning and nothing when there is no vault yet.
async fn known(common: &Common, project: &Project, plan: &str) -> Result<(PlanState, Evidence)> {
    let access = match open::reading(common, Some(project)).await {
        Ok(access) => access,
        Err(failure) => {
            tracing::debug!(%failure, "no vault to ask: the plan stands at its beginning, and nothing was measured");
            return Ok((PlanState::HOME, Evidence::default()));
        }
    };
    let status: Result<StatusAnswer> = access.ask(&Request::Status, common).await;
    let evidence: Result<Evidence> = access.ask(&Request::Evidence { plan: PlanName::new(plan) }, common).await;
    access.close().await;
    let state = status?.plans.get(plan).copied().unwrap_or(PlanState::HOME);
    let evidence = evidence.unwrap_or_else(|failure| {
        output::say(format!("past runs could not be read, so the estimate rests on none: {}", failure.message));
        Evidence::default()
    });
    Ok((state, evidence))
}

/// Of the oldest entry that the sheet rests on; `None` without an inventory, or when somebody wrote it by hand: it then
/// says 0, and no pull has an age.
fn inventory_age(project: &Project, sheet: &Runsheet) -> Option<Duration> {
    let text = std::fs::read(project.folder.join(INVENTORY_FILE)).ok()?;
    let inventory: Inventory = serde_json::from_slice(&text).ok()?;
    let homes = sheet.machines.values().map(|machine| &machine.home);
    let oldest =
        homes.filter_map(|site| inventory.sites.get(site)).map(|site| site.pulled_at).min().filter(|at| *at > 0)?;
    Some(SystemClock.now().since(Timestamp(oldest)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_and_an_operation_that_changed_places_are_told_apart() {
        let asked = |plan: &str, operation: &str| {
            kind_of(&Asked { plan: plan.into(), operation: operation.into(), back: false, point: None })
        };
        assert_eq!(asked("shop", "drill").unwrap(), Kind::Test);
        // A plan may have the name of an operation.
        assert_eq!(asked("failover", "planned").unwrap(), Kind::Planned);
        let failure = asked("drill", "shop").unwrap_err();
        assert_eq!(failure.message, "`shop` is not an operation");
        assert_eq!(failure.help.as_deref(), Some("the plan comes first: `shop drill`"));
        let failure = asked("shop", "tset").unwrap_err();
        assert!(failure.help.is_some_and(|help| help.starts_with("operations: test")));
    }
}
