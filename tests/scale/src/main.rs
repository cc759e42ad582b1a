//! Measures the language on an estate of 10,000 machines: `cargo run --release -p muster-scale [FOLDER]`.
//!
//! With a folder the estate is written there, so that `muster check` of it can be timed from start to exit.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types)] // a stopwatch that prints

use muster_compiler::check;
use muster_scale::{Estate, Size};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// The best of so many: what else the machine does only ever adds time.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let estate = Estate::new(Size::LARGE);
    let files = estate.files();
    println!("estate: {} files, {} lines", files.len(), estate.lines());
    if let Some(folder) = std::env::args().nth(1) {
        return match write(&estate, Path::new(&folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("`{folder}` cannot be written: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let before = peak_kib();
    let best = |what: &str, act: &mut dyn FnMut() -> bool| {
        let mut best = f64::INFINITY;
        let mut sound = true;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            sound &= act();
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{what}: {:.1} ms{}", best * 1e3, if sound { "" } else { ", with errors" });
        sound
    };
    let whole = best("check of all, every operation compiled", &mut || !check(&estate, &files).has_errors());
    println!("peak of memory: {} MiB, {} MiB before", peak_kib() / 1024, before / 1024);
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(estate: &Estate, folder: &Path) -> std::io::Result<()> {
    for (path, text) in &estate.0 {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// The most memory this process ever held; zero where the system does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
