//! Checks and hooks.

use crate::fakes::*;
use muster_journal::{CallJournal, StepOutput};
use muster_ports::*;
use muster_runsheet::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

fn check(probe: ProbeCall) -> Action {
    Action::Check { machine: "db".into(), site: "dr".into(), probe }
}

/// A sheet in which `db` lands with an address of its own.
fn bench(kind: Kind, probe: ProbeCall) -> Bench {
    let mut bench = Bench::new(kind, check(probe));
    let (machine, site, nics) = (MachineName::from("db"), SiteName::from("dr"), vec![nic("10.60.0.5")]);
    let landing = match kind {
        Kind::Test => Action::Clone { machine, site, nics },
        _ => Action::Promote { machine, site, nics, differences: false },
    };
    bench.sheet.nodes.push(node(landing, SheetPhase::Land));
    bench
}

#[tokio::test]
async fn checks_poll_from_inside_the_landing_network_until_true() {
    let tcp = bench(Kind::Test, ProbeCall::Tcp { port: 5432 });
    *tcp.dr.answers.lock().unwrap() = vec![Err(Failure::transient("refused")), Err(Failure::timeout("silence")), Ok(0)];
    tcp.act().await;
    let probes = tcp.dr.probes.lock().unwrap().clone();
    assert_eq!(probes.len(), 3);
    assert_eq!(probes[0].0, NetworkScope::Bubble { bubble: "r1".into() });
    assert!(matches!(&probes[0].1, Probe::Tcp { ip, port: 5432, .. } if ip.to_string() == "10.60.0.5"), "{probes:?}");

    let http = bench(Kind::Planned, ProbeCall::Http { port: 80, path: "/ready".into() });
    *http.dr.answers.lock().unwrap() = vec![Ok(503), Ok(200)];
    assert_eq!(http.act().await, StepOutput::Text { text: "200 ready".into() });
    assert_eq!(http.dr.probes.lock().unwrap()[0].0, NetworkScope::Live);

    let command = bench(Kind::Test, ProbeCall::Command { program: "/bin/ok".into(), arguments: vec![] });
    *command.dr.answers.lock().unwrap() = vec![Ok(1), Ok(200)];
    assert_eq!(command.act().await, StepOutput::Text { text: "/bin/ok in db~r1".into() });
    bench(Kind::Test, ProbeCall::Guest).act().await;
}

#[tokio::test]
async fn a_check_that_stays_false_says_the_last_answer_and_one_that_cannot_be_asked_ends_at_once() {
    let http = bench(Kind::Planned, ProbeCall::Http { port: 80, path: "/ready".into() });
    *http.dr.answers.lock().unwrap() = vec![Ok(503)];
    let failure = http.fails().await;
    assert_eq!(failure.class, FailureClass::Timeout);
    assert!(
        failure.message.contains("`http(\":80/ready\")`") && failure.message.contains("last answer: http status 503"),
        "{failure}"
    );
    assert!(http.dr.probes.lock().unwrap().len() > 10);
    assert!(http.clock.now() < http.deadline, "it speaks before it is cut off");

    let guest = bench(Kind::Planned, ProbeCall::Guest);
    guest.dr.down.store(true, Ordering::SeqCst);
    assert!(guest.fails().await.message.contains("site `dr`: connection refused"));

    let gone = bench(Kind::Planned, ProbeCall::Tcp { port: 1 });
    *gone.dr.answers.lock().unwrap() = vec![Err(Failure::permanent("no such network"))];
    assert_eq!(gone.try_act().await.unwrap_err().class, FailureClass::Permanent);
    assert_eq!(gone.dr.probes.lock().unwrap().len(), 1);
}

fn hook(name: &str, probe: bool, undo: Option<&str>, text: &str) -> (HookName, HookSheet) {
    let sheet = HookSheet {
        name: name.into(),
        function: name.replace('-', "_"),
        probe,
        parameters: vec![("m".into(), "machine".into())],
        needs: vec![Need::Guest, Need::Bubble],
        undo: undo.map(HookName::from),
        origin: "hooks/test.rhai".into(),
        text: text.into(),
        hash: Hash::of(text),
    };
    (name.into(), sheet)
}

fn with_hooks(mut bench: Bench, hooks: Vec<(HookName, HookSheet)>) -> Bench {
    bench.sheet.hooks = hooks.into_iter().collect();
    // Hooks run on a thread of their own, by the real clock.
    bench.deadline = SystemClock.now().plus(std::time::Duration::from_secs(60));
    bench.clock.0.store(SystemClock.now().0, Ordering::SeqCst);
    bench
}

fn arguments() -> BTreeMap<String, Value> {
    BTreeMap::from([("m".to_owned(), Value::Machine("db".into()))])
}

#[tokio::test]
async fn a_hook_meets_the_machines_of_its_operation_and_its_undo_reads_what_it_saved() {
    let run = Action::Run { hook: "swing".into(), arguments: arguments() };
    let text = "let r = m.exec(\"hostname\"); checkpoint(\"was\", r.out); `${m.ip} at ${m.site} for ${run.op}`";
    let undo = "m.exec([\"restore\", saved(\"was\")]);";
    let mut bench = with_hooks(
        Bench::new(Kind::Test, run),
        vec![hook("swing", false, Some("unswing"), text), hook("unswing", false, None, undo)],
    );
    bench.sheet.nodes.push(bench.sheet.nodes[0].clone());
    bench.undo().await;
    assert!(bench.journal.recorded().is_empty(), "nothing to take back");
    assert_eq!(bench.act().await, StepOutput::Text { text: "10.10.0.5 at dr for test".into() });
    let calls = bench.journal.recorded();
    assert_eq!(calls[0].result.as_ref().unwrap()["out"], "hostname in db~r1");
    bench.act().await;
    assert_eq!(bench.journal.recorded(), calls, "replayed, not repeated");
    bench.undo().await;
    assert_eq!(bench.journal.recorded()[0].operation, "exec");

    bench.sheet.nodes[0].phase = SheetPhase::Leave;
    bench.journal = Journal::default();
    assert_eq!(bench.act().await, StepOutput::Text { text: "10.10.0.5 at hq for test".into() });
    assert_eq!(bench.journal.recorded()[0].result.as_ref().unwrap()["out"], "hostname in db");
}

#[tokio::test]
async fn a_probe_hook_is_asked_until_it_says_yes() {
    let probe = ProbeCall::Hook { hook: "ready".into(), arguments: arguments() };
    let bench = with_hooks(bench(Kind::Test, probe), vec![hook("ready", true, None, "net.tcp(m.ip, 80)")]);
    *bench.dr.answers.lock().unwrap() = vec![Err(Failure::transient("refused")), Ok(0)];
    bench.act().await;
    assert_eq!(bench.dr.probes.lock().unwrap().len(), 2);
    assert!(bench.journal.recorded().is_empty(), "a probe only reads");
}
