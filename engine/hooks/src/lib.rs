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
//! Architecture invariant: nothing in here reads time or randomness by itself, opens files, or knows a secret. What a
//! hook may touch is what its contract says it needs; everything else is a permanent failure that names the need.

mod call;
mod cancel;
pub mod check;
mod host;
mod http;
pub mod limits;
mod sandbox;
mod script;
mod tape;
mod value;
mod world;

pub use cancel::Cancel;
pub use check::{HookProblem, check};
pub use host::{HookEnd, HookHost, HookOrder, RunFacts};
pub use http::{HttpReply, HttpRequest};
pub use value::HookMachine;
pub use world::World;
