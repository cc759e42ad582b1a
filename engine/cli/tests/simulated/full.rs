//! A full disk under the vault: said clearly, nothing lost, and it goes on when there is room.
//!
//! The vault lies on a small file system of its own in memory. Mounting one takes root; without, these tests fail.

use crate::shop::Shop;
use muster_demo::estate::{Estate, HOME};
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: u64 = 64 << 20;
/// What a file system in memory gives and takes at a time.
const PAGE: u64 = 4096;

/// A file system of so many bytes, unmounted when it is dropped.
struct Small {
    at: PathBuf,
}

impl Small {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={SIZE}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "muster-test"]).arg(at).output().unwrap();
        let said = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "a small file system cannot be mounted; run this test as root: {said}");
        Self { at: at.to_owned() }
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Leaves so many bytes.
    fn fill(&self, left: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let page = vec![1u8; usize::try_from(PAGE).unwrap()];
        loop {
            match ballast.write_all(&page) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(left)).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whoever is still at work in it ends with the test.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "{:?} stays", self.at);
    }
}

fn shop_on_a_small_disk() -> (Shop, Small) {
    let mut small = None;
    let shop = Shop::with_vault(|folder| {
        let at = folder.join("small");
        small = Some(Small::mount(&at));
        at.join("vault")
    });
    (shop.protect(), small.unwrap())
}

/// Bytes of changes, far more than the room that is left for them.
const CHANGES: usize = 4 << 20;
/// Room for control state, which takes a page or two for each record, and for no segment with such changes.
const ROOM_FOR_RECORDS: u64 = 1 << 20;

/// Writes noise over the end of a disk of the web machine, which holds no records. Its agent finds it by comparing.
fn change_much(shop: &mut Shop) {
    shop.estate.kill(HOME).unwrap();
    let disk = shop.folder.path().join("lab").join(HOME).join("machines/web/root.raw");
    let mut file = File::options().write(true).open(&disk).unwrap();
    let length = file.metadata().unwrap().len();
    let mut state = 1u64;
    let noise: Vec<u8> = (0..CHANGES)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .collect();
    assert!(length > CHANGES as u64, "{length}");
    file.seek(SeekFrom::Start(length - CHANGES as u64)).unwrap();
    file.write_all(&noise).unwrap();
    shop.estate.start(HOME).unwrap();
    shop.wait_until("hq answers", || shop.json(&["machines"])["silent"].as_array().unwrap().is_empty());
    shop.type_in(&["power", "on", HOME, "web"]).ends(0);
    for machine in ["db", "app"] {
        shop.type_in(&["power", "on", HOME, machine]).ends(0);
    }
}

/// Every point that was there still is, and can be written out.
fn assert_points_stand(shop: &Shop, points: &[String]) {
    for point in points {
        let to = tempfile::tempdir_in(shop.folder.path()).unwrap();
        shop.type_in(&["materialise", point, "--to", &to.path().display().to_string()]).ends(0);
    }
}

fn all_points(shop: &Shop) -> Vec<String> {
    let answer = shop.json(&["points"]);
    answer["points"].as_array().unwrap().iter().map(|point| point["id"].as_str().unwrap().to_owned()).collect()
}

fn last_error(shop: &Shop, group: &str) -> String {
    let status = shop.json(&["status"]);
    let found = status["groups"].as_array().unwrap().iter().find(|found| found["group"] == group).unwrap();
    found["last_error"].to_string()
}

#[test]
fn segments_that_do_not_fit_stop_a_cycle_and_nothing_else() {
    let (mut shop, small) = shop_on_a_small_disk();
    let points = all_points(&shop);
    change_much(&mut shop);
    small.fill(ROOM_FOR_RECORDS);
    let place = small.at.join("vault").display().to_string();
    let said = shop.type_in(&["replicate", "--once"]).ends(1);
    said.says(&["error: ", "full", &place, "hint: ", "free space", "committed points are intact"]);
    let error = last_error(&shop, "front");
    assert!(error.contains("full") && error.contains(&place), "status tells it too: {error}");
    let left: u64 = free(&small.at);
    assert!(left > ROOM_FOR_RECORDS / 2, "what did not fit was cleared away: {left} bytes are free");
    assert_points_stand(&shop, &points);
    // The points of before are as good as ever.
    shop.play(&["drill", "shop"]);
    shop.play(&["cleanup", "shop"]);

    // Whoever replicates goes on by itself when there is room.
    let mut replication = shop.replicating();
    shop.wait_until("it tells", || replication.log().contains("front: ") && replication.log().contains("full"));
    small.make_room();
    shop.wait_until("it goes on", || last_error(&shop, "front") == "null");
    assert!(replication.is_running(), "{}", replication.log());
    shop.wait_until("it says so", || replication.log().contains("front: replicates again"));
    drop(replication);
    shop.assert_nothing_lost();
}

fn free(at: &Path) -> u64 {
    let output = Command::new("stat").args(["--file-system", "--format", "%a %S"]).arg(at).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers[0] * numbers[1]
}

#[test]
fn with_no_room_at_all_replication_stands_still_and_goes_on_by_itself() {
    let (shop, small) = shop_on_a_small_disk();
    let points = all_points(&shop);
    let mut replication = shop.replicating();
    small.fill(0);
    let place = small.at.join("vault").display().to_string();
    shop.wait_until("it tells", || replication.log().contains("replication stands still"));
    let log = replication.log();
    for part in ["the disk that holds the vault is full", &place, "hint: make room there", "tried again every"] {
        assert!(log.contains(part), "`{part}` is missing in {log}");
    }
    // Looking takes no room, and neither does reading a point.
    shop.type_in(&["status"]).ends(0);
    assert_points_stand(&shop, &points);

    small.make_room();
    shop.wait_until_long("it goes on", || all_points(&shop).len() > points.len());
    assert!(replication.is_running(), "{}", replication.log());
    let log = replication.log();
    assert_eq!(log.matches("replication stands still").count(), 1, "said once: {log}");
    drop(replication);
    shop.assert_nothing_lost();
}

/// The disk fills up after so many lines of a move, or when it asks its question; the run stops, says so, and goes on from
/// there.
fn filled_in_the_middle(line: Option<usize>) {
    let (shop, small) = shop_on_a_small_disk();
    let mut running = shop.stays(shop.command(&["failover", "shop", "--planned", "-v"]));
    shop.wait_until("the move has come so far", || {
        let log = running.log();
        line.is_some_and(|line| log.lines().count() > line) || log.contains(" asks ")
    });
    small.fill(0);
    if running.log().contains(" asks ") {
        let run = shop.run_id();
        for question in shop.questions(&run) {
            shop.type_in(&["approve", &run, &question]).ends(1).says(&["full"]);
        }
    }
    assert_eq!(running.ended(), Some(1), "{}", running.log());
    let log = running.log();
    let place = small.at.join("vault").display().to_string();
    for part in ["error: ", "the disk that holds the vault is full", &place, "hint: make room there", "muster resume"] {
        assert!(log.contains(part), "`{part}` is missing in {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    shop.assert_runs_once();
    assert_eq!(shop.newest_run()["status"], "open", "it is not lost");
    shop.type_in(&["log", "--verify"]).ends(0).says(&["verifies"]);
    shop.type_in(&["resume", "--no-wait"]).ends(1).says(&["full"]);

    small.make_room();
    let resumed = shop.type_in(&["resume", "--no-wait"]);
    shop.assert_runs_once();
    shop.finish(resumed).ends(0);
    crate::kills::assert_moved(&shop);
}

#[test]
fn a_move_stops_where_the_disk_is_full_and_goes_on() {
    filled_in_the_middle(Some(8));
}

#[test]
fn an_answer_for_which_there_is_no_room_is_not_lost_in_silence() {
    filled_in_the_middle(None);
}
