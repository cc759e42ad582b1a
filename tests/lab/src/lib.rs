//! The laboratory: real machines on this computer, for tests and for the demonstration.
//!
//! ```text
//!   Images::prepare   kernel + busybox + guest program -> one self-booting disk, made once, kept by hash
//!   Lab               sites as network namespaces (`muster-<lab>-<site>`), joined by a veth each to where we are
//!   Site::machine     a folder with `machine.json` and disks, as the QEMU provider finds it
//!   check             what a recovered pair of disks says about order and loss
//! ```
//!
//! A site's agent, and every machine of it, runs inside the site's namespace and below the site's folder. [`Site::kill`] is
//! the disaster: everything of the site gets SIGKILL at once, disks stay as they lie.
//!
//! Not here: anything of Muster itself. The lab knows the provider's folder layout and nothing else, so that it proves
//! discovery of machines that Muster has not made.
//!
//! Needs root (namespaces, bridges) and the Debian packages of [`packages`]; what is missing is named, never skipped.

mod check;
mod command;
mod error;
mod image;
mod lab;
mod machine;
#[path = "../guest/record.rs"]
pub mod record;
mod registry;
mod site;

pub use check::{DiskCheck, ShopCheck, check_root, check_shop, partition_of_root};
pub use error::{Error, Result};
pub use image::{DATA_BYTES, Images, LabDir, ROOT_BYTES};
pub use lab::Lab;
pub use machine::{Machine, Role};
pub use registry::sweep;
pub use site::{Site, process_of};

/// The Debian packages the lab needs installed.
pub fn packages() -> Vec<&'static str> {
    include_str!("../packages.txt").lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Says what is missing to run the lab here, as one error that names the command to run.
pub fn requirements() -> Result<()> {
    const PROGRAMS: [&str; 16] = [
        "ip",
        "dnsmasq",
        "qemu-system-x86_64",
        "qemu-img",
        "qemu-storage-daemon",
        "busybox",
        "cpio",
        "dpkg-deb",
        "mke2fs",
        "debugfs",
        "dumpe2fs",
        "e2fsck",
        "mformat",
        "syslinux",
        "nsenter",
        "rustc",
    ];
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| command::find(program).is_none()).collect();
    if !missing.is_empty() {
        return Err(Error::Missing { what: missing.join(", "), packages: packages().join(" ") });
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    Ok(())
}
