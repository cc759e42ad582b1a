//! What the steps of a run have handed on so far.

use crate::outcome::StepOutput;
use muster_runsheet::StepId;

/// By step, in the order of their names. A copy costs nothing, and is not changed by what comes after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs(rpds::RedBlackTreeMapSync<StepId, StepOutput>);

impl Outputs {
    /// Replaces what the step handed on before.
    pub fn insert(&mut self, step: StepId, output: StepOutput) {
        self.0.insert_mut(step, output);
    }
    /// As if the step had never succeeded.
    pub fn remove(&mut self, step: &StepId) {
        self.0.remove_mut(step);
    }
    /// Whether the step has succeeded.
    pub fn contains_key(&self, step: &StepId) -> bool {
        self.0.contains_key(step)
    }
    /// What the step handed on, if it has succeeded.
    pub fn get(&self, step: &StepId) -> Option<&StepOutput> {
        self.0.get(step)
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&StepId, &StepOutput)> {
        self.0.iter()
    }
    /// All of them, without their steps.
    pub fn values(&self) -> impl Iterator<Item = &StepOutput> {
        self.0.values()
    }
}

impl FromIterator<(StepId, StepOutput)> for Outputs {
    fn from_iter<T: IntoIterator<Item = (StepId, StepOutput)>>(outputs: T) -> Self {
        Self(outputs.into_iter().collect())
    }
}

impl<const N: usize> From<[(StepId, StepOutput); N]> for Outputs {
    fn from(outputs: [(StepId, StepOutput); N]) -> Self {
        outputs.into_iter().collect()
    }
}
