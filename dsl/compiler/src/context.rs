//! What every phase of a check shares: the files, the tables filled so far, and the diagnostics.

use crate::World;
use crate::hooks::HookModel;
use crate::machines::{GroupModel, MachineEntry};
use crate::names::Scope;
use crate::sites::{RouteModel, SiteModel};
use crate::value::{Env, Value};
use muster_diagnostics::{Diagnostic, FileId, SourceMap, Span};
use muster_runsheet::Inventory;
use muster_syntax::ast;
use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// The code of a machine that is nowhere.
pub(crate) const UNKNOWN_MACHINE: u16 = 301;
/// The label of a name of which no kind is known.
pub(crate) const UNKNOWN_NAME: &str = "unknown name";
/// Further uses of an unknown name that are listed. The first ones lead to the rest.
const USES_SHOWN_MAX: usize = 3;

/// Of names that mean the same in a whole file. Stages and networks are looked for in one plan or site: each is its own
/// mistake.
fn is_unknown_name(diagnostic: &Diagnostic) -> bool {
    let label = diagnostic.primary.text.as_str();
    diagnostic.code.0 == UNKNOWN_MACHINE
        || (diagnostic.code.0 == 201 && matches!(label, UNKNOWN_NAME | "unknown hook" | "unknown probe"))
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub path: String,
    pub file: FileId,
    pub ast: ast::File,
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
    pub groups: BTreeMap<String, GroupModel>,
    pub hooks: BTreeMap<String, HookModel>,
    pub routes: Vec<RouteModel>,
    /// A route could not be read: that one is missing proves nothing.
    pub routes_unread: bool,
    pub lets: RefCell<BTreeMap<(usize, usize), Option<Value>>>,
    pub lets_open: RefCell<Vec<(usize, usize)>>,
    used: RefCell<BTreeSet<(usize, String)>>,
    /// Words used as machines that are none.
    pub unknown_machines: RefCell<BTreeSet<String>>,
    diagnostics: RefCell<Vec<Diagnostic>>,
    /// Places the parser could not read.
    pub unread: Vec<Span>,
}

impl<'w> Context<'w> {
    pub(crate) fn new(world: &'w dyn World) -> Self {
        Self {
            world,
            sources: SourceMap::default(),
            modules: Vec::new(),
            prelude: None,
            main: FileId::default(),
            inventory: None,
            sites: BTreeMap::new(),
            machines: BTreeMap::new(),
            groups: BTreeMap::new(),
            hooks: BTreeMap::new(),
            routes: Vec::new(),
            routes_unread: false,
            lets: RefCell::default(),
            lets_open: RefCell::default(),
            used: RefCell::default(),
            unknown_machines: RefCell::default(),
            diagnostics: RefCell::default(),
            unread: Vec::new(),
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
    pub(crate) fn errors(&self) -> usize {
        self.diagnostics.borrow().iter().filter(|diagnostic| diagnostic.is_error()).count()
    }
    /// All diagnostics, each mistake once, in the order of the files.
    pub(crate) fn take_diagnostics(&self) -> Vec<Diagnostic> {
        let mut seen = BTreeSet::new();
        let mut all = self.diagnostics.take();
        all.retain(|diagnostic| seen.insert((diagnostic.code, diagnostic.primary.span)));
        all.sort_by_key(|diagnostic| (diagnostic.primary.span, diagnostic.code));
        self.join_unknown_names(all)
    }

    /// A name that is unknown is one mistake however often it is used: it is said at the first use, which names the others.
    fn join_unknown_names(&self, all: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let machines = self.unknown_machines.borrow();
        let mut kept: Vec<Diagnostic> = Vec::new();
        // Where each said name is among the kept, and where it is used again.
        let mut said: BTreeMap<(Option<FileId>, String), (usize, Vec<Span>)> = BTreeMap::new();
        for diagnostic in all {
            if !is_unknown_name(&diagnostic) {
                kept.push(diagnostic);
                continue;
            }
            let span = diagnostic.primary.span;
            let word =
                self.sources.get(span.file).and_then(|file| file.text.get(span.start as usize..span.end as usize));
            if diagnostic.primary.text == UNKNOWN_NAME && word.is_some_and(|word| machines.contains(word)) {
                continue; // Used as a machine elsewhere: that says more.
            }
            // Machines are one in all files together; other names are a matter of each file.
            let file = (diagnostic.code.0 != UNKNOWN_MACHINE).then_some(span.file);
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
                diagnostic.notes.push(self.used_again(diagnostic, &again));
            }
        }
        kept
    }

    fn used_again(&self, first: &Diagnostic, again: &[Span]) -> String {
        let mut places: Vec<String> = Vec::new();
        for span in again {
            let place = self.place_of(*span);
            if place != self.place_of(first.primary.span) && !places.contains(&place) {
                places.push(place);
            }
        }
        if places.is_empty() {
            return "used again on this line".to_owned();
        }
        let more = places.len().saturating_sub(USES_SHOWN_MAX);
        places.truncate(USES_SHOWN_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("used again at {}{more}", places.join(", "))
    }

    /// An inventory is there but cannot be read, which has been said: that a machine is missing proves nothing.
    pub(crate) fn is_inventory_unread(&self) -> bool {
        self.inventory.is_none() && self.sources.iter().any(|(_, file)| file.path == crate::load::INVENTORY_PATH)
    }

    /// Something inside was not understood: that a thing is missing there proves nothing.
    pub(crate) fn is_unread(&self, block: Span) -> bool {
        let inside = |span: &&Span| span.file == block.file && span.start < block.end && span.end >= block.start;
        self.unread.iter().any(|span| inside(&span))
    }

    pub(crate) fn mark_used(&self, module: usize, name: &str) {
        self.used.borrow_mut().insert((module, name.to_owned()));
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
            for (name, span) in &module.scope.imports {
                if !self.used.borrow().contains(&(index, name.clone())) {
                    self.push(
                        Diagnostic::warning(204, format!("`{name}` is not used"), *span, "imported here")
                            .help("remove it from the braces"),
                    );
                }
            }
        }
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
