//! What every phase of a check shares: the files, the tables filled so far, and the diagnostics.

use crate::World;
use crate::groups::GroupModel;
use crate::hooks::HookModel;
use crate::machines::{MachineEntry, Places};
use crate::names::Scope;
use crate::routes::RouteModel;
use crate::session::Parses;
use crate::sites::SiteModel;
use crate::value::{Env, Value};
use muster_diagnostics::{Applicability, Diagnostic, FileId, SourceMap, Span};
use muster_runsheet::Inventory;
use muster_syntax::ast;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The code of a machine that is nowhere.
pub(crate) const UNKNOWN_MACHINE: u16 = 301;
/// The label of a name of which no kind is known.
pub(crate) const UNKNOWN_NAME: &str = "unknown name";
/// The label of an import that its file does not have.
pub(crate) const NOT_DECLARED: &str = "not declared there";
/// The labels of other words that were not found where they are looked for.
pub(crate) const UNKNOWN_NETWORK: &str = "unknown network";
pub(crate) const UNKNOWN_STAGE: &str = "unknown stage";
pub(crate) const UNKNOWN_PARAMETER: &str = "unknown parameter";

/// What to do, for messages whose place does not know more than their code.
fn way_out(code: u16) -> Option<&'static str> {
    Some(match code {
        104 => "keep one of them",
        202 => "give one of them another name",
        203 => "name one of the kind that is wanted",
        207 => "end the chain: let the inner template do its own steps",
        208 => "give each parameter one value",
        210 => "apply the template to what it requires",
        211 => "write a value of the kind that is wanted here",
        402 => "allow some, or leave the line out",
        504 => "a route joins two different sites",
        507 => "take a free address between the first and the last of the network",
        601 => "ask `muster status` for what is legal now",
        608 => "write its lines, or take it away",
        _ => return None,
    })
}

/// Names that a piece of work marked.
#[derive(Clone, Debug, Default)]
struct Marks {
    /// Taken from the imports of a module.
    used: BTreeSet<(usize, String)>,
    /// Words used as machines that are none.
    unknown_machines: BTreeSet<String>,
    /// Machines and groups of which a part has become a value, which no longer says where it comes from.
    read: BTreeSet<String>,
}

/// What a piece of work said, and the names it marked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    diagnostics: Vec<Diagnostic>,
    marks: Marks,
}

impl Said {
    /// A part of one of these machines or groups has become a value.
    pub(crate) fn has_read(&self, names: &BTreeSet<String>) -> bool {
        !self.marks.read.is_disjoint(names)
    }
}

/// A recording that goes on.
pub(crate) struct Recording {
    said: usize,
    marks: Marks,
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub path: String,
    pub file: FileId,
    /// Shared with the session that read it.
    pub ast: Arc<ast::File>,
    pub scope: Scope,
    /// Paths as written in `use`, and the module each leads to; `None` when there is none (already reported).
    pub uses: BTreeMap<String, Option<usize>>,
}

pub(crate) struct Context<'w> {
    pub world: &'w dyn World,
    pub sources: SourceMap,
    pub modules: Vec<Module>,
    /// The module whose names are in scope everywhere: `std/probe`.
    pub prelude: Option<usize>,
    /// The first file that was asked for.
    pub main: FileId,
    pub inventory: Option<Inventory>,
    pub sites: BTreeMap<String, SiteModel>,
    pub machines: BTreeMap<String, MachineEntry>,
    pub places: Places,
    /// A place could not be read: that one says nothing proves nothing.
    pub places_unread: bool,
    pub groups: BTreeMap<String, GroupModel>,
    pub hooks: BTreeMap<String, HookModel>,
    pub routes: Vec<RouteModel>,
    /// A route could not be read: that one is missing proves nothing.
    pub routes_unread: bool,
    pub lets: RefCell<BTreeMap<(usize, usize), Option<Value>>>,
    pub lets_open: RefCell<Vec<(usize, usize)>>,
    marks: RefCell<Marks>,
    diagnostics: RefCell<Vec<Diagnostic>>,
    /// Places the parser could not read.
    pub unread: Vec<Span>,
    /// What was read before, so that nothing is read twice.
    pub parses: Parses,
}

impl<'w> Context<'w> {
    pub(crate) fn new(world: &'w dyn World, parses: Parses) -> Self {
        Self {
            world,
            sources: SourceMap::default(),
            modules: Vec::new(),
            prelude: None,
            main: FileId::default(),
            inventory: None,
            sites: BTreeMap::new(),
            machines: BTreeMap::new(),
            places: Places::new(),
            places_unread: false,
            groups: BTreeMap::new(),
            hooks: BTreeMap::new(),
            routes: Vec::new(),
            routes_unread: false,
            lets: RefCell::default(),
            lets_open: RefCell::default(),
            marks: RefCell::default(),
            diagnostics: RefCell::default(),
            unread: Vec::new(),
            parses,
        }
    }

    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }
    /// Pushes, and answers the `None` that poisons what depends on it.
    pub(crate) fn report<T>(&self, diagnostic: Diagnostic) -> Option<T> {
        self.push(diagnostic);
        None
    }
    pub(crate) fn extend(&self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.diagnostics.borrow_mut().extend(diagnostics);
    }
    /// How many there are, to ask with [`Self::pushed_since`] what came behind.
    pub(crate) fn pushed(&self) -> usize {
        self.diagnostics.borrow().len()
    }
    pub(crate) fn pushed_since(&self, mark: usize) -> Vec<Diagnostic> {
        self.diagnostics.borrow().get(mark..).unwrap_or_default().to_vec()
    }
    /// Keeps apart what is said and marked from here on.
    pub(crate) fn record(&self) -> Recording {
        Recording { said: self.pushed(), marks: self.marks.take() }
    }
    /// What was said and marked since; it counts as if nothing had been kept apart.
    pub(crate) fn recorded(&self, since: Recording) -> Said {
        let said = Said { diagnostics: self.pushed_since(since.said), marks: self.marks.replace(since.marks) };
        self.mark_all(&said.marks);
        said
    }
    /// Says and marks it again.
    pub(crate) fn repeat(&self, said: &Said) {
        self.extend(said.diagnostics.iter().cloned());
        self.mark_all(&said.marks);
    }
    fn mark_all(&self, all: &Marks) {
        let mut marks = self.marks.borrow_mut();
        marks.used.extend(all.used.iter().cloned());
        marks.unknown_machines.extend(all.unknown_machines.iter().cloned());
        marks.read.extend(all.read.iter().cloned());
    }
    /// The word is used as a machine, and is none.
    pub(crate) fn mark_unknown_machine(&self, word: &str) {
        self.marks.borrow_mut().unknown_machines.insert(word.to_owned());
    }
    pub(crate) fn is_unknown_machine(&self, word: &str) -> bool {
        self.marks.borrow().unknown_machines.contains(word)
    }
    /// The name is used by some file, as far as files use each other's.
    pub(crate) fn is_used(&self, name: &str) -> bool {
        self.marks.borrow().used.iter().any(|(_, used)| used == name)
    }
    /// A part of this machine or group becomes a value.
    pub(crate) fn mark_read(&self, name: &str) {
        self.marks.borrow_mut().read.insert(name.to_owned());
    }
    pub(crate) fn errors(&self) -> usize {
        self.diagnostics.borrow().iter().filter(|diagnostic| diagnostic.is_error()).count()
    }
    /// All diagnostics, each mistake once, in the order of the files.
    pub(crate) fn take_diagnostics(&self) -> Vec<Diagnostic> {
        let mut seen = BTreeSet::new();
        let mut all = self.diagnostics.take();
        for diagnostic in all.iter_mut().filter(|found| found.help.is_none() && found.fix.is_none()) {
            diagnostic.help = way_out(diagnostic.code.0).map(str::to_owned);
        }
        all.retain(|diagnostic| seen.insert((diagnostic.code, diagnostic.primary.span)));
        all.sort_by_key(|diagnostic| (diagnostic.primary.span, diagnostic.code));
        crate::once::each_mistake_once(self, all)
    }

    /// An inventory is there but cannot be read, which has been said: that a machine is missing proves nothing.
    pub(crate) fn is_inventory_unread(&self) -> bool {
        self.inventory.is_none() && self.sources.iter().any(|(_, file)| file.path == crate::load::INVENTORY_PATH)
    }

    /// Where a text stands in the inventory; its beginning when it is not found as it is.
    pub(crate) fn in_inventory(&self, text: &str) -> Span {
        let found = self.sources.iter().find(|(_, file)| file.path == crate::load::INVENTORY_PATH);
        let Some((id, file)) = found else { return Span::new(self.main, 0, 0) };
        let at = file.text.find(&format!("\"{text}\"")).and_then(|at| u32::try_from(at + 1).ok());
        let length = u32::try_from(text.len()).unwrap_or(0);
        at.map_or(Span::new(id, 0, 0), |at| Span::new(id, at, at + length))
    }

    /// Something inside was not understood: that a thing is missing there proves nothing.
    pub(crate) fn is_unread(&self, block: Span) -> bool {
        let inside = |span: &&Span| span.file == block.file && span.start < block.end && span.end >= block.start;
        self.unread.iter().any(|span| inside(&span))
    }

    /// Every word of what could not be read in a file: it may have declared or imported it.
    pub(crate) fn unread_words(&self, file: FileId) -> BTreeSet<String> {
        let Some(source) = self.sources.get(file) else { return BTreeSet::new() };
        let unread = self.unread.iter().filter(|span| span.file == file);
        let texts = unread.map(|span| {
            // From the beginning of the line: a message may point into its middle.
            let start = span.start as usize;
            let line = source.text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
            let end = span.end as usize;
            let rest =
                source.text.get(end..).and_then(|after| after.find('\n')).map_or(source.text.len(), |at| end + at);
            source.text.get(line..rest).unwrap_or("")
        });
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let words = texts.flat_map(|text| text.split(move |c: char| !is_word(c)));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// A word that something unread speaks of, in any file.
    pub(crate) fn is_in_unread(&self, word: &str) -> bool {
        self.modules.iter().any(|module| module.scope.poisoned.iter().any(|poisoned| poisoned == word))
            || self.modules.iter().any(|module| self.unread_words(module.file).contains(word))
    }

    pub(crate) fn mark_used(&self, module: usize, name: &str) {
        self.marks.borrow_mut().used.insert((module, name.to_owned()));
    }

    pub(crate) fn warn_unused_imports(&self) {
        let faulty: BTreeSet<FileId> = {
            let diagnostics = self.diagnostics.borrow();
            diagnostics.iter().filter(|found| found.is_error()).map(|found| found.primary.span.file).collect()
        };
        for (index, module) in self.modules.iter().enumerate() {
            if faulty.contains(&module.file) {
                continue; // The use may be what could not be read.
            }
            for item in &module.ast.items {
                let ast::Item::Use(import) = item else { continue };
                self.warn_unused(index, import);
            }
        }
    }

    /// The unused names of one `use`, each with the same fix: the line without all of them.
    fn warn_unused(&self, module: usize, import: &ast::Use) {
        let imports = &self.modules[module].scope.imports;
        let unused = |name: &&ast::Name| {
            imports.get(&name.text) == Some(&name.span)
                && !self.marks.borrow().used.contains(&(module, name.text.clone()))
        };
        let names: Vec<&ast::Name> = match &import.names {
            ast::UseNames::Some(names) => names.iter().collect(),
            ast::UseNames::As(name) => vec![name],
            ast::UseNames::Bare => Vec::new(),
        };
        let kept: Vec<&str> = names.iter().filter(|name| !unused(name)).map(|name| name.text.as_str()).collect();
        let fix = self.without_unused(import, &names, &kept);
        for name in names.iter().filter(|name| unused(name)) {
            let help = if kept.is_empty() { "remove the line" } else { "remove it from the braces" };
            let warning =
                Diagnostic::warning(204, format!("`{}` is not used", name.text), name.span, "imported here").help(help);
            self.push(match fix.clone() {
                Some((span, text)) => warning.fix(span, text, Applicability::Certain),
                None => warning,
            });
        }
    }

    /// The names that stay, in the place of all of them; the whole line when none does. `None` where a comment would be
    /// lost.
    fn without_unused(&self, import: &ast::Use, names: &[&ast::Name], kept: &[&str]) -> Option<(Span, String)> {
        let text = &self.sources.get(import.span.file)?.text;
        let (span, replacement) = match (names.first(), names.last()) {
            (Some(first), Some(last)) if !kept.is_empty() => (first.span.to(last.span), kept.join(", ")),
            _ => {
                let end = import.span.end as usize;
                let newline = text.get(end..)?.find('\n').map_or(text.len(), |at| end + at + 1);
                (Span { end: u32::try_from(newline).ok()?, ..import.span }, String::new())
            }
        };
        let covered = text.get(span.start as usize..span.end as usize)?;
        (!covered.contains('#')).then_some((span, replacement))
    }

    /// `shop.plan:24`.
    pub(crate) fn place_of(&self, span: Span) -> String {
        let path = self.sources.get(span.file).map_or("?", |file| file.path.as_str());
        format!("{path}:{}", self.sources.position(span.file, span.start).0)
    }

    pub(crate) fn no_env() -> Env {
        Env::new()
    }
}
