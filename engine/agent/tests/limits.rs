//! What the agent works on at once is bounded, and what waits gets its turn.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use futures::future::join_all;
use muster_agent::limits::COPIES_MAX;
use muster_ports::*;
use std::time::Duration;
use support::*;

fn ship(disk: &str, mode: ShipMode) -> ShipOrder {
    ShipOrder {
        vault: "file:///vault".to_owned(),
        epoch: Epoch(1),
        barrier: "b1".into(),
        machine: MachineName::new("db"),
        disk: DiskName::new(disk),
        lineage: LineageId::new("l"),
        mode,
        compression: 3,
        rate_limit: None,
        pace: None,
        seed: None,
    }
}

#[tokio::test(start_paused = true)]
async fn only_so_many_disks_are_copied_at_once_and_changes_do_not_wait_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, plane) = (MemoryProvider::new("home"), std::sync::Arc::new(MemoryPlane::default()));
    let disks: Vec<String> = (0..3 * COPIES_MAX).map(|number| format!("disk{number}")).collect();
    disks.iter().for_each(|disk| provider.put_disk("db", disk, content(1)));
    let site = local(&provider, &plane, folder.path());
    let member = CutMember { instance: name("db"), machine: MachineName::new("db"), base: None };
    let order = CutOrder {
        barrier: "b1".into(),
        members: vec![member],
        consistency: Consistency::Crash,
        hold: false,
        hold_limit: Duration::from_secs(1),
    };
    site.cut(&order).await.unwrap();

    let orders: Vec<ShipOrder> = disks.iter().map(|disk| ship(disk, ShipMode::Full)).collect();
    let copies = orders.iter().map(|order| site.ship(order, &Silent));
    let began = tokio::time::Instant::now();
    let delta = async {
        site.ship(&ship("disk0", ShipMode::Delta), &Silent).await.unwrap();
        began.elapsed()
    };
    let (copied, delta_took) = tokio::join!(join_all(copies), delta);
    copied.into_iter().for_each(|copy| drop(copy.unwrap()));
    // Three rounds of copies; the delta was there after one.
    assert!(delta_took * 2 < began.elapsed(), "{delta_took:?} of {:?}", began.elapsed());
    assert_eq!(*plane.shipping.lock().unwrap(), (0, COPIES_MAX + 1));
}
