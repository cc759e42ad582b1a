//! What can go wrong on a connection, and what a caller can do about it.

use crate::wire::{self, errno, reply};
use muster_ports::{Failure, FailureClass};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the nbd protocol was broken: {0}")]
    Protocol(String),
    /// An error reply to an option.
    #[error("the server refused: {}", refusal(*.code, .message))]
    Option { code: u32, message: String },
    /// An error reply to a request.
    #[error("the server failed: {}", server_error(*.code, .message))]
    Server { code: u32, message: String },
    #[error("the server lacks {0}")]
    Lacks(String),
    #[error("no answer within {} s while {doing}", .limit.as_secs())]
    Late { doing: &'static str, limit: Duration },
    /// The caller asked for something that cannot be right.
    #[error("{0}")]
    Misuse(String),
    #[error("the export is read-only")]
    ReadOnly,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    pub(crate) fn class(&self) -> FailureClass {
        match self {
            Self::Io(_) => FailureClass::Transient,
            Self::Late { .. } => FailureClass::Timeout,
            Self::Protocol(_) | Self::Lacks(_) | Self::Misuse(_) => FailureClass::Permanent,
            Self::ReadOnly => FailureClass::Refused,
            Self::Option { code, .. } => match *code {
                reply::ERR_POLICY | reply::ERR_TLS_REQUIRED => FailureClass::Refused,
                reply::ERR_SHUTDOWN => FailureClass::Transient,
                _ => FailureClass::Permanent,
            },
            Self::Server { code, .. } => match *code {
                errno::EPERM => FailureClass::Refused,
                errno::EIO | errno::ENOMEM | errno::ESHUTDOWN => FailureClass::Transient,
                _ => FailureClass::Permanent,
            },
        }
    }

    /// As the rest of the engine sees it; `place` says which export of which socket.
    pub(crate) fn at(&self, place: &str) -> Failure {
        let failure = Failure::new(self.class(), format!("{place}: {self}"));
        match self {
            Self::Server { code: errno::ENOSPC, .. } => failure.help("free space where the server keeps this disk"),
            Self::Option { code: reply::ERR_TLS_REQUIRED, .. } => {
                failure.help("export the disk on a unix socket without tls")
            }
            _ => failure,
        }
    }
}

fn refusal(code: u32, message: &str) -> String {
    let meaning = match code {
        reply::ERR_UNSUPPORTED => "it does not know this option",
        reply::ERR_POLICY => "its policy forbids it",
        reply::ERR_INVALID => "it finds the option malformed",
        reply::ERR_PLATFORM => "its platform cannot do it",
        reply::ERR_TLS_REQUIRED => "it wants tls",
        reply::ERR_UNKNOWN => "it has no such export",
        reply::ERR_SHUTDOWN => "it is shutting down",
        reply::ERR_BLOCK_SIZE_REQUIRED => "it wants block sizes to be negotiated",
        reply::ERR_TOO_BIG => "it finds the option too large",
        _ => return with_text(format!("error {code:#x}"), message),
    };
    with_text(meaning.to_owned(), message)
}

fn server_error(code: u32, message: &str) -> String {
    let meaning = match code {
        errno::EPERM => "not permitted",
        errno::EIO => "input/output error",
        errno::ENOMEM => "out of memory",
        errno::EINVAL => "invalid request",
        errno::ENOSPC => "no space left",
        errno::EOVERFLOW => "value too large",
        errno::ENOTSUP => "not supported",
        errno::ESHUTDOWN => "shutting down",
        _ => return with_text(format!("error {code}"), message),
    };
    with_text(meaning.to_owned(), message)
}

fn with_text(meaning: String, message: &str) -> String {
    if message.is_empty() { meaning } else { format!("{meaning} (`{}`)", wire::printable(message)) }
}
