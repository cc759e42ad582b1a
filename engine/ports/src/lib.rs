//! What the engine needs from the world, as traits and plain data.
//!
//! Two levels meet here. A [`Provider`] drives one kind of hypervisor and is local to it: it may hand out open disks.
//! A [`Site`] is what the engine sees: plain data in, plain data out, so that it can stand behind a TCP port.
//! The site agent (`engine/agent`) turns a `Provider` into a `Site`; nothing in the engine ever touches a hypervisor.
//!
//! ```text
//!   executor -> steps -> Site (over TCP) -> agent -> Provider -> hypervisor
//!                                             `----> replication pipeline -> vault
//! ```
//!
//! Architecture invariant: no time, randomness or identity is ambient. They come through [`Clock`] and [`Random`], so
//! that the whole engine runs in a seeded simulation.

pub mod block;
pub mod clock;
pub mod error;
pub mod ids;
pub mod machine;
pub mod network;
pub mod provider;
pub mod random;
pub mod replica;
pub mod site;
pub mod store;

pub use block::{BlockSource, BlockTarget, Extent, ExtentKind};
pub use clock::{Clock, Hold, SystemClock, Timestamp};
pub use error::{Failure, FailureClass, Result};
pub use ids::*;
pub use machine::*;
pub use network::*;
pub use provider::Provider;
pub use random::{Random, SystemRandom};
pub use replica::*;
pub use site::Site;
pub use store::{StateStore, StoreError, Write};
