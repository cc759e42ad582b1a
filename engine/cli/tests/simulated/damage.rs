//! Damaged vaults: found, named, never guessed over, and never a panic.

use crate::shop::{Shop, said};
use std::path::{Path, PathBuf};

/// Files below a folder, largest first.
fn files(folder: &Path) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let facts = entry.metadata().unwrap();
            if facts.is_dir() { folders.push(entry.path()) } else { found.push((facts.len(), entry.path())) }
        }
    }
    found.sort();
    found.reverse();
    found
}

#[test]
fn a_damaged_segment_is_named() {
    let shop = Shop::protected();
    let point = shop.newest_point("orders");
    let (size, segment) = files(&shop.vault().join("data")).into_iter().next().expect("a segment");
    let whole = std::fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[usize::try_from(size / 2).unwrap()] ^= 0x10;
    std::fs::write(&segment, &damaged).unwrap();
    let out = |name: &str| shop.folder.path().join(name).display().to_string();
    let name = segment.file_name().unwrap().to_str().unwrap();
    shop.type_in(&["materialise", &point, "--to", &out("a")]).ends(1).says(&["error: ", name]);
    // A segment cut short, and one that is gone.
    std::fs::write(&segment, &whole[..whole.len() / 3]).unwrap();
    shop.type_in(&["materialise", &point, "--to", &out("b")]).ends(1).says(&["error: ", name]);
    std::fs::remove_file(&segment).unwrap();
    shop.type_in(&["materialise", &point, "--to", &out("c")]).ends(1).says(&["error: ", name]);
    std::fs::write(&segment, &whole).unwrap();
    shop.type_in(&["materialise", &point, "--to", &out("d")]).ends(0);
    shop.assert_nothing_lost();
}

/// Whatever file of the control state is emptied or cut short: an answer or a clear error, soon, and no panic.
#[test]
fn a_damaged_control_state_is_an_error_and_no_panic() {
    let shop = Shop::protected();
    let state = shop.vault().join("state");
    let all: Vec<PathBuf> = files(&state).into_iter().map(|(_, path)| path).collect();
    assert!(!all.is_empty());
    let whole: Vec<(PathBuf, Vec<u8>)> = all.iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let mut refused = 0;
    for length in [0, 1] {
        // Every file at once: nothing of the state is left but its names.
        for (path, bytes) in &whole {
            std::fs::write(path, &bytes[..bytes.len() / 2 * length]).unwrap();
        }
        for words in [&["status"][..], &["replicate", "--once"], &["points"]] {
            let said = shop.type_in(words);
            said.ends(1).says(&["error: ", "the control state is damaged", "put back"]);
            refused += 1;
        }
        restore(&state, &whole);
    }
    assert_eq!(refused, 6);
    shop.assert_nothing_lost();
}

#[test]
fn any_one_damaged_file_of_the_control_state_panics_nobody() {
    let shop = Shop::protected();
    let state = shop.vault().join("state");
    let whole: Vec<(PathBuf, Vec<u8>)> = files(&state)
        .into_iter()
        .map(|(_, path)| {
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    // The newest files are the ones in use; a look at ten of them is enough.
    let step = (whole.len() / 10).max(1);
    for (path, bytes) in whole.iter().step_by(step) {
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        let said = shop.type_in(&["status"]);
        assert!(!said.err.contains("panicked") && matches!(said.code, Some(0 | 1)), "{}: {said:#?}", path.display());
        if said.code == Some(1) {
            said.says(&["error: "]);
        }
        restore(&state, &whole);
    }
    shop.assert_nothing_lost();
}

fn restore(state: &Path, whole: &[(PathBuf, Vec<u8>)]) {
    std::fs::remove_dir_all(state).unwrap();
    for (path, bytes) in whole {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_vault_of_another_format_is_not_opened() {
    let shop = Shop::protected();
    let described: Vec<PathBuf> = std::fs::read_dir(shop.vault())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    assert!(!described.is_empty(), "the vault describes itself in a file");
    for path in described {
        let whole = std::fs::read(&path).unwrap();
        for damaged in [Vec::new(), b"{}".to_vec(), whole[..whole.len() / 2].to_vec()] {
            std::fs::write(&path, damaged).unwrap();
            let said = said(shop.command(&["points"]), &["points"]).ends(1);
            said.says(&["error: ", "vault"]);
        }
        std::fs::write(&path, &whole).unwrap();
    }
    shop.assert_nothing_lost();
}
