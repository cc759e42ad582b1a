//! Plans as an earlier check of a session resolved and looked at them, with what it said on the way.

use crate::context::Said;
use crate::plans::Resolved;
use crate::session::is_touched;
use muster_syntax::ast;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct KnownPlans(BTreeMap<String, KnownPlan>);

#[derive(Debug)]
struct KnownPlan {
    /// The file it stands in.
    ast: Arc<ast::File>,
    resolved: Resolved,
    resolving: Said,
    /// What looking at it beside the others said, and whether it was whole then.
    looking: Option<(Said, bool)>,
    /// It is one of the check that is going on.
    is_current: bool,
}

impl KnownPlans {
    /// The plan and what was said of it, if its file is the one that was read then.
    pub(crate) fn resolved(&mut self, name: &str, ast: &Arc<ast::File>) -> Option<(Resolved, &Said)> {
        let known = self.0.get_mut(name).filter(|known| Arc::ptr_eq(&known.ast, ast))?;
        known.is_current = true;
        Some((known.resolved.clone(), &known.resolving))
    }

    pub(crate) fn keep_resolved(&mut self, ast: &Arc<ast::File>, resolved: Resolved, resolving: Said) {
        let name = resolved.model.name.clone();
        let known = KnownPlan { ast: ast.clone(), resolved, resolving, looking: None, is_current: true };
        self.0.insert(name, known);
    }

    /// Drops the plans that one of these machines and groups concerns.
    pub(crate) fn forget_touched(&mut self, changed: &BTreeSet<String>) {
        self.0.retain(|_, known| !is_touched(&known.resolved.model, changed) && !known.resolving.has_read(changed));
    }

    /// Goes on to the next check, which begins with no plan.
    pub(crate) fn end_check(&mut self) {
        self.0.retain(|_, known| std::mem::take(&mut known.is_current));
    }

    pub(crate) fn looked_at(&self, name: &str) -> Option<&(Said, bool)> {
        self.0.get(name)?.looking.as_ref()
    }

    pub(crate) fn keep_look(&mut self, name: &str, said: Said, whole: bool) {
        if let Some(known) = self.0.get_mut(name) {
            known.looking = Some((said, whole));
        }
    }
}
