//! What the hooks of a sheet would touch, as far as somebody who tried them out without touching anything could see.

use muster_runsheet::{HookName, StepId};
use serde::Serialize;

/// One hook step, tried out: what it reaches for, call by call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookEffects {
    pub step: StepId,
    pub hook: HookName,
    /// What its contract lets it touch.
    pub needs: Vec<String>,
    /// It may reach beyond the machines of the plan.
    pub outside: bool,
    /// Calls that change something, or may, in the order in which they are made first.
    pub touches: Vec<String>,
    /// Calls that only ask.
    pub asks: Vec<String>,
    /// Why the rest of the hook cannot be known without running it in earnest.
    pub unknown: Option<String>,
}
