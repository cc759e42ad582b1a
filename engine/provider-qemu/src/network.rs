//! Networks: a Linux bridge each, one DHCP server for a namespace, and bubbles.
//!
//! ```text
//!   agent's namespace                         a bubble: a namespace of its own, kept open by a sleeping process
//!   bridge 10.10.20.1/24 -- tap -- db         bridge 10.10.20.1/24 -- tap -- db~drill
//!   bridge 10.10.30.1/24 -- tap -- web        bridge 10.10.30.1/24 -- tap -- web~drill
//!   dnsmasq, ip_forward                       dnsmasq, ip_forward                      (no link to anywhere)
//! ```
//!
//! A bubble's namespace has no name below `/run/netns`: a name is a mount, and mounts made from inside another
//! namespace are lost with the agent. The keeper's process holds it instead, and every process in it.

use crate::folder::{Folder, MachineRecord, at, check_name, read_json, short_hash, write_json};
use crate::limits;
use crate::process::{Namespace, ProcessId, from_file, launch, run};
use muster_ports::{BubbleId, BubbleShape, Failure, NetworkName, NetworkScope, NetworkShape, Result};
use rustix::process::Signal;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

const KEEPER: &str = "keeper.pid";
const DHCP: &str = "dnsmasq.pid";
const DHCP_HOSTS: &str = "hosts";
const DHCP_SUBNETS: &str = "subnets.json";

/// A scope that stands: where its processes run, and the folder its DHCP server lives in.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: Namespace,
    folder: PathBuf,
    networks: Vec<NetworkShape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subnet {
    network: Ipv4Addr,
    gateway: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    fn parse(shape: &NetworkShape) -> Result<Self> {
        let wrong = || {
            Failure::permanent(format!("`{}` is no subnet for the network `{}`", shape.cidr, shape.name))
                .help("write an IPv4 subnet as `10.10.20.0/24`, with a prefix from 8 to 30")
        };
        let (address, prefix) = shape.cidr.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix)).ok_or_else(wrong)?;
        let network = u32::from(address) & (u32::MAX << (32 - u32::from(prefix)));
        Ok(Self { network: network.into(), gateway: (network + 1).into(), prefix })
    }
    fn mask(self) -> Ipv4Addr {
        (u32::MAX << (32 - u32::from(self.prefix))).into()
    }
}

fn bridge(network: &NetworkName) -> String {
    format!("mb{}", short_hash(network.as_str()))
}

pub(crate) fn tap(folder: &Folder, record: &MachineRecord, index: usize) -> String {
    format!("mt{}", short_hash(&format!("{}/{}/{index}", folder.path().display(), record.instance)))
}

/// Makes the networks of a scope exist, as they are written down.
pub(crate) async fn ensure(folder: &Folder, scope: &NetworkScope) -> Result<Place> {
    let place = match scope {
        NetworkScope::Live => {
            let networks = folder.site()?.map(|site| site.networks).unwrap_or_default();
            Place { namespace: Namespace::Own, folder: folder.network(), networks }
        }
        NetworkScope::Bubble { bubble } => {
            let shape = bubble_shape(folder, bubble)?;
            let home = folder.bubble(bubble);
            let keeper = ensure_keeper(&home).await?;
            Place { namespace: Namespace::Of(keeper), folder: home, networks: shape.networks }
        }
    };
    ip(&place, &["link", "set", "lo", "up"]).await?;
    for network in &place.networks {
        ensure_bridge(&place, network).await?;
    }
    run(place.namespace, folder.path(), "sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).await?;
    write_hosts(folder, scope, &place)?;
    ensure_dhcp(&place).await?;
    Ok(place)
}

/// A scope that is only looked at: nothing is made.
pub(crate) fn namespace_of(folder: &Folder, scope: &NetworkScope) -> Result<Namespace> {
    match scope {
        NetworkScope::Live => Ok(Namespace::Own),
        NetworkScope::Bubble { bubble } => {
            bubble_shape(folder, bubble)?;
            let keeper = from_file(&folder.bubble(bubble).join(KEEPER));
            keeper.map(Namespace::Of).ok_or_else(|| {
                Failure::transient(format!("the bubble `{bubble}` has no namespace now"))
                    .help("create the bubble again")
            })
        }
    }
}

fn bubble_shape(folder: &Folder, bubble: &BubbleId) -> Result<BubbleShape> {
    read_json(&folder.bubble(bubble).join("bubble.json"))?
        .ok_or_else(|| Failure::permanent(format!("there is no bubble `{bubble}` at this site")))
}

async fn ip(place: &Place, arguments: &[&str]) -> Result<String> {
    run(place.namespace, &place.folder, "ip", arguments).await
}

async fn ensure_bridge(place: &Place, network: &NetworkShape) -> Result<()> {
    let subnet = Subnet::parse(network)?;
    let name = bridge(&network.name);
    if ip(place, &["link", "show", "dev", &name]).await.is_err() {
        ip(place, &["link", "add", &name, "type", "bridge", "forward_delay", "0"]).await?;
        // A bridge without an address of its own changes it with every tap, and guests' neighbour tables go stale.
        let hash = short_hash(network.name.as_str());
        let mac = format!("02:{}:{}:{}:{}:{}", &hash[0..2], &hash[2..4], &hash[4..6], &hash[6..8], &hash[8..10]);
        ip(place, &["link", "set", &name, "address", &mac]).await?;
    }
    let address = format!("{}/{}", subnet.gateway, subnet.prefix);
    ip(place, &["addr", "replace", &address, "dev", &name]).await?;
    ip(place, &["link", "set", &name, "up"]).await.map(drop)
}

/// Writes who gets which address, and tells a running server.
fn write_hosts(folder: &Folder, scope: &NetworkScope, place: &Place) -> Result<()> {
    let mut hosts = String::new();
    for record in folder.records()?.iter().filter(|record| record.scope == *scope) {
        for nic in &record.nics {
            if let Some(IpAddr::V4(ip)) = nic.ip {
                hosts.push_str(&format!("{},{ip}\n", nic.mac.to_ascii_lowercase()));
            }
        }
    }
    let path = place.folder.join(DHCP_HOSTS);
    if fs::read_to_string(&path).is_ok_and(|written| written == hosts) {
        return Ok(());
    }
    fs::write(&path, hosts).map_err(|error| at(&path, &error))?;
    if let Some(server) = from_file(&place.folder.join(DHCP)) {
        server.signal(Signal::HUP);
    }
    Ok(())
}

async fn ensure_dhcp(place: &Place) -> Result<()> {
    let subnets_path = place.folder.join(DHCP_SUBNETS);
    let pid_file = place.folder.join(DHCP);
    if let Some(server) = from_file(&pid_file) {
        if read_json::<Vec<NetworkShape>>(&subnets_path)?.is_some_and(|served| served == place.networks) {
            return Ok(());
        }
        server.end(limits::KILL).await?;
    }
    if place.networks.is_empty() {
        return Ok(());
    }
    let mut arguments: Vec<String> = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--port=0",
        "--bind-dynamic",
        "--except-interface=lo",
        "--dhcp-authoritative",
        "--no-ping",
        "--log-facility=-",
        "--pid-file=dnsmasq.own",
        "--dhcp-leasefile=leases",
        "--dhcp-hostsfile=hosts",
    ]
    .map(str::to_owned)
    .into();
    for network in &place.networks {
        let subnet = Subnet::parse(network)?;
        arguments.push(format!("--interface={}", bridge(&network.name)));
        arguments.push(format!("--dhcp-range={},static,{},1h", subnet.network, subnet.mask()));
    }
    // dnsmasq changes to `/` before it opens these.
    for argument in &mut arguments {
        for (option, file) in
            [("--pid-file=", "dnsmasq.own"), ("--dhcp-leasefile=", "leases"), ("--dhcp-hostsfile=", DHCP_HOSTS)]
        {
            if argument.starts_with(option) {
                *argument = format!("{option}{}", place.folder.join(file).display());
            }
        }
    }
    launch(place.namespace, &place.folder, "dnsmasq.log", &pid_file, "dnsmasq", &arguments).await?;
    write_json(&subnets_path, &place.networks)
}

/// Writes the addresses of a scope again, when it stands.
pub(crate) fn refresh_hosts(folder: &Folder, scope: &NetworkScope) -> Result<()> {
    let home = match scope {
        NetworkScope::Live => folder.network(),
        NetworkScope::Bubble { bubble } => folder.bubble(bubble),
    };
    if !home.is_dir() {
        return Ok(());
    }
    let place = Place { namespace: Namespace::Own, folder: home, networks: Vec::new() };
    write_hosts(folder, scope, &place)
}

/// Plugs a machine's card in; a tap left by an earlier run is replaced.
pub(crate) async fn plug(place: &Place, tap: &str, network: &NetworkName) -> Result<()> {
    if !place.networks.iter().any(|shape| shape.name == *network) {
        return Err(Failure::permanent(format!(
            "there is no network `{network}` where the machine is to be plugged in"
        ))
        .help("make the network at the site first, or map it in the plan's route"));
    }
    unplug(place, tap).await;
    ip(place, &["tuntap", "add", "dev", tap, "mode", "tap"]).await?;
    ip(place, &["link", "set", tap, "master", &bridge(network), "up"]).await.map(drop)
}

pub(crate) async fn unplug(place: &Place, tap: &str) {
    // It may not be there, and that is what is wanted.
    let _ = ip(place, &["link", "del", tap]).await;
}

/// The same where nothing is to be made for it.
pub(crate) async fn unplug_in(namespace: Namespace, folder: &Folder, tap: &str) {
    let _ = run(namespace, folder.path(), "ip", &["link", "del", tap]).await;
}

/// A process that sleeps in a new namespace and so keeps it.
async fn ensure_keeper(home: &Path) -> Result<ProcessId> {
    if let Some(keeper) = from_file(&home.join(KEEPER)) {
        return Ok(keeper);
    }
    // Whatever served the old namespace serves nobody now.
    if let Some(server) = from_file(&home.join(DHCP)) {
        server.end(limits::KILL).await?;
    }
    let arguments = ["--net", "--", "sleep", "infinity"].map(str::to_owned);
    let keeper = launch(Namespace::Own, home, "keeper.log", &home.join(KEEPER), "unshare", &arguments).await?;
    let own = fs::read_link("/proc/self/ns/net").ok();
    let moved = async {
        while keeper.is_alive() && fs::read_link(keeper.namespace_file()).ok() == own {
            tokio::time::sleep(limits::LOOK).await;
        }
        keeper.is_alive()
    };
    match tokio::time::timeout(limits::TOOL, moved).await {
        Ok(true) => Ok(keeper),
        _ => {
            keeper.kill().await?;
            Err(Failure::permanent(format!(
                "no network namespace could be made: {}",
                crate::process::tail(&home.join("keeper.log"))
            ))
            .help("the agent of a site has to run as root"))
        }
    }
}

pub(crate) async fn create_bubble(folder: &Folder, bubble: &BubbleShape) -> Result<()> {
    check_name("bubble", bubble.bubble.as_str())?;
    for network in &bubble.networks {
        Subnet::parse(network)?;
    }
    let path = folder.bubble(&bubble.bubble).join("bubble.json");
    if let Some(found) = read_json::<BubbleShape>(&path)?
        && let (Some(theirs), Some(ours)) =
            (found.labels.get(crate::folder::KEY_LABEL), bubble.labels.get(crate::folder::KEY_LABEL))
        && theirs != ours
    {
        return Err(Failure::refused(format!("the bubble `{}` belongs to another step", bubble.bubble)));
    }
    write_json(&path, bubble)?;
    ensure(folder, &NetworkScope::Bubble { bubble: bubble.bubble.clone() }).await.map(drop)
}

/// The machines in it are off; the caller has seen to that.
pub(crate) async fn discard_bubble(folder: &Folder, bubble: &BubbleId) -> Result<()> {
    let home = folder.bubble(bubble);
    for file in [DHCP, KEEPER] {
        if let Some(process) = from_file(&home.join(file)) {
            process.end(limits::KILL).await?;
        }
    }
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&home, &error)),
        _ => Ok(()),
    }
}

pub(crate) fn bubbles(folder: &Folder) -> Result<Vec<BubbleId>> {
    let home = folder.bubbles();
    let mut bubbles = Vec::new();
    for entry in fs::read_dir(&home).map_err(|error| at(&home, &error))? {
        let path = entry.map_err(|error| at(&home, &error))?.path().join("bubble.json");
        bubbles.extend(read_json::<BubbleShape>(&path)?.map(|shape| shape.bubble));
    }
    bubbles.sort();
    Ok(bubbles)
}

pub(crate) fn check_networks(networks: &[NetworkShape]) -> Result<()> {
    networks.iter().try_for_each(|network| Subnet::parse(network).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(cidr: &str) -> NetworkShape {
        NetworkShape { name: NetworkName::new("prod"), cidr: cidr.to_owned() }
    }

    #[test]
    fn the_gateway_is_the_first_host_of_the_subnet() {
        let subnet = Subnet::parse(&shape("10.10.20.77/24")).unwrap();
        assert_eq!(subnet.network, Ipv4Addr::new(10, 10, 20, 0));
        assert_eq!(subnet.gateway, Ipv4Addr::new(10, 10, 20, 1));
        assert_eq!(subnet.mask(), Ipv4Addr::new(255, 255, 255, 0));
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for cidr in ["10.10.20.0", "10.10.20/24", "10.10.20.0/0", "10.10.20.0/31", "fd00::/64", "10.0.0.0/-1", ""] {
            assert!(Subnet::parse(&shape(cidr)).is_err(), "{cidr}");
        }
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        assert!(bridge(&NetworkName::new("a network with a very long name")).len() <= 15);
    }
}
