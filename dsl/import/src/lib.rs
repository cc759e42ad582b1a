//! Plans that people have elsewhere, as `.plan` text; and back.
//!
//! ```text
//! ARM template, REST resource -> json -> arm -> asr \
//!                                                    draft -> print -> one formatted .plan, and notes
//! SRM export (XML, JSON)      -> tree ----->   srm  /
//!
//! .plan + members of groups   -> export -> ARM template, and notes
//! ```
//!
//! What comes out of an import checks without errors, whatever went in. What the source does not say is written as an
//! evident placeholder; what the language does not say is left out; both are named in a [`Note`] with their place in the
//! source. Nothing is dropped in silence.
//!
//! Architecture invariant: texts in, texts and notes out. No I/O. What is read was written by others: no input makes this
//! crate panic, recurse without end or take more than a bounded number of steps.

mod address;
mod arm;
mod asr;
mod asr_items;
mod asr_plan;
mod asr_policy;
mod draft;
mod expression;
mod json;
mod names;
mod print;
mod print_plan;
mod srm;
mod srm_read;
mod tree;
mod xml;

mod export;
mod export_plan;

use serde::Serialize;

/// One document to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call it: the path of the file.
    pub name: String,
    pub text: String,
}

impl Source {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// Something that could not be said, or that had to be assumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The document; empty where the note is about all of them.
    pub file: String,
    /// Its place there: `$.properties.groups[2].startGroupActions[0]`.
    pub path: String,
    pub text: String,
}

/// The outcome of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Formatted, and without errors when checked.
    pub text: String,
    /// In the order of the sources.
    pub notes: Vec<Note>,
}

/// The outcome of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub text: String,
    pub notes: Vec<Note>,
}

/// A document that cannot be read, or holds nothing to bring over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", place(.file, .path))]
pub struct Refusal {
    pub file: String,
    pub path: String,
    /// What was found and what was expected.
    pub what: String,
    /// What to do.
    pub help: String,
}

fn place(file: &str, path: &str) -> String {
    if path.is_empty() { format!("`{file}`") } else { format!("`{file}` at {path}") }
}

/// Characters of one document: the largest recovery plans have some hundred kilobytes.
const SOURCE_BYTES_MAX: usize = 16 << 20;

/// Recovery plans of Azure Site Recovery, with whatever policies, protected items, mappings and fabrics are given beside
/// them: ARM templates (also those compiled from Bicep), their parameter files, REST resources and lists of them.
pub fn asr(sources: &[Source]) -> Result<Imported, Refusal> {
    limit(sources)?;
    asr::import(sources)
}

/// Recovery plans of VMware Site Recovery Manager, as an exported configuration in XML or as REST resources in JSON.
pub fn srm(sources: &[Source]) -> Result<Imported, Refusal> {
    limit(sources)?;
    srm::import(sources)
}

pub use export::{Members, export_asr};

fn limit(sources: &[Source]) -> Result<(), Refusal> {
    match sources.iter().find(|source| source.text.len() > SOURCE_BYTES_MAX) {
        Some(source) => Err(Refusal {
            file: source.name.clone(),
            path: String::new(),
            what: format!("larger than {} MiB", SOURCE_BYTES_MAX >> 20),
            help: "export the recovery plans one by one".into(),
        }),
        None => Ok(()),
    }
}

/// Collects notes for one document after the other.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn add(&mut self, file: &str, path: &str, text: impl Into<String>) {
        let note = Note { file: file.to_owned(), path: path.to_owned(), text: text.into() };
        if !self.0.contains(&note) && self.0.len() < NOTES_MAX {
            self.0.push(note);
        }
    }
    pub(crate) fn take(self) -> Vec<Note> {
        self.0
    }
}

/// Notes of one import; who has more reads these first.
const NOTES_MAX: usize = 2000;
