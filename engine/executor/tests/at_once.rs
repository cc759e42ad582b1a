//! Steps that are over as soon as they are looked at, and steps that break off: alone, and beside others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

mod common;

use async_trait::async_trait;
use common::*;
use muster_executor::*;
use muster_journal::*;
use muster_ports::*;
use std::sync::Arc;

/// Does all at once, but for steps whose names say otherwise.
#[derive(Debug)]
struct AtOnce;

#[async_trait]
impl StepRunner for AtOnce {
    async fn observe(&self, _: StepContext<'_>) -> Result<Observation> {
        Ok(Observation::DoesNotHold)
    }
    async fn act(&self, cx: StepContext<'_>) -> Result<Acted> {
        let id = cx.node.id.to_string();
        if id.starts_with("late") {
            tokio::task::yield_now().await;
        }
        assert!(!id.ends_with("breaks"), "a defect in `{id}`");
        Ok(Acted::Done(StepOutput::None))
    }
    async fn undo(&self, _: StepContext<'_>) -> Result<()> {
        Ok(())
    }
}

fn executor() -> Executor {
    Executor::new(Arc::new(MemoryStore::new()), Arc::new(AtOnce), Arc::new(SystemClock), Arc::new(Seeded::new(5)))
}

#[tokio::test]
async fn a_step_that_breaks_off_takes_no_run_down_with_it() {
    // Alone or beside another, before its first wait or after it.
    for (steps, edges) in [("a breaks", "a>breaks"), ("a late-breaks", "a>late-breaks"), ("a breaks late-b", "")] {
        let executor = executor();
        let run = executor.open_run(&sheet(steps.split(' ').map(act).collect(), edges), opening()).await.unwrap();
        let (_sender, receiver) = commands();
        let end = executor.drive(&run, receiver, Arc::new(Unwatched), OnPause::Return).await.unwrap();
        assert!(matches!(end, RunEnd::Paused { .. }), "{steps}: {end:?}");
        let state = executor.runs().load(&run).await.unwrap().state;
        for node in state.nodes() {
            let broken = node.id.to_string().ends_with("breaks");
            assert_eq!(node.stand, if broken { Stand::Paused } else { Stand::Succeeded }, "{steps}: {}", node.id);
            let said = node.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
            assert_eq!(said.contains("broke off") && said.contains("a defect in"), broken, "{steps}: {said}");
        }
    }
}

#[tokio::test]
async fn people_are_heard_between_steps_that_are_over_at_once() {
    let names: Vec<String> = (0..500).map(|at| format!("s{at}")).collect();
    let edges: Vec<String> = names.windows(2).map(|pair| format!("{}>{}", pair[0], pair[1])).collect();
    let executor = executor();
    let chain = sheet(names.iter().map(|name| act(name)).collect(), &edges.join(" "));
    let run = executor.open_run(&chain, opening()).await.unwrap();
    let (sender, receiver) = commands();
    let pause = sender.send(Command::Pause { who: "anna".into(), why: "wait".into() });
    let driving = executor.drive(&run, receiver, Arc::new(Unwatched), OnPause::Return);
    let (said, end) = tokio::join!(pause, driving);
    said.unwrap();
    assert!(matches!(end, Ok(RunEnd::Paused { .. })), "{end:?}");
    let state = executor.runs().load(&run).await.unwrap().state;
    let done = state.nodes().filter(|node| node.stand == Stand::Succeeded).count();
    assert!(done < 10, "{done} steps before the pause was heard");
}
