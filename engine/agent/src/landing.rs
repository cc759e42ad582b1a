//! Bringing a machine to exist from a recovery point.
//!
//! Defining the instance is the last step, and carries the order's `muster.key`: an instance with that key was landed
//! whole, whatever crashed since. Everything before it can be done again from the start.

use crate::local::LocalSite;
use muster_ports::*;
use std::sync::Arc;

const KEY_LABEL: &str = "muster.key";

impl LocalSite {
    /// The caller holds the instance's lock.
    pub(crate) async fn land_alone(&self, order: &LandOrder, progress: &dyn Progress) -> Result<LandReport> {
        let shape = &order.shape;
        check(order)?;
        let found = self.find(&shape.instance).await?;
        if let Some(found) = &found {
            if is_same_landing(found, shape) {
                // After a restart of the agent its exports may still be down.
                self.ties.serve(&shape.instance).await?;
                return Ok(LandReport::default());
            }
            refuse_other(found, order.mode)?;
        }
        match order.mode {
            LandMode::Instant => self.land_instant(order).await,
            LandMode::Differences | LandMode::Full => self.land_written(order, found.is_some(), progress).await,
        }
    }

    async fn land_instant(&self, order: &LandOrder) -> Result<LandReport> {
        let instance = &order.shape.instance;
        let backings = self.ties.tie(instance, &order.images).await?;
        let shape = with_backings(&order.shape, |disk| backings.get(disk).cloned());
        if let Err(failure) = self.provider.define(&shape).await {
            if !failure.is_retryable() {
                self.ties.untie(instance).await?;
            }
            return Err(failure);
        }
        Ok(LandReport::default())
    }

    /// Writes every disk, then defines the machine on them. `replaced`: the machine's old definition has to go first.
    async fn land_written(&self, order: &LandOrder, replaced: bool, progress: &dyn Progress) -> Result<LandReport> {
        let shape = &order.shape;
        let mut report = LandReport::default();
        let total = order.images.values().map(|image| image.size_bytes).sum();
        let mut before = 0;
        for disk in &shape.disks {
            let image = image_of(order, disk)?;
            let progress = Share { whole: progress, before, size: image.size_bytes, total };
            let landed = self.write_disk(order, disk, image, &progress).await;
            let landed = landed.map_err(|failure| failure.during(format!("write disk `{}`", disk.name)))?;
            report.fetched_bytes += landed.fetched_bytes;
            report.compared_bytes += landed.compared_bytes;
            report.written_bytes += landed.written_bytes;
            report.notes.extend(landed.notes);
            before += image.size_bytes;
            progress.whole.report(before, Some(total));
        }
        if replaced {
            self.provider.undefine(&shape.instance, false).await?;
            self.ties.untie(&shape.instance).await?;
        }
        self.provider.define(&with_backings(shape, |_| Some(DiskBacking::Existing))).await?;
        Ok(report)
    }

    async fn write_disk(
        &self,
        order: &LandOrder,
        disk: &DiskShape,
        image: &ReplicaImage,
        progress: &dyn Progress,
    ) -> Result<LandReport> {
        let (target, existed) = self.provider.open_disk(&order.shape.instance, &disk.name, disk.size_bytes).await?;
        let target: Arc<dyn BlockTarget> = Arc::from(target);
        if target.size() != disk.size_bytes {
            let message = format!("it has {} bytes here, the point has {}", target.size(), disk.size_bytes);
            return Err(Failure::diverged(message).help("move the old disk away, so that it is written anew"));
        }
        // A disk that was there may hold anything, also what an interrupted landing has left: only comparing is safe.
        let mut report = if existed {
            self.plane.apply_differences(image, target.clone(), progress).await?
        } else {
            self.plane.materialise(image, target.clone(), progress).await?
        };
        if !existed && order.mode == LandMode::Differences {
            report.notes.push(format!("disk `{}` was not at this site; it was written in full", disk.name));
        }
        target.flush().await?;
        Ok(report)
    }
}

fn check(order: &LandOrder) -> Result<()> {
    let shape = &order.shape;
    if !shape.labels.contains_key(KEY_LABEL) {
        return Err(Failure::permanent(format!("the order has no label `{KEY_LABEL}`")));
    }
    for disk in &shape.disks {
        let image = image_of(order, disk)?;
        if image.size_bytes != disk.size_bytes {
            let message = format!(
                "disk `{}` is to have {} bytes, at the point it has {}",
                disk.name, disk.size_bytes, image.size_bytes
            );
            return Err(Failure::permanent(message).help("pull the inventory and compile the plan again"));
        }
    }
    match order.images.keys().find(|name| shape.disks.iter().all(|disk| disk.name != **name)) {
        Some(stray) => Err(Failure::permanent(format!("there is an image for disk `{stray}`, which it does not have"))),
        None => Ok(()),
    }
}

fn image_of<'a>(order: &'a LandOrder, disk: &DiskShape) -> Result<&'a ReplicaImage> {
    let missing = || Failure::permanent(format!("the point has no image of disk `{}`", disk.name));
    order.images.get(&disk.name).ok_or_else(missing)
}

fn is_same_landing(found: &InstanceState, shape: &MachineShape) -> bool {
    let key = shape.labels.get(KEY_LABEL);
    key.is_some() && found.labels.get(KEY_LABEL) == key
}

/// A machine that is there already is only replaced by differences, which is what failing back to it means, and only
/// when it is off.
fn refuse_other(found: &InstanceState, mode: LandMode) -> Result<()> {
    if found.power == Power::On {
        return Err(Failure::refused("a machine of this name is on at this site").help("stop or fence it first"));
    }
    if mode != LandMode::Differences {
        return Err(Failure::refused("a machine of this name is at this site already")
            .help("remove it, or land by differences onto its disks"));
    }
    Ok(())
}

fn with_backings(shape: &MachineShape, backing: impl Fn(&DiskName) -> Option<DiskBacking>) -> MachineShape {
    let mut shape = shape.clone();
    for disk in &mut shape.disks {
        if let Some(backing) = backing(&disk.name) {
            disk.backing = backing;
        }
    }
    shape
}

/// The progress of one disk as a share of all.
struct Share<'a> {
    whole: &'a dyn Progress,
    before: u64,
    size: u64,
    total: u64,
}

impl Progress for Share<'_> {
    fn report(&self, done: u64, total: Option<u64>) {
        let of = total.unwrap_or(self.size).max(1);
        // Exact beyond 2^64 is not needed for a bar, but wrapping would be a lie.
        let share = u128::from(done.min(of)) * u128::from(self.size) / u128::from(of);
        self.whole.report(self.before + u64::try_from(share).unwrap_or(self.size), Some(self.total));
    }
}
