//! The story of the demo and the tutorial, with simulated machines.

use crate::shop::BINARY;
use muster_demo::muster::Muster;
use muster_demo::simulated::SimulatedEstate;
use muster_demo::story::Story;
use muster_demo::summary;
use std::path::Path;

#[test]
fn the_whole_story_plays_on_simulated_sites() {
    let folder = tempfile::Builder::new().prefix("mus-").tempdir().unwrap();
    let key = folder.path().join("muster.key");
    let mut estate =
        SimulatedEstate::new(&folder.path().join("lab"), Path::new(BINARY), &key, "in a test").expect("two sites");
    let runtime = folder.path().join("run");
    std::fs::create_dir_all(&runtime).expect("a runtime folder");
    let plans = folder.path().join("plans");
    let muster = Muster { binary: BINARY.into(), plans, key, runtime: Some(runtime), show: false };
    let mut story = Story { muster, estate: &mut estate, folder: folder.path(), rows: Vec::new() };
    let told = story.tell();
    let table = summary::table(&story.rows);
    assert_eq!(told, Ok(()), "so far:\n{table}");
    let named = |name: &str| story.rows.iter().filter(|row| row.name == name).collect::<Vec<_>>();
    for planned in ["planned failover", "failback"] {
        assert_eq!(named(planned).iter().map(|row| row.lost).collect::<Vec<_>>(), [Some(0)], "{table}");
    }
    assert!(named("unplanned failover")[0].lost.is_some(), "{table}");
    let names: Vec<&str> = story.rows.iter().map(|row| row.name.as_str()).collect();
    let out = ["drill", "cleanup", "planned failover", "commit", "reprotect"];
    let home = ["drill, way home", "cleanup", "failback", "commit", "reprotect"];
    assert_eq!(names, [&out[..], &home, &["unplanned failover"]].concat(), "{table}");
    assert!(story.rows.iter().all(|row| row.took < 60_000), "{table}");
}
