//! Other tools on the same image, where they are installed.

use crate::measure::{Cost, Table, measure};
use std::path::Path;
use std::process::{Command, Stdio};

fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn run(line: &str, place: &Path, image: &Path) -> Option<Cost> {
    let (status, cost) = measure(|| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(place).env("IMAGE", image);
        command.env("RESTIC_PASSWORD", "bench").env("BORG_PASSPHRASE", "bench").env("XDG_CACHE_HOME", place);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status()
    });
    match status {
        Ok(status) if status.success() => Some(cost),
        other => {
            eprintln!("`{line}` failed: {other:?}");
            None
        }
    }
}

fn size_of(path: &Path) -> u64 {
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_dir() => {
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
        }
        Ok(facts) => facts.len(),
        Err(_) => 0,
    }
}

/// A first copy or the next one into the same store.
pub fn copy(what: &'static str, image: &Path, place: &Path, table: &mut Table) {
    let first = what == "first copy";
    let scans = [
        ("restic", "restic", "test -e restic || restic init -r restic; restic -r restic backup \"$IMAGE\""),
        (
            "borg zstd,3",
            "borg",
            "test -e borg || borg init -e repokey borg; borg create -C zstd,3 \"borg::a$(date +%s%N)\" \"$IMAGE\"",
        ),
    ];
    for (name, program, line) in scans.into_iter().filter(|(_, program, _)| installed(program)) {
        let before = size_of(&place.join(program));
        if let Some(cost) = run(line, place, image) {
            table.add(what, name, cost.stored(size_of(&place.join(program)) - before));
        }
    }
    let whole = [
        (
            "qemu-img -c",
            "qemu-img",
            "qemu-img convert -c -O qcow2 -o compression_type=zstd -m 2 -f raw \"$IMAGE\" peer.out",
        ),
        (
            "zstd | openssl",
            "openssl",
            "zstd -q -3 -T2 -c \"$IMAGE\" | openssl enc -aes-256-ctr -pbkdf2 -pass pass:bench -out peer.out",
        ),
    ];
    for (name, _, line) in whole.into_iter().filter(|(_, program, _)| first && installed(program)) {
        if let Some(cost) = run(line, place, image) {
            table.add(what, name, cost.stored(size_of(&place.join("peer.out"))));
        }
        if name == "qemu-img -c"
            && let Some(cost) = run("qemu-img convert -m 2 -O raw peer.out peer.raw", place, image)
        {
            table.add("restore", name, cost);
        }
        let _ = std::fs::remove_file(place.join("peer.out"));
        let _ = std::fs::remove_file(place.join("peer.raw"));
    }
}

pub fn restore(place: &Path, table: &mut Table) {
    if installed("restic")
        && let Some(cost) = run(
            "restic -r restic restore latest --sparse --target restic.out || restic -r restic restore latest --target restic.out",
            place,
            place,
        )
    {
        table.add("restore", "restic", cost);
        let _ = std::fs::remove_dir_all(place.join("restic.out"));
    }
}
