//! What is in a vault, brought out of it without booting anything: image files in the formats of other hypervisors, disks
//! on a socket, single files, and a disk of this machine made equal to a point.
//!
//! ```text
//!   point --replica--> FileDisk                              raw, fixed VHD (a footer behind it)
//!                  \-> NBD on a private socket --qemu-img--> qcow2, VHDX, VMDK
//!                  \-> partitions --ext4 | NTFS | FAT-->     files
//!                  \-> apply_differences -->                 an image or a device that has old content
//! ```
//!
//! Nothing here writes to a vault. Whatever is written appears under its final name when it is whole, see [`partial`].
//!
//! Architecture invariant: what lies on a recovered disk was written by others. No byte of it can panic this crate, and no
//! name in it leads outside of the folder that was named for it.

pub mod files;
pub mod image;
mod in_use;
pub mod mount;
mod over;
pub mod partial;
pub mod partitions;
mod process;
mod reader;
mod scan;
mod vhd;

pub use over::{OverReport, restore_over};
pub use process::TOOLS_HINT;
pub use scan::{Difference, Differences, scan};
