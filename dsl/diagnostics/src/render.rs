//! Diagnostics as people read them (source, spans, reasons) and as tools read them (JSON).

use crate::diagnostic::{Applicability, Diagnostic, Fix, Label, Severity};
use crate::source::{FileId, SourceMap, Span};
use annotate_snippets::renderer::DEFAULT_TERM_WIDTH;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use serde::Serialize;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderOptions {
    pub color: bool,
    /// Columns of the terminal.
    pub width: usize,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { color: false, width: DEFAULT_TERM_WIDTH }
    }
}

/// All diagnostics for a terminal, one blank line between; ends with a newline unless empty.
pub fn render(diagnostics: &[Diagnostic], sources: &SourceMap, options: RenderOptions) -> String {
    let renderer = if options.color { Renderer::styled() } else { Renderer::plain() }.term_width(options.width);
    let mut text = String::new();
    for diagnostic in diagnostics {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&renderer.render(&report(diagnostic, sources)));
        text.push('\n');
    }
    text
}

fn report<'a>(diagnostic: &'a Diagnostic, sources: &'a SourceMap) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let mut group = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code.to_string())
        .elements(snippets(diagnostic, sources));
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    // A certain fix is shown as the changed line; a guess stays a sentence.
    let patch = diagnostic.fix.as_ref().filter(|fix| fix.applicability == Applicability::Certain).and_then(|fix| {
        let file = sources.get(fix.span.file)?;
        let range = clamp(&file.text, fix.span.start, fix.span.end);
        Some(Snippet::source(&*file.text).path(file.path.as_str()).patch(Patch::new(range, fix.replacement.as_str())))
    });
    match (&diagnostic.help, patch) {
        (Some(help), Some(patch)) => vec![group, Level::HELP.secondary_title(help.as_str()).element(patch)],
        (Some(help), None) => vec![group.element(Level::HELP.message(help.as_str()))],
        (None, Some(patch)) => vec![group, Level::HELP.secondary_title("write instead").element(patch)],
        (None, None) => vec![group],
    }
}

/// One snippet per file, that of the primary span first.
fn snippets<'a>(diagnostic: &'a Diagnostic, sources: &'a SourceMap) -> Vec<Snippet<'a, Annotation<'a>>> {
    let mut files: Vec<FileId> = vec![diagnostic.primary.span.file];
    for label in &diagnostic.related {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    let mut snippets = Vec::new();
    for id in files {
        let Some(file) = sources.get(id) else { continue };
        let annotation = |label: &'a Label, kind: AnnotationKind| {
            let range = clamp(&file.text, label.span.start, label.span.end);
            let annotation = kind.span(range);
            if label.text.is_empty() { annotation } else { annotation.label(label.text.as_str()) }
        };
        let mut snippet = Snippet::source(&*file.text).path(file.path.as_str());
        if diagnostic.primary.span.file == id {
            snippet = snippet.annotation(annotation(&diagnostic.primary, AnnotationKind::Primary));
        }
        for label in diagnostic.related.iter().filter(|label| label.span.file == id) {
            snippet = snippet.annotation(annotation(label, AnnotationKind::Context));
        }
        snippets.push(snippet);
    }
    snippets
}

/// A range inside the text and on character boundaries, whatever the span says.
fn clamp(text: &str, start: u32, end: u32) -> Range<usize> {
    let floor = |offset: u32| {
        let mut offset = (offset as usize).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    };
    let start = floor(start);
    start..floor(end).max(start)
}

/// A diagnostic with places people can find: file, line, column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Located {
    /// `E0301`.
    pub code: String,
    pub severity: Severity,
    pub message: String,
    pub primary: LocatedLabel,
    pub related: Vec<LocatedLabel>,
    pub notes: Vec<String>,
    pub help: Option<String>,
    pub fix: Option<LocatedFix>,
}

/// Lines and columns count from 1, columns in characters; the end is the first place after the span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocatedLabel {
    #[serde(flatten)]
    pub location: Location,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocatedFix {
    #[serde(flatten)]
    pub location: Location,
    pub replacement: String,
    pub applicability: Applicability,
}

/// The format of [`CheckReport`]. A field may be added under this name; none is taken away or changes its meaning.
pub const CHECK_FORMAT: &str = "muster.check/1";

/// What `muster check --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// [`CHECK_FORMAT`].
    pub format: &'static str,
    /// Names of the plans that were found, sorted.
    pub plans: Vec<String>,
    /// How many `.plan` files were read.
    pub files: usize,
    /// How many of the diagnostics are errors.
    pub errors: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// In the order of the files and of their lines.
    pub diagnostics: Vec<Located>,
    /// What `--fix` changed before this check, in the order in which it was done.
    pub fixed: Vec<LocatedFix>,
}

impl CheckReport {
    /// The report of one check; what was fixed before is added by who did it.
    pub fn new(plans: Vec<String>, files: usize, diagnostics: &[Diagnostic], sources: &SourceMap) -> Self {
        let count = |severity| diagnostics.iter().filter(|found| found.severity == severity).count();
        Self {
            format: CHECK_FORMAT,
            plans,
            files,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            diagnostics: located(diagnostics, sources),
            fixed: Vec::new(),
        }
    }
}

/// The JSON form of diagnostics: serialise what this returns.
pub fn located(diagnostics: &[Diagnostic], sources: &SourceMap) -> Vec<Located> {
    let location = |span| location(span, sources);
    let label = |label: &Label| LocatedLabel { location: location(label.span), text: label.text.clone() };
    let located = diagnostics.iter().map(|diagnostic| Located {
        code: diagnostic.code.to_string(),
        severity: diagnostic.severity,
        message: diagnostic.message.clone(),
        primary: label(&diagnostic.primary),
        related: diagnostic.related.iter().map(label).collect(),
        notes: diagnostic.notes.clone(),
        help: diagnostic.help.clone(),
        fix: diagnostic.fix.as_ref().map(|fix| LocatedFix::new(fix, sources)),
    });
    located.collect()
}

fn location(span: Span, sources: &SourceMap) -> Location {
    let (line, column) = sources.position(span.file, span.start);
    let (end_line, end_column) = sources.position(span.file, span.end);
    let file = sources.get(span.file).map_or_else(String::new, |file| file.path.clone());
    Location { file, line, column, end_line, end_column }
}

impl LocatedFix {
    /// The fix with a place that people can find.
    pub fn new(fix: &Fix, sources: &SourceMap) -> Self {
        Self {
            location: location(fix.span, sources),
            replacement: fix.replacement.clone(),
            applicability: fix.applicability,
        }
    }
}
