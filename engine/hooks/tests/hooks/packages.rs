//! The interpreter's functions that hooks have are listed twice: in the sandbox, which runs them, and in the compiler, which
//! knows their names beforehand. The compiler does no I/O and so cannot ask the sandbox; here both are held equal.

use std::collections::BTreeSet;
use std::path::Path;

/// The packages that a source registers with its engine.
fn packages(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let end = "::new().register_into_engine(&mut engine)";
    let lines = text.lines().filter_map(|line| line.trim().split_once(end));
    lines.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_compiler_knows_the_packages_that_the_sandbox_has() {
    let sandbox = packages("engine/hooks/src/sandbox.rs");
    let compiler = packages("dsl/compiler/src/host_calls.rs");
    assert!(sandbox.len() >= 8, "the packages of the sandbox are found: {sandbox:?}");
    assert_eq!(compiler, sandbox, "a call that one of them knows and the other not is E0703, or fails at night");
}

/// Words between the quotes of a constant's list.
fn listed(file: &str, constant: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = text.split_once(&format!("const {constant}: ")).unwrap();
    let (list, _) = rest.split_once("];").unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_compiler_knows_the_words_that_the_sandbox_has() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sandbox.rs")).unwrap();
    let doors = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doors.rs")).unwrap();
    let compiler = "dsl/compiler/src/host_calls.rs";
    for word in listed("engine/hooks/src/sandbox.rs", "GLOBALS") {
        assert!(listed(compiler, "OBJECTS").contains(&word), "the compiler knows no `{word}`");
    }
    let (words, machine, values) = (listed(compiler, "WORDS"), listed(compiler, "MACHINE"), listed(compiler, "VALUES"));
    for word in words.iter().chain(&machine).chain(&values).chain(&listed(compiler, "OBJECTS")) {
        if listed("engine/hooks/src/sandbox.rs", "GLOBALS").contains(word) {
            continue;
        }
        let registered = format!("(\"{word}\"");
        assert!(text.contains(&registered) || doors.contains(&registered), "the sandbox has no `{word}`");
    }
}
