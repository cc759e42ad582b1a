//! Every verb: observe, act, act again, undo, and an answer that got lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checks;
mod control;
mod fakes;
mod sites;
