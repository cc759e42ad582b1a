//! A reader that was written from FORMAT.md alone, in another language, reads the golden vault.
//!
//! `format/read_segment.py` shares no code with this crate: what it finds right is right by the page. It needs Debian's Python
//! and the packages of `format/packages.txt`, which `cargo verify` installs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use muster_vault::*;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Debian's own, which sees Debian's modules whatever other Python the user has.
const PYTHON: &str = "/usr/bin/python3";
const SIZE: usize = 256 << 10;
/// Noise in the first 4096 bytes, 7 from 65536 to 69632 and from 80384 to 131072, else zeroes.
const IMAGE: &str = "e4de4221b9ad5185b670a7e42858469ec51639efa9abd05571500fef994e0fc2";
const OLD: &str = "db.root-1/00000007-tester-ba1e9b88a3c8b844-000000.seg";
const NEW: &str = "db.root-1/00000007-tester-3091d1a0e39d3eae-000000.seg";

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Runs Debian's Python without leaving anything in the source tree.
fn python() -> Command {
    let mut command = Command::new(PYTHON);
    command.arg("-B");
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("`{PYTHON}`: {error}; apt-get install python3"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A copy of the golden vault, to be read whole or spoilt.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        let (old, new) = (format!("vault/data/{OLD}"), format!("vault/data/{NEW}"));
        for file in ["vault/vault.json", "vault/keys/1.slot", &old, &new, "vault.key", "segments.json"] {
            std::fs::create_dir_all(copy.path(file).parent().unwrap()).unwrap();
            std::fs::copy(tests().join("golden").join(file), copy.path(file)).unwrap();
        }
        // Version control keeps no permissions, and the engine takes no key file that others can read.
        copy.close("vault.key");
        copy
    }

    fn close(&self, file: &str) {
        std::fs::set_permissions(self.path(file), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The reader's command line; `secret` is an option and a file of this folder.
    fn reader(&self, python: &mut Command, secret: [&str; 2]) -> Output {
        python.arg(tests().join("format/read_segment.py"));
        python.arg("--vault").arg(self.path("vault")).arg(secret[0]).arg(self.path(secret[1]));
        python.arg("--segments").arg(self.path("segments.json")).args(["--size", &SIZE.to_string()]);
        output(python.arg("--output").arg(self.path("image")))
    }

    fn read(&self, secret: [&str; 2]) -> Result<Vec<u8>, String> {
        let output = self.reader(&mut python(), secret);
        let said = stderr(&output);
        // A reader that cannot begin must not pass for one that found a fault.
        assert!(!said.contains("apt-get install"), "{said}");
        match output.status.code() {
            Some(0) => Ok(std::fs::read(self.path("image")).unwrap()),
            Some(1) if said.starts_with("wrong: ") => Err(said),
            _ => panic!("{}: {said}", output.status),
        }
    }

    fn with_key(&self) -> Result<Vec<u8>, String> {
        self.read(["--key-file", "vault.key"])
    }

    fn flip(&self, file: &str, at: usize) {
        let mut bytes = std::fs::read(self.path(file)).unwrap();
        bytes[at] ^= 1;
        std::fs::write(self.path(file), bytes).unwrap();
    }

    /// Makes the list agree with an object that was spoilt, so that only its seals can tell.
    fn record(&self, name: &str) {
        let mut list: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.path("segments.json")).unwrap()).unwrap();
        let entry = list.as_array_mut().unwrap().iter_mut().find(|entry| entry["name"] == name).unwrap();
        let bytes = std::fs::read(self.path(&format!("vault/data/{name}"))).unwrap();
        entry["hash"] = blake3::hash(&bytes).to_hex().as_str().into();
        entry["stored_bytes"] = bytes.len().into();
        std::fs::write(self.path("segments.json"), list.to_string()).unwrap();
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_page_suffices_to_read_the_golden_vault() {
    let image = Copy::new().with_key().unwrap();
    assert_eq!(image.len(), SIZE);
    assert_eq!(sha256(&image), IMAGE);
    let only = |from: usize, to: usize, byte: u8| image[from..to].iter().all(|found| *found == byte);
    assert!(only(4096, 65536, 0) && only(65536, 69632, 7) && only(69632, 80384, 0));
    assert!(only(80384, 131_072, 7) && only(131_072, SIZE, 0));
}

#[test]
fn a_bit_that_is_not_as_sealed_is_found_in_every_part() {
    let end = std::fs::metadata(tests().join("golden/vault/data").join(OLD)).unwrap().len() as usize;
    // The older segment: header, a frame as it is, a compressed frame, an index of two frame entries, footer.
    let (second, index, footer) = (64 + 4096 + 16, end - 32 - 16 - 128, end - 32);
    let sealed = "header, index or footer does not open";
    for (part, at, said) in [
        ("magic", 0, "header: not a segment"),
        ("version", 8, "header: format 0 is not 1"),
        ("suite", 10, "header: suite 0 is unknown"),
        ("reserved", 13, "header: bytes 11 to 15"),
        ("vault id", 16, "header: of another vault"),
        ("salt", 40, sealed),
        ("frame 0", 64, "frame 0 does not open"),
        ("tag of frame 0", second - 1, "frame 0 does not open"),
        ("frame 1", second, "frame 1 does not open"),
        ("tag of frame 1", index - 1, "frame 1 does not open"),
        ("index", index, sealed),
        ("tag of the index", footer - 1, sealed),
        ("place of the index", footer, "footer: the index does not end where it begins"),
        ("number of entries", footer + 16, sealed),
        ("number of frames", footer + 20, sealed),
        ("end", end - 1, "footer: not there"),
    ] {
        let copy = Copy::new();
        copy.flip(&format!("vault/data/{OLD}"), at);
        let error = copy.with_key().unwrap_err();
        assert!(error.contains("the BLAKE3 of the object"), "{part}: {error}");
        copy.record(OLD);
        let error = copy.with_key().unwrap_err();
        assert!(error.contains(said), "{part}: {error}");
    }
    for (part, at, said) in [
        ("magic", 0, "not a key slot"),
        ("version", 8, "format 0 is not 1"),
        ("kind", 10, "of another kind"),
        ("reserved", 11, "does not open"),
        ("vault id", 12, "of another vault"),
        ("salt", 28, "does not open"),
        ("length of the parameters", 60, "do not fit"),
        ("nonce", 62, "does not open"),
        ("wrapped key", 74, "does not open"),
        ("tag", 121, "does not open"),
    ] {
        let copy = Copy::new();
        copy.flip("vault/keys/1.slot", at);
        let error = copy.with_key().unwrap_err();
        assert!(error.contains("keys/1.slot") && error.contains(said), "{part}: {error}");
    }
}

#[test]
fn a_segment_that_is_cut_or_under_another_name_is_found() {
    let copy = Copy::new();
    let path = |name: &str| copy.path(&format!("vault/data/{name}"));
    let whole = std::fs::read(path(OLD)).unwrap();
    std::fs::write(path(OLD), &whole[..whole.len() - 1]).unwrap();
    let error = copy.with_key().unwrap_err();
    assert!(error.contains("4387 bytes, the point says 4388"), "{error}");
    copy.record(OLD);
    let error = copy.with_key().unwrap_err();
    assert!(error.contains("footer: not there"), "{error}");

    std::fs::copy(path(NEW), path(OLD)).unwrap();
    copy.record(OLD);
    let error = copy.with_key().unwrap_err();
    assert!(error.contains("header, index or footer does not open"), "{error}");
}

#[tokio::test]
async fn a_passphrase_opens_by_the_page_too() {
    let copy = Copy::new();
    std::fs::write(copy.path("passphrase"), "grün wie Gras\nnot this line\n").unwrap();
    copy.close("passphrase");
    std::fs::write(copy.path("other"), "grün wie Heu\n").unwrap();
    let error = copy.read(["--passphrase-file", "passphrase"]).unwrap_err();
    assert!(error.contains("of another kind"), "{error}");

    let url = format!("file://{}", copy.path("vault").display());
    let vault = Vault::open(&url, &KeySource::File(copy.path("vault.key"))).await.unwrap();
    let source = KeySource::Passphrase(Passphrase::from_file(&copy.path("passphrase")).unwrap());
    vault.add_slot(&source, "the safe in Graz").await.unwrap();
    assert_eq!(sha256(&copy.read(["--passphrase-file", "passphrase"]).unwrap()), IMAGE);
    assert_eq!(sha256(&copy.with_key().unwrap()), IMAGE);
    let error = copy.read(["--passphrase-file", "other"]).unwrap_err();
    assert!(error.contains("keys/2.slot does not open"), "{error}");
}

#[test]
fn a_missing_module_is_named_by_its_package() {
    // Without Python's site module no installed package is seen.
    let output = Copy::new().reader(python().arg("-S"), ["--key-file", "vault.key"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("apt-get install python3-cryptography"), "{}", stderr(&output));
}

#[test]
fn the_hash_that_the_reader_brings_is_blake3() {
    let output = output(python().arg(tests().join("format/blake3.py")));
    assert!(output.status.success(), "{}", stderr(&output));
}
