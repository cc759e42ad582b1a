//! A real machine through its life: booted, asked, cut, killed, fenced, shut down.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

mod common;

use common::{on_a_site, order};
use muster_lab::check_shop;
use muster_ports::*;
use std::time::Duration;

const LIVE: NetworkScope = NetworkScope::Live;

#[test]
fn cuts_are_whole_and_changes_are_known_until_the_process_is_killed() {
    on_a_site("cuts", async |bench| {
        let db = InstanceName::new("db");
        let work = tempfile::tempdir().unwrap();
        let image = work.path().join("data.raw");
        let found = bench.provider.inventory().await.unwrap();
        assert_eq!((found.len(), found[0].name.as_str(), found[0].power), (1, "db", Power::Off));
        assert_eq!(found[0].disks.len(), 2);
        assert!(bench.provider.facts().await.unwrap().detail.starts_with("qemu "));

        bench.provider.start(&db).await.unwrap();
        bench.provider.start(&db).await.unwrap();
        bench.database_up(&LIVE).await;
        bench.agent_up(&db).await;
        let command = GuestCommand {
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), "cat; echo no >&2; exit 3".to_owned()],
            stdin: Some("yes".to_owned()),
            within: Duration::from_secs(30),
        };
        let output = bench.provider.guest_exec(&db, &command).await.unwrap();
        assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (3, "yes", "no\n"));

        // A first copy, file systems frozen.
        let before = bench.talk(&LIVE, "APPEND 5\n").await.unwrap();
        let report = bench.cut("b1", None, Consistency::App).await;
        assert_eq!(report.consistency, Consistency::App, "{:?}", report.notes);
        assert!(report.hold_micros >= report.transaction_micros && report.transaction_micros > 0);
        assert!(report.flush_micros > 0, "a guest that freezes flushes first");
        assert!(report.disks.iter().all(|disk| matches!(disk.tracking, Tracking::Lost { .. })));
        assert_eq!(bench.cut("b1", None, Consistency::App).await, report, "asked twice, cut once");
        let after = bench.talk(&LIVE, "APPEND 50\n").await.unwrap();
        bench.read_cut("b1", "data", false, &image).await;
        let check = check_shop(&image, None).unwrap();
        assert!(check.database.clean);
        let first = check.database.tally.last;
        assert!(
            (before..after - 50).contains(&first),
            "{before} <= {first} < {after}: writes after the cut do not show"
        );
        // The agent is killed; the next one finds the cut and settles it.
        let provider = bench.reopen();
        provider.settle(&BarrierId::new("b1"), CutOutcome::Committed).await.unwrap();
        provider.settle(&BarrierId::new("b1"), CutOutcome::Committed).await.unwrap();

        // Only what changed, over the first copy; once given up and asked again.
        for (barrier, outcome) in [("b2", CutOutcome::Abandoned), ("b3", CutOutcome::Committed)] {
            bench.talk(&LIVE, "APPEND 20\n").await.unwrap();
            let report = bench.cut(barrier, Some("b1"), Consistency::App).await;
            for disk in &report.disks {
                assert_eq!(disk.tracking, Tracking::Since { barrier: BarrierId::new("b1") });
                assert!(disk.dirty_bytes < disk.size_bytes / 4, "{disk:?}");
            }
            if outcome == CutOutcome::Committed {
                let read = bench.read_cut(barrier, "data", true, &image).await;
                assert!(read > 0 && read < 8 << 20, "{read} bytes of a delta");
                let check = check_shop(&image, None).unwrap();
                assert!(check.database.clean && check.database.tally.last >= after + 40, "{check:?}");
            }
            bench.provider.settle(&BarrierId::new(barrier), outcome).await.unwrap();
        }

        // The machine's process is killed in the middle of a cut: the cut is lost, and so is the record of changes.
        bench.cut("b4", Some("b3"), Consistency::Crash).await;
        kill_machine(&bench.folder().join("machines/db/qemu.pid"));
        bench.until("it is off", async || bench.power(&db).await == Power::Off).await;
        assert_eq!(bench.cut_is_gone("b4").await, FailureClass::Transient);
        bench.provider.settle(&BarrierId::new("b4"), CutOutcome::Abandoned).await.unwrap();
        bench.provider.start(&db).await.unwrap();
        bench.database_up(&LIVE).await;
        let report = bench.cut("b5", Some("b3"), Consistency::Crash).await;
        assert!(report.disks.iter().all(|disk| matches!(disk.tracking, Tracking::Lost { .. })), "{report:?}");
        std::fs::remove_file(&image).unwrap();
        bench.read_cut("b5", "data", false, &image).await;
        assert!(!check_shop(&image, None).unwrap().database.clean, "crash-consistent: the journal is to be replayed");
        bench.provider.settle(&BarrierId::new("b5"), CutOutcome::Committed).await.unwrap();

        // Shut down in order, cut as it lies: change records survive a clean stop.
        bench.agent_up(&db).await;
        bench.provider.stop(&db, StopMode::Orderly { within: Duration::from_secs(60) }).await.unwrap();
        assert_eq!(bench.power(&db).await, Power::Off);
        let report = bench.cut("final", Some("b5"), Consistency::App).await;
        assert!(report.disks.iter().all(|disk| matches!(disk.tracking, Tracking::Since { .. })), "{report:?}");
        bench.read_cut("final", "data", true, &image).await;
        assert!(check_shop(&image, None).unwrap().database.clean);
        bench.provider.settle(&BarrierId::new("final"), CutOutcome::Committed).await.unwrap();
        let console = bench.provider.console(&db, 4000).await.unwrap();
        assert!(console.contains("MUSTER-DOWN"), "{console}");
    });
}

#[test]
fn a_fenced_machine_stays_off() {
    on_a_site("fence", async |bench| {
        let db = InstanceName::new("db");
        bench.provider.start(&db).await.unwrap();
        assert_eq!(bench.power(&db).await, Power::On);
        let removed = bench.provider.undefine(&db, true).await;
        assert_eq!(removed.unwrap_err().class, FailureClass::Refused);
        bench.provider.fence(&db).await.unwrap();
        bench.provider.fence(&InstanceName::new("nobody")).await.unwrap();
        assert_eq!(bench.power(&db).await, Power::Off);
        let provider = bench.reopen();
        let refused = provider.start(&db).await.unwrap_err();
        assert_eq!(refused.class, FailureClass::Refused, "{refused}");
        assert!(provider.instances().await.unwrap()[0].fenced);
        provider.unfence(&db).await.unwrap();
        provider.start(&db).await.unwrap();
        provider.stop(&db, StopMode::Hard).await.unwrap();
        provider.stop(&db, StopMode::Hard).await.unwrap();
        assert_eq!(bench.power(&db).await, Power::Off);
    });
}

#[test]
fn a_machine_that_is_still_booting_goes_down_in_good_order() {
    on_a_site("early", async |bench| {
        let db = InstanceName::new("db");
        bench.provider.start(&db).await.unwrap();
        // Nobody in there hears the power button yet.
        bench.provider.stop(&db, StopMode::Orderly { within: Duration::from_secs(100) }).await.unwrap();
        assert_eq!(bench.power(&db).await, Power::Off);
        let console = bench.provider.console(&db, 4000).await.unwrap();
        assert!(console.contains("MUSTER-DOWN"), "it was not stopped in good order:\n{console}");
    });
}

#[test]
fn a_cut_that_cannot_be_made_leaves_nothing_behind() {
    on_a_site("nocut", async |bench| {
        let mut wrong = order("b1", None, Consistency::Crash);
        wrong.members.push(CutMember {
            instance: InstanceName::new("ghost"),
            machine: MachineName::new("ghost"),
            base: None,
        });
        assert_eq!(bench.provider.cut(&wrong).await.unwrap_err().class, FailureClass::Permanent);
        let report = bench.cut("b1", None, Consistency::Crash).await;
        assert_eq!(report.disks.len(), 2);
        bench.provider.settle(&BarrierId::new("b1"), CutOutcome::Committed).await.unwrap();
        assert_eq!(bench.cut_is_gone("b1").await, FailureClass::Permanent);
        bench.provider.untrack(&InstanceName::new("db")).await.unwrap();
        let report = bench.cut("b2", Some("b1"), Consistency::Crash).await;
        assert!(report.disks.iter().all(|disk| matches!(disk.tracking, Tracking::Lost { .. })));
        bench.provider.settle(&BarrierId::new("b2"), CutOutcome::Abandoned).await.unwrap();
    });
}

fn kill_machine(pid_file: &std::path::Path) {
    let text = std::fs::read_to_string(pid_file).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pid = i32::try_from(value["pid"].as_u64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}
