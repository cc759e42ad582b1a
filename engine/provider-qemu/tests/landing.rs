//! Landings: disks written from outside, machines over a replica, and a drill beside production.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

mod common;

use common::{DATABASE_IP, DATABASE_MAC, PRODUCTION, Raw, on_a_site};
use muster_nbd::Server;
use muster_ports::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const LIVE: NetworkScope = NetworkScope::Live;

fn labels(key: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("muster.key".to_owned(), key.to_owned())])
}

fn nic() -> NicShape {
    NicShape { network: NetworkName::new("prod"), mac: DATABASE_MAC.to_owned(), ip: Some(DATABASE_IP.parse().unwrap()) }
}

#[test]
fn a_drill_runs_beside_production_with_the_same_addresses() {
    on_a_site("drill", async |bench| {
        let db = InstanceName::new("db");
        let work = tempfile::tempdir().unwrap();
        // The replica: both disks of the machine as it lies.
        bench.cut("b1", None, Consistency::Crash).await;
        let exports = bench.folder().join("exports");
        std::fs::create_dir_all(&exports).unwrap();
        let socket = exports.join("replica.sock");
        let server = Server::bind_unix(&socket).await.unwrap();
        let mut disks = Vec::new();
        let mut images = Vec::new();
        for disk in ["root", "data"] {
            let image = work.path().join(disk);
            bench.read_cut("b1", disk, false, &image).await;
            let raw = Raw::open(&image);
            let export = format!("db-{disk}");
            let backing = DiskBacking::Export { socket: socket.to_string_lossy().into_owned(), export: export.clone() };
            disks.push(DiskShape { name: DiskName::new(disk), size_bytes: raw.size(), backing });
            server.export(export.clone(), Arc::new(raw)).unwrap();
            images.push((export, image));
        }
        bench.provider.settle(&BarrierId::new("b1"), CutOutcome::Committed).await.unwrap();

        let bubble = BubbleId::new("drill-1");
        let scope = NetworkScope::Bubble { bubble: bubble.clone() };
        let networks = vec![NetworkShape { name: NetworkName::new("prod"), cidr: PRODUCTION.to_owned() }];
        let shape = BubbleShape { bubble: bubble.clone(), networks, labels: labels("bubble") };
        bench.provider.create_bubble(&shape).await.unwrap();
        bench.provider.create_bubble(&shape).await.unwrap();
        let clone = InstanceName::clone_in(&MachineName::new("db"), &bubble);
        let machine = MachineShape {
            instance: clone.clone(),
            machine: MachineName::new("db"),
            cpus: 1,
            memory_bytes: 192 << 20,
            disks,
            nics: vec![nic()],
            scope: scope.clone(),
            labels: labels("land/db"),
            track_from: Some(BarrierId::landed(&PointId::new("p1"))),
        };
        bench.provider.define(&machine).await.unwrap();
        bench.provider.define(&machine).await.unwrap();
        let other = MachineShape { labels: labels("land/other"), ..machine.clone() };
        assert_eq!(bench.provider.define(&other).await.unwrap_err().class, FailureClass::Refused);

        bench.provider.start(&db).await.unwrap();
        bench.provider.start(&clone).await.unwrap();
        bench.database_up(&LIVE).await;
        bench.database_up(&scope).await;
        // Each is reached on its own side only: numbers added here do not show there.
        let mut live = 0;
        for _ in 0..6 {
            // In portions: thousands of synced records take a loaded host longer than one question may.
            live = bench.talk(&LIVE, "APPEND 500\n").await.unwrap();
        }
        let drill = bench.talk(&scope, "LAST\n").await.unwrap();
        assert!(drill + 1000 < live, "production at {live}, drill at {drill}");
        let refused = bench.provider.discard_bubble(&bubble).await.unwrap_err();
        assert_eq!(refused.class, FailureClass::Refused);

        // Whoever serves the replica is restarted: the clone waits, and its monitor answers meanwhile.
        server.shutdown().await;
        let words = ["query-status", "query-named-block-nodes", "query-block"];
        assert_eq!(monitor(&bench.folder().join("machines").join(clone.as_str()), &words), words.len());
        let server = Server::bind_unix(&socket).await.unwrap();
        for (export, image) in &images {
            server.export(export.clone(), Arc::new(Raw::open(image))).unwrap();
        }
        assert!(bench.talk(&scope, "APPEND 10\n").await.unwrap() >= drill + 10);

        // The clone takes what it lacks and needs the replica no more.
        let tied = |states: Vec<InstanceState>| states.iter().any(|state| state.instance == clone && state.tied);
        assert!(tied(bench.provider.instances().await.unwrap()));
        bench.provider.hydrate(&clone, &Silent).await.unwrap();
        assert!(!tied(bench.provider.instances().await.unwrap()));
        server.shutdown().await;
        assert!(bench.talk(&scope, "APPEND 10\n").await.unwrap() >= drill + 10);

        // The way home is known from the landing on.
        let mut order = common::order("c1", Some("landed-p1"), Consistency::Crash);
        order.members[0].instance = clone.clone();
        let report = bench.provider.cut(&order).await.unwrap_or_else(|failure| {
            let log = bench.folder().join("machines").join(clone.as_str()).join("qemu.log");
            panic!("{failure}; qemu says: {}", std::fs::read_to_string(log).unwrap_or_default())
        });
        for disk in &report.disks {
            assert!(matches!(disk.tracking, Tracking::Since { .. }), "{disk:?}");
            assert!(disk.dirty_bytes < disk.size_bytes / 4, "hydration is no change: {disk:?}");
        }
        bench.provider.settle(&BarrierId::new("c1"), CutOutcome::Abandoned).await.unwrap();

        bench.provider.stop(&clone, StopMode::Hard).await.unwrap();
        bench.provider.undefine(&clone, true).await.unwrap();
        bench.provider.undefine(&clone, true).await.unwrap();
        bench.provider.discard_bubble(&bubble).await.unwrap();
        assert!(bench.provider.bubbles().await.unwrap().is_empty());
        assert!(bench.talk(&LIVE, "LAST\n").await.unwrap() >= live, "production never noticed");
        bench.provider.stop(&db, StopMode::Hard).await.unwrap();
    });
}

/// How many commands the monitor of a machine answers.
fn monitor(home: &Path, commands: &[&str]) -> usize {
    let stream = UnixStream::connect(home.join("qmp.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream).lines();
    lines.next().unwrap().unwrap();
    let mut ask = |command: &str| {
        writeln!(writer, "{{\"execute\":\"{command}\"}}").unwrap();
        lines.next().is_some_and(|line| line.is_ok_and(|line| line.contains("return")))
    };
    assert!(ask("qmp_capabilities"));
    commands.iter().filter(|command| ask(command)).count()
}

#[test]
fn a_disk_is_written_while_its_machine_is_off() {
    const SIZE: u64 = 4 << 20;
    on_a_site("write", async |bench| {
        let new = InstanceName::new("new");
        let disk = DiskName::new("root");
        let (target, was_there) = bench.provider.open_disk(&new, &disk, SIZE).await.unwrap();
        assert!(!was_there);
        assert_eq!(target.size(), SIZE);
        let whole = target.extents(0, SIZE).await.unwrap();
        assert!(whole.iter().all(|extent| extent.kind == ExtentKind::Zero), "{whole:?}");
        target.write_at(1 << 20, &[7u8; 65536]).await.unwrap();
        target.write_zeroes(2 << 20, 65536).await.unwrap();
        target.flush().await.unwrap();
        drop(target);
        let (target, was_there) = bench.provider.open_disk(&new, &disk, SIZE).await.unwrap();
        assert!(was_there);
        let mut read = vec![0u8; 65536];
        target.read_at(1 << 20, &mut read).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
        assert!(target.read_at(SIZE, &mut read).await.is_err());
        drop(target);
        let machine = MachineShape {
            instance: new.clone(),
            machine: MachineName::new("new"),
            cpus: 1,
            memory_bytes: 64 << 20,
            disks: vec![DiskShape { name: disk.clone(), size_bytes: SIZE, backing: DiskBacking::Existing }],
            nics: Vec::new(),
            scope: LIVE,
            labels: labels("land/new"),
            track_from: Some(BarrierId::new("landed-p")),
        };
        let mut wrong = machine.clone();
        wrong.disks[0].size_bytes = 2 * SIZE;
        assert_eq!(bench.provider.define(&wrong).await.unwrap_err().class, FailureClass::Diverged);
        bench.provider.define(&machine).await.unwrap();
        // Removed and kept, then grown: what was written stays.
        bench.provider.undefine(&new, false).await.unwrap();
        let (target, was_there) = bench.provider.open_disk(&new, &disk, 2 * SIZE).await.unwrap();
        assert!(was_there && target.size() == 2 * SIZE);
        target.read_at(1 << 20, &mut read).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
        drop(target);
        let smaller = bench.provider.open_disk(&new, &disk, SIZE).await;
        assert_eq!(smaller.unwrap_err().class, FailureClass::Diverged);
        assert!(bench.provider.open_disk(&InstanceName::new("../up"), &disk, SIZE).await.is_err());
    });
}

#[test]
fn a_machine_that_is_off_takes_what_it_lacks() {
    const SIZE: u64 = 4 << 20;
    on_a_site("offline", async |bench| {
        let new = InstanceName::new("new");
        let disk = DiskName::new("root");
        let work = tempfile::tempdir().unwrap();
        let image = work.path().join("replica");
        let content: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at / 65536 % 251).unwrap()).collect();
        std::fs::write(&image, &content).unwrap();
        let socket = bench.folder().join("replica.sock");
        let server = Server::bind_unix(&socket).await.unwrap();
        server.export("new-root", Arc::new(Raw::open(&image))).unwrap();
        let backing = DiskBacking::Export { socket: socket.to_string_lossy().into_owned(), export: "new-root".into() };
        let machine = MachineShape {
            instance: new.clone(),
            machine: MachineName::new("new"),
            cpus: 1,
            memory_bytes: 64 << 20,
            disks: vec![DiskShape { name: disk.clone(), size_bytes: SIZE, backing }],
            nics: Vec::new(),
            scope: LIVE,
            labels: labels("land/new"),
            track_from: None,
        };
        bench.provider.define(&machine).await.unwrap();
        let tied = bench.provider.open_disk(&new, &disk, SIZE).await;
        assert_eq!(tied.unwrap_err().class, FailureClass::Refused, "a tied disk is not written from outside");
        bench.provider.hydrate(&new, &Silent).await.unwrap();
        bench.provider.hydrate(&new, &Silent).await.unwrap();
        server.shutdown().await;
        let (target, was_there) = bench.provider.open_disk(&new, &disk, SIZE).await.unwrap();
        assert!(was_there);
        let mut read = vec![0u8; content.len()];
        target.read_at(0, &mut read).await.unwrap();
        assert!(read == content, "the disk holds what the replica held");
    });
}
