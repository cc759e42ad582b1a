//! Hooks from outside: behaviour against fakes, HTTP against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod behaviour;
mod doors;
mod guest;
mod http;
mod packages;
mod replay;
mod support;
mod tls;
