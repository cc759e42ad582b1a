//! The site agent: sits where the hypervisor is, and stands for the whole site towards the engine.
//!
//! ```text
//!   engine --RemoteSite--> TCP --serve--> LocalSite --> Provider --> hypervisor
//!                                            |  `------> vault (ship, land)
//!                                            `---------> NBD exports on one Unix socket below the site's folder
//! ```
//!
//! [`LocalSite`] turns a [`Provider`](muster_ports::Provider) into a [`Site`](muster_ports::Site); [`serve`] puts any
//! site behind a TCP port; [`RemoteSite`] is that site again, elsewhere. [`protocol`] is the contract between the two.
//!
//! What the agent keeps below its folder: `nbd.sock`, the socket of its exports, and `ties/`, one file for each instance
//! whose disks still need the replica they were landed from. Everything else is the provider's.
//!
//! Between machines both sides show certificates of one authority. Without them an agent listens on loopback only, and is
//! called there only.
//!
//! An order says which control writer gave it ([`Token`]); one of a writer that was replaced is refused, however long it
//! was on its way.
//!
//! Architecture invariant: a client that goes away never stops an effect half-way; the effect is done to its end, and
//! asking again finds it done.

mod connection;
mod data_plane;
mod epochs;
mod frame;
mod landing;
pub mod limits;
mod local;
mod progress;
pub mod protocol;
mod remote;
mod run;
mod server;
mod ties;
mod wire;

pub use data_plane::{DataPlane, VaultPlane};
pub use epochs::{Epochs, Token};
pub use local::LocalSite;
pub use remote::RemoteSite;
pub use run::{AgentOptions, run_agent};
pub use server::{serve, serve_remembering};
