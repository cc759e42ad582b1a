//! Carries out a runsheet: a pure `decide` over the folded journal, and a thin driver that does what it says.

pub mod runner;

pub use runner::{Acted, Observation, StepContext, StepRunner};
