//! `cargo verify`: sets the machine up, then runs every test, real machines included.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use muster_demo::machine::{self, Ability};
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let say = |text: &str| println!("verify: {text}");
    match machine::prepare(&muster_lab::packages(), &say) {
        Ability::RealMachines => say("real machines: yes"),
        Ability::Simulated { why } => {
            say(&format!("no real machines here ({why}): their tests will fail and say so"));
        }
    }
    let nextest = Command::new("cargo")
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !nextest {
        say("installing cargo-nextest, the test runner (into the user's cargo folder)");
        let status = Command::new("cargo").args(["install", "--quiet", "--locked", "cargo-nextest"]).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("verify: cargo-nextest could not be installed");
            return ExitCode::FAILURE;
        }
    }
    let status = Command::new("cargo").args(["nextest", "run", "--workspace", "--locked"]).args(arguments).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
