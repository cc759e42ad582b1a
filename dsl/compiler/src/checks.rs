//! What must hold between plans, groups, policies and routes.

use crate::context::Context;
use crate::groups::{GroupModel, groups_of_machines};
use crate::known_plans::KnownPlans;
use crate::lower::Addresses;
use crate::model::{PlanModel, RISING};
use crate::policies::PolicyModel;
use crate::{Program, plans::Resolved};
use muster_diagnostics::Diagnostic;
use muster_runsheet::{Kind, PointChoice};
use std::collections::{BTreeMap, HashMap, HashSet};

pub(crate) type Policies = BTreeMap<String, Option<PolicyModel>>;

/// Checks that need no lowering. A plan with a mistake is no longer whole. `known`: what was said of each plan before, and
/// whether the others are the company that it had then.
pub(crate) fn check(
    cx: &Context<'_>,
    program: &Program,
    policies: &Policies,
    plans: &mut [Resolved],
    (known, company): (&mut KnownPlans, bool),
) {
    crate::promises::check(cx, policies);
    for group in cx.groups.values() {
        check_group(cx, group, policies);
    }
    check_shared_machines(cx, plans);
    let models: Vec<_> = plans.iter().map(|plan| plan.model.clone()).collect();
    let started: HashSet<&str> = models.iter().flat_map(|plan| plan.machines.keys().map(String::as_str)).collect();
    crate::readiness::check_idle_groups(cx, plans, &started);
    let group_of = groups_of_machines(&cx.groups);
    let keyrings = crate::secrets::places(cx, &program.secrets);
    for plan in plans {
        if let Some((said, whole)) = known.looked_at(&plan.model.name).filter(|_| company) {
            cx.repeat(said);
            plan.whole = *whole;
            continue;
        }
        let (before, recording) = (cx.errors(), cx.record());
        check_machines(cx, &plan.model, &group_of);
        check_groups(cx, plan, &started, policies);
        check_networks(cx, program, &plan.model);
        check_macs(cx, &plan.model);
        check_vault(cx, &plan.model);
        check_points(cx, &plan.model, policies);
        if plan.steps_whole {
            crate::readiness::check(cx, program, &plan.model);
            crate::reach::check(cx, program, &plan.model, &keyrings);
        }
        plan.whole &= cx.errors() == before;
        known.keep_look(&plan.model.name, cx.recorded(recording), plan.whole);
    }
}

/// Freezing against agents: E0410.
fn check_group(cx: &Context<'_>, group: &GroupModel, policies: &Policies) {
    let Some(Some(policy)) = group.policy.as_ref().and_then(|name| policies.get(name)) else { return };
    let facts = |name: &String| cx.machines.get(name).and_then(|entry| entry.at.get(entry.first_site()?));
    let deaf: Vec<&str> = group
        .machines
        .iter()
        .filter(|(name, _)| {
            cx.inventory.is_some()
                && facts(name).is_some_and(|facts| !facts.guest_agent && facts.power == muster_runsheet::Power::On)
        })
        .filter(|(name, _)| cx.machines.get(name).is_some_and(|entry| entry.declared.is_none()))
        .map(|(name, _)| name.as_str())
        .collect();
    if let (Some(span), false) = (policy.app, deaf.is_empty()) {
        cx.push(
            Diagnostic::warning(
                410,
                format!("{} cannot be frozen", crate::suggest::listed(deaf)),
                group.span,
                "no guest agent answered",
            )
            .related(span, "application-consistent points are asked for here")
            .help("install the agent in the guest, or take `app-consistent` away"),
        );
    }
}

/// A machine in two plans (E0306), a group split over two (E0313).
fn check_shared_machines(cx: &Context<'_>, plans: &mut [Resolved]) {
    let mut owner: HashMap<&str, (usize, muster_diagnostics::Span)> = HashMap::new();
    let mut broken = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        for (machine, span) in &plan.model.machines {
            match owner.get(machine.as_str()) {
                Some((first, first_span)) => {
                    let name = &plans[*first].model.name;
                    cx.push(
                        Diagnostic::error(
                            306,
                            format!("`{machine}` is in two plans"),
                            *span,
                            format!("started by `{}`", plan.model.name),
                        )
                        .related(*first_span, format!("started by `{name}`"))
                        .note("one failover would pull the machine out of the other plan")
                        .help("a machine belongs to one plan: move both uses into one, or split the machine"),
                    );
                    broken.push(index);
                }
                None => {
                    owner.insert(machine, (index, *span));
                }
            }
        }
    }
    for group in cx.groups.values().filter(|group| group.policy.is_some()) {
        let mut first: Option<(usize, &str)> = None;
        for (machine, _) in &group.machines {
            let Some((plan, span)) = owner.get(machine.as_str()) else { continue };
            match first {
                None => first = Some((*plan, machine)),
                Some((known, other)) if known != *plan => {
                    cx.push(
                        Diagnostic::error(
                            313,
                            format!("group `{}` is split over two plans", group.name),
                            *span,
                            format!("`{machine}` here"),
                        )
                        .related(group.span, "the group")
                        .note(format!("`{other}` is started by `{}`", plans[known].model.name))
                        .help("a group has one recovery point: recover it in one plan, or make two groups"),
                    );
                    broken.push(*plan);
                    break;
                }
                Some(_) => {}
            }
        }
    }
    for index in broken {
        plans[index].whole = false;
    }
}

/// Where machines are (E0302), and that each is protected (E0303) or rebuilt.
fn check_machines(cx: &Context<'_>, plan: &PlanModel, group_of: &HashMap<&str, &GroupModel>) {
    for (machine, span) in &plan.machines {
        let Some(entry) = cx.machines.get(machine) else { continue };
        if !entry.at.is_empty() && !entry.at.contains_key(plan.from.as_str()) {
            let sites = crate::suggest::listed(entry.at.keys().map(|site| site.as_str()));
            let mut diagnostic = Diagnostic::error(
                302,
                format!("`{machine}` is not at `{}`", plan.from),
                *span,
                format!("the plan moves it from `{}`", plan.from),
            );
            if let Some((_, declared)) = &entry.declared {
                diagnostic = diagnostic.related(*declared, "declared here");
            }
            cx.push(
                diagnostic
                    .note(format!("it is at {sites}"))
                    .help("correct the plan's `move`, or pull the inventory again"),
            );
            continue;
        }
        let group = group_of.get(machine.as_str());
        let created = plan.created.contains(machine);
        match group {
            Some(group) if group.policy.is_some() || group.broken || created => {}
            _ if created => {}
            // A group that lost a member to a typo may be the one this machine was meant to be in.
            None if cx.groups.values().any(|group| group.broken) || cx.is_in_unread(machine) => {}
            Some(group) => cx.push(
                Diagnostic::error(
                    303,
                    format!("`{machine}` is not protected"),
                    *span,
                    "there will be nothing to start",
                )
                .related(group.span, "`policy = none` here")
                .help(format!("give the group a policy, or rebuild the machine: `create {machine} from \"…\"`")),
            ),
            None => cx.push(
                Diagnostic::error(
                    303,
                    format!("`{machine}` is not protected"),
                    *span,
                    "there will be nothing to start",
                )
                .note("the machine is in no group")
                .help("add it to the `machines` of a group"),
            ),
        }
    }
}

/// Members that are never started (E0309), and promises that differ (E0405).
fn check_groups(cx: &Context<'_>, resolved: &Resolved, started: &HashSet<&str>, policies: &Policies) {
    let plan = &resolved.model;
    // One that another plan starts is an E0313.
    let missing = |machine: &String| resolved.whole && !started.contains(machine.as_str());
    for name in &plan.groups {
        let Some(group) = cx.groups.get(name) else { continue };
        for (machine, span) in group.machines.iter().filter(|(machine, _)| missing(machine)) {
            cx.push(
                Diagnostic::error(
                    309,
                    format!("plan `{}` never starts `{machine}`", plan.name),
                    plan.span,
                    "the others of its group are started",
                )
                .related(*span, format!("a member of `{name}`"))
                .help(format!("add `start {machine}` to a stage, or take it out of the group")),
            );
        }
        let Some(Some(policy)) = group.policy.as_ref().and_then(|name| policies.get(name)) else { continue };
        if let Some((rpo, span)) = plan.rpo.filter(|(rpo, _)| *rpo < policy.sheet.rpo) {
            cx.push(
                Diagnostic::error(
                    405,
                    format!("plan `{}` promises more than the policy of `{name}`", plan.name),
                    span,
                    format!("{rpo} promised here"),
                )
                .related(policy.rpo, format!("policy `{}` promises {}", policy.sheet.name, policy.sheet.rpo))
                .help("give the group a tighter policy, or promise what the policy can keep"),
            );
        }
    }
}

/// Each network of each machine has a counterpart at every site of the plan (E0502), no two get one address (E0503).
fn check_networks(cx: &Context<'_>, program: &Program, plan: &PlanModel) {
    let addresses = Addresses::new(program, plan);
    let mut said: Vec<(String, String)> = Vec::new();
    let unread = |site: &str| cx.sites.get(site).is_some_and(|site| site.broken);
    if unread(&plan.from) {
        return; // A network of it may be missing because it could not be read.
    }
    for site in [Some(&plan.to), plan.back.as_ref()].into_iter().flatten().filter(|site| !unread(site)) {
        let mut taken: BTreeMap<std::net::IpAddr, (&String, std::net::IpAddr)> = BTreeMap::new();
        for (machine, span) in &plan.machines {
            let Some(facts) = cx.machines.get(machine).and_then(|entry| entry.at.get(plan.from.as_str())) else {
                continue;
            };
            for nic in &facts.nics {
                let network = nic.network.as_str();
                if addresses.network(network, site).is_none() {
                    if said.contains(&(network.to_owned(), site.clone())) {
                        continue;
                    }
                    said.push((network.to_owned(), site.clone()));
                    let route = &cx.routes[plan.route];
                    cx.push(
                        Diagnostic::error(
                            502,
                            format!("network `{network}` of `{machine}` leads nowhere at `{site}`"),
                            *span,
                            format!("has a card in `{network}`"),
                        )
                        .related(route.span, format!("no line for `{network}` here"))
                        .help(format!("add a line to the route: `{network} <-> … test isolated`")),
                    );
                    continue;
                }
                let Some(ip) = nic.ip else { continue };
                let there = addresses.ip(ip, site);
                if let Some((other, _)) = taken.get(&there).filter(|(other, _)| *other != machine) {
                    cx.push(
                        Diagnostic::error(
                            503,
                            format!("`{other}` and `{machine}` both become {there} at `{site}`"),
                            *span,
                            format!("{ip} at home"),
                        )
                        .help("give one of them an address of its own in the route"),
                    );
                }
                taken.insert(there, (machine, ip));
            }
        }
    }
}

/// Two machines of a plan with one hardware address in one network hear each other's frames: E0511.
fn check_macs(cx: &Context<'_>, plan: &PlanModel) {
    let mut taken: BTreeMap<(String, String), (&String, muster_diagnostics::Span)> = BTreeMap::new();
    for (machine, span) in &plan.machines {
        let Some(facts) = cx.machines.get(machine).and_then(|entry| entry.at.get(plan.from.as_str())) else { continue };
        for nic in &facts.nics {
            let key = (nic.network.as_str().to_owned(), nic.mac.to_ascii_lowercase());
            match taken.get(&key) {
                Some((other, other_span)) if *other != machine => cx.push(
                    Diagnostic::error(
                        511,
                        format!("`{other}` and `{machine}` have one hardware address in `{}`", key.0),
                        *span,
                        format!("{} here", nic.mac),
                    )
                    .related(*other_span, "and here")
                    .help("give one of them an address of its own at home, then run `muster inventory pull`"),
                ),
                Some(_) => {}
                None => {
                    taken.insert(key, (machine, *span));
                }
            }
        }
    }
}

/// The vault must not burn with the site it recovers from (E0512), and a plan has one (E0517).
fn check_vault(cx: &Context<'_>, plan: &PlanModel) {
    let (out, back) = (&cx.routes[plan.route], &cx.routes[plan.back_route]);
    if out.sheet.vault != back.sheet.vault {
        cx.push(
            Diagnostic::error(
                517,
                format!("plan `{}` would need two vaults", plan.name),
                back.span,
                format!("`{}` on the way home", back.sheet.vault),
            )
            .related(out.span, format!("`{}` on the way out", out.sheet.vault))
            .note("points, journal and state of a plan lie in one vault")
            .help("name the same vault in both routes"),
        );
    }
    let Some((site, span)) = &cx.routes[plan.route].vault_at else { return };
    if *site == plan.from {
        cx.push(
            Diagnostic::error(
                512,
                format!("the vault lives at `{site}`, where plan `{}` recovers from", plan.name),
                *span,
                "would burn with the site",
            )
            .related(plan.span, "this plan needs it when that site is gone")
            .help("put the vault at the other site, or at a third"),
        );
    } else if *site == plan.to {
        cx.push(
            Diagnostic::warning(
                512,
                format!("the vault lives at `{site}`, where the way back recovers from"),
                *span,
                "unsafe after a failover",
            )
            .help("after a failover `reprotect` would protect a site by a vault inside it: a third place is better"),
        );
    }
}

/// Kinds of points against what policies keep and promise: E0612, E0413.
fn check_points(cx: &Context<'_>, plan: &PlanModel, policies: &Policies) {
    for (condition, choice, span) in &plan.points {
        if *choice != PointChoice::LatestApp {
            continue;
        }
        for name in &plan.groups {
            let policy = cx.groups.get(name).and_then(|group| policies.get(group.policy.as_ref()?));
            let Some(Some(policy)) = policy else { continue };
            let sheet = &policy.sheet;
            let Some(every) = sheet.app_every else {
                cx.push(
                    Diagnostic::error(
                        612,
                        format!("group `{name}` has no application-consistent points"),
                        *span,
                        "none is kept",
                    )
                    .note(format!("policy `{}` takes none", sheet.name))
                    .help("add `snapshot = every 1h app-consistent` to the policy, or choose `latest`"),
                );
                continue;
            };
            let promise = plan.rpo.map_or(sheet.rpo, |(rpo, _)| rpo.min(sheet.rpo));
            let in_earnest =
                RISING.iter().any(|operation| operation.kind == Kind::Unplanned && condition.holds(*operation));
            if in_earnest && every > promise {
                cx.push(
                    Diagnostic::error(
                        413,
                        format!("`latest-app` can lose more than the {promise} promised"),
                        *span,
                        format!("such points come every {every}"),
                    )
                    .related(policy.rpo, "promised here")
                    .help("take it only `when test`, or take snapshots more often"),
                );
            }
        }
    }
}
