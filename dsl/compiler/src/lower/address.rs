//! Where a home address is at each site of a plan, and the values of steps in those terms.

use crate::Program;
use crate::model::PlanModel;
use crate::names::Kind;
use crate::net::Cidr;
use crate::sites::RouteModel;
use crate::value::{Type, Value};
use muster_runsheet::{MachineSheet, NetworkShape, NicShape, SiteName};
use std::net::IpAddr;

/// Translates along the routes of one plan. Addresses in a plan are those of its home.
#[derive(Clone, Copy)]
pub(crate) struct Addresses<'a> {
    program: &'a Program,
    plan: &'a PlanModel,
}

/// One step along a route, from this site to its other end.
type Hop<'a> = (&'a RouteModel, &'a str);

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
        let site = self.program.estate.sites.get(site)?;
        let shape = site.networks.iter().find(|shape| shape.name.as_str() == network)?;
        Cidr::parse(&shape.cidr).ok()
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
        if paired.is_some() {
            return paired;
        }
        let to = if forward { route.sheet.right.as_str() } else { route.sheet.left.as_str() };
        let site = self.program.estate.sites.get(from)?;
        site.networks.iter().find_map(|shape| {
            let near = Cidr::parse(&shape.cidr).ok().filter(|cidr| cidr.contains(ip))?;
            near.carry(ip, &self.cidr(to, self.network_hop(hop, shape.name.as_str())?)?)
        })
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

    /// The cards of a machine at a site, for production.
    pub(crate) fn nics(&self, machine: &MachineSheet, site: &SiteName) -> Vec<NicShape> {
        self.cards(machine, site, site)
    }

    /// The cards of a drill's clone: plugged in at `target`, with the addresses production has at `source`.
    pub(crate) fn drill_nics(&self, machine: &MachineSheet, source: &SiteName, target: &SiteName) -> Vec<NicShape> {
        self.cards(machine, target, source)
    }

    fn cards(&self, machine: &MachineSheet, plugged: &SiteName, addressed: &SiteName) -> Vec<NicShape> {
        let card = |nic: &NicShape| {
            Some(NicShape {
                network: self.network(nic.network.as_str(), plugged.as_str())?.into(),
                mac: nic.mac.clone(),
                ip: nic.ip.map(|ip| self.ip(ip, addressed.as_str())),
            })
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

    /// Fills in what is known when compiling; `{point.at}` and `{loss}` stay for the run.
    pub(crate) fn text(&self, text: &str, site: &str, source: &SiteName, target: &SiteName) -> String {
        let mut out = text
            .replace("{target}", target.as_str())
            .replace("{source}", source.as_str())
            .replace("{plan}", &self.plan.name);
        while let Some(open) = out.find("{=") {
            let Some(close) = out[open..].find('}').map(|close| open + close) else { break };
            let ip = out[open + 2..close].parse::<IpAddr>();
            out.replace_range(open..=close, &ip.map(|ip| self.ip(ip, site).to_string()).unwrap_or_default());
        }
        for (name, machine) in &self.program.estate.machines {
            out = out.replace(&format!("{{{name}.name}}"), name.as_str());
            if let Some(ip) = machine.facts.nics.iter().find_map(|nic| nic.ip) {
                out = out.replace(&format!("{{{name}.ip}}"), &self.ip(ip, site).to_string());
            }
        }
        out
    }

    /// A value as the engine gets it, with addresses as they are at `site`.
    pub(crate) fn value(
        &self,
        value: &Value,
        kind: &Type,
        site: &str,
        (source, target): (&SiteName, &SiteName),
    ) -> muster_runsheet::Value {
        use muster_runsheet::Value as Out;
        match value {
            Value::Text(text) => Out::Text(self.text(text, site, source, target)),
            Value::Int(port) if *kind == Type::Port => Out::Port(u16::try_from(*port).unwrap_or(0)),
            Value::Int(number) => Out::Int(*number),
            Value::Bool(value) => Out::Bool(*value),
            Value::Duration(duration) => Out::Duration(*duration),
            Value::Size(size) => Out::Size(*size),
            Value::Rate(rate) => Out::Rate(*rate),
            Value::Percent(percent) => Out::Percent(*percent),
            Value::Ip(ip) => Out::Ip(self.ip(*ip, site)),
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
                Out::List(items.iter().map(|item| self.value(item, of, site, (source, target))).collect())
            }
        }
    }
}
