//! The composition root: plans from a folder, a vault held by one process, replication and runs inside it, and a local
//! socket through which other commands on the host reach it.
//!
//! It is not the command line (`engine/cli` turns words into [`Request`]s and answers into tables), and it decides
//! nothing about recovery itself: the compiler, the executor and the replicator do.

pub mod access;
pub mod answers;
mod dossier;
mod forgotten;
mod guarded;
pub mod history;
pub mod project;
mod repoint;
pub mod request;
pub mod runs;
pub mod service;
pub mod sites;
pub mod socket;
pub mod upkeep;
pub mod words;

pub use access::{Access, OpenOptions};
pub use answers::*;
pub use project::{FolderWorld, INVENTORY_FILE, Project, plan_files, plan_files_named, write_inventory, write_whole};
pub use request::{Event, Request, Sink};
pub use upkeep::{ScrubAnswer, scrub_vault};
pub use words::Level;
