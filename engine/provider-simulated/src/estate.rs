//! Fresh machines: the small shop that the demo and the tests move about.

use crate::disk::Disk;
use crate::faults::CallClass;
use crate::folder::check_name;
use crate::image::{self, Program, ProgramKind, Volume};
use crate::provider::SimulatedProvider;
use crate::site::{Machine, MachineRecord};
use muster_ports::*;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

/// A machine to be made, with formatted disks.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    pub name: MachineName,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// The first is the boot disk.
    pub disks: Vec<DiskFacts>,
    pub nics: Vec<NicShape>,
    pub program: Option<Program>,
    /// Data with known content on every disk, as far as it fits.
    pub ballast_bytes: u64,
}

/// Where the shop's programs listen, as in the guests of the real one.
pub const DATABASE_PORT: u16 = 7000;
pub const APP_PORT: u16 = 8080;
pub const WEB_PORT: u16 = 80;

/// Three machines: `db` (disks `root` and `data`), `app` that acknowledges what it read from `db`, `web` that shows it.
#[derive(Clone, Debug)]
pub struct EstateSpec {
    /// Network of `db` and `app`.
    pub data_network: NetworkShape,
    /// Network of `web`.
    pub web_network: NetworkShape,
    pub db_ip: IpAddr,
    pub app_ip: IpAddr,
    pub web_ip: IpAddr,
    pub root_bytes: u64,
    pub data_bytes: u64,
    pub ballast_bytes: u64,
    pub every_millis: u64,
}

impl Default for EstateSpec {
    /// The shop of `plans/shop`, with the addresses and ports of the real one. Four disks, 112 MiB in all, 14 MiB of
    /// them written; twenty records a second.
    fn default() -> Self {
        let network = |name, cidr: &str| NetworkShape { name: NetworkName::new(name), cidr: cidr.to_owned() };
        Self {
            data_network: network("data", "10.10.20.0/24"),
            web_network: network("web", "10.10.40.0/24"),
            db_ip: IpAddr::V4(Ipv4Addr::new(10, 10, 20, 11)),
            app_ip: IpAddr::V4(Ipv4Addr::new(10, 10, 20, 12)),
            web_ip: IpAddr::V4(Ipv4Addr::new(10, 10, 40, 13)),
            root_bytes: 16 << 20,
            data_bytes: 64 << 20,
            ballast_bytes: 3 << 20,
            every_millis: 50,
        }
    }
}

impl EstateSpec {
    /// Small enough for thousands of cycles: disks of 1 MiB and 2 MiB.
    pub fn tiny() -> Self {
        Self { root_bytes: 1 << 20, data_bytes: 2 << 20, ballast_bytes: 256 << 10, every_millis: 10, ..Self::default() }
    }

    pub fn machines(&self) -> Vec<MachineSpec> {
        let program = |kind, disk: &str, port, upstream| {
            Some(Program { kind, disk: DiskName::new(disk), port, every_millis: self.every_millis, upstream })
        };
        let root = DiskFacts { name: DiskName::new("root"), size_bytes: self.root_bytes };
        let data = DiskFacts { name: DiskName::new("data"), size_bytes: self.data_bytes };
        let nic = |network: &NetworkShape, mac: &str, ip| NicShape {
            network: network.name.clone(),
            mac: mac.to_owned(),
            ip: Some(ip),
        };
        let machine = |name: &str, nic, disks: Vec<DiskFacts>, program| MachineSpec {
            name: MachineName::new(name),
            cpus: 1,
            memory_bytes: 256 << 20,
            disks,
            nics: vec![nic],
            program,
            ballast_bytes: self.ballast_bytes,
        };
        vec![
            machine(
                "db",
                nic(&self.data_network, "52:54:00:00:20:11", self.db_ip),
                vec![root.clone(), data],
                program(ProgramKind::Database, "data", DATABASE_PORT, None),
            ),
            machine(
                "app",
                nic(&self.data_network, "52:54:00:00:20:12", self.app_ip),
                vec![root.clone()],
                program(ProgramKind::App, "root", APP_PORT, Some(self.db_ip)),
            ),
            machine(
                "web",
                nic(&self.web_network, "52:54:00:00:40:13", self.web_ip),
                vec![root],
                program(ProgramKind::Web, "root", WEB_PORT, Some(self.app_ip)),
            ),
        ]
    }
}

/// Makes a site folder with a fresh estate, every machine off. Refused when the folder already has machines.
pub fn create_estate(
    folder: &Path,
    site: &SiteName,
    spec: &EstateSpec,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<()> {
    let provider = SimulatedProvider::open(site.clone(), folder, clock, random)?;
    provider.add_estate(spec)
}

impl SimulatedProvider {
    pub fn add_estate(&self, spec: &EstateSpec) -> Result<()> {
        if !self.shared.state().machines.is_empty() {
            return Err(Failure::refused(format!("the site `{}` already has machines", self.site()))
                .help("make the estate in an empty folder"));
        }
        self.shared.ensure_networks(&[spec.data_network.clone(), spec.web_network.clone()])?;
        spec.machines().iter().try_for_each(|machine| self.add_machine(machine))
    }

    /// A machine that was always there: off, its disks formatted, no labels.
    pub fn add_machine(&self, spec: &MachineSpec) -> Result<()> {
        let instance = InstanceName::live(&spec.name);
        check_name("machine", instance.as_str())?;
        let mut state = self.shared.state();
        if state.machines.contains_key(&instance) {
            return Err(Failure::refused(format!("there is already a machine `{instance}`")));
        }
        for (index, facts) in spec.disks.iter().enumerate() {
            let disk = self.shared.make_disk(&mut state, &instance, &facts.name, facts.size_bytes)?;
            let program = spec.program.as_ref().filter(|_| index == 0);
            let name = format!("{}/{}", spec.name, facts.name);
            format_disk(&disk, name, program, spec.ballast_bytes, self.shared.random.next_u64())?;
        }
        let machine = Machine::new(MachineRecord {
            machine: spec.name.clone(),
            cpus: spec.cpus,
            memory_bytes: spec.memory_bytes,
            disks: spec.disks.clone(),
            nics: spec.nics.clone(),
            scope: NetworkScope::Live,
            labels: Default::default(),
            power: Power::Off,
        });
        self.shared.save_machine(&instance, &machine)?;
        state.machines.insert(instance.clone(), machine);
        drop(state);
        self.shared.effect(CallClass::Define, instance.as_str(), None, true);
        Ok(())
    }
}

fn format_disk(disk: &Disk, name: String, program: Option<&Program>, ballast_bytes: u64, seed: u64) -> Result<()> {
    let volume = Volume::plan(name, disk.size(), ballast_bytes, seed)?;
    if let Some(program) = program {
        disk.write(image::BOOT_AT, &image::program_bytes(program)?)?;
    }
    disk.write(image::VOLUME_AT, &image::volume_bytes(&volume)?)?;
    for (at, block) in volume.ballast_blocks() {
        disk.write(at, &block)?;
    }
    disk.flush()
}
