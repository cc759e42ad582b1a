//! Every limit of this provider, with its unit and its reason.

use std::time::Duration;

/// A monitor that is there answers at once; an emulated machine on a loaded host may take its time.
pub(crate) const QMP_CALL: Duration = Duration::from_secs(30);
/// From `exec` to the first answer of the monitor. Reading large images' tables and a loaded host are in it.
pub(crate) const START: Duration = Duration::from_secs(90);
/// One call to a guest agent other than freezing. Guests under emulation are slow, dead agents never answer.
pub(crate) const GUEST_CALL: Duration = Duration::from_secs(8);
/// Asking a guest agent for its health while listing machines: a list must not hang on one guest.
pub(crate) const GUEST_GLANCE: Duration = Duration::from_secs(2);
/// How long a cut goes on trying to thaw. After it the cut has failed and the agent tries on, as long as it lives.
pub(crate) const THAW: Duration = Duration::from_secs(10);
/// Until the agent tries again to let a guest go; doubled each time up to the maximum, which a person who has mended the
/// guest can still wait for.
pub(crate) const RELEASE_AGAIN: Duration = Duration::from_secs(1);
pub(crate) const RELEASE_AGAIN_MAX: Duration = Duration::from_secs(30);
/// How often the agent looks for guests that a cut which was broken off left behind.
pub(crate) const RELEASE_LOOK: Duration = Duration::from_secs(5);
/// From starting a watchdog to its word. It is our own program; a loaded host is in it.
pub(crate) const WATCH_START: Duration = Duration::from_secs(10);
/// After the longest hold of an order, before its watchdog believes that the agent does not move any more.
pub(crate) const WATCH_GRACE: Duration = Duration::from_secs(5);
/// Until a watchdog tries again to let a guest go, and the most of it after doubling.
pub(crate) const WATCH_AGAIN: Duration = Duration::from_millis(200);
pub(crate) const WATCH_AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long a watchdog tries. A guest that does not answer for so long hangs for another reason.
pub(crate) const WATCH_LIMIT: Duration = Duration::from_secs(600);
/// Telling a machine to quit, before it is made to.
pub(crate) const QUIT_WORD: Duration = Duration::from_secs(5);
/// A quit flushes disks and stores bitmaps. After that the process is killed.
pub(crate) const QUIT: Duration = Duration::from_secs(30);
/// How often a process is asked again to end.
pub(crate) const ASK_TO_END_AGAIN: Duration = Duration::from_millis(500);
/// Between two times a guest is asked to shut down. One that boots ignores the power button; one that is going down does
/// not mind being asked twice.
pub(crate) const ASK_DOWN_AGAIN: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone: the kernel writes its memory back to nobody.
pub(crate) const KILL: Duration = Duration::from_secs(10);
/// One run of `qemu-img`, `ip` or the like.
pub(crate) const TOOL: Duration = Duration::from_secs(60);
/// A copy job that has to end after it was told to.
pub(crate) const JOB_END: Duration = Duration::from_secs(30);
/// A boot sector under KVM is done in a tenth of a second; a KVM that does not work hangs for ever.
pub(crate) const KVM_PROBE: Duration = Duration::from_secs(10);
/// A machine that KVM drops so soon never got to work; its host's KVM is not trusted any more.
pub(crate) const KVM_TRIAL: Duration = Duration::from_secs(300);
/// How much of QEMU's reason is kept.
pub(crate) const ACCEL_REASON: usize = 200;
/// How long a machine's reads wait for an export that went away. An agent's restart takes seconds.
pub(crate) const EXPORT_RECONNECT_SECONDS: u64 = 600;
/// How long the first connection to an export may take.
pub(crate) const EXPORT_OPEN_SECONDS: u64 = 30;
/// Between two looks at something that has to change.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at a job that copies a disk, or at a command in a guest.
pub(crate) const LOOK_SLOW: Duration = Duration::from_millis(200);

/// One line of JSON of a monitor or an agent. A guest's output of 16 MiB in base64 fits.
pub(crate) const LINE_BYTES: usize = 32 << 20;
/// What is kept of each of a command's two outputs over SSH; hooks are given half of it.
pub(crate) const SHELL_OUTPUT_BYTES: usize = 1 << 20;
/// Until an SSH server has greeted. Less when the command has less.
pub(crate) const SHELL_CONNECT: Duration = Duration::from_secs(15);
/// Path of a file on a disk: what Linux takes.
pub(crate) const DISK_PATH_BYTES: usize = 4096;
/// Partitions that are looked at; a GPT has room for 128.
pub(crate) const PARTITIONS: u64 = 128;
/// What comes back of a probe.
pub(crate) const PROBE_BODY_BYTES: usize = 64 << 10;
/// A console log is put aside when it has grown to this.
pub(crate) const CONSOLE_BYTES: u64 = 4 << 20;
/// Console text given at once.
pub(crate) const CONSOLE_ANSWER_BYTES: u64 = 1 << 20;
/// The grain of change tracking: QEMU's default cluster, and the vault's smallest frame.
pub(crate) const GRAIN_BYTES: u64 = 64 << 10;
/// Extents in one answer, so that a badly fragmented disk is not one giant list.
pub(crate) const EXTENTS: usize = 4096;
/// Characters in the name of an instance or a disk: they become file names.
pub(crate) const NAME_CHARACTERS: usize = 120;
/// A Unix socket's path has 108 bytes; longer ones are reached through an open folder.
pub(crate) const SOCKET_PATH_BYTES: usize = 100;
/// What is shown of a failed tool's own words.
pub(crate) const TOOL_WORDS: usize = 600;
