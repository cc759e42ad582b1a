//! Networks and addresses of a draft: ranges that hold what is known, and placeholders where nothing is.

use crate::Notes;
use crate::draft::{Draft, MachineDraft, NetworkDraft, Range, RouteDraft, SiteDraft};
use crate::names::Names;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Ranges whose addresses an export does not say: 198.18.0.0/15, set aside for tests, so that none meets a real one.
const ASSUMED_BASE: u32 = 0xC612_0000;
/// The widest range that is drawn around known addresses.
const PREFIX_MIN: u8 = 16;
const PREFIX: u8 = 24;

impl Range {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
    fn contains(self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & self.mask() == self.base
    }
    fn overlaps(self, other: Self) -> bool {
        self.contains(Ipv4Addr::from(other.base)) || other.contains(Ipv4Addr::from(self.base))
    }
    /// The network, its gateway or its broadcast address.
    fn is_reserved(self, ip: Ipv4Addr) -> bool {
        let host = u32::from(ip) & !self.mask();
        host <= 1 || host == !self.mask()
    }
    fn carry(self, ip: Ipv4Addr, to: Self) -> Ipv4Addr {
        Ipv4Addr::from(to.base | (u32::from(ip) & !self.mask()))
    }
    fn holds(self, ip: Ipv4Addr) -> bool {
        self.contains(ip) && !self.is_reserved(ip)
    }
    /// The smallest range that holds them all, from /24 to /16.
    fn around(ips: &[Ipv4Addr]) -> Option<Self> {
        let first = u32::from(*ips.first()?);
        (PREFIX_MIN..=PREFIX).rev().find_map(|prefix| {
            let range = Self { base: first & Self { base: 0, prefix }.mask(), prefix };
            ips.iter().all(|ip| range.contains(*ip)).then_some(range)
        })
    }
}

/// Hands out ranges that nothing else uses.
#[derive(Debug)]
struct Assumed(u32);

impl Assumed {
    fn next(&mut self, prefix: u8) -> Range {
        let size = 1u32 << (32 - u32::from(prefix));
        let base = self.0.next_multiple_of(size);
        self.0 = base + size;
        Range { base, prefix }
    }
}

/// Gives each machine of each route its network, and each pair of sites its pairs. Facts that contradict each other are
/// left out, and noted.
pub(crate) fn settle(draft: &mut Draft, mapped: &[(String, String)], notes: &mut Notes) {
    let mut assumed = Assumed(ASSUMED_BASE);
    let Draft { sites, routes, machines, .. } = draft;
    // A site may be the left end of one route and the right end of another: its networks are one set.
    let mut names: BTreeMap<String, Names> = sites.iter().map(|site| (site.name.clone(), Names::default())).collect();
    for route in routes.iter_mut() {
        let mut own: Vec<&mut MachineDraft> =
            machines.iter_mut().filter(|machine| machine.site == route.left && machine.to == route.right).collect();
        let labels: BTreeSet<Option<String>> = own.iter().map(|machine| machine.label.clone()).collect();
        for label in labels {
            network(sites, route, &mut own, &label, mapped, &mut names, &mut assumed, notes);
        }
        translate(sites, route, &mut own, notes);
    }
}

/// One network with its counterpart.
#[allow(clippy::too_many_arguments)] // the parts of one draft, borrowed apart
fn network(
    sites: &mut [SiteDraft],
    route: &mut RouteDraft,
    machines: &mut [&mut MachineDraft],
    label: &Option<String>,
    mapped: &[(String, String)],
    names: &mut BTreeMap<String, Names>,
    assumed: &mut Assumed,
    notes: &mut Notes,
) {
    let mut own: Vec<&mut &mut MachineDraft> = machines.iter_mut().filter(|machine| machine.label == *label).collect();
    let ips: Vec<Ipv4Addr> = own.iter().filter_map(|machine| machine.ip).collect();
    let free = |sites: &[SiteDraft], site: &str, range: Range| {
        sites
            .iter()
            .filter(|known| known.name == site)
            .flat_map(|site| &site.networks)
            .all(|known| !known.range.overlaps(range))
    };
    let range = Range::around(&ips).filter(|range| free(sites, &route.left, *range));
    if range.is_none() && !ips.is_empty() {
        for machine in own.iter_mut().filter(|machine| machine.ip.is_some()) {
            notes.add(
                &machine.file,
                &machine.path,
                format!("the addresses of its network contradict each other: {} is left out", machine.name),
            );
            machine.ip = None;
        }
    }
    let left = range.unwrap_or_else(|| assumed.next(PREFIX));
    let paired = label.as_ref().and_then(|label| mapped.iter().find(|(from, _)| from.eq_ignore_ascii_case(label)));
    let there = paired.map(|(_, to)| to.clone()).or_else(|| own.iter().find_map(|machine| machine.label_there.clone()));
    let ips_there: Vec<Ipv4Addr> = own.iter().filter_map(|machine| machine.ip_there).collect();
    let right = ips_there.first().map(|ip| {
        let mask = Range { base: 0, prefix: left.prefix }.mask();
        Range { base: u32::from(*ip) & mask, prefix: left.prefix }
    });
    let right =
        right.filter(|right| ips_there.iter().all(|ip| right.contains(*ip)) && free(sites, &route.right, *right));
    let word = label.as_deref().unwrap_or("lan");
    let mut add = |site: &str, label: Option<&String>, range: Option<Range>, or: Range| {
        let name = names
            .entry(site.to_owned())
            .or_default()
            .give(label.map_or(word, |label| crate::json::last_segment(label)), "lan");
        let network = NetworkDraft {
            name: name.clone(),
            range: range.unwrap_or(or),
            label: label.cloned(),
            assumed: range.is_none(),
        };
        if let Some(site) = sites.iter_mut().find(|known| known.name == site) {
            site.networks.push(network);
        }
        name
    };
    let from = add(&route.left, label.as_ref(), range, left);
    let placeholder = assumed.next(left.prefix);
    let to = add(&route.right, there.as_ref(), right, placeholder);
    for machine in &mut own {
        machine.network.clone_from(&from);
    }
    route.pairs.push((from, to));
}

/// Pairs of addresses for machines whose host part does not carry over, and no address twice at either end.
fn translate(sites: &[SiteDraft], route: &mut RouteDraft, machines: &mut [&mut MachineDraft], notes: &mut Notes) {
    let range = |site: &str, network: &str| {
        let site = sites.iter().find(|known| known.name == site)?;
        site.networks.iter().find(|known| known.name == network).map(|network| network.range)
    };
    let mut here: BTreeSet<Ipv4Addr> = BTreeSet::new();
    let mut there: BTreeSet<Ipv4Addr> = BTreeSet::new();
    for machine in machines.iter_mut() {
        let Some(ip) = machine.ip else { continue };
        let to =
            route.pairs.iter().find(|(from, _)| *from == machine.network).map(|(_, to)| to.clone()).unwrap_or_default();
        let (Some(left), Some(right)) = (range(&route.left, &machine.network), range(&route.right, &to)) else {
            continue;
        };
        if !left.holds(ip) || !here.insert(ip) {
            let why = if left.holds(ip) {
                "another machine has it"
            } else {
                "it is that of the network, its gateway or its broadcast"
            };
            notes.add(&machine.file, &machine.path, format!("the address {ip} of {} is left out: {why}", machine.name));
            machine.ip = None;
            continue;
        }
        let carried = left.carry(ip, right);
        let wanted = machine.ip_there.filter(|wanted| right.holds(*wanted) && *wanted != carried);
        let becomes = wanted.unwrap_or(carried);
        if !there.insert(becomes) {
            notes.add(
                &machine.file,
                &machine.path,
                format!("{} would become {becomes} like another machine: its address is left out", machine.name),
            );
            machine.ip = None;
            continue;
        }
        if let Some(wanted) = wanted {
            route.addresses.push((ip, wanted));
        }
    }
    unmeet(route, machines, &there);
}

/// A pair whose far end another machine is carried to would not be one-to-one on the way home.
fn unmeet(route: &mut RouteDraft, machines: &[&mut MachineDraft], there: &BTreeSet<Ipv4Addr>) {
    let known: BTreeSet<Ipv4Addr> = machines.iter().filter_map(|machine| machine.ip).collect();
    route.addresses.retain(|(left, right)| known.contains(left) && there.contains(right));
}
