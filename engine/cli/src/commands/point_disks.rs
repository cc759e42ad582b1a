//! The disks of a point, opened in the vault: works with nothing but the vault and its key.

use super::open;
use crate::arguments::Common;
use crate::output::Watcher;
use muster_control::{Event, PointsAnswer, Project, Request};
use muster_ports::{DiskName, Failure, MachineName, PointId, Progress, ReplicaImage, Result};
use muster_replication::PointSummary;
use muster_vault::{Replica, Vault};

/// A point with some of its disks.
#[derive(Debug)]
pub struct PointDisks {
    pub point: PointSummary,
    pub disks: Vec<PointDisk>,
}

/// One disk of one machine.
#[derive(Clone, Debug)]
pub struct PointDisk {
    pub machine: MachineName,
    pub disk: DiskName,
    pub replica: Replica,
}

impl PointDisk {
    /// `db/data`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.machine, self.disk)
    }
}

impl PointDisks {
    /// All disks of these machines; of all machines when none is named.
    pub async fn of_machines(common: &Common, point: &str, machines: &[String]) -> Result<Self> {
        let project = Project::load(&common.plans).ok();
        let url = open::vault_url(common, project.as_ref())?;
        let vault = Vault::open(&url, &common.key()?).await?;
        let access = open::reading(common, project.as_ref()).await?;
        let found = find(&access, common, point, machines, &vault).await;
        access.close().await;
        found
    }

    /// What `POINT[:MACHINE/DISK]` names.
    pub async fn named(common: &Common, text: &str) -> Result<Self> {
        let Some((point, disk)) = text.split_once(':') else { return Self::of_machines(common, text, &[]).await };
        let Some((machine, disk)) = disk.split_once('/') else {
            return Err(Failure::permanent(format!("`{disk}` names no disk")).help("write `POINT:MACHINE/DISK`"));
        };
        let mut found = Self::of_machines(common, point, &[machine.to_owned()]).await?;
        let known = found.names();
        found.disks.retain(|known| known.disk.as_str() == disk);
        if found.disks.is_empty() {
            return Err(Failure::permanent(format!("`{machine}` has no disk `{disk}` at this point"))
                .help(format!("it has {known}")));
        }
        Ok(found)
    }

    /// The one disk that is meant.
    pub fn only(self, text: &str) -> Result<PointDisk> {
        let known = self.names();
        let mut disks = self.disks.into_iter();
        match (disks.next(), disks.next()) {
            (Some(disk), None) => Ok(disk),
            _ => Err(Failure::permanent(format!("which disk of `{text}`? It has {known}"))
                .help(format!("write `{text}:MACHINE/DISK`"))),
        }
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.disks.iter().map(|disk| format!("`{}`", disk.name())).collect();
        names.join(", ")
    }
}

async fn find(
    access: &open::Opened,
    common: &Common,
    point: &str,
    machines: &[String],
    vault: &Vault,
) -> Result<PointDisks> {
    let known: PointsAnswer = access.ask(&Request::Points { group: None }, common).await?;
    let found = known.points.into_iter().find(|found| found.id.as_str() == point);
    let found = found.ok_or_else(|| {
        Failure::permanent(format!("there is no recovery point `{point}`")).help("`muster points` lists them")
    })?;
    let wanted = match machines {
        [] => found.machines.clone(),
        named => named.iter().map(|name| MachineName::new(name.as_str())).collect(),
    };
    let mut disks = Vec::new();
    for machine in wanted {
        let request = Request::Image { point: PointId::new(point), machine: machine.clone() };
        let images: Vec<(DiskName, ReplicaImage)> = access.ask(&request, common).await?;
        disks.extend(images.into_iter().map(|(disk, image)| PointDisk {
            machine: machine.clone(),
            disk,
            replica: vault.replica(&image),
        }));
    }
    Ok(PointDisks { point: found, disks })
}

/// Progress of one disk, as a bar.
#[derive(Debug)]
pub struct Told<'a> {
    pub watcher: &'a Watcher,
    pub what: String,
}

impl Progress for Told<'_> {
    fn report(&self, done: u64, total: Option<u64>) {
        self.watcher.tell(Event::Progress { what: self.what.clone(), done, total });
    }
}
