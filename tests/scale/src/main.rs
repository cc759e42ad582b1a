//! Measures the language on an estate of 10,000 machines: `cargo run --release -p muster-scale [FOLDER]`.
//!
//! With a folder the estate is written there, so that `muster check` of it can be timed from start to exit. `--one FOLDER`
//! reads and checks the plans of a folder once and ends: what a check costs from start to exit but for its own words.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types)] // a stopwatch that prints

use muster_compiler::{Session, check};
use muster_diagnostics::FileId;
use muster_scale::{Estate, Size};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// The best of so many: what else the machine does only ever adds time.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    if let [_, one, folder] = std::env::args().collect::<Vec<_>>().as_slice()
        && one == "--one"
    {
        return match read(Path::new(folder)) {
            Ok(estate) if !check(&estate, &estate.plans()).has_errors() => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(3),
            Err(error) => {
                println!("`{folder}` cannot be read: {error}");
                ExitCode::FAILURE
            }
        };
    }
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
    let mut parse_all = || estate.0.values().all(|text| !muster_syntax::parse(FileId(0), text).has_errors());
    let parsed = best("of it, parsing alone", &mut parse_all);
    // An editor has a plan open with what it uses, and checks again after each line.
    let small = Estate::new(Size { plans: 1, machines_a_plan: 20 });
    let mut number = 0;
    let mut edit = || {
        number += 1;
        let mut edited = small.clone();
        if let Some(text) = edited.0.get_mut("p000/p000.plan") {
            *text = text.replace("wait 30s", &format!("wait {}s", 30 + number));
        }
        !check(&edited, &edited.files()).has_errors()
    };
    let edited = best("one line edited in a plan of 20 machines, checked again", &mut edit);
    let large = Estate::new(Size { plans: 1, machines_a_plan: 100 });
    let hundred = best("the same in a plan of 100 machines", &mut || !check(&large, &large.files()).has_errors());
    let again = best_edit(&estate, &files);
    let whole = whole && parsed && edited && hundred && again;
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One line of one file of the whole estate changes, in a session that has checked it before.
fn best_edit(estate: &Estate, files: &[String]) -> bool {
    let mut sound = true;
    type Line = (&'static str, &'static str, &'static str, fn(usize) -> String);
    let lines: [Line; 3] = [
        ("a wait of a plan", "p042/p042.plan", "wait 30s", |number| format!("wait {}s", 31 + number)),
        ("the address of a machine", "p042/machines.plan", "10.10.42.109\n", |number| {
            format!("10.10.42.{}\n", 120 + number)
        }),
        ("the policy of a group", "p042/groups.plan", "policy   = gold", |number| {
            format!("policy   = {}", if number % 2 == 0 { "silver" } else { "gold" })
        }),
    ];
    for (what, path, from, to) in lines {
        let mut session = Session::default();
        let mut edited = estate.clone();
        sound &= !session.check(&edited, files).has_errors();
        let mut best = f64::INFINITY;
        for number in 0..ROUNDS {
            if let (Some(text), Some(first)) = (edited.0.get_mut(path), estate.0.get(path)) {
                *text = first.replacen(from, &to(number), 1);
            }
            let start = Instant::now();
            sound &= !session.check(&edited, files).has_errors();
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!(
            "{what} edited in the estate of 10,000 machines, all checked again by a session: {:.1} ms",
            best * 1e3
        );
    }
    sound
}

/// The files of a folder, as the compiler reads them.
fn read(folder: &Path) -> std::io::Result<Estate> {
    let mut estate = Estate::default();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            estate.0.insert(name.to_owned(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(estate)
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
