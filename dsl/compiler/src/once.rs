//! One mistake, one message: what was said at every place that a misspelt name is used is put together here, and turned to
//! the declaration where that one is the likelier slip.

use crate::context::{
    Context, NOT_DECLARED, UNKNOWN_MACHINE, UNKNOWN_NAME, UNKNOWN_NETWORK, UNKNOWN_PARAMETER, UNKNOWN_STAGE,
};
use crate::hooks::snake;
use crate::suggest::nearest;
use muster_diagnostics::{Applicability, Diagnostic, FileId, Fix, Span};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How the note about further uses begins.
const USED_AGAIN: &str = "used again";
/// Further uses of an unknown name that are listed. The first ones lead to the rest.
const USES_SHOWN_MAX: usize = 3;

/// Unknown names of which the declaration is looked for: all texts are read for each.
const SUSPECTS_MAX: usize = 16;

/// How far a name that was not found means the same.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    Everywhere,
    File,
}

fn reach_of(diagnostic: &Diagnostic) -> Option<Reach> {
    match (diagnostic.code.0, diagnostic.primary.text.as_str()) {
        (UNKNOWN_MACHINE, _) | (201, UNKNOWN_NETWORK) | (208, UNKNOWN_PARAMETER) => Some(Reach::Everywhere),
        (201, UNKNOWN_NAME | UNKNOWN_STAGE | "unknown hook" | "unknown probe" | "unknown template") => {
            Some(Reach::File)
        }
        _ => None,
    }
}

/// `all` in the order of their places.
pub(crate) fn each_mistake_once(cx: &Context<'_>, all: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut kept = join_uses(cx, all);
    let missing: Vec<(String, usize)> = kept.iter().filter_map(|found| missing_import(cx, found)).collect();
    for found in kept.iter_mut().filter(|found| reach_of(found).is_some()).take(SUSPECTS_MAX) {
        suspect_declaration(cx, found, &missing);
    }
    // That a file does not declare what it does not know itself has been said there.
    let said: Vec<String> = kept.iter().filter_map(|found| unknown_in(cx, found)).collect();
    kept.retain(|found| missing_import(cx, found).is_none_or(|(missing, _)| !said.contains(&missing)));
    misspelt_hooks(cx, kept)
}

/// A name that is unknown is one mistake however often it is used: it is said at the first use, which names the others.
fn join_uses(cx: &Context<'_>, all: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut kept: Vec<Diagnostic> = Vec::new();
    // Where each said name is among the kept, and where it is used again.
    let mut said: BTreeMap<(Option<FileId>, String), (usize, Vec<Span>)> = BTreeMap::new();
    for diagnostic in all {
        let Some(reach) = reach_of(&diagnostic) else {
            kept.push(diagnostic);
            continue;
        };
        let span = diagnostic.primary.span;
        if diagnostic.primary.text == UNKNOWN_NAME && word_at(cx, span).is_some_and(|word| cx.is_unknown_machine(word))
        {
            continue; // Used as a machine elsewhere: that says more.
        }
        let file = (reach == Reach::File).then_some(span.file);
        match said.entry((file, diagnostic.message.clone())) {
            Entry::Vacant(entry) => {
                entry.insert((kept.len(), Vec::new()));
                kept.push(diagnostic);
            }
            Entry::Occupied(mut entry) => entry.get_mut().1.push(span),
        }
    }
    for (index, again) in said.into_values() {
        if let (Some(diagnostic), false) = (kept.get_mut(index), again.is_empty()) {
            diagnostic.notes.push(used_again(cx, diagnostic, &again));
        }
    }
    kept
}

fn word_at<'c>(cx: &'c Context<'_>, span: Span) -> Option<&'c str> {
    cx.sources.get(span.file)?.text.get(span.start as usize..span.end as usize)
}

fn count_of(text: &str, word: &str) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.split(|c: char| !is_word(c)).filter(|used| *used == word).count()
}

/// The word stands in no plan but where it is declared.
fn stands_once(cx: &Context<'_>, word: &str) -> bool {
    let texts = cx.modules.iter().filter_map(|module| cx.sources.get(module.file));
    texts.map(|file| count_of(&file.text, word)).sum::<usize>() == 1
}

/// `sites.plan hq`: an import of a name that its file does not declare; with how often this file uses it.
fn missing_import(cx: &Context<'_>, found: &Diagnostic) -> Option<(String, usize)> {
    let (path, _) = found.message.strip_prefix('`')?.split_once("` has no `")?;
    (found.primary.text == NOT_DECLARED).then_some(())?;
    let word = word_at(cx, found.primary.span)?;
    let file = cx.sources.get(found.primary.span.file)?;
    Some((format!("{path} {word}"), count_of(&file.text, word)))
}

/// `sites.plan hq`: a name that this file uses and does not know.
fn unknown_in(cx: &Context<'_>, found: &Diagnostic) -> Option<String> {
    (found.code.0 == 201 && found.primary.text == UNKNOWN_NAME).then_some(())?;
    let file = cx.sources.get(found.primary.span.file)?;
    Some(format!("{} {}", file.path, word_at(cx, found.primary.span)?))
}

/// A name used several times, and one declared that is nearly it and that nobody uses: the declaration is misspelt.
fn suspect_declaration(cx: &Context<'_>, found: &mut Diagnostic, missing: &[(String, usize)]) {
    let imported = unknown_in(cx, found).is_some_and(|name| missing.iter().any(|(known, _)| *known == name));
    let often = imported || found.notes.iter().any(|note| note.starts_with(USED_AGAIN));
    let Some(word) = word_at(cx, found.primary.span).map(str::to_owned) else { return };
    let suspect = match (found.code.0, &found.fix, found.related.as_slice()) {
        (UNKNOWN_MACHINE, fix, _) => {
            let offered = fix.as_ref().map(|fix| fix.replacement.clone());
            // One that the text declares and nothing uses, though another one may be as near.
            unused_machine(cx, &word).filter(|(name, _)| often || offered.as_ref() != Some(name))
        }
        (201, Some(fix), [declared]) if found.primary.text == UNKNOWN_NAME => {
            (often && !cx.is_used(&fix.replacement)).then(|| (fix.replacement.clone(), declared.span))
        }
        (_, Some(fix), [declared]) if reach_of(found).is_some() => {
            (often && stands_once(cx, &fix.replacement)).then(|| (fix.replacement.clone(), declared.span))
        }
        _ => None,
    };
    if let Some((declared, span)) = suspect {
        at_declaration(found, &declared, span, &word);
    }
}

fn at_declaration(found: &mut Diagnostic, declared: &str, span: Span, word: &str) {
    found.help = Some(format!("is the declaration of `{declared}` misspelt? nothing else uses it"));
    found.fix = Some(Fix { span, replacement: word.to_owned(), applicability: Applicability::Maybe });
}

/// The nearest of the machines that the text declares and nothing uses.
fn unused_machine(cx: &Context<'_>, word: &str) -> Option<(String, Span)> {
    let mut names: Vec<&str> =
        cx.machines.iter().filter(|(_, entry)| entry.declared.is_some()).map(|(name, _)| name.as_str()).collect();
    while let Some(near) = nearest(word, names.iter().copied()) {
        if stands_once(cx, near) {
            return cx.machines.get(near)?.declared.as_ref().map(|(_, span)| (near.to_owned(), *span));
        }
        names.retain(|name| *name != near);
    }
    None
}

/// A hook that is unknown where it is used, and one declared that is nearly it and has no function of its name, while there
/// is a function for the first: the declaration is misspelt, and that is the whole mistake.
fn misspelt_hooks(cx: &Context<'_>, mut all: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    for index in 0..all.len() {
        let found = &all[index];
        let (Some(fix), [declared], Some(word)) =
            (&found.fix, found.related.as_slice(), word_at(cx, found.primary.span).map(str::to_owned))
        else {
            continue;
        };
        if found.code.0 != 201 || fix.span != found.primary.span && fix.span != declared.span {
            continue;
        }
        let (near, span) = (word_at(cx, declared.span).map(str::to_owned).unwrap_or_default(), declared.span);
        let no_function = format!("has no function `{}`", snake(&near));
        let but = format!("did you mean `{}`?", snake(&word));
        let consequence = all.iter().position(|other| {
            other.code.0 == 701
                && other.message.ends_with(&no_function)
                && other.help.as_ref().is_some_and(|help| help.starts_with(&but))
        });
        if let Some(consequence) = consequence {
            at_declaration(&mut all[index], &near, span, &word);
            said.push(consequence);
        }
    }
    let mut index = 0;
    all.retain(|_| {
        index += 1;
        !said.contains(&(index - 1))
    });
    all
}

fn used_again(cx: &Context<'_>, first: &Diagnostic, again: &[Span]) -> String {
    let mut places: Vec<String> = Vec::new();
    for span in again {
        let place = cx.place_of(*span);
        if place != cx.place_of(first.primary.span) && !places.contains(&place) {
            places.push(place);
        }
    }
    if places.is_empty() {
        return format!("{USED_AGAIN} on this line");
    }
    let more = places.len().saturating_sub(USES_SHOWN_MAX);
    places.truncate(USES_SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{USED_AGAIN} at {}{more}", places.join(", "))
}
