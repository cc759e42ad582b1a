//! The declarative half of the plans as the engine gets it.

use crate::checks::Policies;
use crate::context::Context;
use crate::groups::groups_of_machines;
use crate::model::PlanModel;
use crate::plans::Resolved;
use muster_runsheet::{Estate, GroupSheet, MachineSheet, SiteName, Value};
use std::collections::{BTreeMap, HashMap};

pub(crate) fn assemble(cx: &Context<'_>, policies: &Policies, plans: &[Resolved]) -> Estate {
    let mut estate = Estate {
        sites: cx.sites.values().map(|site| (site.sheet.name.clone(), site.sheet.clone())).collect(),
        routes: cx.routes.iter().map(|route| route.sheet.clone()).collect(),
        policies: policies.values().flatten().map(|policy| (policy.sheet.name.clone(), policy.sheet.clone())).collect(),
        ..Estate::default()
    };
    // The first that names it, where two do.
    let mut plan_of: HashMap<&str, &PlanModel> = HashMap::new();
    for plan in plans.iter().map(|plan| &plan.model) {
        for machine in plan.machines.keys() {
            plan_of.entry(machine).or_insert(plan);
        }
    }
    let plan_of = |machine: &str| plan_of.get(machine).copied();
    let group_of = groups_of_machines(&cx.groups);
    for group in cx.groups.values() {
        let plan = group.machines.iter().find_map(|(machine, _)| plan_of(machine));
        let sheet = GroupSheet {
            name: group.name.as_str().into(),
            policy: group.policy.as_deref().map(Into::into),
            machines: group.machines.iter().map(|(machine, _)| machine.as_str().into()).collect(),
            together: group.together,
            home: plan.map(|plan| plan.from.as_str().into()),
            away: plan.map(|plan| plan.to.as_str().into()),
            query: group.query.clone(),
        };
        estate.groups.insert(sheet.name.clone(), sheet);
    }
    for (name, entry) in &cx.machines {
        let home = plan_of(name).and_then(|plan| entry.at.get_key_value(plan.from.as_str()));
        let home = home.or_else(|| entry.at.get_key_value(entry.first_site()?));
        let Some((home, facts)) = home else { continue };
        let group = group_of.get(name.as_str()).map(|group| group.name.as_str().into());
        estate.machines.insert(
            name.as_str().into(),
            MachineSheet {
                facts: facts.clone(),
                home: home.clone(),
                group,
                known_as: entry.known_as.clone(),
                places: places_of(cx, name, home),
            },
        );
    }
    estate
}

/// The defaults of each site, and what is said of this machine in their place.
fn places_of(cx: &Context<'_>, machine: &str, home: &SiteName) -> BTreeMap<SiteName, BTreeMap<String, Value>> {
    let mut places: BTreeMap<SiteName, BTreeMap<String, Value>> = BTreeMap::new();
    let of = |machine: Option<&str>| cx.places.get(&machine.map(str::to_owned)).into_iter().flatten();
    for (site, facts) in of(None).chain(of(Some(machine))).filter(|(site, _)| home.as_str() != *site) {
        let facts = facts.iter().map(|(name, value)| (name.clone(), value.clone()));
        places.entry(site.as_str().into()).or_default().extend(facts);
    }
    places
}
