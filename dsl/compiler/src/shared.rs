//! What all plans of a check share: sites, machines, routes, policies, groups, people.
//!
//! In a session it is worked out again only when something that is no plan has changed. Hooks are not among it: their
//! functions stand in files that no tree knows of.

use crate::checks::Policies;
use crate::context::{Context, Said};
use crate::groups::GroupModel;
use crate::load::INVENTORY_PATH;
use crate::machines::{MachineEntry, Places};
use crate::model::PlanModel;
use crate::routes::RouteModel;
use crate::sites::SiteModel;
use crate::value::Value;
use crate::{Program, groups, machines, names, people, plans, policies, routes, sites, windows};
use muster_diagnostics::FileId;
use muster_runsheet::TeamSheet;
use muster_syntax::ast::{self, Item};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What belongs to the program beside what stands in the context.
pub(crate) struct People {
    pub policies: Policies,
    pub teams: BTreeMap<String, TeamSheet>,
    /// Nothing of it is other than in the check before.
    pub same: bool,
}

/// What a check worked out, and of what.
#[derive(Debug)]
pub(crate) struct Shared {
    modules: Vec<(String, FileId, Arc<ast::File>)>,
    inventory: Option<Arc<str>>,
    folder: Option<String>,
    sites: BTreeMap<String, SiteModel>,
    machines: BTreeMap<String, MachineEntry>,
    places: Places,
    groups: BTreeMap<String, GroupModel>,
    routes: Vec<RouteModel>,
    routes_unread: bool,
    lets: BTreeMap<(usize, usize), Option<Value>>,
    policies: Policies,
    teams: BTreeMap<String, TeamSheet>,
    said: Said,
}

/// Fills the context with what all plans share.
pub(crate) fn resolve(cx: &mut Context<'_>, known: Option<Shared>) -> (People, Said) {
    if let Some(known) = known.filter(|known| known.holds(cx)) {
        return known.back_into(cx);
    }
    let recording = cx.record();
    sites::resolve_sites(cx);
    machines::resolve_machines(cx);
    let before = cx.errors();
    cx.routes = routes::resolve_routes(cx);
    cx.routes_unread = cx.errors() > before;
    names::check_lets(cx);
    names::check_templates(cx);
    let windows = windows::resolve_windows(cx);
    let policies = policies::resolve_policies(cx, &windows);
    let teams = people::resolve_teams(cx);
    cx.places = machines::resolve_places(cx);
    groups::resolve_groups(cx);
    (People { policies, teams, same: false }, cx.recorded(recording))
}

impl Shared {
    /// Takes out of a context that is done with what the next check may find unchanged. Of texts that could only be read in
    /// part nothing is kept.
    pub(crate) fn keep(cx: &mut Context<'_>, people: People, said: Said) -> Option<Self> {
        if !cx.unread.is_empty() {
            return None;
        }
        Some(Self {
            inventory: inventory(cx),
            folder: cx.world.folder(),
            modules: cx.modules.iter().map(|of| (of.path.clone(), of.file, of.ast.clone())).collect(),
            sites: std::mem::take(&mut cx.sites),
            machines: std::mem::take(&mut cx.machines),
            places: std::mem::take(&mut cx.places),
            groups: std::mem::take(&mut cx.groups),
            routes: std::mem::take(&mut cx.routes),
            routes_unread: cx.routes_unread,
            lets: cx.lets.take(),
            policies: people.policies,
            teams: people.teams,
            said,
        })
    }

    /// Nothing that it was worked out of has changed.
    fn holds(&self, cx: &Context<'_>) -> bool {
        cx.unread.is_empty()
            && self.modules.len() == cx.modules.len()
            && self.modules.iter().zip(&cx.modules).all(|((path, file, ast), now)| {
                *path == now.path && *file == now.file && (Arc::ptr_eq(ast, &now.ast) || same_but_plans(ast, &now.ast))
            })
            && self.inventory == inventory(cx)
            && self.folder == cx.world.folder()
    }

    fn back_into(self, cx: &mut Context<'_>) -> (People, Said) {
        cx.sites = self.sites;
        cx.machines = self.machines;
        cx.places = self.places;
        cx.groups = self.groups;
        cx.routes = self.routes;
        cx.routes_unread = self.routes_unread;
        cx.lets = self.lets.into();
        cx.repeat(&self.said);
        (People { policies: self.policies, teams: self.teams, same: true }, self.said)
    }
}

fn inventory(cx: &Context<'_>) -> Option<Arc<str>> {
    cx.sources.iter().find(|(_, file)| file.path == INVENTORY_PATH).map(|(_, file)| file.text.clone())
}

/// Plans and tests may differ in all but their names; everything else is the same and stands in the same places.
fn same_but_plans(before: &ast::File, now: &ast::File) -> bool {
    before.edition == now.edition
        && before.items.len() == now.items.len()
        && before.items.iter().zip(&now.items).all(|pair| match pair {
            (Item::Plan(before), Item::Plan(now)) => before.name.text == now.name.text,
            (Item::Test(_), Item::Test(_)) => true,
            (before, now) => before == now,
        })
}

/// The plans take the same machines the same ways as before: what was put together of them is the same too.
pub(crate) fn move_the_same(before: &Program, now: &[plans::Resolved]) -> bool {
    let ends = |plan: &PlanModel| (plan.from.clone(), plan.to.clone());
    before.plans.len() == now.len()
        && now.iter().map(|plan| &plan.model).all(|now| {
            before
                .plans
                .get(&now.name)
                .is_some_and(|(before, _)| ends(before) == ends(now) && before.machines.keys().eq(now.machines.keys()))
        })
}
