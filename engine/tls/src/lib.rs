//! Who is who on a wire between machines: both sides show a certificate of one authority (mutual TLS, RFC 8446 and 5246).
//!
//! What a side needs lies in one folder, under the names that QEMU and libnbd look for, so that one folder serves them all:
//!
//! ```text
//! ca-cert.pem                          whom to believe
//! server-cert.pem  server-key.pem      to answer with
//! client-cert.pem  client-key.pem      to call with
//! ca-key.pem                           only where certificates are issued: keep it offline
//! ```
//!
//! Not here: revocation. Whoever has lost a key makes a new authority; its folders replace the old ones.

mod folder;
mod issue;

pub use folder::{Caller, acceptor};
pub use issue::{Authority, Role, VALID_YEARS};
pub use tokio_rustls::{TlsAcceptor, client, server};
