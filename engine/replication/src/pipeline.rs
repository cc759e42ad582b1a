//! The pipeline that moves blocks between a disk and the vault: written once, used by every site agent.
//!
//! ```text
//!   ship:   extents -> read -> zero? -> BLAKE3, zstd (blocking threads) -> seal, segment (in order) -> vault
//!   land:   extent map -> frames from the vault -> open, unzstd -> only what differs -> disk
//! ```
//!
//! Memory is a constant for each disk in flight, never a function of its size: windows in flight (at most
//! [`WINDOWS_MAX`] of 256 KiB, plain and packed), their zstd contexts (about 1 MiB each up to level 9) and two segments
//! of the vault's writer (32 MiB): below 60 MiB on eight cores, below 50 MiB on two. On the way back it is runs in flight
//! of 1 MiB, sealed and plain. All of it is used again from window to window.
//!
//! It knows nothing of points, cycles or chains: what is shipped counts only once the control service commits it.

mod compare;
mod file;
mod land;
mod level;
mod pack;
mod rate;
mod ship;
#[cfg(test)]
mod tests;
mod walk;

pub use file::FileDisk;
pub use land::{apply_differences, materialise};
pub use rate::Pacers;
pub use ship::{ship, ship_paced};

/// What is read at once, and the largest frame: long enough for zstd to find something, short enough to decode for one
/// 4 KiB read of a machine that boots from the vault. Bytes, a power of two.
pub const WINDOW_BYTES: u64 = 256 << 10;

/// The grain of changes: dirty bitmaps count in it, zeroes are looked for in it, differences are sent in it. Bytes.
pub const BLOCK_BYTES: u64 = 64 << 10;

/// Windows of one disk in flight at most, whatever the number of cores: bounds memory at 8 MiB plus zstd contexts.
pub const WINDOWS_MAX: usize = 16;

/// Windows in flight: one that each core compresses, one that waits for it, and those that are read and sealed.
pub(crate) fn windows_in_flight() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (2 * cores + 2).clamp(4, WINDOWS_MAX)
}
