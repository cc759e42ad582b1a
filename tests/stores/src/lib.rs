//! Object stores for tests, as whole and as real as one machine can have them: a SeaweedFS cluster of three masters,
//! three volume servers and two S3 gateways, and Azurite for Azure's blobs.
//!
//! ```text
//!   tools (installed once, below target/) ──> SeaweedFs ──> s3://bucket/... through either gateway
//!                                        └──> Azurite ────> az://account/container/...
//! ```
//!
//! Servers listen on an address of the loopback network that is this process's own, live in a folder of their own, and
//! die with the thread that started them, however it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]
#![allow(clippy::print_stderr, reason = "a test that installs says so")]

mod azurite;
mod http;
mod proxy;
mod seaweed;
mod server;
mod tools;

pub use azurite::Azurite;
pub use proxy::Proxy;
pub use seaweed::{GATEWAYS, MASTERS, SeaweedFs, VOLUME_SERVERS};
pub use server::{Server, wait_until};

use muster_vault::StoreSettings;

/// A place for a vault in a running store.
#[derive(Clone, Debug)]
pub struct Store {
    pub url: String,
    /// What a process needs in its environment to reach it.
    pub environment: Vec<(String, String)>,
}

impl Store {
    pub fn settings(&self) -> StoreSettings {
        self.environment.iter().fold(StoreSettings::default(), |settings, (name, value)| settings.with(name, value))
    }
}
