//! The cookbook of the book: its plans are written beside a copy of the shop, and its consoles are typed in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shop() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("plans/shop")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Fenced blocks as kind and text, in order.
fn blocks(section: &str) -> Vec<(&str, &str)> {
    let fenced = section.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a fence names its kind")).collect()
}

/// Runs a line, and looks for each line that is printed below it.
fn type_in(folder: &TempDir, command: &str, printed: &[&str]) {
    let words: Vec<&str> = command.strip_prefix("muster ").expect("a command of muster").split(' ').collect();
    let mut process = Command::new(env!("CARGO_BIN_EXE_muster"));
    process.current_dir(folder.path()).args(words).env("NO_COLOR", "1").env_remove("RUST_LOG");
    let output = process.output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "`{command}`: {out}{err}");
    assert!(!printed.is_empty(), "`{command}` is shown without what it prints");
    for line in printed {
        assert!(out.contains(line), "`{command}` does not print `{line}`: {out}{err}");
    }
}

#[test]
fn every_recipe_of_the_cookbook_holds() {
    let page = std::fs::read_to_string(root().join("book/src/cookbook.md")).unwrap();
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert!(sections.len() >= 10, "ten situations, not {}", sections.len());
    for section in sections {
        let title = section.lines().next().unwrap();
        println!("{title}");
        let folder = shop();
        let blocks = blocks(section);
        assert!(!blocks.is_empty(), "`{title}` has nothing to type");
        for (kind, text) in blocks {
            match kind {
                "test" => {
                    let name = text.lines().next().unwrap().trim_start_matches("# ");
                    assert!(name.ends_with(".plan"), "`{title}`: a plan names its file, not `{name}`");
                    assert_eq!(muster_editor::format(text).as_deref(), Ok(text), "`{title}` is not formatted");
                    std::fs::write(folder.path().join(name), text).unwrap();
                }
                "console" => {
                    for typed in text.split("$ ").skip(1) {
                        let mut lines = typed.trim_end().lines();
                        let command = lines.next().unwrap();
                        type_in(&folder, command, &lines.collect::<Vec<_>>());
                    }
                }
                // That commands for sites and vaults exist with their options is held for the whole book.
                other => assert_eq!(other, "sh", "`{title}`"),
            }
        }
    }
}
