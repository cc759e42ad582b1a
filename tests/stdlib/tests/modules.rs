//! Every module: documented, formatted, its scripts good, and compiled in a plan that uses all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests and their helpers

use muster_library::*;
use muster_runsheet::{Action, Kind, ProbeCall};
use std::collections::{BTreeMap, BTreeSet};

fn plans() -> std::path::PathBuf {
    repository().join("tests/stdlib/plans")
}

#[test]
fn everything_is_documented_and_formatted() {
    let mut names = BTreeMap::new();
    for module in modules() {
        assert!(!module.about.is_empty(), "{} does not say what it is for", module.path);
        assert!(!module.entries.is_empty(), "{} declares nothing", module.path);
        for entry in &module.entries {
            let doc = entry.doc.as_deref().unwrap_or_default();
            assert!(doc.len() > 20, "{} {} has no `##` lines", module.path, entry.name);
            if entry.what != "template"
                && let Some(other) = names.insert(entry.name.clone(), module.path)
            {
                panic!("`{}` is declared by {other} and by {}: hooks have one name space", entry.name, module.path);
            }
        }
        let formatted = muster_editor::format(module.text).unwrap_or_else(|found| panic!("{}: {found:?}", module.path));
        if std::env::var_os("UPDATE_BOOK").is_some() {
            std::fs::write(repository().join("stdlib").join(format!("{}.plan", &module.path[4..])), &formatted)
                .unwrap();
            continue;
        }
        assert_eq!(formatted, module.text, "{} is not as `muster fmt` writes it", module.path);
    }
}

#[test]
fn the_page_of_the_book_is_up_to_date() {
    let path = repository().join("book/src/standard-library.md");
    let wanted = page(&modules());
    if std::env::var_os("UPDATE_BOOK").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "write it anew: UPDATE_BOOK=1 cargo test -p muster-library");
}

#[test]
fn each_module_compiles_in_every_operation_and_stays_in_the_bubble_of_a_drill() {
    for module in modules() {
        let name = module.path.trim_start_matches("std/");
        let trial = Trial::of(&plans(), &[&format!("{name}.plan")]);
        assert_eq!(trial.said(), Vec::<String>::new(), "{name}");
        let sheets = trial.sheets().unwrap_or_else(|said| panic!("{said}"));
        let mut used = BTreeSet::new();
        for sheet in &sheets {
            for hook in sheet.hooks.values() {
                assert_eq!(muster_hooks::check(hook), Vec::new(), "{name} {}", hook.name);
                used.insert(hook.name.to_string());
                used.extend(hook.undo.iter().map(ToString::to_string));
                if sheet.operation.kind == Kind::Test {
                    assert!(!hook.needs.iter().any(|need| need.is_outside()), "{name}: {} in a drill", hook.name);
                }
            }
            used.extend(sheet.nodes.iter().filter_map(|node| match &node.action {
                Action::Check { probe: ProbeCall::Tcp { .. }, .. } => Some("tcp".to_owned()),
                Action::Check { probe: ProbeCall::Http { .. }, .. } => Some("http".to_owned()),
                Action::Check { probe: ProbeCall::Guest, .. } => Some("guest".to_owned()),
                Action::Check { probe: ProbeCall::Command { .. }, .. } => Some("command".to_owned()),
                _ => None,
            }));
        }
        let steps =
            |path: &str| sheets.iter().any(|sheet| sheet.nodes.iter().any(|node| node.id.as_str().contains(path)));
        for entry in &module.entries {
            let is_used = match entry.what {
                "template" => steps(&format!(".{}.", entry.name)),
                _ => used.contains(&entry.name),
            };
            assert!(is_used, "{name}.plan does not use {} `{}`", entry.what, entry.name);
        }
    }
}
