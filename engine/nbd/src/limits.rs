//! Every limit of this crate, with its unit and reason.

use std::time::Duration;

/// Bytes in one read or write. What the protocol tells both sides to support when nothing else was agreed.
pub const REQUEST_BYTES_MAX: u32 = 32 << 20;
/// Bytes of disk in one request for block status, whose answer is small whatever is asked: the most that 32 bits and whole
/// blocks of 64 KiB allow, so that a look over 2 TiB takes 513 requests.
pub const STATUS_BYTES_MAX: u32 = u32::MAX - (64 << 10) + 1;
/// Bytes of an export's name. From the protocol.
pub const NAME_BYTES_MAX: usize = 4096;
/// Bytes of one option or option reply: a name, some queries, an error text.
pub const OPTION_BYTES_MAX: u32 = 64 << 10;
/// Options a client may send, and replies a server may send to one option, before the other side hangs up.
pub const OPTIONS_MAX: usize = 256;
/// Metadata contexts in one negotiation: QEMU exports a handful of bitmaps per disk.
pub const CONTEXTS_MAX: usize = 128;
/// Bytes of the text in an error reply.
pub const ERROR_TEXT_BYTES_MAX: usize = 4096;
/// Extents in one block status reply (8 bytes each).
pub const EXTENTS_MAX: usize = 8192;
/// Bytes of one chunk other than read data: half a million extents of a block status, where servers tell some thousands.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// Bytes the server reads at once for one request; larger reads are answered in several chunks of this.
pub const SERVER_PIECE_BYTES: u32 = 1 << 20;
/// Bytes of disk the server asks its source about at once for block status. A source that knows 64 KiB frames answers
/// with a thousand; a client that wants one extent does not make it list the whole disk.
pub const STATUS_WINDOW_BYTES: u64 = 64 << 20;
/// Requests the server works on at once for one connection; with [`SERVER_PIECE_BYTES`] at most 16 MiB of buffers.
pub const SERVER_IN_FLIGHT_MAX: usize = 16;
/// Connections of one server. QEMU keeps one or two per disk.
pub const SERVER_CONNECTIONS_MAX: usize = 256;
/// Requests the client has under way at once; memory is bounded by the buffers of its callers.
pub const CLIENT_IN_FLIGHT_MAX: usize = 128;
/// A whole negotiation, connecting included. Local sockets answer in milliseconds; a busy machine in seconds.
pub const NEGOTIATION_LIMIT: Duration = Duration::from_secs(10);
/// One request of the client. Outlasts a stall of the object store below a server (30 s measured), with room.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// A reply that a client does not take off the socket: after this it is hung up on.
pub const REPLY_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a Unix socket's path, from the kernel (108 with the final zero), less one for the name while it is made.
pub const SOCKET_PATH_BYTES_MAX: usize = 106;
