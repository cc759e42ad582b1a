//! What all plans of a check share: sites, machines, routes, policies, groups, people.
//!
//! In a session it is worked out again only when something that is no plan has changed. Hooks are not among it: their
//! functions stand in files that no tree knows of.

use crate::checks::Policies;
use crate::context::{Context, Said};
use crate::groups::GroupModel;
use crate::load::INVENTORY_PATH;
use crate::machines::{MachineEntry, MachinesBefore, Places, SaidOfMachines};
use crate::model::PlanModel;
use crate::routes::RouteModel;
use crate::sites::SiteModel;
use crate::value::Value;
use crate::{Program, groups, machines, names, people, plans, policies, routes, sites, windows};
use muster_diagnostics::FileId;
use muster_runsheet::TeamSheet;
use muster_syntax::ast::{self, Item};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What belongs to the program beside what stands in the context.
pub(crate) struct People {
    pub policies: Policies,
    pub teams: BTreeMap<String, TeamSheet>,
    pub change: Change,
}

/// What is other than in the check before, of all that plans share.
pub(crate) enum Change {
    Nothing,
    /// Nothing that may concern a plan but these machines and groups, or the policies of these groups.
    Of(BTreeSet<String>),
    Everything,
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
    places_unread: bool,
    groups: BTreeMap<String, GroupModel>,
    routes: Vec<RouteModel>,
    routes_unread: bool,
    lets: BTreeMap<(usize, usize), Option<Value>>,
    policies: Policies,
    teams: BTreeMap<String, TeamSheet>,
    said: Said,
    said_of_machines: SaidOfMachines,
}

/// Fills the context with what all plans share.
pub(crate) fn resolve(cx: &mut Context<'_>, known: Option<Shared>) -> (People, Notes) {
    let mut known = match known {
        Some(known) if known.holds(cx) => return known.back_into(cx),
        known => known.filter(|known| known.holds_but_for(cx, is_one_item)),
    };
    let recording = cx.record();
    sites::resolve_sites(cx);
    let before = known.as_mut().filter(|known| known.sites == cx.sites).map(Shared::machines_before);
    let (of_machines, changed) = machines::resolve_machines(cx, before);
    let before = cx.errors();
    cx.routes = routes::resolve_routes(cx);
    cx.routes_unread = cx.errors() > before;
    names::check_lets(cx);
    names::check_templates(cx);
    let windows = windows::resolve_windows(cx);
    let policies = policies::resolve_policies(cx, &windows);
    let teams = people::resolve_teams(cx);
    let before = cx.errors();
    cx.places = machines::resolve_places(cx);
    cx.places_unread = cx.errors() > before || !cx.unread.is_empty();
    groups::resolve_groups(cx);
    let changed = known.zip(changed).and_then(|(known, machines)| known.changed(cx, &policies, &teams, machines));
    let change = changed.map_or(Change::Everything, Change::Of);
    (People { policies, teams, change }, Notes { all: cx.recorded(recording), of_machines })
}

/// What was said on the way.
pub(crate) struct Notes {
    all: Said,
    of_machines: SaidOfMachines,
}

impl Shared {
    /// Takes out of a context that is done with what the next check may find unchanged. Of texts that could only be read in
    /// part nothing is kept.
    pub(crate) fn keep(cx: &mut Context<'_>, people: People, notes: Notes) -> Option<Self> {
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
            places_unread: cx.places_unread,
            groups: std::mem::take(&mut cx.groups),
            routes: std::mem::take(&mut cx.routes),
            routes_unread: cx.routes_unread,
            lets: cx.lets.take(),
            policies: people.policies,
            teams: people.teams,
            said: notes.all,
            said_of_machines: notes.of_machines,
        })
    }

    /// Nothing that it was worked out of has changed.
    fn holds(&self, cx: &Context<'_>) -> bool {
        self.holds_but_for(cx, |_, _| false)
    }

    /// Nothing but plans has changed, and items of which `may_differ` says so.
    fn holds_but_for(&self, cx: &Context<'_>, may_differ: fn(&Item, &Item) -> bool) -> bool {
        cx.unread.is_empty()
            && self.modules.len() == cx.modules.len()
            && self.modules.iter().zip(&cx.modules).all(|((path, file, ast), now)| {
                (path, file) == (&now.path, &now.file)
                    && (Arc::ptr_eq(ast, &now.ast) || same_but_plans(ast, &now.ast, may_differ))
            })
            && self.inventory == inventory(cx)
            && self.folder == cx.world.folder()
    }

    /// What may be taken over of the files in which nothing has changed.
    fn machines_before(&mut self) -> MachinesBefore {
        MachinesBefore {
            entries: std::mem::take(&mut self.machines),
            said: std::mem::take(&mut self.said_of_machines),
            files: self.modules.iter().map(|(_, _, ast)| ast.clone()).collect(),
        }
    }

    /// These machines and the groups that are no longer what they were, if all else is.
    fn changed(
        &self,
        cx: &Context<'_>,
        policies: &Policies,
        teams: &BTreeMap<String, TeamSheet>,
        machines: BTreeSet<String>,
    ) -> Option<BTreeSet<String>> {
        let same = (&self.places, &self.teams, &self.lets) == (&cx.places, teams, &*cx.lets.borrow())
            && (&self.routes, self.routes_unread) == (&cx.routes, cx.routes_unread)
            && self.places_unread == cx.places_unread
            // One that could not be read lends its members the benefit of the doubt.
            && !self.groups.values().chain(cx.groups.values()).any(|group| group.broken);
        if !same {
            return None;
        }
        let (mut other_policies, mut other_groups) = (BTreeSet::new(), BTreeSet::new());
        differing(&self.policies, policies, &mut other_policies);
        differing(&self.groups, &cx.groups, &mut other_groups);
        let hangs_on = |group: &GroupModel| group.policy.as_ref().is_some_and(|name| other_policies.contains(name));
        let mut changed = machines;
        for group in self.groups.values().chain(cx.groups.values()) {
            if other_groups.contains(&group.name) || hangs_on(group) {
                changed.insert(group.name.clone());
                changed.extend(group.machines.iter().map(|(machine, _)| machine.clone()));
            }
        }
        Some(changed)
    }

    fn back_into(self, cx: &mut Context<'_>) -> (People, Notes) {
        cx.sites = self.sites;
        cx.machines = self.machines;
        cx.places = self.places;
        cx.places_unread = self.places_unread;
        cx.groups = self.groups;
        cx.routes = self.routes;
        cx.routes_unread = self.routes_unread;
        cx.lets = self.lets.into();
        cx.repeat(&self.said);
        let notes = Notes { all: self.said, of_machines: self.said_of_machines };
        (People { policies: self.policies, teams: self.teams, change: Change::Nothing }, notes)
    }
}

/// Machines, groups and policies that differ are found by name afterwards.
fn is_one_item(before: &Item, now: &Item) -> bool {
    match (before, now) {
        (Item::Machine(before), Item::Machine(now)) => before.name.text == now.name.text,
        (Item::Group(before), Item::Group(now)) | (Item::Policy(before), Item::Policy(now)) => {
            before.name.text == now.name.text
        }
        _ => false,
    }
}

/// The names whose entries differ.
pub(crate) fn differing<K: Ord + Borrow<str>, V: PartialEq>(
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
    found: &mut BTreeSet<String>,
) {
    if before.len() == now.len() && before.keys().eq(now.keys()) {
        let other = before.values().zip(now).filter(|(before, (_, now))| before != now);
        found.extend(other.map(|(_, (name, _))| name.borrow().to_owned()));
        return;
    }
    let gone = before.keys().filter(|name| !now.contains_key::<str>((*name).borrow()));
    let other = now.iter().filter(|(name, value)| before.get::<str>((*name).borrow()) != Some(*value));
    found.extend(gone.chain(other.map(|(name, _)| name)).map(|name| name.borrow().to_owned()));
}

fn inventory(cx: &Context<'_>) -> Option<Arc<str>> {
    cx.sources.iter().find(|(_, file)| file.path == INVENTORY_PATH).map(|(_, file)| file.text.clone())
}

/// Plans and tests may differ in all but their names; everything else is the same and stands in the same places, unless it
/// may differ.
fn same_but_plans(before: &ast::File, now: &ast::File, may_differ: fn(&Item, &Item) -> bool) -> bool {
    before.edition == now.edition
        && before.items.len() == now.items.len()
        && before.items.iter().zip(&now.items).all(|pair| match pair {
            (Item::Plan(before), Item::Plan(now)) => before.name.text == now.name.text,
            (Item::Test(_), Item::Test(_)) => true,
            (before, now) => before == now || may_differ(before, now),
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
