//! Matching replies to calls. One task reads the socket; every call waits on its own channel.

use crate::client::BlockStatus;
use crate::error::{Error, Result};
use crate::limits::*;
use crate::wire::{self, Fields, chunk};
use muster_ports::Failure;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

/// What a call wants back.
#[derive(Debug)]
pub(crate) enum Want {
    Done,
    /// `arrived` counts bytes, data and holes alike.
    Data {
        offset: u64,
        buffer: Vec<u8>,
        arrived: u64,
    },
    Status {
        context: u32,
        extents: Vec<BlockStatus>,
    },
}

#[derive(Debug)]
pub(crate) struct Call {
    want: Want,
    error: Option<Error>,
    answer: oneshot::Sender<Result<Want, Failure>>,
}

#[derive(Debug, Default)]
struct Table {
    calls: HashMap<u64, Call>,
    next_cookie: u64,
    closed: Option<Failure>,
}

/// The calls under way. Shared by callers (who add) and the reading task (which answers).
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    table: Arc<Mutex<Table>>,
    place: Arc<str>,
}

impl Calls {
    pub(crate) fn new(place: Arc<str>) -> Self {
        Self { table: Arc::default(), place }
    }

    // A panic while the lock is held cannot leave the table half changed: every change is one map operation.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, want: Want) -> Result<(u64, oneshot::Receiver<Result<Want, Failure>>), Failure> {
        let mut table = self.table();
        if let Some(reason) = &table.closed {
            return Err(reason.clone());
        }
        let (answer, receiver) = oneshot::channel();
        let cookie = table.next_cookie;
        table.next_cookie = cookie.wrapping_add(1);
        table.calls.insert(cookie, Call { want, error: None, answer });
        Ok((cookie, receiver))
    }

    pub(crate) fn forget(&self, cookie: u64) {
        self.table().calls.remove(&cookie);
    }

    /// Fails everything under way and all that comes later, for the first reason given.
    pub(crate) fn close(&self, reason: &Error) {
        let failure = reason.at(&self.place);
        let calls = {
            let mut table = self.table();
            table.closed.get_or_insert_with(|| failure.clone());
            std::mem::take(&mut table.calls)
        };
        for call in calls.into_values() {
            // A caller that has gone away needs no answer.
            let _ = call.answer.send(Err(failure.clone()));
        }
    }

    fn take(&self, cookie: u64) -> Result<Call> {
        self.table().calls.remove(&cookie).ok_or_else(|| Error::protocol("a reply to a request that was not made"))
    }

    fn put_back(&self, cookie: u64, call: Call) {
        self.table().calls.insert(cookie, call);
    }

    fn finish(&self, call: Call) {
        let answer = match call.error {
            Some(error) => Err(error.at(&self.place)),
            None => call.want.complete().map_err(|error| error.at(&self.place)),
        };
        let _ = call.answer.send(answer);
    }
}

impl Want {
    fn complete(self) -> Result<Self> {
        match &self {
            Self::Data { buffer, arrived, .. } if *arrived != buffer.len() as u64 => {
                Err(Error::protocol(format!("a read of {} bytes was answered with {arrived}", buffer.len())))
            }
            Self::Status { extents, .. } if extents.is_empty() => {
                Err(Error::protocol("a request for block status was answered without one"))
            }
            _ => Ok(self),
        }
    }

    /// The part of the read buffer that a chunk is for.
    fn part(&mut self, at: u64, length: u64) -> Result<&mut [u8]> {
        let Self::Data { offset, buffer, arrived } = self else {
            return Err(Error::protocol("data came back for a request that is no read"));
        };
        let outside = || Error::protocol("data came back from outside of what was read");
        let begin = at.checked_sub(*offset).and_then(|begin| usize::try_from(begin).ok()).ok_or_else(outside)?;
        let end = usize::try_from(length).ok().and_then(|length| begin.checked_add(length)).ok_or_else(outside)?;
        let part = buffer.get_mut(begin..end).ok_or_else(outside)?;
        *arrived += length;
        Ok(part)
    }
}

/// Reads replies until the connection ends; then every call under way fails with the reason.
pub(crate) async fn read_replies(mut reader: impl AsyncRead + Unpin, calls: Calls, structured: bool) {
    loop {
        if let Err(error) = read_reply(&mut reader, &calls, structured).await {
            calls.close(&error);
            return;
        }
    }
}

async fn read_reply(reader: &mut (impl AsyncRead + Unpin), calls: &Calls, structured: bool) -> Result<()> {
    match reader.read_u32().await? {
        wire::SIMPLE_REPLY_MAGIC => {
            let error = reader.read_u32().await?;
            let cookie = reader.read_u64().await?;
            let mut call = calls.take(cookie)?;
            match accept_simple(reader, &mut call, error, structured).await {
                Ok(()) => calls.finish(call),
                Err(error) => {
                    calls.put_back(cookie, call);
                    return Err(error);
                }
            }
        }
        wire::STRUCTURED_REPLY_MAGIC if structured => {
            let flags = reader.read_u16().await?;
            let kind = reader.read_u16().await?;
            let cookie = reader.read_u64().await?;
            let length = reader.read_u32().await?;
            let mut call = calls.take(cookie)?;
            let accepted = accept_chunk(reader, &mut call, kind, length).await;
            if accepted.is_ok() && flags & chunk::FLAG_DONE != 0 {
                calls.finish(call);
            } else {
                calls.put_back(cookie, call);
            }
            accepted?;
        }
        magic => return Err(Error::protocol(format!("a reply begins with {magic:#x}"))),
    }
    Ok(())
}

async fn accept_simple(
    reader: &mut (impl AsyncRead + Unpin),
    call: &mut Call,
    error: u32,
    structured: bool,
) -> Result<()> {
    if error != 0 {
        call.error = Some(Error::Server { code: error, message: String::new() });
        return Ok(());
    }
    match &mut call.want {
        Want::Done => Ok(()),
        Want::Data { buffer, arrived, .. } if !structured => {
            reader.read_exact(buffer).await?;
            *arrived = buffer.len() as u64;
            Ok(())
        }
        _ => Err(Error::protocol("a simple reply where a structured one was agreed")),
    }
}

async fn accept_chunk(reader: &mut (impl AsyncRead + Unpin), call: &mut Call, kind: u16, length: u32) -> Result<()> {
    if kind == chunk::DATA {
        let bytes = length.checked_sub(8).ok_or_else(|| Error::protocol("a data chunk without an offset"))?;
        let offset = reader.read_u64().await?;
        reader.read_exact(call.want.part(offset, u64::from(bytes))?).await?;
        return Ok(());
    }
    if length > CHUNK_BYTES_MAX {
        return Err(Error::protocol(format!("a chunk of type {kind} has {length} bytes")));
    }
    let payload = wire::read_bytes(reader, length).await?;
    let mut fields = Fields(&payload);
    match kind {
        chunk::NONE => {}
        chunk::HOLE => {
            let (offset, bytes) = (fields.u64()?, fields.u32()?);
            call.want.part(offset, u64::from(bytes))?.fill(0);
        }
        chunk::BLOCK_STATUS => {
            let number = fields.u32()?;
            let Want::Status { context, extents } = &mut call.want else {
                return Err(Error::protocol("block status came back for a request that did not ask for it"));
            };
            // With several contexts agreed on, a server answers for all of them.
            while number == *context && !fields.is_empty() {
                extents.push(BlockStatus { length: u64::from(fields.u32()?), flags: fields.u32()? });
            }
        }
        _ if kind & chunk::ERROR_BIT != 0 => {
            let code = fields.u32()?;
            let bytes = usize::from(fields.u16()?);
            let message = String::from_utf8_lossy(fields.bytes(bytes)?).into_owned();
            call.error.get_or_insert(Error::Server { code, message });
        }
        _ => return Err(Error::protocol(format!("a chunk of the unknown type {kind}"))),
    }
    Ok(())
}
