//! Hooks: rhai scripts with a typed contract, run in a sandbox whose every call to the outside is journaled.
//!
//! ```text
//!   own OS thread                       tokio side (HookHost)
//!   rhai function --- HostCall ------>  number, need, record? --> CallJournal::intend
//!        (blocks)                       World (http, guest, probe)
//!        <----- answer as JSON -------  CallJournal::done
//! ```
//!
//! Rhai cannot be suspended, so a hook is *re-run* after a crash, not resumed: recorded calls return their records, an
//! intended call without a result is repeated with the same idempotency key, and a script that asks something else than
//! the record stops with E0712.
//!
//! What ends an attempt decides what the next one sees. A host call that failed, or a crash: the record is replayed and
//! the failed call is made again. The script's own word (`retry_later`, `fail`, `throw`, a limit): the next attempt asks
//! the world afresh, but checkpoints of the earlier attempt keep their first value, since `undo` needs the world as it
//! was before anything was touched.
//!
//! Architecture invariant: nothing in here reads time or randomness by itself, and the only files it opens are those of
//! the keyring. What a hook may touch is what its contract says it needs; everything else is a permanent failure that
//! names the need. A secret is opened for one call, and never reaches a script, the journal, a log or an error.

mod budget;
mod call;
mod cancel;
pub mod check;
mod dns;
mod doors;
mod growth;
mod guest;
mod host;
mod http;
pub mod limits;
mod mail;
mod perform;
mod sandbox;
mod script;
mod secret;
mod stand_in;
mod tape;
mod value;
mod world;

pub use budget::{Budget, Meter};
pub use cancel::Cancel;
pub use check::{HookProblem, check};
pub use host::{HookEnd, HookHost, HookOrder, RunFacts};
pub use http::{HttpReply, HttpRequest};
pub use mail::{MailOrder, MailTls};
pub use secret::{Hidden, SecretRef, read_keyring};
pub use stand_in::{Outgoing, StandIn};
pub use value::HookMachine;
pub use world::{Outside, World};
