//! The arrows between crates, as data. A new arrow is its own commit, with a reason.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// `crate: what it may use`. Everything flows `tests -> engine -> dsl -> stdlib`, and inside a layer as written here.
const ARROWS: &[(&str, &[&str])] = &[
    ("muster-stdlib", &[]),
    ("muster-diagnostics", &[]),
    ("muster-syntax", &["muster-diagnostics"]),
    ("muster-editor", &["muster-diagnostics", "muster-syntax"]),
    // Plans from elsewhere are printed, formatted; plans of here are read to be written for elsewhere.
    ("muster-import", &["muster-diagnostics", "muster-syntax", "muster-editor"]),
    ("muster-runsheet", &[]),
    // What a sheet would do rests on its graph and on the assumed times of the standard library.
    ("muster-forecast", &["muster-runsheet", "muster-stdlib"]),
    // Promises are checked against estimates.
    (
        "muster-compiler",
        &["muster-diagnostics", "muster-syntax", "muster-runsheet", "muster-forecast", "muster-stdlib"],
    ),
    // Ports speak the language of the runsheet: names, inventory.
    ("muster-ports", &["muster-runsheet"]),
    ("muster-journal", &["muster-ports", "muster-runsheet"]),
    ("muster-executor", &["muster-ports", "muster-runsheet", "muster-journal"]),
    // A report is told from a run's records, its estimates beside its real times.
    ("muster-evidence", &["muster-ports", "muster-runsheet", "muster-journal", "muster-forecast"]),
    ("muster-hooks", &["muster-ports", "muster-runsheet", "muster-journal"]),
    // Who is who on a wire, for whatever listens on one.
    ("muster-tls", &["muster-ports"]),
    ("muster-nbd", &["muster-ports", "muster-tls"]),
    ("muster-vault", &["muster-ports"]),
    ("muster-replication", &["muster-ports", "muster-runsheet", "muster-vault"]),
    // What is in a vault is brought out of it: served to qemu-img, laid over a disk, read file by file.
    ("muster-extract", &["muster-ports", "muster-tls", "muster-nbd", "muster-vault", "muster-replication"]),
    (
        "muster-steps",
        &["muster-ports", "muster-runsheet", "muster-journal", "muster-executor", "muster-hooks", "muster-replication"],
    ),
    ("muster-agent", &["muster-ports", "muster-tls", "muster-vault", "muster-replication", "muster-nbd"]),
    ("muster-provider-simulated", &["muster-ports"]),
    ("muster-provider-qemu", &["muster-ports", "muster-nbd"]),
    // Carries checked plans out on simulated sites with the real executor, steps and replication: it composes like
    // control does, with virtual time in place of a vault and a socket.
    (
        "muster-rehearsal",
        &[
            "muster-ports",
            "muster-runsheet",
            // What healthy guests answer to the hooks of the standard library.
            "muster-stdlib",
            "muster-diagnostics",
            "muster-syntax",
            "muster-compiler",
            "muster-forecast",
            "muster-journal",
            "muster-executor",
            "muster-hooks",
            "muster-replication",
            "muster-steps",
            "muster-agent",
            "muster-provider-simulated",
        ],
    ),
    (
        "muster-control",
        &[
            "muster-ports",
            "muster-runsheet",
            "muster-forecast",
            "muster-compiler",
            "muster-diagnostics",
            "muster-journal",
            "muster-executor",
            "muster-steps",
            "muster-hooks",
            "muster-vault",
            "muster-replication",
            "muster-tls",
            "muster-agent",
        ],
    ),
    (
        "muster",
        &[
            "muster-ports",
            "muster-runsheet",
            "muster-forecast",
            "muster-compiler",
            "muster-diagnostics",
            "muster-syntax",
            "muster-editor",
            "muster-import",
            "muster-rehearsal",
            "muster-control",
            "muster-journal",
            "muster-executor",
            // Reports and bundles are made where the key of the vault is: in the command.
            "muster-evidence",
            "muster-vault",
            "muster-replication",
            // Data comes out of a vault where its key is: in the command.
            "muster-extract",
            "muster-tls",
            "muster-agent",
            "muster-provider-simulated",
            "muster-provider-qemu",
        ],
    ),
];

/// Crates of `tests/` may use whatever they test; nothing may use them but each other.
const TESTS: &[&str] = &[
    "muster-tidy",
    "muster-lab",
    "muster-demo",
    "muster-language",
    "muster-library",
    "muster-end-to-end",
    "muster-scale",
    "muster-corpus",
    // Real object stores, for the tests of the vault and of the command line.
    "muster-stores",
    // The whole engine under seeded faults, and beside a second reading of what a run means.
    "muster-simulation",
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

#[test]
fn crates_use_only_what_they_may() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut mistakes = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("a name");
            let inside = to == "muster" || to.starts_with("muster-");
            // Tests of a crate may reach further than the crate: a provider's tests drive the pipeline.
            if !inside || dependency["kind"] == "dev" || TESTS.contains(&name) {
                continue;
            }
            match allowed.get(name) {
                None => mistakes.push(format!("{name} is not in the table of arrows")),
                Some(may) if !may.contains(to) => mistakes.push(format!("{name} -> {to}")),
                Some(_) => {}
            }
        }
    }
    assert!(mistakes.is_empty(), "arrows that are not in the table:\n{}", mistakes.join("\n"));
}

#[test]
fn nothing_builds_on_tests() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("a name");
            let allowed = TESTS.contains(&name) || dependency["kind"] == "dev";
            assert!(allowed || !TESTS.contains(&to), "{name} builds on {to}");
        }
    }
}

#[test]
fn the_language_does_no_io() {
    const BANNED: &[&str] = &["tokio", "object_store", "slatedb", "reqwest", "ureq", "rustix", "getrandom", "tempfile"];
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let path = package["manifest_path"].as_str().expect("a path");
        if path.contains("/tests/") || !path.contains("/dsl/") && !path.ends_with("/stdlib/Cargo.toml") {
            continue;
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("a name");
            assert!(
                dependency["kind"] == "dev" || !BANNED.contains(&to),
                "{} uses {to}: nothing in dsl/ does I/O",
                package["name"]
            );
        }
    }
}
