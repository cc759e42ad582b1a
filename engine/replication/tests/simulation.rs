//! The reconciler under seeded faults, and cuts across machines. A failing test prints its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use muster_ports::*;
use muster_provider_simulated::*;
use muster_replication::PointKind;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;
use world::*;

/// Histories played; each is a few dozen cycles under faults.
const SEEDS: u64 = 30;

async fn play(seed: u64) -> (usize, usize) {
    let together = !seed.is_multiple_of(3);
    let mut world = World::new(seed, &plain_machines(), together, true).await;
    // Points must not age out here: every loss would be a fault.
    world.estate.policies.values_mut().for_each(|policy| policy.retain = muster_runsheet::Duration::from_mins(60 * 24));
    world.replicator.protect(&world.estate, &group()).await.unwrap();
    let rates =
        FaultRates { transient: 60, timeout: 40, permanent: 20, lost_reply: 60, slow: 20, ..FaultRates::default() };
    world.home().set_faults(FaultPlan::everywhere(seed, rates, u32::MAX));
    let mut timing = Timing::default();
    timing.calls.extend(CallClass::ALL.map(|class| (class, Duration::from_millis(7))));
    world.home().set_timing(timing);
    world.store.fail.store(40, Ordering::Relaxed);
    world.store.lose_answer.store(40, Ordering::Relaxed);
    world.site(&home()).fail_ships.store(100, Ordering::Relaxed);
    let mut committed: BTreeSet<PointId> = BTreeSet::new();
    let mut answered: BTreeSet<PointId> = BTreeSet::new();
    let mut failures = 0;
    for _ in 0..40 {
        for machine in plain_machines() {
            for disk in &machine.disks {
                scribble(world.home(), &world.random, &machine.name, &disk.name);
            }
        }
        match world.random.below(12) {
            0 => world.home().kill(&InstanceName::new("db")).unwrap(),
            1 => drop(world.home().start(&InstanceName::new("db")).await),
            2 => world.restart(),
            _ => {}
        }
        // A control service that is killed in the middle is a future that is dropped.
        let patience =
            Duration::from_millis(if world.random.below(4) == 0 { world.random.below(120) } else { 3_600_000 });
        match tokio::time::timeout(patience, world.cycle()).await {
            Ok(Ok(point)) => drop(answered.insert(point)),
            Ok(Err(_)) => failures += 1,
            Err(_) => {
                failures += 1;
                world.restart();
            }
        }
        let seen = world.check_images_but(&committed).await;
        assert!(committed.is_subset(&seen) && answered.is_subset(&seen), "seed {seed}: a committed point is gone");
        committed = seen;
    }
    // When the faults stop, so do the failures.
    world.home().set_faults(FaultPlan::none());
    world.store.fail.store(0, Ordering::Relaxed);
    world.store.lose_answer.store(0, Ordering::Relaxed);
    world.site(&home()).fail_ships.store(0, Ordering::Relaxed);
    world.cycle().await.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    world.check_images().await;
    (committed.len(), failures)
}

#[tokio::test(start_paused = true)]
async fn no_fault_loses_a_point_or_falsifies_one() {
    let (mut points, mut failures) = (0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let (more_points, more_failures) = play(seed).await;
        points += more_points;
        failures += more_failures;
    }
    println!("{points} points, {failures} failed cycles");
    // The faults really happened, and so did the work.
    assert!(points > 200 && failures > 200, "{points} points, {failures} failures");
}

/// `db` writes, `app` acknowledges what it read; both every millisecond, while a cut of one takes five.
async fn causal_world(together: bool) -> World {
    let spec = EstateSpec { every_millis: 1, ..EstateSpec::tiny() };
    let machines: Vec<_> = spec.machines().into_iter().filter(|machine| machine.name.as_str() != "web").collect();
    let world = World::new(77, &machines, together, false).await;
    world.site(&home()).record_model.store(false, Ordering::Relaxed);
    // Each order takes its time on the way.
    let mut timing = Timing::default();
    timing.calls.insert(CallClass::Cut, Duration::from_millis(5));
    world.home().set_timing(timing);
    for machine in ["db", "app"] {
        world.home().start(&InstanceName::new(machine)).await.unwrap();
    }
    world
}

async fn verdict(world: &World, point: &PointId, machine: &str, disk: &str) -> Verdict {
    use muster_replication::Recovery;
    let images = world.replicator.images(point, &MachineName::new(machine)).await.unwrap();
    let (_, image) = images.into_iter().find(|(name, _)| name.as_str() == disk).unwrap();
    let bytes = world.vault.assemble(&image);
    let verdict = check_disk(bytes.len() as u64, |at, buffer| {
        buffer.copy_from_slice(&bytes[at as usize..at as usize + buffer.len()]);
        Ok(())
    });
    let verdict = verdict.unwrap();
    assert!(verdict.is_sound(), "{machine}/{disk}: {:?}", verdict.problems);
    verdict
}

async fn causal_violations(world: &World, cycles: u32) -> u32 {
    let mut violations = 0;
    for _ in 0..cycles {
        tokio::time::sleep(Duration::from_millis(50 + world.random.below(50))).await;
        let point = world.cycle().await.unwrap();
        let db = verdict(world, &point, "db", "data").await;
        let app = verdict(world, &point, "app", "root").await;
        assert!(db.newest > 0 && app.newest_cause > 0, "both have written");
        violations += u32::from(check_causality(&db, &app).is_err());
    }
    violations
}

#[tokio::test(start_paused = true)]
async fn a_held_cut_never_holds_an_effect_without_its_cause() {
    let world = causal_world(true).await;
    assert_eq!(causal_violations(&world, 25).await, 0);
    let status = world.replicator.status().await.unwrap();
    let hold = status[0].last_cycle.as_ref().unwrap().hold_micros;
    assert_eq!(hold, 10_000, "two machines of five milliseconds in one hold");
    let points = world.replicator.point_records(&status[0].group).await.unwrap();
    let times: Vec<_> = points.iter().filter_map(|point| point.times).map(|times| times.hold_micros).collect();
    assert_eq!((times.len(), times.iter().max()), (points.len(), Some(&hold)), "each point keeps its own");
}

#[tokio::test(start_paused = true)]
async fn without_a_hold_the_checker_catches_it() {
    let world = causal_world(false).await;
    assert!(causal_violations(&world, 25).await > 0);
}

#[tokio::test(start_paused = true)]
async fn app_points_come_on_their_own_clock_and_need_no_replay() {
    let mut world = causal_world(true).await;
    world
        .estate
        .policies
        .values_mut()
        .for_each(|policy| policy.app_every = Some(muster_runsheet::Duration::from_mins(5)));
    let policy = world.estate.policies.values_mut().next().unwrap();
    policy.bandwidth = Some("80Mbit/s".parse().unwrap());
    world.replicator.protect(&world.estate, &group()).await.unwrap();
    world.replicator.run_until(tokio::time::sleep(Duration::from_secs(570))).await.unwrap();
    let points = world.replicator.points(&group()).await.unwrap();
    let app: Vec<_> = points.iter().filter(|point| point.kind == PointKind::App).collect();
    assert_eq!((points.len(), app.len()), (11, 2));
    for point in &points {
        let clean = verdict(&world, &point.id, "db", "data").await.clean;
        assert_eq!(clean, point.kind == PointKind::App, "{point:?}");
    }
    assert!(
        world.site(&home()).rate_limits.lock().unwrap().iter().all(|rate| *rate == Some(5_000_000) || rate.is_none())
    );
}
