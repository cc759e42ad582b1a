//! The real binary on real machines: the whole story, kills in the middle of it, a source out of reach, cancels, a large disk, a lost machine.
//!
//! What is missing on this computer fails the tests with the command that installs it: nothing is skipped.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends where something is wrong, and says what it measured"
)]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod bench;
mod cancels;
mod dark;
mod kills;
mod large;

use bench::{expect, on_real_machines};
use muster_demo::muster::Muster;
use muster_demo::story::{RECORDS_OF_A_CYCLE, Story};
use muster_demo::summary;

#[test]
fn the_whole_story_loses_nothing_it_should_not() {
    on_real_machines("story", |bench| {
        let muster = Muster { show: true, ..bench.muster.clone() };
        let folder = bench.folder.clone();
        let mut story = Story { muster, estate: &mut bench.estate, folder: &folder, rows: Vec::new() };
        let told = story.tell();
        let rows = std::mem::take(&mut story.rows);
        println!("{}", summary::table(&rows));
        told?;
        let row = |name: &str| rows.iter().find(|row| row.name == name).ok_or(format!("no row `{name}`"));
        for name in ["drill", "planned failover", "drill, way home", "failback", "unplanned failover"] {
            let note = &row(name)?.note;
            if !(note.contains("disks clean") || note.contains("disks sound")) {
                return Err(format!("{name}: `{note}` says nothing good of the disks"));
            }
        }
        expect("records lost by the planned failover", &row("planned failover")?.lost, &Some(0))?;
        expect("records lost by the failback", &row("failback")?.lost, &Some(0))?;
        // The story itself refuses to lose more than a cycle.
        match row("unplanned failover")?.lost {
            Some(lost) if lost <= RECORDS_OF_A_CYCLE => Ok(()),
            lost => Err(format!("the unplanned failover lost {lost:?} records, at most {RECORDS_OF_A_CYCLE} may be")),
        }
    });
}
