//! Every limit of the agent, with its unit and reason.

use std::time::Duration;

/// Bytes of one message. The largest is a land order: one name and hash per segment of every disk, about 250 bytes each,
/// so some 60,000 segments.
pub const FRAME_BYTES_MAX: u32 = 16 << 20;
/// Connecting and greeting. A site that needs longer for two round trips is not of use in a failover.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How often a client asks whether the agent is still there.
pub const PING_EVERY: Duration = Duration::from_secs(3);
/// Silence after which the other side is given up: three pings without an answer.
pub const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Writing one piece of a message. The same patience as with silence.
pub const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a message that have to go out within [`WRITE_LIMIT`]: 6.4 kB/s, less is no line.
pub const WRITE_PIECE_BYTES: usize = 64 << 10;
/// Connections of one agent. Engines keep one each.
pub const CONNECTIONS_MAX: usize = 64;
/// Calls an agent works on at once. More are refused as `Transient`: waiting in line would look like silence.
pub const CALLS_MAX: u32 = 256;
/// Messages waiting to be written on one connection.
pub const QUEUE_MAX: usize = 64;
/// How often progress of a call is told, at most. Faster than people read, rare enough to cost nothing.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// What an agent that is told to stop waits for effects under way. After it they end with the process, as in a crash.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// How often exports that could not be brought up after a restart are tried again.
pub const RESUME_EVERY: Duration = Duration::from_secs(5);
/// Vaults kept open. A site takes part in a handful of routes.
pub const VAULTS_MAX: usize = 32;
/// Bytes of the file of a tie: a land order's images, with room.
pub const TIE_BYTES_MAX: u64 = 64 << 20;
/// Vaults whose writers a site has heard. A site takes part in a handful of routes; more is a mistake or mischief.
pub const EPOCH_VAULTS_MAX: usize = 1_000;
/// Bytes of the file with their epochs: an id and a number each, with room.
pub const EPOCHS_BYTES_MAX: u64 = 1 << 20;
/// Bytes of an instance's name as a file name, from the kernel (255), less the ending and the mark of a young file.
pub const FILE_STEM_BYTES_MAX: usize = 240;
/// Disks that are read whole (first copies, resyncs) and shipped at once. One costs about 45 MiB on two cores (windows in
/// flight, zstd contexts, two segments), and two already keep a disk and the cores busy; others wait their turn.
pub const COPIES_MAX: usize = 2;
/// Disks whose changes are shipped at once. The same upper bound for each, which a small delta does not come near.
pub const DELTAS_MAX: usize = 4;
/// Cuts remembered as settled. An order that comes later than its own settling does so by milliseconds, and a site makes
/// a few cuts a second at most.
pub const SETTLED_MAX: usize = 256;
