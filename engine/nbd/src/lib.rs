//! NBD, the network block device protocol: a client and a server in our own words, since every replicated and every
//! recovered byte passes through here.
//!
//! ```text
//!   qemu (disk + dirty bitmaps) --unix socket--> Client --> read changed extents          (protect)
//!   vault replica as BlockSource --> Server --unix socket--> qemu overlay, qemu-img       (recover)
//! ```
//!
//! Fixed newstyle negotiation with `NBD_OPT_GO`, structured replies and metadata contexts (`base:allocation`,
//! `qemu:dirty-bitmap:NAME`). The server's exports are read-only: what a landed machine writes goes to its own overlay.
//!
//! A server listens at a Unix socket of mode 0600, or at a port where both sides show a certificate.
//!
//! Not here: TLS in the client (it only calls Unix sockets), old-style negotiation, writable exports, the kernel's nbd device.
//!
//! Architecture invariant: nothing a peer sends can panic this crate, make it allocate more than the limits in
//! [`limits`], or make a negotiation last for ever.

mod client;
mod error;
pub mod limits;
mod server;
mod wire;

pub use client::{BlockStatus, Client};
pub use server::{Place, Server};

/// The context that tells holes and zeroes from data.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// In the flags of [`BASE_ALLOCATION`]: nothing is allocated here.
pub const ALLOCATION_HOLE: u32 = 1;
/// In the flags of [`BASE_ALLOCATION`]: reads as zeroes.
pub const ALLOCATION_ZERO: u32 = 2;
/// In the flags of a `qemu:dirty-bitmap:` context: written since the bitmap began.
pub const BITMAP_DIRTY: u32 = 1;

/// The name of the context under which QEMU exports a dirty bitmap.
pub fn bitmap_context(bitmap: &str) -> String {
    format!("qemu:dirty-bitmap:{bitmap}")
}
