//! The whole engine under seeded faults, in virtual time, and a second reading of what a run means.
//!
//! ```text
//!   Case (plan, operation) --.                   .--> Mortal store (dies, slow, full) --> MemoryStore
//!   Storm (from a seed) -----+--> play: lives of |--> Executor, Steps, hooks, Replicator
//!                            |    the engine     |--> Wire (late, lost, carried out all the same) --> simulated sites
//!                            |                   '--> Wobbly clock (jumps)
//!                            '--> people, outages, a second engine ... then calm: every fault is gone
//!                                                     |
//!            audit: journal and world, by rules of its own  <--'
//! ```
//!
//! Real here: compiler, executor, journal, steps, hooks, replication, site agents. Simulated: machines, disks, guests, the
//! network, the clocks, the people, the world beyond the sites and the death of processes.
//!
//! [`model`] is the reference: what a run of a runsheet means, said once more without tasks, stores or time.
//!
//! Not here: real machines (`cargo verify --matrix` kills the program on them) and damage of stored bytes (the tests of
//! the journal and of the vault).

// A harness reports by breaking off: there is nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

pub mod audit;
pub mod beyond;
pub mod cases;
pub mod clock;
pub mod compare;
pub mod life;
pub mod model;
pub mod people;
pub mod play;
pub mod storm;
pub mod tally;
pub mod watch;
pub mod wire;
