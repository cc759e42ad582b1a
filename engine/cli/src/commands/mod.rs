//! One file per family of commands. Each returns the exit code or a failure, which `main` prints.

pub mod agent;
pub mod bundle;
pub mod check;
pub mod check_watch;
pub mod diff;
pub mod drift;
pub mod dry_run;
pub mod extract;
pub mod foresee;
pub mod hook;
pub mod hook_test;
pub mod hook_trace;
pub mod import;
pub mod keys;
pub mod laboratory;
pub mod machines;
pub mod metrics;
pub mod open;
pub mod operate;
pub mod people;
pub mod plans;
pub mod point_disks;
pub mod replicate;
pub mod report;
pub mod seed;
pub mod show;
pub mod stale;
pub mod test;
pub mod upkeep;
pub mod vault;
pub mod watch;
pub mod watch_screen;
pub mod watch_state;
#[cfg(test)]
mod watch_tests;
pub mod watch_view;
pub mod what_if;
