//! Where a home address is at each site of a plan, and the values of steps in those terms.

use crate::Program;
use crate::model::PlanModel;
use crate::names::Kind;
use crate::net::Cidr;
use crate::routes::RouteModel;
use crate::value::{Type, Value};
use muster_runsheet::{MachineSheet, NetworkName, NetworkShape, NicShape, SiteName, TestNetwork};
use std::net::IpAddr;

/// Translates along the routes of one plan. Addresses in a plan are those of its home.
#[derive(Clone, Copy)]
pub(crate) struct Addresses<'a> {
    program: &'a Program,
    plan: &'a PlanModel,
}

/// One step along a route, from this site to its other end.
type Hop<'a> = (&'a RouteModel, &'a str);

/// Whose addresses are meant.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// Those of production at a site.
    Site(SiteName),
    /// Those of a drill at `target`: production's at `source`, but for networks that are there for tests.
    Drill { source: SiteName, target: SiteName },
}

impl<'a> Addresses<'a> {
    pub(crate) fn new(program: &'a Program, plan: &'a PlanModel) -> Self {
        Self { program, plan }
    }

    fn hops(&self, site: &str) -> Vec<Hop<'a>> {
        let out = (&self.program.routes[self.plan.route], self.plan.from.as_str());
        if site == self.plan.from {
            Vec::new()
        } else if site == self.plan.to {
            vec![out]
        } else {
            vec![out, (&self.program.routes[self.plan.back_route], self.plan.to.as_str())]
        }
    }

    fn cidr(&self, site: &str, network: &str) -> Option<Cidr> {
        self.ranges(site).iter().find(|(name, _)| name == network).map(|(_, range)| *range)
    }
    fn ranges(&self, site: &str) -> &'a [(String, Cidr)] {
        self.program.ranges.get(site).map_or(&[], Vec::as_slice)
    }

    /// The network's name at the other end of the route.
    fn network_hop(&self, (route, from): Hop<'a>, network: &str) -> Option<&'a str> {
        let forward = route.sheet.left.as_str() == from;
        route.sheet.networks.iter().find_map(|pair| {
            let (near, far) = if forward { (&pair.left, &pair.right) } else { (&pair.right, &pair.left) };
            (near.as_str() == network).then_some(far.as_str())
        })
    }

    /// The address at the other end: by its own pair, else the same host part in the mapped network.
    fn address_hop(&self, hop: Hop<'a>, ip: IpAddr) -> Option<IpAddr> {
        let (route, from) = hop;
        let forward = route.sheet.left.as_str() == from;
        let paired = route.sheet.addresses.iter().find_map(|(left, right)| {
            let (near, far) = if forward { (left, right) } else { (right, left) };
            (*near == ip).then_some(*far)
        });
        let resolver = route.sheet.resolvers.iter().find_map(|(left, right)| {
            let (near, far) = if forward { (left, right) } else { (right, left) };
            (*near == ip).then_some(*far)
        });
        let paired = paired.or(resolver);
        if paired.is_some() {
            return paired;
        }
        let to = if forward { route.sheet.right.as_str() } else { route.sheet.left.as_str() };
        self.ranges(from)
            .iter()
            .filter(|(_, near)| near.contains(ip))
            .find_map(|(name, near)| near.carry(ip, &self.cidr(to, self.network_hop(hop, name)?)?))
    }

    /// The name of a home network at a site; `None` when the route does not map it.
    pub(crate) fn network(&self, network: &str, site: &str) -> Option<String> {
        let mut name = network;
        for hop in self.hops(site) {
            name = self.network_hop(hop, name)?;
        }
        Some(name.to_owned())
    }

    /// A home address at a site. One that belongs to no mapped network is the same everywhere.
    pub(crate) fn ip(&self, ip: IpAddr, site: &str) -> IpAddr {
        self.hops(site).into_iter().fold(ip, |ip, hop| self.address_hop(hop, ip).unwrap_or(ip))
    }

    /// A home address as this view has it.
    pub(crate) fn seen(&self, ip: IpAddr, view: &View) -> IpAddr {
        match view {
            View::Site(site) => self.ip(ip, site.as_str()),
            View::Drill { source, target } => {
                let network = self.ranges(&self.plan.from).iter().find(|(_, range)| range.contains(ip));
                let tested = network.and_then(|(name, _)| self.tested(name, source, target));
                tested.and_then(|test| self.tested_ip(ip, test, target)).unwrap_or_else(|| self.ip(ip, source.as_str()))
            }
        }
    }

    /// The network for tests that a drill at `target` uses for a home network, if there is one.
    fn tested(&self, network: &str, source: &SiteName, target: &SiteName) -> Option<&'a str> {
        let routes = [self.plan.route, self.plan.back_route].map(|index| &self.program.routes[index]);
        let route = routes.into_iter().find(|route| route.joins(source.as_str(), target.as_str()))?;
        let far = self.network(network, target.as_str())?;
        let at_left = route.sheet.left == *target;
        let pair = route.sheet.networks.iter().find(|pair| {
            let end = if at_left { &pair.left } else { &pair.right };
            end.as_str() == far
        })?;
        match &pair.test {
            TestNetwork::Network { network, site } if site == target => Some(network.as_str()),
            _ => None,
        }
    }

    /// The host part that the address has at the target, in the network for tests; `None` when it does not fit.
    fn tested_ip(&self, ip: IpAddr, test: &str, target: &SiteName) -> Option<IpAddr> {
        let there = self.ip(ip, target.as_str());
        let site = self.program.estate.sites.get(target.as_str())?;
        let near =
            site.networks.iter().filter_map(|shape| Cidr::parse(&shape.cidr).ok()).find(|cidr| cidr.contains(there))?;
        near.carry(there, &self.cidr(target.as_str(), test)?)
    }

    /// The cards of a machine at a site, for production.
    pub(crate) fn nics(&self, machine: &MachineSheet, site: &SiteName) -> Vec<NicShape> {
        let card = |nic: &NicShape| {
            Some(NicShape {
                network: self.network(nic.network.as_str(), site.as_str())?.into(),
                mac: nic.mac.clone(),
                ip: nic.ip.map(|ip| self.ip(ip, site.as_str())),
            })
        };
        machine.facts.nics.iter().filter_map(card).collect()
    }

    /// The cards of a drill's clone, plugged in at `target`: with the addresses production has at `source`, or with its
    /// own in a network that is there for tests.
    pub(crate) fn drill_nics(&self, machine: &MachineSheet, source: &SiteName, target: &SiteName) -> Vec<NicShape> {
        let card = |nic: &NicShape| {
            let (network, ip) = match self.tested(nic.network.as_str(), source, target) {
                Some(test) => (test.to_owned(), nic.ip.and_then(|ip| self.tested_ip(ip, test, target))),
                None => {
                    let ip = nic.ip.map(|ip| self.ip(ip, source.as_str()));
                    (self.network(nic.network.as_str(), target.as_str())?, ip)
                }
            };
            Some(NicShape { network: network.into(), mac: nic.mac.clone(), ip })
        };
        machine.facts.nics.iter().filter_map(card).collect()
    }

    /// The isolated networks of a drill: named as at `target`, with the addresses of `source`.
    pub(crate) fn drill_networks<'m>(
        &self,
        machines: impl Iterator<Item = &'m MachineSheet>,
        source: &SiteName,
        target: &SiteName,
    ) -> Vec<NetworkShape> {
        let mut shapes: Vec<NetworkShape> = Vec::new();
        for nic in machines.flat_map(|machine| &machine.facts.nics) {
            if self.tested(nic.network.as_str(), source, target).is_some() {
                continue;
            }
            let near = self.network(nic.network.as_str(), source.as_str());
            let far = self.network(nic.network.as_str(), target.as_str());
            let (Some(near), Some(far)) = (near, far) else { continue };
            let Some(cidr) = self.cidr(source.as_str(), &near) else { continue };
            if shapes.iter().all(|shape| shape.name.as_str() != far) {
                shapes.push(NetworkShape { name: far.into(), cidr: cidr.to_string() });
            }
        }
        shapes.sort_by(|a, b| a.name.cmp(&b.name));
        shapes
    }

    /// The networks for tests that a drill of these machines is plugged into.
    pub(crate) fn test_networks<'m>(
        &self,
        machines: impl Iterator<Item = &'m MachineSheet>,
        source: &SiteName,
        target: &SiteName,
    ) -> Vec<NetworkName> {
        let nics = machines.flat_map(|machine| &machine.facts.nics);
        let mut names: Vec<NetworkName> =
            nics.filter_map(|nic| self.tested(nic.network.as_str(), source, target)).map(NetworkName::from).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Fills in what is known when compiling; `{point.at}` and `{loss}` stay for the run. `\{` is a brace.
    pub(crate) fn text(&self, text: &str, view: &View, source: &SiteName, target: &SiteName) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '\\']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(brace) = rest.strip_prefix('\\') {
                let escaped = brace.starts_with(['{', '}']);
                out.push(if escaped { brace.chars().next().unwrap_or('\\') } else { '\\' });
                rest = &brace[usize::from(escaped)..];
                continue;
            }
            let part = rest.find('}').map(|close| &rest[1..close]);
            match part.and_then(|part| Some((part, self.part(part, &out, view, source, target)?))) {
                Some((part, filled)) => {
                    out.push_str(&filled);
                    rest = &rest[part.len() + 2..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// What stands for `{part}`; `before` is the text so far. `None` is left for the run, or is no part at all.
    fn part(&self, part: &str, before: &str, view: &View, source: &SiteName, target: &SiteName) -> Option<String> {
        // An IPv6 address in a URL has brackets.
        let shown =
            |ip: IpAddr| if ip.is_ipv6() && before.ends_with("//") { format!("[{ip}]") } else { ip.to_string() };
        match part {
            "target" => return Some(target.to_string()),
            "source" => return Some(source.to_string()),
            "plan" => return Some(self.plan.name.clone()),
            _ => {}
        }
        if let Some(ip) = part.strip_prefix('=') {
            return ip.parse().ok().map(|ip| shown(self.seen(ip, view)));
        }
        let (name, field) = part.rsplit_once('.')?;
        let (name, machine) = self.program.estate.machines.get_key_value(name)?;
        match field {
            "name" => Some(name.to_string()),
            "ip" => machine.facts.nics.iter().find_map(|nic| nic.ip).map(|ip| shown(self.seen(ip, view))),
            _ => None,
        }
    }

    /// A value as the engine gets it, with addresses as the view has them.
    pub(crate) fn value(
        &self,
        value: &Value,
        kind: &Type,
        view: &View,
        (source, target): (&SiteName, &SiteName),
    ) -> muster_runsheet::Value {
        use muster_runsheet::Value as Out;
        match value {
            Value::Text(text) => Out::Text(self.text(text, view, source, target)),
            Value::Int(port) if *kind == Type::Port => Out::Port(u16::try_from(*port).unwrap_or(0)),
            Value::Int(number) => Out::Int(*number),
            Value::Bool(value) => Out::Bool(*value),
            Value::Duration(duration) => Out::Duration(*duration),
            Value::Size(size) => Out::Size(*size),
            Value::Rate(rate) => Out::Rate(*rate),
            Value::Percent(percent) => Out::Percent(*percent),
            Value::Ip(ip) => Out::Ip(self.seen(*ip, view)),
            Value::Cidr(text) | Value::Mac(text) => Out::Text(text.clone()),
            Value::Machine(name) => Out::Machine(name.as_str().into()),
            Value::Named(Kind::Group, name) => Out::Group(name.as_str().into()),
            Value::Named(Kind::Site, name) => Out::Site(name.as_str().into()),
            Value::Named(Kind::Secret, name) => {
                let key = self.program.secrets.get(name).cloned().unwrap_or_default();
                Out::Secret { name: name.clone(), key }
            }
            Value::Named(_, name) => Out::Text(name.clone()),
            Value::List(items) => {
                let of = if let Type::List(of) = kind { of } else { kind };
                Out::List(items.iter().map(|item| self.value(item, of, view, (source, target))).collect())
            }
        }
    }
}
