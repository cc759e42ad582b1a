//! The client's half of the negotiation: greeting, structured replies, contexts, go.

use crate::error::{Error, Result};
use crate::limits::*;
use crate::wire::{self, Fields, greeting, info, option, reply};
use bytes::{BufMut, BytesMut};
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) size: u64,
    pub(crate) flags: u16,
    pub(crate) structured: bool,
    /// Number on the wire of each context.
    pub(crate) contexts: BTreeMap<String, u32>,
    /// Requests must be multiples of this.
    pub(crate) block_min: u32,
    /// No read or write may be larger.
    pub(crate) request_max: u32,
}

impl Agreement {
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

struct Negotiation<'a, S> {
    stream: &'a mut S,
    export: &'a str,
}

pub(crate) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    export: &str,
    contexts: &[&str],
) -> Result<Agreement> {
    if export.len() > NAME_BYTES_MAX {
        return Err(Error::Misuse(format!("the export's name has more than {NAME_BYTES_MAX} bytes")));
    }
    if contexts.len() > CONTEXTS_MAX || contexts.iter().any(|context| context.len() > NAME_BYTES_MAX) {
        return Err(Error::Misuse(format!("more than {CONTEXTS_MAX} contexts, or one with a very long name")));
    }
    let mut negotiation = Negotiation { stream, export };
    negotiation.greet().await?;
    let structured = negotiation.ask_structured().await?;
    let mut granted = BTreeMap::new();
    if !contexts.is_empty() {
        if !structured {
            return Err(Error::Lacks("structured replies, without which it cannot tell block status".to_owned()));
        }
        granted = negotiation.ask_contexts(contexts).await?;
        // A context that was asked for is needed: a bitmap that is not there must never look like one without changes.
        if let Some(missing) = contexts.iter().find(|context| !granted.contains_key(**context)) {
            return Err(Error::Lacks(format!("the context `{missing}` on this export")));
        }
    }
    let mut agreement = negotiation.go().await?;
    agreement.structured = structured;
    agreement.contexts = granted;
    Ok(agreement)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Negotiation<'_, S> {
    async fn greet(&mut self) -> Result<()> {
        let magic = self.stream.read_u64().await?;
        if magic != wire::SERVER_MAGIC {
            return Err(Error::protocol(format!("the peer is no nbd server: it greets with {magic:#x}")));
        }
        if self.stream.read_u64().await? != wire::OPTION_MAGIC {
            return Err(Error::protocol("the server speaks only the old style of nbd"));
        }
        let flags = self.stream.read_u16().await?;
        if flags & greeting::FIXED_NEWSTYLE == 0 {
            return Err(Error::protocol("the server does not speak the fixed newstyle of nbd"));
        }
        let answer = flags & (greeting::FIXED_NEWSTYLE | greeting::NO_ZEROES);
        self.stream.write_u32(u32::from(answer)).await?;
        Ok(())
    }

    async fn ask_structured(&mut self) -> Result<bool> {
        self.send(option::STRUCTURED_REPLY, &[]).await?;
        match self.receive(option::STRUCTURED_REPLY).await {
            Ok((reply::ACK, _)) => Ok(true),
            Ok((kind, _)) => Err(unexpected(kind)),
            Err(Error::Option { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask_contexts(&mut self, contexts: &[&str]) -> Result<BTreeMap<String, u32>> {
        let mut data = BytesMut::new();
        put_text(&mut data, self.export);
        data.put_u32(contexts.len() as u32);
        for context in contexts {
            put_text(&mut data, context);
        }
        self.send(option::SET_META_CONTEXT, &data).await?;
        let mut granted = BTreeMap::new();
        for _ in 0..OPTIONS_MAX {
            match self.receive(option::SET_META_CONTEXT).await? {
                (reply::ACK, _) => return Ok(granted),
                (reply::META_CONTEXT, data) => {
                    let mut fields = Fields(&data);
                    let number = fields.u32()?;
                    let name =
                        std::str::from_utf8(fields.0).map_err(|_| Error::protocol("a context's name is not utf-8"))?;
                    granted.insert(name.to_owned(), number);
                }
                (kind, _) => return Err(unexpected(kind)),
            }
        }
        Err(Error::protocol("the server does not stop naming contexts"))
    }

    async fn go(&mut self) -> Result<Agreement> {
        let mut data = BytesMut::new();
        put_text(&mut data, self.export);
        data.put_u16(1);
        data.put_u16(info::BLOCK_SIZE);
        self.send(option::GO, &data).await?;
        let mut export = None;
        let (mut block_min, mut request_max) = (1, REQUEST_BYTES_MAX);
        for _ in 0..OPTIONS_MAX {
            match self.receive(option::GO).await? {
                (reply::ACK, _) => {
                    let (size, flags) = export.ok_or_else(|| Error::protocol("the server does not tell the size"))?;
                    let contexts = BTreeMap::new();
                    return Ok(Agreement { size, flags, structured: false, contexts, block_min, request_max });
                }
                (reply::INFO, data) => {
                    let mut fields = Fields(&data);
                    match fields.u16()? {
                        info::EXPORT => export = Some((fields.u64()?, fields.u16()?)),
                        info::BLOCK_SIZE => {
                            (block_min, request_max) = block_sizes(fields.u32()?, fields.u32()?, fields.u32()?)?;
                        }
                        _ => {}
                    }
                }
                (kind, _) => return Err(unexpected(kind)),
            }
        }
        Err(Error::protocol("the server does not stop describing the export"))
    }

    async fn send(&mut self, option: u32, data: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(&wire::encode_option(option, data)).await?)
    }

    /// One reply to `option`; error replies are errors.
    async fn receive(&mut self, option: u32) -> Result<(u32, Vec<u8>)> {
        if self.stream.read_u64().await? != wire::OPTION_REPLY_MAGIC {
            return Err(Error::protocol("a reply to an option has the wrong magic"));
        }
        let answered = self.stream.read_u32().await?;
        let kind = self.stream.read_u32().await?;
        let length = self.stream.read_u32().await?;
        if answered != option {
            return Err(Error::protocol(format!("option {option} was answered as option {answered}")));
        }
        if length > OPTION_BYTES_MAX {
            return Err(Error::protocol(format!("a reply to an option has {length} bytes")));
        }
        let data = wire::read_bytes(self.stream, length).await?;
        if kind & reply::ERROR != 0 {
            return Err(Error::Option { code: kind, message: String::from_utf8_lossy(&data).into_owned() });
        }
        Ok((kind, data))
    }
}

/// Smallest and largest request, checked: `preferred` is only a hint and not used.
fn block_sizes(min: u32, _preferred: u32, max: u32) -> Result<(u32, u32)> {
    if !min.is_power_of_two() || min > 64 << 10 || max < min {
        return Err(Error::protocol(format!("the server wants blocks of {min} to {max} bytes")));
    }
    let max = max.min(REQUEST_BYTES_MAX);
    Ok((min, max - max % min))
}

fn unexpected(kind: u32) -> Error {
    Error::protocol(format!("the server answered an option with reply type {kind:#x}"))
}

fn put_text(data: &mut BytesMut, text: &str) {
    data.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    data.put_slice(text.as_bytes());
}
