//! A host whose KVM takes a machine through its firmware and drops it in its boot loader.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

mod common;

use common::{enter_a_site, program};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// QEMU on such a host: with KVM it says what the real one says, and its machine stands still.
const BROKEN_KVM: &str = r#"#!/bin/sh
case "$*" in
  *"-accel kvm"*) ;;
  *) exec REAL "$@" ;;
esac
echo "KVM internal error. Suberror: 1" >&2
for word; do
  shift
  case $word in
    kvm) set -- "$@" tcg ;;
    host) set -- "$@" max ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec REAL -S "$@"
"#;

#[test]
fn a_machine_that_kvm_drops_at_its_start_runs_without_it() {
    let (_lab, folder) = enter_a_site("accel");
    // What a probe believed that asked for too little.
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let believed = json!({ "accelerator": "kvm", "detail": "kvm", "kernel": kernel.trim(), "probe": 2 });
    fs::write(folder.join("accel.json"), believed.to_string()).unwrap();
    let real = Command::new("sh").args(["-c", "command -v qemu-system-x86_64"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    let programs = tempfile::tempdir().unwrap();
    let qemu = programs.path().join("qemu-system-x86_64");
    fs::write(&qemu, BROKEN_KVM.replace("REAL", real.trim())).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());

    let booted =
        Command::new(program()).args(["boot", "hq"]).arg(&folder).arg("db").env("PATH", path).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&booted.stdout), String::from_utf8_lossy(&booted.stderr));
    assert!(booted.status.success(), "{errors}");
    assert!(said.contains("accel tcg (kvm: it dropped `db`: KVM internal error. Suberror: 1)"), "{said}");
    let kept: Value = serde_json::from_slice(&fs::read(folder.join("accel.json")).unwrap()).unwrap();
    assert_eq!(kept["accelerator"], "tcg", "the next machine is not dropped first");
}
