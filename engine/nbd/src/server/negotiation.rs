//! The server's half of the negotiation. It lives on what the client sends, so everything in it is checked.

use crate::error::{Error, Result};
use crate::limits::*;
use crate::server::export::{Export, Exports};
use crate::wire::{self, Fields, greeting, info, option, reply, transmission};
use crate::{BASE_ALLOCATION, wire::read_bytes};
use muster_tls::{TlsAcceptor, server::TlsStream};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The only context there is has this number.
pub(crate) const ALLOCATION_NUMBER: u32 = 1;
/// What is read best: QEMU aligns its requests to it.
const BLOCK_PREFERRED: u32 = 64 << 10;

/// What was agreed on with a client.
#[derive(Debug)]
pub(crate) struct Agreement {
    pub(crate) export: Arc<Export>,
    pub(crate) structured: bool,
    /// Block status may be asked for.
    pub(crate) allocation: bool,
}

struct Negotiation<'a, S> {
    stream: &'a mut S,
    exports: &'a Exports,
    no_zeroes: bool,
    structured: bool,
    /// The export that block status was agreed on for.
    allocation_of: Option<String>,
}

enum Next {
    Option,
    Serve(Arc<Export>),
    Leave,
}

/// `None` when the client left in an orderly way.
pub(crate) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    exports: &Exports,
) -> Result<Option<Agreement>> {
    let no_zeroes = greet(stream).await?;
    agree(stream, exports, no_zeroes).await
}

/// Until TLS is spoken there is nothing to agree on but that. `None` when the client left in an orderly way.
pub(crate) async fn negotiate_tls<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    acceptor: &TlsAcceptor,
    exports: &Exports,
) -> Result<Option<(TlsStream<S>, Agreement)>> {
    let no_zeroes = greet(&mut stream).await?;
    let mut asked = 0;
    loop {
        asked += 1;
        if asked > OPTIONS_MAX {
            return Err(Error::protocol(format!("a client with more than {OPTIONS_MAX} options")));
        }
        let (option, data) = read_option(&mut stream).await?;
        let (kind, text): (_, &[u8]) = match option {
            option::START_TLS if data.is_empty() => (reply::ACK, &[]),
            option::START_TLS => (reply::ERR_INVALID, b"this option has no data"),
            option::ABORT => (reply::ACK, &[]),
            // There is no reply to this one but to hang up.
            option::EXPORT_NAME => return Err(Error::protocol("a client wants an export without TLS")),
            _ => (reply::ERR_TLS_REQUIRED, b"only with TLS"),
        };
        stream.write_all(&wire::encode_option_reply(option, kind, text)).await?;
        match option {
            option::ABORT => return Ok(None),
            option::START_TLS if kind == reply::ACK => break,
            _ => {}
        }
    }
    let mut stream = acceptor.accept(stream).await?;
    let agreement = agree(&mut stream, exports, no_zeroes).await?;
    Ok(agreement.map(|agreement| (stream, agreement)))
}

/// Whether the client takes the old answer without its zeroes.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<bool> {
    stream.write_u64(wire::SERVER_MAGIC).await?;
    stream.write_u64(wire::OPTION_MAGIC).await?;
    stream.write_u16(greeting::FIXED_NEWSTYLE | greeting::NO_ZEROES).await?;
    let flags = stream.read_u32().await?;
    if flags & !u32::from(greeting::FIXED_NEWSTYLE | greeting::NO_ZEROES) != 0 {
        return Err(Error::protocol(format!("a client with unknown flags {flags:#x}")));
    }
    Ok(flags & u32::from(greeting::NO_ZEROES) != 0)
}

async fn agree<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    exports: &Exports,
    no_zeroes: bool,
) -> Result<Option<Agreement>> {
    let mut negotiation = Negotiation { stream, exports, no_zeroes, structured: false, allocation_of: None };
    for _ in 0..OPTIONS_MAX {
        match negotiation.option().await? {
            Next::Option => {}
            Next::Leave => return Ok(None),
            Next::Serve(export) => {
                let allocation = negotiation.allocation_of.as_ref() == Some(&export.name);
                return Ok(Some(Agreement { export, structured: negotiation.structured, allocation }));
            }
        }
    }
    Err(Error::protocol(format!("a client with more than {OPTIONS_MAX} options")))
}

async fn read_option<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(u32, Vec<u8>)> {
    if stream.read_u64().await? != wire::OPTION_MAGIC {
        return Err(Error::protocol("an option has the wrong magic"));
    }
    let option = stream.read_u32().await?;
    let length = stream.read_u32().await?;
    if length > OPTION_BYTES_MAX {
        return Err(Error::protocol(format!("option {option} has {length} bytes")));
    }
    Ok((option, read_bytes(stream, length).await?))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Negotiation<'_, S> {
    async fn option(&mut self) -> Result<Next> {
        let (option, data) = read_option(self.stream).await?;
        match option {
            option::EXPORT_NAME => self.export_name(&data).await,
            option::ABORT => {
                self.reply(option, reply::ACK, &[]).await?;
                Ok(Next::Leave)
            }
            option::LIST => self.list(&data).await,
            option::INFO | option::GO => self.info(option, &data).await,
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                self.acknowledge(option).await
            }
            option::STRUCTURED_REPLY => self.refuse(option, reply::ERR_INVALID, "this option has no data").await,
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(option, &data).await,
            _ => self.refuse(option, reply::ERR_UNSUPPORTED, "this option is not known here").await,
        }
    }

    /// The old way in: no reply, and no way to say no but to hang up.
    async fn export_name(&mut self, data: &[u8]) -> Result<Next> {
        let export = std::str::from_utf8(data).ok().and_then(|name| self.exports.get(name));
        let export = export.ok_or_else(|| Error::protocol("a client wants an export that is not there"))?;
        let mut message = Vec::with_capacity(134);
        message.extend_from_slice(&export.source.size().to_be_bytes());
        message.extend_from_slice(&flags().to_be_bytes());
        if !self.no_zeroes {
            message.resize(message.len() + 124, 0);
        }
        self.stream.write_all(&message).await?;
        self.stream.flush().await?;
        Ok(Next::Serve(export))
    }

    async fn list(&mut self, data: &[u8]) -> Result<Next> {
        if !data.is_empty() {
            return self.refuse(option::LIST, reply::ERR_INVALID, "this option has no data").await;
        }
        for name in self.exports.names() {
            let mut message = (name.len() as u32).to_be_bytes().to_vec();
            message.extend_from_slice(name.as_bytes());
            self.reply(option::LIST, reply::SERVER, &message).await?;
        }
        self.acknowledge(option::LIST).await
    }

    async fn info(&mut self, option: u32, data: &[u8]) -> Result<Next> {
        let parse = || -> Result<(&str, Vec<u16>)> {
            let mut fields = Fields(data);
            let name = fields.text()?;
            let count = fields.u16()?;
            let wanted = (0..count).map(|_| fields.u16()).collect::<Result<_>>()?;
            if fields.is_empty() { Ok((name, wanted)) } else { Err(Error::protocol("bytes after the end")) }
        };
        let Ok((name, wanted)) = parse() else {
            return self.refuse(option, reply::ERR_INVALID, "malformed").await;
        };
        let Some(export) = self.exports.get(name) else {
            return self.refuse(option, reply::ERR_UNKNOWN, "no such export").await;
        };
        let mut message = info::EXPORT.to_be_bytes().to_vec();
        message.extend_from_slice(&export.source.size().to_be_bytes());
        message.extend_from_slice(&flags().to_be_bytes());
        self.reply(option, reply::INFO, &message).await?;
        if wanted.contains(&info::NAME) {
            let mut message = info::NAME.to_be_bytes().to_vec();
            message.extend_from_slice(export.name.as_bytes());
            self.reply(option, reply::INFO, &message).await?;
        }
        let mut message = info::BLOCK_SIZE.to_be_bytes().to_vec();
        for size in [1, BLOCK_PREFERRED, REQUEST_BYTES_MAX] {
            message.extend_from_slice(&size.to_be_bytes());
        }
        self.reply(option, reply::INFO, &message).await?;
        self.acknowledge(option).await?;
        Ok(if option == option::GO { Next::Serve(export) } else { Next::Option })
    }

    async fn contexts(&mut self, option: u32, data: &[u8]) -> Result<Next> {
        let parse = || -> Result<(&str, Vec<&str>)> {
            let mut fields = Fields(data);
            let name = fields.text()?;
            let count = fields.u32()?;
            let mut queries = Vec::new();
            for _ in 0..count {
                queries.push(fields.text()?);
            }
            if fields.is_empty() { Ok((name, queries)) } else { Err(Error::protocol("bytes after the end")) }
        };
        if option == option::SET_META_CONTEXT {
            self.allocation_of = None;
        }
        if !self.structured {
            return self.refuse(option, reply::ERR_INVALID, "structured replies were not agreed on").await;
        }
        let Ok((name, queries)) = parse() else {
            return self.refuse(option, reply::ERR_INVALID, "malformed").await;
        };
        if self.exports.get(name).is_none() {
            return self.refuse(option, reply::ERR_UNKNOWN, "no such export").await;
        }
        let listing = option == option::LIST_META_CONTEXT;
        let wanted =
            queries.contains(&BASE_ALLOCATION) || listing && (queries.is_empty() || queries.contains(&"base:"));
        if wanted {
            let number = if listing { 0 } else { ALLOCATION_NUMBER };
            let mut message = number.to_be_bytes().to_vec();
            message.extend_from_slice(BASE_ALLOCATION.as_bytes());
            self.reply(option, reply::META_CONTEXT, &message).await?;
            if !listing {
                self.allocation_of = Some(name.to_owned());
            }
        }
        self.acknowledge(option).await
    }

    async fn acknowledge(&mut self, option: u32) -> Result<Next> {
        self.reply(option, reply::ACK, &[]).await?;
        Ok(Next::Option)
    }

    async fn refuse(&mut self, option: u32, kind: u32, why: &str) -> Result<Next> {
        self.reply(option, kind, why.as_bytes()).await?;
        Ok(Next::Option)
    }

    async fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<()> {
        self.stream.write_all(&wire::encode_option_reply(option, kind, data)).await?;
        Ok(self.stream.flush().await?)
    }
}

/// Reads through several connections see the same bytes, since nobody writes.
fn flags() -> u16 {
    transmission::HAS_FLAGS | transmission::READ_ONLY | transmission::CAN_MULTI_CONN
}
