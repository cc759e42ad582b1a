//! Points that people keep, and points that thin out, under the real schedule in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use muster_ports::*;
use muster_replication::Recovery;
use muster_runsheet::RetentionTier;
use std::collections::BTreeSet;
use std::time::Duration;
use world::*;

const HOUR: Duration = Duration::from_secs(3600);

async fn ids(world: &World) -> BTreeSet<PointId> {
    world.replicator.points(&group()).await.unwrap().into_iter().map(|point| point.id).collect()
}

#[tokio::test(start_paused = true)]
async fn retention_passes_over_what_people_keep_until_its_time_has_come() {
    let world = World::new(30, &plain_machines(), true, false).await;
    let (held, dated, free) =
        (world.cycle().await.unwrap(), world.cycle().await.unwrap(), world.cycle().await.unwrap());
    let until = world.clock.now().plus(HOUR / 2);
    world.replicator.keep(&held, None, "anna", "audit").await.unwrap();
    world.replicator.keep(&dated, Some(until), "anna", "").await.unwrap();
    world.replicator.run_until(tokio::time::sleep(HOUR / 4)).await.unwrap();
    let left = ids(&world).await;
    assert!(left.contains(&held) && left.contains(&dated) && !left.contains(&free), "{left:?}");
    world.replicator.drop_before(&group(), left.last().unwrap()).await.unwrap();
    assert!(ids(&world).await.is_superset(&BTreeSet::from([held.clone(), dated.clone()])));
    let refused = world.replicator.drop_point(&dated).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Refused, "{refused}");
    world.replicator.run_until(tokio::time::sleep(HOUR / 2)).await.unwrap();
    let left = ids(&world).await;
    assert!(left.contains(&held) && !left.contains(&dated), "its date has passed: {left:?}");
    assert_eq!(world.replicator.lift(&held).await.unwrap(), None);
    world.replicator.retain().await.unwrap();
    assert!(!ids(&world).await.contains(&held));
    assert!(world.replicator.keeps().await.unwrap().is_empty(), "no record stays behind");
    world.check_images().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_no_longer_protected_leaves_what_people_keep() {
    let world = World::new(31, &plain_machines(), true, false).await;
    let held = world.cycle().await.unwrap();
    world.cycle().await.unwrap();
    world.replicator.keep(&held, None, "anna", "").await.unwrap();
    world.replicator.unprotect(&group()).await.unwrap();
    assert_eq!(ids(&world).await, BTreeSet::from([held.clone()]));
    let bin = Bin(world.vault.clone());
    world.replicator.gc(&bin, Duration::ZERO).await.unwrap();
    world.replicator.gc(&bin, Duration::ZERO).await.unwrap();
    world.check_images().await;
}

#[tokio::test(start_paused = true)]
async fn points_thin_out_by_the_tiers_of_their_policy() {
    let world = World::new(32, &plain_machines(), true, false).await;
    let policy = muster_runsheet::PolicySheet {
        retain: (8 * HOUR).into(),
        retain_all: Some(HOUR.into()),
        tiers: vec![RetentionTier { every: HOUR.into(), until: (8 * HOUR).into() }],
        ..policy(Duration::from_secs(300), 8 * HOUR)
    };
    let mut estate = world.estate.clone();
    estate.policies.insert(policy.name.clone(), policy);
    world.replicator.protect(&estate, &group()).await.unwrap();
    world.replicator.run_until(tokio::time::sleep(5 * HOUR)).await.unwrap();
    let now = world.clock.now();
    let points = world.replicator.points(&group()).await.unwrap();
    let (young, old): (Vec<_>, Vec<_>) = points.iter().partition(|point| now.since(point.at) < HOUR);
    assert!((11..=13).contains(&young.len()), "all of the last hour: {}", young.len());
    assert!((4..=6).contains(&old.len()), "one of each hour before: {}", old.len());
    let hours: BTreeSet<u64> = old.iter().map(|point| point.at.as_millis() / 3_600_000).collect();
    assert!(hours.len() + 2 >= old.len(), "{hours:?}");
    world.check_images().await;
}
