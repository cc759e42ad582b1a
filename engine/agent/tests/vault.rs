//! The real data way: a cut is shipped into a vault, and landed from it at another site in every mode.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_agent::LocalSite;
use muster_ports::*;
use muster_vault::{KeySource, Vault};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::*;

struct Sites {
    folder: tempfile::TempDir,
    vault: String,
    home: Arc<MemoryProvider>,
    away: Arc<MemoryProvider>,
}

impl Sites {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("vault")).unwrap();
        let vault = format!("file://{}", folder.path().join("vault").display());
        let key = KeySource::generate_file(&folder.path().join("key"), &SystemRandom).unwrap();
        Vault::init(&vault, &key, &SystemRandom).await.unwrap();
        let (home, away) = (MemoryProvider::new("home"), MemoryProvider::new("away"));
        home.put_disk("db", "root", content(1));
        let mut data = content(2);
        data[4096..DISK_BYTES as usize / 2].fill(0);
        home.put_disk("db", "data", data);
        Self { folder, vault, home, away }
    }

    fn site(&self, provider: &Arc<MemoryProvider>) -> LocalSite {
        let folder = self.folder.path().join(provider.site.as_str());
        std::fs::create_dir_all(&folder).unwrap();
        let key = KeySource::File(self.folder.path().join("key"));
        LocalSite::new(provider.clone(), provider.site.clone(), folder, key, &SystemRandom)
    }

    /// One cycle of all disks of `db`.
    async fn point(&self, site: &LocalSite, barrier: &str, mode: ShipMode) -> [ReplicaImage; 2] {
        let machine = MachineName::new("db");
        let members = vec![CutMember { instance: name("db"), machine: machine.clone(), base: None }];
        let cut = CutOrder {
            barrier: barrier.into(),
            members,
            consistency: Consistency::Crash,
            hold: false,
            hold_limit: Duration::from_secs(1),
        };
        site.cut(&cut).await.unwrap();
        let mut images = Vec::new();
        for disk in ["root", "data"] {
            let order = ShipOrder {
                vault: self.vault.clone(),
                epoch: Epoch(1),
                barrier: barrier.into(),
                machine: machine.clone(),
                disk: disk.into(),
                lineage: LineageId::new(format!("l-{disk}")),
                mode: mode.clone(),
                compression: 1,
                rate_limit: None,
                pace: None,
                seed: None,
            };
            let shipped = site.ship(&order, &Silent).await.unwrap();
            assert_eq!(shipped.read_bytes, DISK_BYTES);
            let (vault, point) = (self.vault.clone(), PointId::new(barrier));
            images.push(ReplicaImage { vault, point, size_bytes: DISK_BYTES, segments: shipped.segments });
        }
        site.settle(&barrier.into(), CutOutcome::Committed).await.unwrap();
        images.try_into().unwrap()
    }

    fn disks(&self, provider: &MemoryProvider) -> BTreeMap<&'static str, Vec<u8>> {
        ["root", "data"].into_iter().map(|disk| (disk, provider.disk("db", disk).unwrap().bytes())).collect()
    }
}

#[tokio::test]
async fn what_was_cut_is_what_is_landed_in_every_mode() {
    let sites = Sites::new().await;
    let home = sites.site(&sites.home);
    let images = sites.point(&home, "c1", ShipMode::Full).await;
    for mode in [LandMode::Full, LandMode::Instant] {
        let away = sites.site(&sites.away);
        away.land(&order("db", "k1", mode, images.clone()), &Silent).await.unwrap();
        away.hydrate(&name("db"), &Silent).await.unwrap();
        assert!(sites.disks(&sites.away) == sites.disks(&sites.home), "{mode:?}");
        away.undefine(&name("db"), mode == LandMode::Full).await.unwrap();
    }

    // The way home: only what differs is written.
    sites.home.put_disk("db", "root", content(8));
    let newer = sites.point(&home, "c2", ShipMode::Full).await;
    let away = sites.site(&sites.away);
    let report = away.land(&order("db", "k2", LandMode::Differences, newer), &Silent).await.unwrap();
    assert!(sites.disks(&sites.away) == sites.disks(&sites.home));
    assert!(report.written_bytes <= DISK_BYTES, "{report:?}");
    assert!(report.notes.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_missing_segment_and_a_missing_key_are_found_before_a_machine_stands_on_them() {
    let sites = Sites::new().await;
    let home = sites.site(&sites.home);
    let images = sites.point(&home, "c1", ShipMode::Full).await;
    let order = order("db", "k1", LandMode::Instant, images.clone());
    let segment = Path::new(&sites.vault["file://".len()..]).join("data").join(images[0].segments[0].name.as_str());
    std::fs::rename(&segment, segment.with_extension("away")).unwrap();
    let failure = sites.site(&sites.away).land(&order, &Silent).await.unwrap_err();
    assert!(failure.message.starts_with("land `db`: open the replica of disk `root`"), "{failure}");
    std::fs::rename(segment.with_extension("away"), &segment).unwrap();

    std::fs::rename(sites.folder.path().join("key"), sites.folder.path().join("lost")).unwrap();
    let failure = sites.site(&sites.away).land(&order, &Silent).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
    assert!(failure.message.contains("key"), "{failure}");
    assert!(sites.away.estate.lock().unwrap().instances.is_empty());
}
