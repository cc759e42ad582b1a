//! The reconciler over the real pipeline and a real vault in a folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use muster_ports::*;
use muster_replication::Recovery;
use muster_vault::{KeySource, Vault};
use std::time::Duration;
use world::*;

#[tokio::test(start_paused = true)]
async fn points_in_a_real_vault_hold_what_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(21, &plain_machines(), true, true).await;
    let url = format!("file://{}", folder.path().join("vault").display());
    let key = KeySource::generate_file(&folder.path().join("key"), world.random.as_ref()).unwrap();
    let vault = Vault::init(&url, &key, world.random.as_ref()).await.unwrap();
    *world.site(&home()).real.lock().unwrap() = Some(vault.clone());
    world.connect_to(&url);
    for turn in 0..6 {
        for machine in plain_machines() {
            for disk in &machine.disks {
                scribble(world.home(), &world.random, &machine.name, &disk.name);
            }
        }
        if turn == 3 {
            world.home().start(&InstanceName::new("db")).await.unwrap();
            world.home().kill(&InstanceName::new("db")).unwrap();
        }
        world.cycle().await.unwrap();
    }
    let modes = world.take_modes(&home());
    let count = |mode: &str| modes.iter().filter(|found| found.ends_with(mode)).count();
    assert_eq!((count("full"), count("compare"), count("delta")), (3, 2, 13));
    let model = world.model.lock().unwrap().clone();
    for point in world.replicator.point_records(&group()).await.unwrap() {
        for machine in &point.summary.machines {
            for (disk, image) in world.replicator.images(&point.summary.id, machine).await.unwrap() {
                let mut bytes = vec![0u8; image.size_bytes as usize];
                vault.replica(&image).read_at(0, &mut bytes).await.unwrap();
                assert!(bytes == model[&point.barriers[0]][&(machine.clone(), disk)], "{}", point.summary.id);
            }
        }
    }
    // Nothing that a point names goes, and nothing else is there.
    let live = world.replicator.live_segments().await.unwrap();
    let stored: std::collections::BTreeSet<_> =
        vault.segments().await.unwrap().into_iter().map(|segment| segment.name).collect();
    assert_eq!(stored, live);
    let report = world.replicator.gc(vault.place(), Duration::ZERO).await.unwrap();
    assert_eq!((report.deleted_segments, report.deleted_orphans, report.unlinked_layers), (0, 0, 0));
    world.replicator.unprotect(&group()).await.unwrap();
    world.replicator.gc(vault.place(), Duration::ZERO).await.unwrap();
    assert!(vault.segments().await.unwrap().is_empty());
}

/// A process that is killed while the store writes an object leaves a file that no list of objects shows.
#[tokio::test(start_paused = true)]
async fn what_a_killed_writer_left_half_written_goes_with_the_garbage() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(22, &plain_machines(), true, true).await;
    let url = format!("file://{}", folder.path().join("vault").display());
    let key = KeySource::generate_file(&folder.path().join("key"), world.random.as_ref()).unwrap();
    let vault = Vault::init(&url, &key, world.random.as_ref()).await.unwrap();
    *world.site(&home()).real.lock().unwrap() = Some(vault.clone());
    world.connect_to(&url);
    world.cycle().await.unwrap();
    let live = world.replicator.live_segments().await.unwrap();
    let beside = live.first().unwrap();
    for name in [format!("data/{beside}#1"), "state/wal/00000000000000000009.sst#1".to_owned()] {
        let path = folder.path().join("vault").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, [7; 100]).unwrap();
        // The clock of this world is far ahead of the files' or behind it: they are written when it says so.
        let now = std::time::UNIX_EPOCH + Duration::from_millis(world.replicator.now().0);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(now).unwrap();
    }
    assert_eq!(vault.place().unfinished().await.unwrap().len(), 2);
    let report = world.replicator.gc(vault.place(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(report.deleted_orphans, 0, "its writer may be alive");
    let report = world.replicator.gc(vault.place(), Duration::ZERO).await.unwrap();
    assert_eq!((report.deleted_orphans, report.orphan_bytes), (1, 100));
    let left = vault.place().unfinished().await.unwrap();
    assert!(left.len() == 1 && left[0].name.starts_with("state/"), "the control state has a writer: {left:?}");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let report = world.replicator.gc(vault.place(), Duration::ZERO).await.unwrap();
    assert_eq!(report.deleted_orphans, 1);
    assert!(vault.place().unfinished().await.unwrap().is_empty());
    assert_eq!(world.replicator.live_segments().await.unwrap(), live);
}
