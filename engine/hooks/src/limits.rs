//! Every limit of a hook, with its unit and reason. Running into one is a permanent failure that names it.

use std::time::Duration;

/// Script operations in one attempt: seconds of pure computing, far beyond any honest hook.
pub const OPERATIONS_MAX: u64 = 2_000_000;
/// Nested calls of script functions: recursion is not what hooks are for, and the thread's stack is finite.
pub const CALL_DEPTH_MAX: usize = 32;
/// Nesting of expressions at the top level and inside functions.
pub const EXPRESSION_DEPTH_MAX: (usize, usize) = (64, 32);
/// Bytes of one text value.
pub const STRING_BYTES_MAX: usize = 1 << 20;
/// Elements of one array, those of arrays inside it included.
pub const ARRAY_ELEMENTS_MAX: usize = 10_000;
/// Properties of one object map, those of maps inside it included.
pub const MAP_PROPERTIES_MAX: usize = 10_000;
/// Functions of one script.
pub const FUNCTIONS_MAX: usize = 64;
/// Variables alive at once.
pub const VARIABLES_MAX: usize = 512;
/// Imported modules: none, a hook is one text that was reviewed and hashed.
pub const MODULES_MAX: usize = 0;
/// Host calls in one attempt, replayed ones included: each costs two durable writes.
pub const HOST_CALLS_MAX: u32 = 500;
/// Bytes of one text in a reply (body, output) that a script gets; the rest is cut and the reply says so. Half of what a
/// text may hold, since a reply may carry two (output and errors) and the interpreter adds them up.
pub const REPLY_BYTES_MAX: usize = STRING_BYTES_MAX / 2;
/// Bytes that one attempt may put into the journal.
pub const JOURNAL_BYTES_MAX: usize = 4 << 20;
/// Time for one HTTP exchange; less when the step has less left.
pub const HTTP_CALL_MAX: Duration = Duration::from_secs(60);
/// Redirects followed within the same origin.
pub const HTTP_REDIRECTS_MAX: u32 = 5;
/// Time for one probe inside the landing network.
pub const PROBE_MAX: Duration = Duration::from_secs(10);
/// Stack of the script's thread, bytes: the interpreter recurses once per nested expression.
pub const STACK_BYTES: usize = 16 << 20;
/// Bytes of one secret of the keyring: tokens, passwords, a certificate's key.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Time for one exchange with a name server.
pub const DNS_CALL_MAX: Duration = Duration::from_secs(15);
/// Bytes of one reply of a name server: what its length field can say.
pub const DNS_MESSAGE_BYTES_MAX: usize = 65_535;
/// Time for handing over one mail.
pub const MAIL_CALL_MAX: Duration = Duration::from_secs(60);
/// Bytes of one line of a mail server's reply, twice what the protocol allows.
pub const MAIL_LINE_BYTES_MAX: u64 = 1_024;
/// Lines of one reply of a mail server.
pub const MAIL_REPLY_LINES_MAX: usize = 100;
