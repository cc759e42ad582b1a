//! Trying again while another attempt may succeed, and giving up in bounded time.

use crate::complaint::{self, Complaint};
use crate::error::io_kind;
use object_store::path::Path;
use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time one request may take from its connection to the last byte of its answer. A segment of 16 MiB gets through
/// in it at 3 Mbit/s.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(45);
/// The same for the control state, whose objects are small: short, so that a request that a dying server took with it is
/// soon sent to the next one.
pub(crate) const CONTROL_REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// Longest time until a connection stands.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Moment after which an operation is not tried again. A distributed store was measured to stop for 30 s when its
/// leader is killed, and a request that was under way then may take [`REQUEST_LIMIT`] to be given up; this outlasts both.
const RETRY_LIMIT: Duration = Duration::from_secs(100);
/// The same while nobody answers at the store's address at all and nothing ever did: a person who mistyped it waits.
const FIRST_CONTACT_LIMIT: Duration = Duration::from_secs(10);
/// First pause between two attempts; each next one is twice as long, up to `PAUSE_MAX`.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// How long to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// With a store that was reached before.
    Full,
    /// With one that may not be there at all.
    FirstContact,
}

/// Tries again while another attempt may succeed. Reads, conditional puts and deletes may be repeated as often as one
/// likes.
pub(crate) async fn patiently<T, F>(
    patience: Patience,
    object: &Path,
    attempt: impl Fn() -> F,
) -> object_store::Result<T>
where
    F: Future<Output = object_store::Result<T>>,
{
    let started = Instant::now();
    let mut pause = PAUSE_FIRST;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let limit = match (patience, complaint::of(&error)) {
            (Patience::FirstContact, Some(Complaint::Unreachable)) => FIRST_CONTACT_LIMIT,
            _ => RETRY_LIMIT,
        };
        if !may_pass(&error) || started.elapsed() + pause >= limit {
            return Err(error);
        }
        tracing::debug!(object = %object, %error, "the store did not answer, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether another attempt may succeed: not when the store said no, and not for what a local disk says (a full or
/// broken one does not mend within seconds).
fn may_pass(error: &object_store::Error) -> bool {
    match complaint::of(error) {
        Some(Complaint::Unreachable) => return true,
        Some(_) => return false,
        None => {}
    }
    if let Some(status) = complaint::status(error) {
        // Too many requests, a request that took too long to arrive, and a server in trouble.
        return matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
            && matches!(error, object_store::Error::Generic { .. });
    }
    match io_kind(error) {
        Some(kind) => matches!(
            kind,
            ErrorKind::Interrupted
                | ErrorKind::TimedOut
                | ErrorKind::WouldBlock
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        ),
        None => matches!(error, object_store::Error::Generic { .. }),
    }
}
