//! Text in, checked estate and runsheets out.
//!
//! ```text
//! files -> load -> names -> sites, machines, policies, groups, hooks, plans -> checks -> lower -> Runsheet
//! ```
//!
//! Every operation in both directions is compiled by every [`check`], so that a mistake on the way home shows on the day
//! the plan is written.
//!
//! Architecture invariant: no I/O. Files, the inventory and the texts of hooks arrive through [`World`]. One mistake is
//! said once: what could not be read is left out, and nothing is concluded from its absence.

mod checks;
mod context;
mod estate;
mod facts;
mod groups;
mod hook_facts;
mod hooks;
mod host_calls;
mod known_plans;
mod load;
mod lock;
mod lower;
mod machines;
mod model;
mod names;
mod net;
mod objective;
mod once;
mod order;
mod people;
mod plans;
mod policies;
mod promises;
mod providers;
mod quantity;
mod reach;
mod readiness;
mod routes;
mod script;
mod secrets;
mod session;
mod shared;
mod sites;
mod steps;
mod suggest;
pub mod tests;
mod value;
mod vault_url;
mod windows;

pub use hook_facts::HookFacts;
pub use lower::{cleanup_sheet, cleanup_sheet_from, repoint_sheet};
pub use session::Session;

use context::Context;
use hooks::HookModel;
use known_plans::KnownPlans;
use model::{PlanModel, RISING};
use muster_diagnostics::{Diagnostic, FileId, SourceMap, Span};
use muster_runsheet::{
    Direction, Duration, Estate, GroupName, Hash, Kind, MachineName, Operation, PlanName, Runsheet, SiteName,
};
use routes::RouteModel;
use session::{Memory, Verdicts};
use shared::Change;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where texts come from. Paths are relative to the folder of the plans and use `/`.
pub trait World {
    /// The text of a file; `None` when there is none.
    fn read(&self, path: &str) -> Option<String>;
    /// The absolute folder of the plans, to make a relative vault path absolute. Without it such a path stays as written.
    fn folder(&self) -> Option<String> {
        None
    }
}

/// What a compilation may be told beside the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// A recovery point chosen by a person, by id; for test and unplanned.
    pub point: Option<String>,
    /// A drill stands beside the plan now: the state recorded at the end keeps saying so.
    pub drilled: bool,
}

/// A plan in the words that a control service needs.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFacts {
    pub name: PlanName,
    pub from: SiteName,
    pub to: SiteName,
    /// Where the way home ends, when not where it began.
    pub back: Option<SiteName>,
    pub vault: String,
    pub rto: Option<Duration>,
    pub rpo: Option<Duration>,
    pub owner: Option<String>,
    /// Replicated groups.
    pub groups: Vec<GroupName>,
    /// All machines, rebuilt ones included.
    pub machines: Vec<MachineName>,
    /// It has no errors and can be compiled.
    pub sound: bool,
    ends: [(SiteName, SiteName); 2],
}

impl PlanFacts {
    /// Where production is before a move in this direction.
    pub fn source(&self, direction: Direction) -> &SiteName {
        &self.ends[usize::from(direction == Direction::Back)].0
    }
    /// Where it is after it.
    pub fn target(&self, direction: Direction) -> &SiteName {
        &self.ends[usize::from(direction == Direction::Back)].1
    }
}

/// What compiling needs, without the texts.
#[derive(Debug)]
pub(crate) struct Program {
    pub estate: Arc<Estate>,
    pub routes: Vec<RouteModel>,
    pub hooks: BTreeMap<String, HookModel>,
    /// The key in the keyring of each secret.
    pub secrets: BTreeMap<String, String>,
    pub plans: BTreeMap<String, (Arc<PlanModel>, bool)>,
    pub inventory: Hash,
    /// The networks of each site.
    pub ranges: BTreeMap<String, Vec<(String, net::Cidr)>>,
    /// The first file that was asked for.
    pub main: FileId,
}

/// The outcome of a check.
#[derive(Debug)]
pub struct Checked {
    pub sources: SourceMap,
    /// Sorted by place; each mistake once.
    pub diagnostics: Vec<Diagnostic>,
    /// The declarative half, as far as it could be read. Use it only when there are no errors.
    pub estate: Arc<Estate>,
    pub plans: Vec<PlanFacts>,
    /// Tests that stand in the files, as far as they could be read.
    pub tests: Vec<tests::PlanTest>,
    program: Program,
}

/// Reads and checks files and everything they use, and compiles every operation of every plan in both directions.
pub fn check(world: &dyn World, files: &[String]) -> Checked {
    check_again(world, files, &mut Memory::default(), None)
}

/// The same, with what an earlier check found out: its program, and what is remembered beside it.
fn check_again(world: &dyn World, files: &[String], memory: &mut Memory, last: Option<&Program>) -> Checked {
    let mut cx = Context::new(world, std::mem::take(&mut memory.parses));
    load::load(&mut cx, files);
    names::collect(&mut cx);
    let (people, said) = shared::resolve(&mut cx, memory.shared.take());
    hooks::resolve_hooks(&mut cx);
    match &people.change {
        _ if last.is_none_or(|last| last.hooks != cx.hooks) => memory.plans = KnownPlans::default(),
        Change::Nothing => {}
        Change::Of(names) if !session::is_named_by_hooks(&cx.hooks, names) => memory.plans.forget_touched(names),
        Change::Of(_) | Change::Everything => memory.plans = KnownPlans::default(),
    }
    let mut resolved = plans::resolve_plans(&cx, &mut memory.plans);
    // Plans that could be looked at beside others than before.
    let company =
        !matches!(people.change, Change::Everything) && last.is_some_and(|last| shared::move_the_same(last, &resolved));
    let mut program = Program {
        estate: match last.filter(|_| company && matches!(people.change, Change::Nothing)) {
            Some(last) => last.estate.clone(),
            None => {
                let estate = estate::assemble(&cx, &people.policies, &resolved);
                Arc::new(Estate { teams: people.teams.clone(), ..estate })
            }
        },
        routes: cx.routes.clone(),
        hooks: cx.hooks.clone(),
        secrets: secrets::resolve(&cx),
        plans: BTreeMap::new(),
        inventory: inventory_hash(&cx),
        ranges: sites::ranges(&cx.sites),
        main: cx.main,
    };
    checks::check(&cx, &program, &people.policies, &mut resolved, (&mut memory.plans, company));
    memory.plans.end_check();
    let mut verdicts = Verdicts::new(&mut memory.verdicts, last, &program);
    for plan in resolved {
        if plan.steps_whole {
            let before = cx.errors();
            verdicts.judge(&cx, &plan.model, || compile_all(&cx, &program, &plan.model));
            // What is wrong with the steps themselves shows in the order of the stages too.
            if plan.whole && cx.errors() == before {
                order::check(&cx, &plan.model);
            }
        }
        program.plans.insert(plan.model.name.clone(), (plan.model, plan.whole));
    }
    let tests = tests::resolve(&cx, &program);
    cx.warn_unused_imports();
    let diagnostics = cx.take_diagnostics();
    memory.parses = std::mem::take(&mut cx.parses);
    memory.shared = shared::Shared::keep(&mut cx, people, said);
    let plans = program.plans.values().map(|(plan, sound)| facts_of(&program, plan, *sound)).collect();
    Checked { sources: cx.sources, diagnostics, estate: program.estate.clone(), plans, tests, program }
}

fn inventory_hash(cx: &Context<'_>) -> Hash {
    let text = cx.sources.iter().find(|(_, file)| file.path == load::INVENTORY_PATH).map(|(_, file)| file.text.clone());
    Hash::of(text.as_deref().unwrap_or("").as_bytes())
}

fn compile_all(cx: &Context<'_>, program: &Program, plan: &PlanModel) {
    let options = CompileOptions::default();
    let mut late = Vec::new();
    let around = [Kind::Cancel, Kind::Commit, Kind::Reprotect];
    let around = around
        .into_iter()
        .flat_map(|kind| [Direction::Out, Direction::Back].map(|direction| Operation { kind, direction }));
    for operation in RISING.into_iter().chain(around) {
        // Only a promise of time is measured against the whole sheet.
        if plan.rto.is_none() || !operation.kind.is_live() {
            cx.extend(lower::check(program, plan, operation));
            continue;
        }
        match lower::compile(program, plan, operation, &options) {
            Ok(sheet) => late.extend(objective::check(cx, plan, &sheet)),
            Err(diagnostics) => cx.extend(diagnostics),
        }
    }
    objective::warn(cx, plan, &late);
}

fn facts_of(program: &Program, plan: &PlanModel, sound: bool) -> PlanFacts {
    let ends = |direction| {
        let (source, target) = plan.ends(direction);
        (SiteName::new(source), SiteName::new(target))
    };
    PlanFacts {
        name: plan.name.as_str().into(),
        from: plan.from.as_str().into(),
        to: plan.to.as_str().into(),
        back: plan.back.as_deref().map(SiteName::from),
        vault: program.routes.get(plan.route).map(|route| route.sheet.vault.clone()).unwrap_or_default(),
        rto: plan.rto.map(|(rto, _)| rto),
        rpo: plan.rpo.map(|(rpo, _)| rpo),
        owner: plan.owner.clone(),
        groups: plan.groups.iter().map(|name| name.as_str().into()).collect(),
        machines: plan.machines.keys().map(|name| name.as_str().into()).collect(),
        sound,
        ends: [ends(Direction::Out), ends(Direction::Back)],
    }
}

impl Checked {
    /// Names in the keyring of the secrets that the plans use, each once.
    pub fn keyring(&self) -> std::collections::BTreeSet<&str> {
        self.program.secrets.values().map(String::as_str).collect()
    }
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
    pub fn plan_names(&self) -> Vec<PlanName> {
        self.plans.iter().map(|plan| plan.name.clone()).collect()
    }
    pub fn plan(&self, name: &str) -> Option<&PlanFacts> {
        self.plans.iter().find(|plan| plan.name.as_str() == name)
    }

    /// Compiles one operation. Refuses while there are errors anywhere: a sheet is made of a text that is right.
    pub fn compile(
        &self,
        plan: &str,
        operation: Operation,
        options: CompileOptions,
    ) -> Result<Runsheet, Vec<Diagnostic>> {
        if self.has_errors() {
            return Err(self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).cloned().collect());
        }
        let Some((model, _)) = self.program.plans.get(plan) else {
            let names = || self.program.plans.keys().map(String::as_str);
            let diagnostic = Diagnostic::error(
                201,
                format!("there is no plan `{plan}`"),
                Span::new(self.program.main, 0, 0),
                "asked for",
            );
            return Err(vec![match suggest::nearest(plan, names()) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help(format!("plans are {}", suggest::listed(names()))),
            }]);
        };
        lower::compile(&self.program, model, operation, &options)
    }
}
