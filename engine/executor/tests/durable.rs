//! The engine on the real store: taken up after a crash, and fenced in the middle of a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in the helpers of tests

mod common;

use common::*;
use muster_executor::*;
use muster_journal::*;
use muster_ports::{Clock, StateStore, StoreError, SystemClock};
use object_store::local::LocalFileSystem;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

async fn open(folder: &Path, who: &str, take_over: TakeOver) -> Arc<SlateStore> {
    let objects = Arc::new(LocalFileSystem::new_with_prefix(folder).unwrap().with_fsync(true));
    let owner = Owner::this_process(who);
    Arc::new(SlateStore::open(objects, "state", owner, take_over, Arc::new(SystemClock)).await.unwrap())
}

fn executor(store: Arc<dyn StateStore>, world: &Arc<World>) -> Executor {
    Executor::new(store, Arc::new(Runner(world.clone())), Arc::new(SystemClock), Arc::new(Seeded::new(3)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_stops_a_running_engine_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(World::new(&[]));
    let chain = sheet(vec![act("a"), act("b"), act("c"), act("d")], "a>b b>c c>d");

    let old_store = open(folder.path(), "muster run", TakeOver::WhenStale).await;
    let old = executor(old_store.clone(), &world);
    let run = old.open_run(&chain, opening()).await.unwrap();
    let (_sender, receiver) = commands();
    let driving = old.drive(&run, receiver, Arc::new(Unwatched), OnPause::Return);
    let stealing = async {
        while world.standing().len() < 2 {
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
        open(folder.path(), "muster thief", TakeOver::Steal).await
    };
    let (ended, new_store) = tokio::join!(driving, stealing);
    assert!(matches!(ended, Err(ExecutorError::Journal(JournalError::Store(StoreError::Fenced)))), "{ended:?}");
    // What the old engine had in flight ended with it.
    let before = world.order();
    SystemClock.sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.order(), before, "an effect after fencing");

    let new = executor(new_store.clone(), &world);
    let (_sender, receiver) = commands();
    let end = new.drive(&run, receiver, Arc::new(Unwatched), OnPause::Return).await.unwrap();
    assert_eq!(end, RunEnd::Done { degraded: vec![] });
    assert_eq!(world.order(), ["a", "b", "c", "d"]);
    let loaded = new.runs().load(&run).await.unwrap();
    assert!(loaded.records.last().unwrap().epoch > loaded.records[0].epoch);
    new_store.close().await.unwrap();

    // A reader beside nobody sees the whole run, chain and all.
    let objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let reader = SlateStore::open_reader(objects, "state").await.unwrap();
    assert_eq!(RunStore::new(Arc::new(reader)).load(&run).await.unwrap().state.status, RunStatus::Done);
}

#[tokio::test(start_paused = true)]
async fn steps_that_end_together_share_one_durable_write() {
    let names: Vec<String> = (0..32).map(|at| format!("s{at}")).collect();
    let bench = Bench::new(&sheet(names.iter().map(|name| act(name)).collect(), ""), &[], &[]).await;
    bench.drive().await.unwrap();
    assert!(bench.store.writes() < 10, "32 steps side by side took {} durable writes", bench.store.writes());
}
