//! The vault: sealed replica data as immutable objects in an object store. `FORMAT.md` beside this crate is the truth for
//! every byte.
//!
//! ```text
//!   write: frames --zstd--> --AES-256-GCM--> segment buffer --one PutMode::Create--> data/<lineage>/<name>.seg
//!   read:  image of a point -> indexes of its segments -> one extent map -> frame (range read) -> open -> unzstd -> bytes
//! ```
//!
//! It is not a catalogue: which segments make up a disk at a point is control state, and a segment that no committed
//! point names is an orphan. It holds no clock and starts nothing by itself.
//!
//! Architecture invariant: objects are only created or deleted, never changed. Memory is bounded by named limits, never
//! by the size of a disk: a writer holds at most two segments (one filling, one on its way), a replica its extent map and
//! a few decoded frames.

mod address;
mod cache;
mod cipher;
mod complaint;
mod connect;
mod derive;
mod error;
mod extents;
mod fold;
mod frame;
mod keys;
mod layout;
mod lock;
mod patience;
mod place;
mod probe;
mod replica;
mod runs;
mod settings;
mod slot;
mod unfinished;
mod upkeep;
mod vault;
mod writer;

pub use connect::choose_tls;
pub use error::{SegmentPart, VaultError};
pub use frame::{Compression, Frame, Packer, is_zero};
pub use keys::{KeySource, Passphrase};
pub use lock::BucketLock;
pub use place::Place;
pub use replica::{PieceContent, Replica, ReplicaFrame, ReplicaPiece, VerifyReport};
pub use runs::{RUN_BYTES, Run, RunContent};
pub use settings::{SETTINGS_FILE_VARIABLE, StoreSettings};
pub use slot::SlotInfo;
pub use unfinished::Unfinished;
pub use upkeep::{GcReport, Orphan, ScrubReport, StoredSegment, scrub};
pub use vault::{Vault, VaultId, VaultInfo};
pub use writer::SegmentWriter;

/// Version of `FORMAT.md` that this build writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Bytes of an object at which a writer begins the next one. A writer holds two at once (one filling, one being stored),
/// so this bounds its memory at 32 MiB; smaller would cost more fsyncs, larger more memory for each disk in flight.
pub const SEGMENT_BYTES: usize = 16 << 20;

/// The largest segment any writer may make and any reader accepts, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 64 << 20;

/// The largest frame, in bytes of disk. Bounds what one damaged or hostile index entry can make a reader allocate.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Entries in one segment's index. Bounds an index at 1 MiB, whatever compresses how well.
pub const SEGMENT_ENTRIES_MAX: usize = 16_384;

/// Pieces of one replica's merged extent map, about 100 bytes of memory each: 1 TiB in frames of 256 KiB. Beyond it the
/// chain has to be folded first.
pub const REPLICA_PIECES_MAX: usize = 4 << 20;

/// Decoded frames that one replica keeps, in bytes.
pub const FRAME_CACHE_BYTES: usize = 16 << 20;

/// Opened segment indexes that one vault keeps for the next replica, in bytes.
pub const INDEX_CACHE_BYTES: usize = 16 << 20;
