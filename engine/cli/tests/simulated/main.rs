//! The real binary against two simulated sites, each an agent process of its own: the whole story, refusals, damage,
//! who holds the vault, kills in the middle of a move, reviewed runsheets, and the words of people.
//!
//! Machines are simulated, their disks are real files, replicated for real. Every test has a folder, a vault, sites and
//! a runtime folder to itself, so all of them may run at once. `machines.rs` does the same with real machines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]
#![allow(clippy::print_stdout, reason = "a failed test says what it tried")]
#![allow(unreachable_pub, reason = "a test program has no outside")]

mod control;
mod damage;
mod elsewhere;
mod evidence;
mod extract;
mod foresight;
mod full;
mod holders;
mod hooks;
mod inputs;
mod keys;
mod kills;
mod large;
mod needs;
mod people;
mod refusals;
mod repoint;
mod schedule;
mod seed;
mod sheets;
mod shop;
mod storm;
mod story;
mod takeover;
mod upkeep;
mod watch;
