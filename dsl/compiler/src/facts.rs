//! Blocks of facts: which words a block knows, each at most once, the required ones present.

use crate::context::Context;
use crate::suggest::{certainty, listed, nearest};
use muster_diagnostics::{Diagnostic, Span};
use muster_syntax::ast::{Expr, ExprKind, Fact, FactValue, Name};

/// What one kind of block takes.
pub(crate) struct Shape {
    /// `a policy`, for messages.
    pub what: &'static str,
    pub known: &'static [&'static str],
    pub required: &'static [&'static str],
    /// Facts that may be given several times, apart by `when`.
    pub conditional: &'static [&'static str],
}

pub(crate) struct Facts<'a> {
    facts: Vec<&'a Fact>,
}

impl<'a> Facts<'a> {
    /// Checks the block against its shape; duplicates and unknown words are reported and left out.
    pub(crate) fn read(cx: &Context<'_>, shape: &Shape, name: Span, block: Span, facts: &'a [Fact]) -> Self {
        let mut kept: Vec<&Fact> = Vec::new();
        for fact in facts {
            let word = fact.name.text.as_str();
            if !shape.known.contains(&word) {
                cx.push(unknown(shape, &fact.name));
            } else if let Some(when) = fact.when.as_ref().filter(|_| !shape.conditional.contains(&word)) {
                cx.push(
                    Diagnostic::error(602, format!("`{word}` does not vary"), when.span, "a condition here")
                        .help("write it once, without `when`"),
                );
            } else if let Some(first) = kept.iter().find(|kept| kept.name.text == word && same_condition(kept, fact)) {
                cx.push(
                    Diagnostic::error(104, format!("`{word}` is given twice"), fact.name.span, "again here")
                        .related(first.name.span, "first here"),
                );
            } else {
                kept.push(fact);
            }
        }
        for word in shape.required {
            // A misspelt one has been said.
            let nearly =
                |fact: &Fact| !shape.known.contains(&fact.name.text.as_str()) && means(shape, fact) == Some(*word);
            let found = |fact: &Fact| fact.name.text == *word || nearly(fact);
            if !facts.iter().any(found) && !cx.is_unread(block) {
                cx.push(
                    Diagnostic::error(
                        106,
                        format!("{} without `{word}`", shape.what),
                        name,
                        format!("`{word}` is missing"),
                    )
                    .help(format!("add a line `{word} = …`")),
                );
            }
        }
        Self { facts: kept }
    }

    /// The unconditional value.
    pub(crate) fn get(&self, word: &str) -> Option<&'a Fact> {
        self.facts.iter().find(|fact| fact.name.text == word && fact.when.is_none()).copied()
    }
    /// All values, conditional ones too.
    pub(crate) fn all(&self, word: &str) -> impl Iterator<Item = &'a Fact> {
        self.facts.iter().filter(move |fact| fact.name.text == word).copied()
    }
    pub(crate) fn expr(&self, cx: &Context<'_>, word: &str) -> Option<&'a Expr> {
        plain(cx, self.get(word)?)
    }
}

/// What a word that the block does not know was meant to be.
fn means(shape: &Shape, fact: &Fact) -> Option<&'static str> {
    nearest(&fact.name.text, shape.known.iter().copied())
}

/// Whether a misspelt fact of the block stands for this word.
pub(crate) fn is_misspelt(shape: &Shape, facts: &[Fact], word: &str) -> bool {
    let unknown = facts.iter().filter(|fact| !shape.known.contains(&fact.name.text.as_str()));
    unknown.into_iter().any(|fact| means(shape, fact) == Some(word))
}

fn same_condition(left: &Fact, right: &Fact) -> bool {
    let words = |fact: &Fact| {
        let mut words: Vec<String> =
            fact.when.iter().flat_map(|when| when.names.iter().map(|name| name.text.clone())).collect();
        words.sort();
        words
    };
    words(left) == words(right)
}

fn unknown(shape: &Shape, name: &Name) -> Diagnostic {
    let diagnostic =
        Diagnostic::error(105, format!("{} has no fact `{}`", shape.what, name.text), name.span, "unknown fact");
    match nearest(&name.text, shape.known.iter().copied()) {
        Some(near) => {
            diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, certainty(&name.text, shape.known))
        }
        None if shape.known.is_empty() => diagnostic.help(format!("{} takes no facts", shape.what)),
        None => diagnostic.help(format!("it takes {}", listed(shape.known.iter().copied()))),
    }
}

/// The expression of a fact that is no schedule and no move.
pub(crate) fn plain<'a>(cx: &Context<'_>, fact: &'a Fact) -> Option<&'a Expr> {
    match &fact.value {
        FactValue::Expr(expr) => Some(expr),
        FactValue::Every { span, .. } => cx.report(Diagnostic::error(
            211,
            format!("`{}` is not a schedule", fact.name.text),
            *span,
            "`every` does not belong here",
        )),
        FactValue::Several { span, .. } => cx.report(several(cx, fact, *span)),
        FactValue::Move { span, .. } => cx.report(Diagnostic::error(
            211,
            format!("`{}` is not a move", fact.name.text),
            *span,
            "`->` belongs to `move`",
        )),
    }
}

/// Several values where one is wanted; when they are names, a list that has lost its brackets.
fn several(cx: &Context<'_>, fact: &Fact, span: Span) -> Diagnostic {
    let name = &fact.name.text;
    let diagnostic = Diagnostic::error(211, format!("`{name}` takes one value"), span, "several values");
    let FactValue::Several { values, .. } = &fact.value else { return diagnostic };
    let are_names = values.iter().all(|value| match value {
        FactValue::Expr(expr) => matches!(expr.kind, ExprKind::Ref(_) | ExprKind::Text(_) | ExprKind::Call(_)),
        _ => false,
    });
    let file = cx.sources.get(span.file).filter(|_| are_names);
    match file.and_then(|file| file.text.get(span.start as usize..span.end as usize)) {
        Some(text) => diagnostic.help(format!("a list has brackets: `{name} = [{text}]`")).fix(
            span,
            format!("[{text}]"),
            muster_diagnostics::Applicability::Maybe,
        ),
        None => diagnostic.help("keep one of them"),
    }
}

/// A bare word: `none`, `latest`.
pub(crate) fn word(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Ref(reference) if reference.path.is_empty() => Some(&reference.head.text),
        _ => None,
    }
}
