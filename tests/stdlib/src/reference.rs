//! Reads the modules of the standard library, and prints them as a page of the book.

use muster_diagnostics::FileId;
use muster_syntax::ast::{self, ExprKind, Item};
use std::fmt::Write;

/// One module as its users see it.
#[derive(Clone, Debug)]
pub struct Module {
    /// `std/postgres`
    pub path: &'static str,
    pub text: &'static str,
    /// What stands at its head, before the first declaration.
    pub about: String,
    pub entries: Vec<Entry>,
}

/// A template, a hook or a probe of a module.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `template`, `hook` or `probe`.
    pub what: &'static str,
    pub name: String,
    /// With its parameters, as declared.
    pub signature: String,
    pub doc: Option<String>,
    pub needs: Option<String>,
    pub undo: Option<String>,
}

/// All modules, in the order of their names.
pub fn modules() -> Vec<Module> {
    let mut paths: Vec<&'static str> = muster_stdlib::MODULES.to_vec();
    paths.sort_unstable();
    paths.into_iter().filter_map(|path| Some(read(path, muster_stdlib::module(path)?))).collect()
}

fn read(path: &'static str, text: &'static str) -> Module {
    let parse = muster_syntax::parse(FileId(0), text);
    let entries = parse.ast.items.iter().filter_map(|item| entry(text, item)).collect();
    Module { path, text, about: about(text), entries }
}

/// The first block of `##` lines, when it stands alone.
fn about(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("##")).peekable();
    let mut block = Vec::new();
    while let Some(line) = lines.next_if(|line| line.starts_with("##")) {
        block.push(line.trim_start_matches('#').trim());
    }
    let alone = lines.peek().is_none_or(|line| line.trim().is_empty());
    if alone { block.join("\n") } else { String::new() }
}

fn entry(text: &str, item: &Item) -> Option<Entry> {
    match item {
        Item::Template(template) => Some(Entry {
            what: "template",
            name: template.name.text.clone(),
            signature: signature(&template.name.text, &template.parameters, text),
            doc: template.doc.clone(),
            needs: None,
            undo: None,
        }),
        Item::Hook(hook) => {
            let fact = |word: &str| hook.facts.iter().find(|fact| fact.name.text == word);
            let source = |fact: &ast::Fact| {
                let whole = text.get(fact.span.start as usize..fact.span.end as usize).unwrap_or_default();
                whole.split_once('=').map_or("", |(_, value)| value).trim().to_owned()
            };
            Some(Entry {
                what: if hook.probe { "probe" } else { "hook" },
                name: hook.name.text.clone(),
                signature: signature(&hook.name.text, &hook.parameters, text),
                doc: hook.doc.clone(),
                needs: fact("needs").map(source).map(|needs| needs.trim_matches(['[', ']']).to_owned()),
                undo: fact("undo").map(source),
            })
        }
        _ => None,
    }
}

fn signature(name: &str, parameters: &[ast::Parameter], text: &str) -> String {
    let parameter = |parameter: &ast::Parameter| {
        let default = parameter.default.as_ref().map_or_else(String::new, |default| {
            let shown = text.get(default.span.start as usize..default.span.end as usize).unwrap_or_default();
            let quoted = matches!(default.kind, ExprKind::Text(_)) && !shown.starts_with('"');
            if quoted { format!(" = \"{shown}\"") } else { format!(" = {shown}") }
        });
        format!("{}: {}{default}", parameter.name.text, kind(&parameter.kind))
    };
    let all: Vec<String> = parameters.iter().map(parameter).collect();
    let short = format!("{name}({})", all.join(", "));
    match short.len() {
        0..=110 => short,
        _ => format!("{name}(\n  {}\n)", all.join(",\n  ")),
    }
}

fn kind(of: &ast::Type) -> String {
    match of {
        ast::Type::List(of, _) => format!("list({})", kind(of)),
        ast::Type::Name(name) => name.text.clone(),
    }
}

/// The page of the book.
pub fn page(modules: &[Module]) -> String {
    let mut out = String::from(
        "# Standard library\n\n\
         <!-- Printed from the modules themselves by the tests of the library; edit those. -->\n\n\
         Modules that ship inside the binary, versioned with the edition. `use std/postgres { takeover }` takes names from\n\
         one; a template is applied in a stage, a hook is run, a probe is checked. The scripts of hooks are part of every\n\
         runsheet, with their hash. A probe is given the machine under check as its first argument.\n",
    );
    for module in modules {
        // Writing to a text cannot fail.
        let _ = write!(out, "\n## `{}`\n\n{}\n", module.path, module.about);
        for entry in &module.entries {
            let _ = write!(out, "\n### {} `{}`\n\n```text\n{}\n```\n", entry.what, entry.name, entry.signature);
            if let Some(doc) = &entry.doc {
                let _ = write!(out, "\n{doc}\n");
            }
            let facts = [("Needs", &entry.needs), ("Undo", &entry.undo)];
            let facts: Vec<String> = facts
                .iter()
                .filter_map(|(word, fact)| fact.as_ref().map(|fact| format!("{word}: `{fact}`.")))
                .collect();
            if !facts.is_empty() {
                let _ = write!(out, "\n{}\n", facts.join(" "));
            }
        }
    }
    out
}
