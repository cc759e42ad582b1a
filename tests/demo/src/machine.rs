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
    if !is_root() {
        // Namespaces and bridges need root for every command, not only for installing.
        return Ability::Simulated { why: "not root: run it with sudo to see real machines".into() };
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
    Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
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
