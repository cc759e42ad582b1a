//! A real guest, and an agent that is killed while the guest waits for a cut.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

mod common;

use common::fake::{Fake, Freeze};
use common::{Bench, DATABASE_IP, agent, both, held, kill_group, on_a_site};
use muster_ports::*;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// From the agent's death to the database's answer to a write. Most of it is an emulated guest on a loaded host.
const BOUND: Duration = Duration::from_secs(10);

#[test]
fn a_guest_writes_on_when_the_agent_dies_between_hold_and_release() {
    on_a_site("killed", async |bench| {
        let db = InstanceName::new("db");
        bench.provider.start(&db).await.unwrap();
        bench.database_up(&NetworkScope::Live).await;
        bench.agent_up(&db).await;
        // The database is held first and has to wait for a second machine, which never answers.
        let ghost = Fake::new(&bench.folder(), "ghost");
        ghost.state().freeze = Freeze::Never;
        ghost.state().stop_unanswered = true;
        for (consistency, heard) in [(Consistency::App, "freeze-heard"), (Consistency::Crash, "stop")] {
            let mut dying = agent(&bench.folder(), &both(consistency, Duration::from_secs(100)));
            bench.until("both are asked to wait", async || ghost.seen().count(heard) > 0).await;
            bench.until("the database waits", async || !writes(&bench, Duration::from_secs(3)).await).await;
            kill_group(&dying);
            let killed = SystemClock.now();
            dying.wait().unwrap();
            assert!(writes(&bench, BOUND).await, "{consistency:?}: no write within {} s", BOUND.as_secs());
            eprintln!("{consistency:?}: a write {} ms after the kill", SystemClock.now().since(killed).as_millis());
            let held = bench.folder().join("machines/db/hold.json");
            bench.until("nothing is left", async || !held.exists() && !ghost.is_noted_as_held()).await;
        }

        // A person pauses the guest for reasons of their own.
        assert_eq!(monitor(&bench, "stop"), json!({}));
        let report = bench.provider.cut(&held(Consistency::App, Duration::from_secs(10))).await.unwrap();
        assert_eq!(report.consistency, Consistency::Crash);
        assert!(report.notes[0].contains("it is not running (QEMU says `paused`)"), "{:?}", report.notes);
        assert_eq!(monitor(&bench, "query-status")["status"], "paused");
        bench.provider.settle(&report.barrier, CutOutcome::Committed).await.unwrap();
        assert_eq!(monitor(&bench, "cont"), json!({}));
        assert!(writes(&bench, BOUND).await);
        // And a plain cut works as ever.
        let report = bench.provider.cut(&held(Consistency::App, Duration::from_secs(30))).await.unwrap();
        assert_eq!((report.consistency, report.notes), (Consistency::App, Vec::new()));
        assert!(writes(&bench, BOUND).await);
    });
}

/// Does the database put a record on its disk within that time?
async fn writes(bench: &Bench, within: Duration) -> bool {
    let (ip, send) = (DATABASE_IP.parse().unwrap(), "APPEND 1\n".to_owned());
    let answer = bench.provider.probe(&NetworkScope::Live, &Probe::Talk { ip, port: 7000, send, within }).await;
    answer.is_ok_and(|answer| answer.body.contains("last="))
}

/// As a person with a monitor would do it.
fn monitor(bench: &Bench, command: &str) -> Value {
    let mut stream = UnixStream::connect(bench.folder().join("machines/db/watch.sock")).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut answers = Vec::new();
    for command in ["qmp_capabilities", command] {
        writeln!(stream, "{}", json!({ "execute": command })).unwrap();
        let answer = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        answers.extend({ answer }.find_map(|mut answer| answer.get_mut("return").map(Value::take)));
    }
    answers.pop().unwrap()
}
