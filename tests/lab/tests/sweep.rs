//! A lab whose process was killed leaves nothing behind once the next one opens.
//!
//! What is missing on this computer fails the test with the command that installs it: nothing is skipped.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use muster_lab::{Lab, process_of};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set in the process that makes a lab and is killed.
const VICTIM: &str = "MUSTER_LAB_VICTIM";

#[test]
fn a_killed_lab_is_taken_away_by_the_next_one() {
    if std::env::var_os(VICTIM).is_some() {
        return be_the_victim();
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_lab_is_taken_away_by_the_next_one", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.filter_map(|line| line.split_once("LEFT ").map(|(_, left)| left.to_owned())).next().unwrap();
    let words: Vec<&str> = told.split_whitespace().collect();
    let (namespace, folder, pid_file) = (Path::new("/run/netns").join(words[0]), Path::new(words[1]), words[2]);
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(namespace.exists() && folder.is_dir());
    let sleeper = process_of(Path::new(pid_file)).unwrap();

    let mine = Lab::open("sweeps").unwrap();
    assert!(!namespace.exists(), "{} stays", namespace.display());
    assert!(!folder.exists(), "{} stays", folder.display());
    assert!(!is_running(sleeper), "process {sleeper} of the killed lab lives on");
    let kept = mine.folder().to_owned();
    let swept = muster_lab::sweep().unwrap();
    assert!(!swept.iter().any(|lab| lab.starts_with("sweeps")), "a living lab is left alone: {swept:?}");
    assert!(kept.is_dir());
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with('Z'))
}

fn be_the_victim() {
    let mut lab = Lab::open("victim").unwrap();
    let folder = lab.folder().to_owned();
    let site = lab.add_site("hq").unwrap();
    let mut sleeper = site.spawn(site.command("sleep").arg("600").stdout(Stdio::null())).unwrap();
    let pid_file: PathBuf = site.folder().join("lab").join(format!("{}.pid", sleeper.id()));
    let mut out = std::io::stdout();
    writeln!(out, "LEFT {} {} {}", site.namespace(), folder.display(), pid_file.display()).unwrap();
    out.flush().unwrap();
    sleeper.wait().unwrap();
}
