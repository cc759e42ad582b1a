//! Every command that the book or the README quotes is one the binary has, with every option it is quoted with.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // tests

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One `--help`: the commands below it and the options it takes.
struct Help {
    commands: BTreeSet<String>,
    /// Whether a value follows.
    options: BTreeMap<String, bool>,
}

#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, Option<Help>>);

impl Helps {
    /// `None` when there is no such command.
    fn of(&mut self, path: &[String]) -> Option<&Help> {
        self.0.entry(path.to_vec()).or_insert_with(|| Help::read(path)).as_ref()
    }
}

impl Help {
    fn read(path: &[String]) -> Option<Self> {
        let output = Command::new(env!("CARGO_BIN_EXE_muster")).args(path).arg("--help").output().unwrap();
        if !output.status.success() {
            return None;
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let mut commands = BTreeSet::new();
        let mut options = BTreeMap::new();
        let mut below = false;
        for line in text.lines() {
            if !line.starts_with(' ') {
                below = line.starts_with("Commands:");
            } else if below && line.starts_with("  ") && !line.starts_with("   ") {
                commands.extend(line.split_whitespace().next().map(str::to_owned));
            } else if line.trim_start().starts_with('-') {
                let names = line.split([' ', ',', '=']).filter(|word| word.starts_with('-'));
                let value = line.contains('<');
                options.extend(names.map(|word| (word.trim_end_matches('.').to_owned(), value)));
            }
        }
        Some(Self { commands, options })
    }
}

/// Commands in fenced blocks of a shell, and in code spans, as words.
fn quoted(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut fence: Option<String> = None;
    for line in text.lines() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(kind.to_owned()) };
            continue;
        }
        match fence.as_deref() {
            Some("sh" | "console" | "text" | "") => {
                let line = line.trim_start().trim_start_matches("$ ");
                let line = line.split(" #").next().unwrap_or(line);
                if let Some(words) = line.strip_prefix("muster ") {
                    found.push(words);
                }
            }
            Some(_) => {}
            None => {
                let spans = line.split('`').skip(1).step_by(2);
                found.extend(spans.filter_map(|span| span.strip_prefix("muster ")));
            }
        }
    }
    let ends = ["|", ">", "&&", ";", "<", "2>"];
    let words = |line: &&str| {
        line.split_whitespace().take_while(|word| !ends.contains(word)).map(str::to_owned).collect::<Vec<_>>()
    };
    found.iter().map(words).filter(|words| !words.is_empty()).collect()
}

/// What is wrong with a quoted command.
fn judge(words: &[String], helps: &mut Helps) -> Option<String> {
    let mut path: Vec<String> = Vec::new();
    let mut inside = true;
    let mut value = false;
    for word in words {
        if std::mem::take(&mut value) {
            continue;
        }
        let word = word.replace('\\', "");
        let word = word.trim_matches(|mark: char| matches!(mark, '[' | ']' | '…' | '"' | '\''));
        let (none_below, takes) = {
            let help = helps.of(&path)?;
            (help.commands.is_empty(), help.options.clone())
        };
        if word.starts_with('-') && word.len() > 1 {
            // `--json|--html` and `-o` stand for themselves.
            for option in word.split('|').filter(|option| option.starts_with('-')) {
                let (name, given) = option.split_once('=').map_or((option, false), |(name, _)| (name, true));
                let here = takes.get(name).copied();
                match here.or_else(|| helps.of(&[]).and_then(|help| help.options.get(name).copied())) {
                    Some(takes) => value = takes && !given,
                    None => return Some(format!("`muster {}` takes no `{name}`", path.join(" "))),
                }
            }
            continue;
        }
        if !inside || none_below {
            inside = false;
            continue;
        }
        // Several at once: `import asr|srm`.
        let named: Vec<&str> = word.split('|').collect();
        if named.iter().any(|name| name.chars().next().is_none_or(|first| !first.is_ascii_lowercase())) {
            return None;
        }
        let mut known = |name: &&&str| helps.of(&path).is_some_and(|help| help.commands.contains(**name));
        let unknown = named.iter().find(|name| !known(name)).copied();
        if let Some(unknown) = unknown {
            return Some(format!("`muster {}` has no command `{unknown}`", path.join(" ")));
        }
        path.push(named[0].to_owned());
    }
    None
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let entries = std::fs::read_dir(root.join("book/src")).unwrap();
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("README.md"));
    pages.sort();
    pages
}

#[test]
fn quoted_commands_exist() {
    let mut helps = Helps::default();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for page in pages() {
        for words in quoted(&std::fs::read_to_string(&page).unwrap()) {
            if let Some(error) = judge(&words, &mut helps) {
                let page = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
                wrong.push(format!("{page}: `muster {}`: {error}", words.join(" ")));
            }
            seen.insert(words);
        }
    }
    assert!(seen.len() > 50, "only {} commands were found: this test does not see the book", seen.len());
    assert!(wrong.is_empty(), "commands that the binary does not have:\n{}", wrong.join("\n"));
}
