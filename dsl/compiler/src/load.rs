//! Reads the files a check needs, follows `use`, and parses each once.

use crate::context::{Context, Module};
use crate::names::Scope;
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::{INVENTORY_FORMAT, Inventory};
use muster_syntax::ast::{self, Item};
use std::collections::BTreeMap;

pub(crate) const INVENTORY_PATH: &str = "inventory.json";
/// Files in one check. An estate of a thousand applications fits; a `use` that leads round for ever does not.
const FILES_MAX: usize = 4_096;
const NEWEST_EDITION: u32 = 2026;

pub(crate) fn load(cx: &mut Context<'_>, files: &[String]) {
    let std = add_std(cx, "std/probe");
    cx.prelude = std;
    // What is of others comes last: plans that use it read it under its lock.
    let mut next = 0;
    let of_others = |path: &&String| crate::lock::is_vendored(&normal(path));
    read_all(cx, files.iter().filter(|path| !of_others(path)), &mut next);
    read_all(cx, files.iter().filter(of_others), &mut next);
    let asked = |path: &String| cx.sources.iter().find(|(_, file)| file.path == normal(path)).map(|(id, _)| id);
    cx.main = files.first().and_then(asked).unwrap_or_default();
    report_cycles(cx);
    check_editions(cx);
    cx.inventory = read_inventory(cx);
}

/// Reads the files of one round, and all that they use.
fn read_all<'f>(cx: &mut Context<'_>, files: impl Iterator<Item = &'f String>, next: &mut usize) {
    for path in files.map(|path| normal(path)) {
        if cx.modules.iter().all(|module| module.path != path) {
            match cx.world.read(&path) {
                Some(text) => {
                    add(cx, path, text);
                }
                None => {
                    let file = cx.sources.add(path.clone(), "");
                    cx.push(
                        Diagnostic::error(
                            201,
                            format!("`{path}` cannot be read"),
                            Span::new(file, 0, 0),
                            "no such file",
                        )
                        .help("give the path relative to the folder of the plans"),
                    );
                }
            }
        }
    }
    while *next < cx.modules.len() {
        follow(cx, *next);
        *next += 1;
    }
}

fn add(cx: &mut Context<'_>, path: String, text: String) -> usize {
    let file = cx.sources.add(path.clone(), text.as_str());
    let parsed = cx.parses.read(file, text);
    cx.unread.extend(parsed.diagnostics.iter().filter(|found| found.is_error()).map(|found| found.primary.span));
    cx.unread.extend(parsed.unread.iter().copied());
    let ast = parsed.ast.clone();
    let diagnostics = parsed.diagnostics.clone();
    cx.extend(diagnostics);
    cx.modules.push(Module { path, file, ast, scope: Scope::default(), uses: BTreeMap::new() });
    cx.modules.len() - 1
}

fn add_std(cx: &mut Context<'_>, path: &str) -> Option<usize> {
    let name = format!("{path}.plan");
    if let Some(known) = cx.modules.iter().position(|module| module.path == name) {
        return Some(known);
    }
    let text = muster_stdlib::module(path)?;
    Some(add(cx, name, text.to_owned()))
}

/// `./sites` seen from `a/shop.plan` is `a/sites.plan`.
fn target_path(from: &str, path: &str) -> String {
    beside(from, &format!("{path}.plan"))
}

/// A path as seen from a file.
pub(crate) fn beside(from: &str, path: &str) -> String {
    match from.rsplit_once('/') {
        Some((folder, _)) => normal(&format!("{folder}/{path}")),
        None => normal(path),
    }
}

/// Without `.`, `..` and empty parts.
pub(crate) fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let absolute = if path.starts_with('/') { "/" } else { "" };
    format!("{absolute}{}", parts.join("/"))
}

fn follow(cx: &mut Context<'_>, module: usize) {
    let uses: Vec<ast::Use> = cx.modules[module]
        .ast
        .items
        .iter()
        .filter_map(|item| if let Item::Use(item) = item { Some(item.clone()) } else { None })
        .collect();
    for item in uses {
        let path = item.path.text.clone();
        if cx.modules[module].uses.contains_key(&path) {
            continue;
        }
        let target = find(cx, module, &item);
        cx.modules[module].uses.insert(path, target);
    }
}

fn find(cx: &mut Context<'_>, module: usize, item: &ast::Use) -> Option<usize> {
    let path = item.path.text.as_str();
    if path.starts_with("std/") {
        if let Some(found) = add_std(cx, path) {
            return Some(found);
        }
        let diagnostic =
            Diagnostic::error(201, format!("there is no module `{path}`"), item.path.span, "unknown module");
        let modules = muster_stdlib::MODULES;
        return cx.report(match crate::suggest::nearest(path, modules.iter().copied()) {
            Some(near) => {
                let certainty = crate::suggest::certainty(path, modules);
                diagnostic.help(format!("did you mean `{near}`?")).fix(item.path.span, near, certainty)
            }
            None => {
                diagnostic.help(format!("the standard library has {}", crate::suggest::listed(modules.iter().copied())))
            }
        });
    }
    let vendored = crate::lock::vendored(path);
    let target = vendored.clone().unwrap_or_else(|| target_path(&cx.modules[module].path, path));
    if let Some(known) = cx.modules.iter().position(|module| module.path == target) {
        return Some(known);
    }
    if cx.modules.len() >= FILES_MAX {
        return cx.report(Diagnostic::error(
            201,
            format!("more than {FILES_MAX} files"),
            item.path.span,
            "one too many",
        ));
    }
    match cx.world.read(&target) {
        Some(text) => {
            crate::lock::check(cx, &target, &text, item.path.span)?;
            Some(add(cx, target, text))
        }
        None if vendored.is_some() => cx.report(
            Diagnostic::error(201, format!("there is no file `{target}`"), item.path.span, "no such file")
                .help("modules of others lie below `vendor/`, beside the plans"),
        ),
        None => cx.report(
            Diagnostic::error(201, format!("there is no file `{target}`"), item.path.span, "no such file")
                .help("the path is relative to this file and has no `.plan` at its end: `use ./sites { hq }`"),
        ),
    }
}

/// A file that leads back to itself is an E0206 that prints the loop, once for each loop.
fn report_cycles(cx: &Context<'_>) {
    let mut done = vec![false; cx.modules.len()];
    for start in 0..cx.modules.len() {
        let mut path = Vec::new();
        visit(cx, start, &mut path, &mut done);
    }
}

fn visit(cx: &Context<'_>, module: usize, path: &mut Vec<usize>, done: &mut [bool]) {
    if done[module] {
        return;
    }
    path.push(module);
    let uses = cx.modules[module].ast.items.iter().filter_map(|item| match item {
        Item::Use(item) => Some((item, cx.modules[module].uses.get(&item.path.text).copied().flatten()?)),
        _ => None,
    });
    for (item, target) in uses {
        if let Some(begin) = path.iter().position(|open| *open == target) {
            let names: Vec<&str> =
                path[begin..].iter().chain([&target]).map(|index| cx.modules[*index].path.as_str()).collect();
            cx.push(
                Diagnostic::error(206, "these files use each other", item.span, "closes the loop")
                    .note(names.join(" -> "))
                    .help("move what they share to a file of its own"),
            );
        } else {
            visit(cx, target, path, done);
        }
    }
    path.pop();
    done[module] = true;
}

fn check_editions(cx: &Context<'_>) {
    for module in &cx.modules {
        if let Some(edition) = &module.ast.edition
            && edition.year != NEWEST_EDITION
        {
            cx.push(
                Diagnostic::error(
                    102,
                    format!("there is no edition {}", edition.year),
                    edition.span,
                    "unknown edition",
                )
                .help(format!("this muster reads edition {NEWEST_EDITION}")),
            );
        }
    }
}

fn read_inventory(cx: &mut Context<'_>) -> Option<Inventory> {
    let text = cx.world.read(INVENTORY_PATH)?;
    let file = cx.sources.add(INVENTORY_PATH, text.clone());
    match serde_json::from_str::<Inventory>(&text) {
        Ok(inventory) if inventory.format == INVENTORY_FORMAT => Some(inventory),
        Ok(inventory) => cx.report(
            Diagnostic::error(
                315,
                format!("the inventory has format `{}`, this muster reads `{INVENTORY_FORMAT}`", inventory.format),
                Span::new(file, 0, 0),
                "in this file",
            )
            .help("pull it again: `muster inventory pull`"),
        ),
        Err(error) => {
            let at = offset(&text, error.line(), error.column());
            cx.report(
                Diagnostic::error(315, "the inventory is damaged", Span::new(file, at, at), "not readable from here")
                    .note(error.to_string())
                    .help("take it from version control, or pull it again: `muster inventory pull`"),
            )
        }
    }
}

fn offset(text: &str, line: usize, column: usize) -> u32 {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (before + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    u32::try_from(at).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_using_file() {
        assert_eq!(target_path("shop.plan", "./sites"), "sites.plan");
        assert_eq!(target_path("a/shop.plan", "../sites"), "sites.plan");
        assert_eq!(target_path("a/shop.plan", "./b/sites"), "a/b/sites.plan");
        assert_eq!(normal("./plans//shop.plan"), "plans/shop.plan");
    }
}
