//! A first copy that travels on a disk, with a real vault.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]
#![allow(clippy::indexing_slicing, reason = "a test ends where something is wrong")]

mod world;

use muster_ports::*;
use muster_replication::{GroupPhase, Recovery};
use muster_runsheet::InitialCopy;
use muster_vault::{KeySource, Place, Vault};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use world::*;

struct Lab {
    world: World,
    vault: Vault,
    folder: TempDir,
}

impl Lab {
    /// A group whose first copy is to travel.
    async fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new(seed, &plain_machines(), true, false).await;
        let url = format!("file://{}", folder.path().join("vault").display());
        let key = KeySource::generate_file(&folder.path().join("key"), world.random.as_ref()).unwrap();
        let vault = Vault::init(&url, &key, world.random.as_ref()).await.unwrap();
        *world.site(&home()).real.lock().unwrap() = Some(vault.clone());
        world.connect_to(&url);
        world.estate.policies.values_mut().for_each(|policy| policy.initial_copy = InitialCopy::Offline);
        world.replicator.protect(&world.estate, &group()).await.unwrap();
        Self { world, vault, folder }
    }

    fn disk(&self) -> String {
        format!("file://{}", self.folder.path().join("usb").display())
    }
    fn segments(&self, place: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = walk(self.folder.path().join(place));
        found.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        found.sort();
        found
    }
    async fn import(&self) -> Result<muster_replication::SeedReport> {
        let from = Place::open(&self.disk(), false)?;
        self.world.replicator.import_seed(&group(), &from, self.vault.place(), &Silent).await
    }
    async fn phase(&self) -> GroupPhase {
        self.world.replicator.status().await.unwrap()[0].phase.clone()
    }

    /// Every point holds what the disks held when it was cut.
    async fn check(&self) -> usize {
        let model = self.world.model.lock().unwrap().clone();
        let points = self.world.replicator.point_records(&group()).await.unwrap();
        for point in &points {
            for machine in &point.summary.machines {
                for (disk, image) in self.world.replicator.images(&point.summary.id, machine).await.unwrap() {
                    let mut bytes = vec![0u8; usize::try_from(image.size_bytes).unwrap()];
                    self.vault.replica(&image).read_at(0, &mut bytes).await.unwrap();
                    assert!(bytes == model[&point.barriers[0]][&(machine.clone(), disk)], "{}", point.summary.id);
                }
            }
        }
        points.len()
    }
}

fn walk(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(path) } else { vec![path] }).collect()
}

fn write(world: &World, at: u64, value: u8) {
    let (machine, disk) = (InstanceName::new("db"), DiskName::new("data"));
    world.home().write_disk(&machine, &disk, at, &[value; 4096]).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_first_copy_travels_on_a_disk_and_deltas_follow() {
    let lab = Lab::new(71).await;
    write(&lab.world, 0, 1);
    assert_eq!(lab.phase().await, GroupPhase::AwaitsSeed { exported: None });
    let failure = lab.world.cycle().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");
    assert!(failure.help.unwrap().contains("muster seed export"));
    lab.world.replicator.run_until(tokio::time::sleep(Duration::from_secs(600))).await.unwrap();
    assert!(lab.world.take_modes(&home()).is_empty(), "nothing goes over the wire");

    let exported = lab.world.replicator.export_seed(&group(), &lab.disk(), &Silent).await.unwrap();
    assert_eq!(lab.world.take_modes(&home()), ["app/root:full", "db/data:full", "db/root:full"]);
    assert!(lab.segments("vault").is_empty() && lab.segments("usb").len() as u64 == exported.segments);
    assert!(matches!(lab.phase().await, GroupPhase::AwaitsSeed { exported: Some(to) } if to.to == lab.disk()));
    assert!(lab.world.replicator.points(&group()).await.unwrap().is_empty(), "what has not arrived is no point");
    write(&lab.world, 200_000, 2);

    let imported = lab.import().await.unwrap();
    assert_eq!(imported, exported);
    assert_eq!(lab.phase().await, GroupPhase::Replicating);
    assert_eq!(lab.check().await, 1);
    lab.world.cycle().await.unwrap();
    assert_eq!(lab.world.take_modes(&home()), ["app/root:delta", "db/data:delta", "db/root:delta"]);
    assert_eq!(lab.check().await, 2);
    for failure in [lab.import().await, lab.world.replicator.export_seed(&group(), &lab.disk(), &Silent).await] {
        assert_eq!(failure.unwrap_err().class, FailureClass::Refused, "there is a first copy");
    }
}

/// A disk that was damaged on the way, and an import that is begun again: nothing is a point before all of it is there.
#[tokio::test(start_paused = true)]
async fn damage_on_the_way_is_found_and_nothing_is_lost() {
    let mut lab = Lab::new(72).await;
    write(&lab.world, 0, 1);
    assert_eq!(lab.import().await.unwrap_err().class, FailureClass::Permanent, "there is no such folder");
    lab.world.replicator.export_seed(&group(), &lab.disk(), &Silent).await.unwrap();
    let segments = lab.segments("usb");
    let sound = std::fs::read(&segments[1]).unwrap();
    let mut damaged = sound.clone();
    damaged[sound.len() / 2] ^= 1;
    for wrong in [damaged, sound[..sound.len() - 1].to_vec()] {
        std::fs::write(&segments[1], wrong).unwrap();
        let failure = lab.import().await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Diverged, "{failure}");
        assert!(lab.world.replicator.points(&group()).await.unwrap().is_empty());
    }
    std::fs::remove_file(&segments[1]).unwrap();
    let failure = lab.import().await.unwrap_err();
    assert!(failure.message.contains("is missing at") && failure.message.contains("usb"), "{failure}");
    // What has arrived stays, though no point names it yet. How much that is depends on which copy failed first; this one is
    // put there for certain.
    let relative = segments[0].strip_prefix(lab.folder.path().join("usb")).unwrap();
    let there = lab.folder.path().join("vault").join(relative);
    std::fs::create_dir_all(there.parent().unwrap()).unwrap();
    std::fs::copy(&segments[0], &there).unwrap();
    lab.world.replicator.gc(lab.vault.place(), Duration::ZERO).await.unwrap();
    assert!(there.exists(), "gc has taken what had arrived");
    std::fs::write(&segments[1], sound).unwrap();
    lab.world.restart();
    lab.import().await.unwrap();
    assert_eq!(lab.check().await, 1);
    write(&lab.world, 300_000, 3);
    lab.world.cycle().await.unwrap();
    assert_eq!(lab.check().await, 2);
}

/// An import takes hours, and nobody who has to stop it waits for that.
#[tokio::test(start_paused = true)]
async fn an_import_gives_way_and_goes_on_later() {
    let lab = Lab::new(75).await;
    write(&lab.world, 0, 1);
    lab.world.replicator.export_seed(&group(), &lab.disk(), &Silent).await.unwrap();
    let group = group();
    let (imported, paused) = tokio::join!(lab.import(), lab.world.replicator.pause(&group, "ada", "the line"));
    paused.unwrap();
    let failure = imported.unwrap_err();
    assert!(failure.message.contains("gave way"), "{failure}");
    assert!(lab.world.replicator.points(&group).await.unwrap().is_empty());
    lab.world.replicator.resume(&group).await.unwrap();
    lab.import().await.unwrap();
    assert_eq!(lab.check().await, 1);
}

/// Whoever changes the plans meanwhile gets what the new plans say.
#[tokio::test(start_paused = true)]
async fn plans_may_change_while_the_disk_travels() {
    let mut lab = Lab::new(73).await;
    lab.world.replicator.export_seed(&group(), &lab.disk(), &Silent).await.unwrap();
    // Over the wire after all: the seed is of no use any more.
    lab.world.estate.policies.values_mut().for_each(|policy| policy.initial_copy = InitialCopy::Online);
    lab.world.replicator.protect(&lab.world.estate, &group()).await.unwrap();
    assert_eq!(lab.phase().await, GroupPhase::FirstCopy);
    lab.world.cycle().await.unwrap();
    let failure = lab.import().await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");
    assert_eq!(lab.check().await, 1);
    // A seed of disks that were given up with their protection is of none either.
    let lab = Lab::new(74).await;
    lab.world.replicator.export_seed(&group(), &lab.disk(), &Silent).await.unwrap();
    lab.world.replicator.unprotect(&group()).await.unwrap();
    lab.world.replicator.protect(&lab.world.estate, &group()).await.unwrap();
    assert_eq!(lab.phase().await, GroupPhase::AwaitsSeed { exported: None });
    assert_eq!(lab.import().await.unwrap_err().class, FailureClass::Refused);
}
