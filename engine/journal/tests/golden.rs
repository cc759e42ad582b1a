//! Runs of old formats, byte for byte as they were stored: they are evidence, and are read for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

use muster_journal::*;
use muster_ports::{StateStore, Write};
use muster_runsheet::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A drill of the shop of `plans/shop`, written by the last muster of format 1: its question was answered, a check failed
/// because somebody had switched the clone off, and was tried again on a person's word.
const RUN_1: &str = include_str!("golden/run-1.json");

async fn stored(pairs: &str) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let pairs: BTreeMap<String, String> = serde_json::from_str(pairs).unwrap();
    let put = |(key, value): (String, String)| Write::put(key, value);
    store.write(pairs.into_iter().map(put).collect()).await.unwrap();
    store
}

#[tokio::test]
async fn a_run_of_format_1_is_read_verified_and_folded() {
    let runs = RunStore::new(stored(RUN_1).await);
    let head = runs.list().await.unwrap().remove(0);
    let loaded = runs.load(&head.id).await.unwrap();
    let Event::RunOpened { format, who, why, .. } = &loaded.records[0].event else { panic!("{:?}", loaded.records[0]) };
    assert_eq!((format.as_str(), who.as_str(), why.as_str()), ("muster.run/1", "anna", "monthly drill"));
    assert_ne!(format, RUN_FORMAT, "new runs have a format of their own");
    assert_eq!((loaded.state.status, loaded.state.operation.kind), (RunStatus::Done, Kind::Test));
    assert_eq!((head.seq, head.status), (loaded.state.seq, RunStatus::Done));
    assert_eq!(loaded.records.len(), 71);

    let question = loaded.state.node(&"database.approve".into()).unwrap();
    let answer = question.answer.as_ref().unwrap();
    assert_eq!((answer.who.as_str(), answer.why.as_str(), question.stand), ("ben", "go on", Stand::Succeeded));
    let check = loaded.state.node(&"database.check-tcp/db".into()).unwrap();
    assert_eq!((check.stand, check.attempt), (Stand::Succeeded, 2));
    assert!(loaded.state.nodes().all(|node| node.stand == Stand::Succeeded));
    assert_eq!(loaded.state.points.keys().collect::<Vec<_>>(), ["front", "orders"]);
}

#[tokio::test]
async fn every_record_of_it_is_what_this_muster_would_write() {
    let runs = RunStore::new(stored(RUN_1).await);
    let head = runs.list().await.unwrap().remove(0);
    let pairs: BTreeMap<String, String> = serde_json::from_str(RUN_1).unwrap();
    for record in runs.load(&head.id).await.unwrap().records {
        let key = format!("run/{}/event/{:010}", head.id, record.seq);
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            pairs[&key],
            "a field of `{key}` changed its meaning or place"
        );
    }
}

#[tokio::test]
async fn a_format_of_the_future_is_refused_by_name() {
    let store = stored(RUN_1).await;
    let runs = RunStore::new(store.clone());
    let head = runs.list().await.unwrap().remove(0);
    let loaded = runs.load(&head.id).await.unwrap();
    let mut first = loaded.records[0].clone();
    let Event::RunOpened { format, .. } = &mut first.event else { panic!("{first:?}") };
    *format = "muster.run/9".into();
    let error = RunState::opened(&head.id, &loaded.sheet, &first).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`muster.run/9`") && text.contains(RUN_FORMAT), "{text}");
    assert!(error.help().unwrap().contains("newer"), "{error:?}");
}
