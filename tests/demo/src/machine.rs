//! What this machine can do, and making it do more: Debian packages, with a word before each change.

use std::process::{Command, Stdio};

/// What the demo and the tests can use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Root (directly or by sudo), and every package is there.
    RealMachines,
    /// Not: the reason, in a few words.
    Simulated { why: String },
}

/// Rounds of installing: a package that was there in a version of its own may have to go for another one, and come back.
const ROUNDS: u32 = 3;

/// Installs what is missing, after saying so. Never fails: without root the answer is `Simulated`.
pub fn prepare(packages: &[&str], say: &dyn Fn(&str)) -> Ability {
    if !is_root() && !has_sudo() {
        // Namespaces and bridges need root for every command, not only for installing.
        return Ability::Simulated { why: "neither root nor sudo without a password".into() };
    }
    for round in 0..ROUNDS {
        let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
        if missing.is_empty() {
            return Ability::RealMachines;
        }
        if !exists("apt-get") {
            return Ability::Simulated { why: format!("no apt-get to install {}", missing.join(" ")) };
        }
        say(&format!("installing Debian packages: {}", missing.join(" ")));
        if round == 0 {
            let _ = apt(&["update", "-qq"]);
        }
        let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
        install.extend(&missing);
        if !apt(&install) {
            return Ability::Simulated { why: format!("apt-get could not install {}", missing.join(" ")) };
        }
    }
    Ability::Simulated { why: "some Debian packages push each other out".into() }
}

fn apt(arguments: &[&str]) -> bool {
    as_root("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f=${Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout.ends_with(b"install ok installed"))
}

/// A command that runs as root: directly, or through sudo.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        return command;
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive"]);
    // sudo resets the environment; programs of the user's own (cargo, rustc) must still be found.
    for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "CI"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.arg(program);
    command
}

fn has_sudo() -> bool {
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|ok| ok.success())
    };
    quiet(Command::new("sudo").args(["-n", "true"]))
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|this| std::os::unix::fs::MetadataExt::uid(&this) == 0)
}

fn exists(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
