//! The shape of the tree and what its files may hold.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Files git knows or would know; the ignored ones are nobody's business.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<PathBuf> =
        String::from_utf8(output.stdout).expect("UTF-8 paths").lines().map(PathBuf::from).collect();
    assert!(files.len() > 50, "git lists the tree");
    files.into_iter().filter(|file| root().join(file).is_file()).collect()
}

#[test]
fn the_top_level_is_fixed() {
    const ALLOWED: &[&str] = &[
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "engine",
        "dsl",
        "plans",
        "stdlib",
        "tests",
        "book",
    ];
    for file in files() {
        let top = file.components().next().expect("a path").as_os_str().to_string_lossy().into_owned();
        assert!(ALLOWED.contains(&top.as_str()) || top.starts_with('.'), "`{}` does not belong there", file.display());
    }
}

fn rust_files() -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| {
            let text = fs::read_to_string(root().join(&file)).expect("UTF-8 source");
            (file, text)
        })
        .collect()
}

#[test]
fn files_have_walls() {
    /// Lines of one file; a longer one is split by meaning.
    const LINES_MAX: usize = 800;
    let long: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(file, text)| format!("{}: {} lines", file.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "split by meaning:\n{}", long.join("\n"));
}

#[test]
fn modules_say_what_they_are() {
    let silent: Vec<String> = rust_files()
        .iter()
        .filter(|(file, text)| !text.starts_with("//!") && !file.ends_with("build.rs"))
        .map(|(file, _)| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "open with `//!`: what it is, what it is not:\n{}", silent.join("\n"));
}

#[test]
fn no_test_is_skipped_in_silence() {
    let ignored: Vec<String> = rust_files()
        .iter()
        .filter(|(file, _)| !file.starts_with("tests/tidy"))
        .flat_map(|(file, text)| {
            text.lines()
                .enumerate()
                .filter(|(_, line)| line.trim_start().starts_with("#[ignore"))
                .map(|(number, _)| format!("{}:{}", file.display(), number + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(ignored.is_empty(), "a test that cannot run says so and fails:\n{}", ignored.join("\n"));
}

#[test]
fn the_book_lists_its_pages() {
    let summary = fs::read_to_string(root().join("book/src/SUMMARY.md")).expect("book/src/SUMMARY.md");
    for file in files() {
        if let Ok(page) = file.strip_prefix("book/src")
            && page.extension().is_some_and(|extension| extension == "md")
            && page != Path::new("SUMMARY.md")
        {
            let page = page.to_string_lossy();
            assert!(summary.contains(page.as_ref()), "book/src/{page} is not in SUMMARY.md");
        }
    }
}
