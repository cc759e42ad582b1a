//! What must hold for any bytes at all, one function for each reader of foreign text or bytes.
//!
//! The fuzz targets in `tests/fuzz` call these, and so does the test that replays the kept corpus: what a fuzzer found once
//! is tried on every change, without a fuzzer. A function returns when all holds, and panics where something does not.

#![allow(clippy::panic, clippy::missing_panics_doc, clippy::unwrap_used)] // a broken promise is a panic here

mod stored;
mod wire;

use muster_compiler::{World, check};
use muster_diagnostics::{Diagnostic, FileId, RenderOptions, SourceMap, render};
use muster_import::{Imported, Refusal, Source, asr, srm};
use muster_runsheet::Runsheet;
use muster_syntax::tree::{Element, Node};

pub use stored::vault;
pub use wire::nbd;

/// One reader of foreign bytes.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("parser", parser),
    ("compiler", compiler),
    ("formatter", formatter),
    ("runsheet", runsheet),
    ("importers", importers),
    ("nbd", nbd),
    ("vault", vault),
];

/// One for each input: nothing of one is left for the next.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

struct One(String);

impl World for One {
    fn read(&self, path: &str) -> Option<String> {
        (path == "main.plan").then(|| self.0.clone())
    }
}

/// As a file is read: what is not UTF-8 becomes replacement characters.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Places lie in the text, between characters, and can be shown.
fn places(diagnostics: &[Diagnostic], sources: &SourceMap) {
    for found in diagnostics {
        let spans = std::iter::once(found.primary.span).chain(found.related.iter().map(|related| related.span));
        for span in spans.chain(found.fix.iter().map(|fix| fix.span)) {
            let source = sources.get(span.file).map_or("", |file| &file.text);
            let covered = source.get(span.start as usize..span.end as usize);
            assert!(covered.is_some(), "{} points outside of its text: {span:?} of {}", found.code, source.len());
        }
    }
    let _ = render(diagnostics, sources, RenderOptions { color: false, width: 100 });
}

/// The tree holds every byte once; every message has its place.
pub fn parser(bytes: &[u8]) {
    fn leaves(node: &Node, at: &mut usize) {
        for child in &node.children {
            match child {
                Element::Node(inner) => leaves(inner, at),
                Element::Token(token) => {
                    assert_eq!(token.range.start, *at, "a gap in the tree");
                    *at = token.range.end;
                }
            }
        }
    }
    let text = text(bytes);
    let parsed = muster_syntax::parse(FileId(0), &text);
    let mut at = 0;
    leaves(&parsed.tree.root, &mut at);
    assert_eq!(at, text.len(), "the tree ends before its text");
    let mut sources = SourceMap::default();
    sources.add("main.plan", text);
    places(&parsed.diagnostics, &sources);
}

/// A check ends with messages that can be shown; a second one says the same.
pub fn compiler(bytes: &[u8]) {
    let world = One(text(bytes));
    let files = ["main.plan".to_owned()];
    let checked = check(&world, &files);
    places(&checked.diagnostics, &checked.sources);
    assert!(checked.diagnostics == check(&world, &files).diagnostics, "two checks of one text differ");
}

/// What is formatted stays as it is when it is formatted again; only texts with mistakes are refused.
pub fn formatter(bytes: &[u8]) {
    let text = text(bytes);
    match muster_editor::format(&text) {
        Ok(formatted) => assert_eq!(muster_editor::format(&formatted).unwrap(), formatted, "not settled"),
        Err(found) => assert!(found.iter().any(Diagnostic::is_error), "refused without a reason"),
    }
}

/// A sheet that can be read can be shown, checked and written again.
pub fn runsheet(bytes: &[u8]) {
    let Ok(sheet) = serde_json::from_slice::<Runsheet>(bytes) else { return };
    let _ = sheet.graph();
    let _ = sheet.tampered_hooks();
    let _ = sheet.taken_for_granted();
    let again: Runsheet = serde_json::from_str(&sheet.to_json()).unwrap();
    assert_eq!(again.hash(), sheet.hash(), "written and read it is another sheet");
}

/// A plan that checks and is formatted, or a refusal that says what to do.
pub fn importers(bytes: &[u8]) {
    let source = [Source::new("document", text(bytes))];
    for outcome in [asr(&source), srm(&source)] {
        imported(outcome);
    }
}

fn imported(outcome: Result<Imported, Refusal>) {
    match outcome {
        Ok(Imported { text, .. }) => {
            let checked = check(&One(text.clone()), &["main.plan".to_owned()]);
            let errors: Vec<&str> = checked
                .diagnostics
                .iter()
                .filter(|found| found.is_error())
                .map(|found| found.message.as_str())
                .collect();
            assert!(errors.is_empty(), "{errors:?} in\n{text}");
            assert_eq!(muster_editor::format(&text).unwrap(), text, "not formatted");
        }
        Err(refusal) => assert!(!refusal.help.is_empty() && !refusal.what.contains("mistake of muster"), "{refusal}"),
    }
}
