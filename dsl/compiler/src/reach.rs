//! What has to be within reach when a site is gone, and out of reach in a drill: secrets whose only keyring burns with the
//! source (E0805), name servers that nobody answers for at the other site (E0513), a machine through which a drill's copies
//! get out of their bubble (E0508), addresses of a site that the plan does not touch (E0518).

use crate::Program;
use crate::context::Context;
use crate::model::{PlanModel, VerbModel};
use crate::names::Kind as Named;
use crate::readiness::rising_steps;
use crate::routes::RouteModel;
use crate::suggest::listed;
use crate::value::Value;
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::{Direction, Kind, Need, Operation, Otherwise, SecretRef, TestNetwork};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Where the keyring is that alone holds a secret, by the secret's name.
type Keyrings = BTreeMap<String, (String, Span)>;

pub(crate) fn check(cx: &Context<'_>, program: &Program, plan: &PlanModel, keyrings: &Keyrings) {
    check_keyrings(cx, program, plan, keyrings);
    check_resolvers(cx, plan);
    check_doors(cx, plan);
    check_addresses(cx, plan);
}

/// Addresses of the plan's sites are translated; one of another site stays as it is written.
fn check_addresses(cx: &Context<'_>, plan: &PlanModel) {
    let ends: BTreeSet<&str> =
        [Some(&plan.from), Some(&plan.to), plan.back.as_ref()].into_iter().flatten().map(String::as_str).collect();
    let has = |site: &str, ip: IpAddr| {
        cx.sites.get(site).is_some_and(|site| site.networks.values().any(|(network, _)| network.contains(ip)))
    };
    let mut said: BTreeSet<IpAddr> = BTreeSet::new();
    for (step, _) in rising_steps(plan) {
        let (VerbModel::Run { arguments, .. } | VerbModel::Check { arguments, .. }) = &step.verb else { continue };
        for ip in arguments.values().flat_map(addresses_in) {
            let elsewhere = cx.sites.keys().find(|site| !ends.contains(site.as_str()) && has(site, ip));
            let Some(site) = elsewhere.filter(|_| !ends.iter().any(|site| has(site, ip))) else { continue };
            if said.insert(ip) {
                cx.push(
                    Diagnostic::warning(
                        518,
                        format!("{ip} is an address of `{site}`, which plan `{}` does not touch", plan.name),
                        step.span,
                        "stays as it is written",
                    )
                    .note(format!(
                        "addresses of {} are translated for wherever machines land",
                        listed(ends.iter().copied())
                    ))
                    .help(format!("write the address at `{}`; or leave it, if `{site}` is meant", plan.from)),
                );
            }
        }
    }
}

fn addresses_in(value: &Value) -> Vec<IpAddr> {
    match value {
        Value::Ip(ip) => vec![*ip],
        Value::List(items) => items.iter().flat_map(addresses_in).collect(),
        _ => Vec::new(),
    }
}

/// A secret that a failover opens.
struct Wanted<'p> {
    secret: &'p str,
    asked: Span,
    /// The step that opens it may fail: `else continue`.
    spared: bool,
}

/// The secrets that an unplanned failover needs, each with where it is asked for. The way down is not counted: it is tried
/// only while the source still answers.
fn wanted<'p>(cx: &'p Context<'_>, program: &'p Program, plan: &'p PlanModel, way: Direction) -> Vec<Wanted<'p>> {
    let operation = Operation { kind: Kind::Unplanned, direction: way };
    let mut wanted = Vec::new();
    for (step, conditions) in rising_steps(plan) {
        let (name, arguments) = match &step.verb {
            VerbModel::Run { hook, arguments } => (hook, arguments),
            VerbModel::Check { probe, arguments, .. } => (probe, arguments),
            _ => continue,
        };
        if !conditions.iter().all(|condition| condition.holds(operation)) {
            continue;
        }
        let needs = cx.hooks.get(name).map_or(&[][..], |hook| &hook.sheet.needs);
        let of_needs = needs.iter().filter_map(|need| match need {
            Need::Secret { name, .. } => Some(name.as_str()),
            _ => None,
        });
        let of_arguments = arguments.values().filter_map(|value| match value {
            Value::Named(Named::Secret, name) => Some(name.as_str()),
            _ => None,
        });
        let spared = step.otherwise == Otherwise::Continue;
        wanted.extend(of_needs.chain(of_arguments).map(|secret| Wanted { secret, asked: step.span, spared }));
    }
    let of_plan = |secret: &'p SecretRef| Wanted { secret: &secret.name, asked: plan.span, spared: false };
    let target = program.estate.sites.get(plan.ends(way).1);
    wanted.extend(target.and_then(|site| site.login.as_ref()).map(of_plan));
    for group in plan.groups.iter().filter_map(|name| program.estate.groups.get(name.as_str())) {
        let policy = group.policy.as_ref().and_then(|name| program.estate.policies.get(name));
        wanted.extend(policy.and_then(|policy| policy.encryption.as_ref()).map(of_plan));
    }
    wanted.sort_by_key(|wanted| wanted.spared);
    wanted
}

/// E0805: an error on the way out, a warning on the way back, as for the vault, and where the step may fail.
fn check_keyrings(cx: &Context<'_>, program: &Program, plan: &PlanModel, keyrings: &Keyrings) {
    let mut said = BTreeSet::new();
    for way in [Direction::Out, Direction::Back] {
        let (source, target) = plan.ends(way);
        for Wanted { secret, asked, spared } in wanted(cx, program, plan, way) {
            let Some((_, span)) = keyrings.get(secret).filter(|(site, _)| site == source) else { continue };
            if !said.insert(secret) {
                continue;
            }
            let message = format!("secret `{secret}` is only at `{source}`, and a failover from there needs it");
            let diagnostic = match way {
                Direction::Out if !spared => Diagnostic::error(805, message, *span, "would burn with the site"),
                Direction::Out => Diagnostic::warning(805, message, *span, "would burn with the site"),
                Direction::Back => Diagnostic::warning(805, message, *span, "unsafe after a failover"),
            };
            cx.push(
                diagnostic
                    .related(asked, format!("opened here, when `{source}` is gone"))
                    .help(format!("put it into the keyring at `{target}` too, and take `at = {source}` away")),
            );
        }
    }
}

/// E0513.
fn check_resolvers(cx: &Context<'_>, plan: &PlanModel) {
    let (out, back) = (&cx.routes[plan.route], &cx.routes[plan.back_route]);
    check_side(cx, out);
    if plan.route == plan.back_route {
        return;
    }
    check_side(cx, back);
    let there = |route: &RouteModel| -> Vec<(IpAddr, Span)> {
        let at_left = route.sheet.left.as_str() == plan.to;
        let ends = route.sheet.resolvers.iter().map(|(left, right)| if at_left { *left } else { *right });
        ends.zip(route.resolver_spans.iter().copied()).collect()
    };
    for (near, far) in [(out, back), (back, out)] {
        let known = there(far);
        for (server, span) in there(near).into_iter().filter(|(server, _)| known.iter().all(|(ip, _)| ip != server)) {
            cx.push(
                Diagnostic::warning(
                    513,
                    format!(
                        "name server {server} of `{}` has no partner on the other route of `{}`",
                        plan.to, plan.name
                    ),
                    span,
                    "paired on this route only",
                )
                .related(far.span, format!("no `resolver` line for {server} here"))
                .note("a machine that moved would go on asking a name server of the site it left")
                .help(format!("add a line to the other route: `resolver {server} <-> …`")),
            );
        }
    }
}

/// A name server that stands at the other site of the route, by its address, is gone with that site.
fn check_side(cx: &Context<'_>, route: &RouteModel) {
    let (left, right) = (route.sheet.left.as_str(), route.sheet.right.as_str());
    let stands_at = |site: &str, ip: IpAddr| {
        cx.sites.get(site).is_some_and(|site| site.networks.values().any(|(range, _)| range.contains(ip)))
    };
    for ((a, b), span) in route.sheet.resolvers.iter().zip(&route.resolver_spans) {
        for (site, other, server) in [(left, right, *a), (right, left, *b)] {
            if stands_at(site, server) || !stands_at(other, server) {
                continue;
            }
            cx.push(
                Diagnostic::warning(
                    513,
                    format!("machines at `{site}` would ask {server}, which is at `{other}`"),
                    *span,
                    "gone with that site",
                )
                .related(route.span, "this route is read in both directions")
                .help(format!("name the server that answers at `{site}`")),
            );
        }
    }
}

/// A machine with cards in an isolated copy and in a network for tests joins the two: E0508.
fn check_doors(cx: &Context<'_>, plan: &PlanModel) {
    let route = &cx.routes[plan.route];
    for (machine, span) in &plan.machines {
        let Some(facts) = cx.machines.get(machine).and_then(|entry| entry.at.get(plan.from.as_str())) else { continue };
        let (mut isolated, mut tested) = (None, None);
        for nic in &facts.nics {
            let pair = route.sheet.networks.iter().find(|pair| pair.left == nic.network || pair.right == nic.network);
            match pair.map(|pair| &pair.test) {
                Some(TestNetwork::Isolated) => isolated = isolated.or(Some(&nic.network)),
                Some(TestNetwork::Network { network, .. }) => tested = tested.or(Some(network)),
                None => {}
            }
        }
        let Some((isolated, tested)) = isolated.zip(tested) else { continue };
        cx.push(
            Diagnostic::warning(
                508,
                format!("in a drill `{machine}` is a way out of the isolated copy of `{isolated}`"),
                *span,
                format!("has a card there and one in `{tested}`"),
            )
            .related(route.span, "this route says where the cards go in a drill")
            .note("what forwards for it, or runs on it, can carry what the copies send to those who use the network for tests")
            .help("give all its networks the same kind of `test` in the route"),
        );
    }
}
