//! The kept corpus of every fuzz target, the plans of this repository, and damage to both.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // tests

use muster_corpus::TARGETS;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files of a folder and those below it, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every kept input of every target.
fn kept() -> Vec<(&'static str, muster_corpus::Target, PathBuf)> {
    let of = |(name, target): &(&'static str, muster_corpus::Target)| {
        let (name, target) = (*name, *target);
        let folder = root().join("tests/fuzz/corpus").join(name);
        files(&folder).into_iter().map(move |path| (name, target, path)).collect::<Vec<_>>()
    };
    TARGETS.iter().flat_map(of).collect()
}

#[test]
fn every_target_holds_on_its_corpus() {
    let kept = kept();
    for (name, _) in TARGETS {
        assert!(kept.iter().filter(|(of, ..)| *of == name).count() >= 3, "{name} has a corpus");
    }
    for (name, target, path) in kept {
        println!("{name} {}", path.display());
        target(&std::fs::read(path).unwrap());
    }
}

#[test]
fn every_target_has_its_fuzz_target() {
    let manifest = std::fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let path = root().join(format!("tests/fuzz/fuzz_targets/{name}.rs"));
        assert!(std::fs::read_to_string(path).unwrap().contains(&format!("muster_corpus::{name}(")));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is a binary of tests/fuzz");
    }
}

#[test]
fn long_lines_and_deep_nesting_end() {
    /// Bytes of a line that nobody writes by hand.
    const LINE: usize = 10 << 20;
    muster_corpus::parser("x".repeat(LINE).as_bytes());
    let mut texts: Vec<String> = ["a", "\"", "# ", "{", "[", "(", "a = [", "é", "x = 1h", "when test {", "\"\"\""]
        .iter()
        .map(|word| word.repeat(5_000))
        .collect();
    texts.push(format!("let a = {}1{}", "(".repeat(3_000), ")".repeat(3_000)));
    texts.push(format!("plan p {{ stage s {{ {} {} }} }}", "parallel {".repeat(2_000), "}".repeat(2_000)));
    for text in texts {
        for (name, target) in TARGETS {
            println!("{name} {}", text.chars().take(20).collect::<String>());
            target(text.as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn damaged_inputs_hold_too(which in any::<prop::sample::Index>(), wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..4), 1..8)) {
        let kept = kept();
        let (name, target, path) = which.get(&kept);
        let mut bytes = std::fs::read(path).unwrap();
        for (at, byte, how) in wounds {
            if bytes.is_empty() { break; }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        println!("{name}");
        target(&bytes);
    }
}
