//! `cargo verify`: sets the machine up, then runs every test, real machines included.
//!
//! `cargo verify --matrix [POINTS [SEED]]` instead kills muster at the end of every step of planned moves of real machines
//! and at so many drawn moments (30), and keeps what it saw in `engine/cli/tests/machines/kill-matrix.txt`.
//!
//! Random inputs follow from one seed, so a change is judged by the same inputs every time; `PROPTEST_RNG_SEED=N cargo verify`
//! tries others.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use muster_demo::machine::{self, Ability};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let say = |text: &str| println!("verify: {text}");
    // The servers that the standard library's modules are tested against.
    let library = include_str!("../../../stdlib/packages.txt").lines();
    // What the reader of the vault's format needs, which is not of this engine.
    let reader = include_str!("../../../../engine/vault/tests/format/packages.txt").lines();
    // What installs the object stores that vaults are tried on.
    let stores = include_str!("../../../stores/packages.txt").lines();
    // Clients of NBD that others wrote.
    let clients = include_str!("../../../../engine/nbd/tests/packages.txt").lines();
    // What makes the file systems that files are read out of.
    let systems = include_str!("../../../../engine/extract/tests/packages.txt").lines();
    let of_tests = library.chain(reader).chain(stores).chain(clients).chain(systems);
    let packages: Vec<&str> = muster_lab::packages().into_iter().chain(of_tests).collect();
    let ability = machine::prepare(&packages, &say);
    match &ability {
        Ability::RealMachines => say("real machines: yes"),
        Ability::Simulated { why } => {
            say(&format!("no real machines here ({why}): their tests will fail and say so"));
        }
    }
    if arguments.first().is_some_and(|argument| argument == "--matrix") {
        return matrix(&arguments[1..], &ability);
    }
    let nextest = Command::new("cargo")
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !nextest {
        say("installing cargo-nextest, the test runner (into the user's cargo folder)");
        // Unoptimised it is built in half the time, and fast enough.
        let status =
            Command::new("cargo").args(["install", "--quiet", "--locked", "--debug", "cargo-nextest"]).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("verify: cargo-nextest could not be installed");
            return ExitCode::FAILURE;
        }
    }
    let mut tests = Command::new("cargo");
    tests.args(["nextest", "run", "--workspace", "--locked"]).args(arguments);
    if std::env::var_os(SEED).is_none() {
        tests.env(SEED, SEED_OF_EVERY_RUN);
    }
    run(tests, &ability)
}

fn run(mut tests: Command, ability: &Ability) -> ExitCode {
    if *ability == Ability::RealMachines && !machine::is_root() {
        // The tests of real machines need root; cargo hands each test program to this command.
        let path = std::env::var("PATH").unwrap_or_default();
        let runner = format!("sudo -n -E env PATH={path}");
        tests.env(format!("CARGO_TARGET_{}_RUNNER", host().to_uppercase().replace('-', "_")), runner);
    }
    match tests.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Where the property tests take their seed from, and the one that a run without it has.
const SEED: &str = "PROPTEST_RNG_SEED";
const SEED_OF_EVERY_RUN: &str = "20171015";

const MATRIX_POINTS: &str = "30";
const MATRIX_SEED: &str = "20";
/// Steps of a planned move of the shop.
const MATRIX_STEPS: &str = "37";

/// One test, for longer than the test runner would let it: half a minute for each kill on two cores, and more under load.
fn matrix(arguments: &[String], ability: &Ability) -> ExitCode {
    let word = |at: usize, fallback: &'static str| arguments.get(at).map_or(fallback, String::as_str);
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/cli/tests/machines/kill-matrix.txt");
    let mut tests = Command::new("cargo");
    tests.args(["test", "--locked", "--package", "muster", "--test", "machines", "--"]);
    tests.args(["a_killed_move_goes_on_and_loses_nothing", "--nocapture"]);
    tests.env("MUSTER_KILL_POINTS", word(0, MATRIX_POINTS)).env("MUSTER_KILL_SEED", word(1, MATRIX_SEED));
    tests.env("MUSTER_KILL_STEPS", MATRIX_STEPS);
    tests.env("MUSTER_KILL_LOG", &log);
    let ended = run(tests, ability);
    println!("verify: what every kill met lies in {}", log.display());
    ended
}

/// The triple of this computer, `x86_64-unknown-linux-gnu`.
fn host() -> String {
    let output = Command::new("rustc").args(["-vV"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("x86_64-unknown-linux-gnu").to_owned()
}
