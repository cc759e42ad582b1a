//! Long lineages are folded while cycles, retention and the sweeper go on; every point keeps its content.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use async_trait::async_trait;
use muster_ports::*;
use muster_replication::{FoldOrder, Folding, Recovery};
use muster_vault::{KeySource, Vault};
use std::sync::Arc;
use std::time::Duration;
use world::*;

/// What the segments say, one after the other, as one segment.
#[derive(Debug)]
struct MemoryFold {
    vault: Arc<MemoryVault>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Folding for MemoryFold {
    async fn fold(&self, order: &FoldOrder) -> Result<Vec<SegmentRef>> {
        let pieces = {
            let segments = self.vault.segments.lock().unwrap();
            order.segments.iter().flat_map(|segment| segments[&segment.name].1.clone()).collect()
        };
        Ok(self.vault.put(&order.lineage, self.clock.now(), pieces))
    }
}

fn scribble_all(world: &World) {
    for machine in plain_machines() {
        for disk in &machine.disks {
            scribble(world.home(), &world.random, &machine.name, &disk.name);
        }
    }
}

async fn segments_of_newest(world: &World) -> usize {
    let newest = world.replicator.points(&group()).await.unwrap().pop().unwrap();
    let mut most = 0;
    for machine in &newest.machines {
        for (_, image) in world.replicator.images(&newest.id, machine).await.unwrap() {
            most = most.max(image.segments.len());
        }
    }
    most
}

#[tokio::test(start_paused = true)]
async fn points_keep_their_content_while_lineages_are_folded_and_swept() {
    let world = World::new(31, &plain_machines(), true, false).await;
    let folding = MemoryFold { vault: world.vault.clone(), clock: world.clock.clone() };
    let bin = Bin(world.vault.clone());
    for turn in 0..120 {
        scribble_all(&world);
        world.cycle().await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        if turn % 7 == 0 {
            world.replicator.fold(&folding).await.unwrap();
        }
        if turn % 30 == 29 {
            // The policy keeps ten minutes: 30 points.
            world.replicator.retain().await.unwrap();
            world.replicator.gc(&bin, Duration::from_secs(1)).await.unwrap();
        }
    }
    assert!(segments_of_newest(&world).await <= 2 * 32 + 8, "{}", segments_of_newest(&world).await);
    // Two sweeps: what the first unlinks goes with the second.
    world.replicator.fold(&folding).await.unwrap();
    world.replicator.retain().await.unwrap();
    for _ in 0..2 {
        world.replicator.gc(&bin, Duration::ZERO).await.unwrap();
    }
    let points = world.check_images().await;
    assert!(points.len() <= 32, "{}", points.len());
    let kept = world.vault.segments.lock().unwrap().len();
    assert!(kept < 3 * 90, "layers below folds are gone: {kept} segments of 360 are left");
}

/// A fold that was cut off, or whose record was lost, leaves garbage and never a hole.
#[tokio::test(start_paused = true)]
async fn a_fold_that_is_cut_off_changes_nothing() {
    let mut world = World::new(32, &plain_machines(), true, false).await;
    let folding = MemoryFold { vault: world.vault.clone(), clock: world.clock.clone() };
    for _ in 0..60 {
        scribble_all(&world);
        world.cycle().await.unwrap();
    }
    world.store.fail.store(1000, std::sync::atomic::Ordering::Relaxed);
    world.replicator.fold(&folding).await.unwrap_err();
    world.store.fail.store(0, std::sync::atomic::Ordering::Relaxed);
    world.restart();
    let before = world.vault.segments.lock().unwrap().len();
    world.replicator.gc(&Bin(world.vault.clone()), Duration::ZERO).await.unwrap();
    assert!(world.vault.segments.lock().unwrap().len() < before, "the orphans of the fold are swept");
    let report = world.replicator.fold(&folding).await.unwrap();
    assert!(report.folds > 0 && report.layers >= 32, "{report:?}");
    assert_eq!(world.check_images().await.len(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_real_vault_is_folded_and_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(33, &plain_machines(), true, false).await;
    let url = format!("file://{}", folder.path().join("vault").display());
    let key = KeySource::generate_file(&folder.path().join("key"), world.random.as_ref()).unwrap();
    let vault = Vault::init(&url, &key, world.random.as_ref()).await.unwrap();
    *world.site(&home()).real.lock().unwrap() = Some(vault.clone());
    world.connect_to(&url);
    for _ in 0..60 {
        scribble_all(&world);
        world.cycle().await.unwrap();
    }
    let before = segments_of_newest(&world).await;
    let report = world.replicator.fold(&vault).await.unwrap();
    assert!(report.folds >= 1, "{report:?}");
    assert!(segments_of_newest(&world).await < before);
    let model = world.model.lock().unwrap().clone();
    // Before, within and behind the folds.
    for point in world.replicator.point_records(&group()).await.unwrap().into_iter().step_by(7) {
        for machine in &point.summary.machines {
            for (disk, image) in world.replicator.images(&point.summary.id, machine).await.unwrap() {
                let mut bytes = vec![0u8; image.size_bytes as usize];
                vault.replica(&image).read_at(0, &mut bytes).await.unwrap();
                assert!(bytes == model[&point.barriers[0]][&(machine.clone(), disk)], "{}", point.summary.id);
                assert!(vault.replica(&image).verify(&Silent).await.unwrap().damaged.is_empty());
            }
        }
    }
}
