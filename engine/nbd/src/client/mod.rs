//! The client: many requests in flight over one connection.
//!
//! ```text
//!   callers --(bounded queue)--> writing task --> socket --> reading task --> the caller whose cookie it is
//! ```
//!
//! A caller that goes away in mid-request harms nobody: requests are written by a task of their own, whole, and an
//! answer nobody waits for is read and dropped.

mod negotiation;
mod replies;

use crate::error::Error;
use crate::limits::*;
use crate::wire::{Request, command, transmission};
use bytes::Bytes;
use muster_ports::{Failure, Result};
use negotiation::Agreement;
use replies::{Calls, Want};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A run of blocks with the same flags in one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    pub length: u64,
    pub flags: u32,
}

/// A connection to one export. Dropping it says goodbye to the server.
#[derive(Debug)]
pub struct Client {
    agreement: Agreement,
    place: Arc<str>,
    calls: Calls,
    outgoing: mpsc::Sender<Outgoing>,
    in_flight: Semaphore,
    reading: JoinHandle<()>,
}

#[derive(Debug)]
struct Outgoing {
    head: Bytes,
    data: Bytes,
}

impl Client {
    /// Connects to `export` of the server at a Unix socket. Every context asked for must be there, else `Permanent`;
    /// `Transient` when nobody listens.
    pub async fn connect_unix(path: &Path, export: &str, contexts: &[&str]) -> Result<Self> {
        let place: Arc<str> = format!("nbd export `{export}` at `{}`", path.display()).into();
        let connecting = async {
            let mut stream = UnixStream::connect(path).await?;
            let agreement = negotiation::negotiate(&mut stream, export, contexts).await?;
            Ok((stream, agreement))
        };
        let late = Error::Late { doing: "connecting", limit: NEGOTIATION_LIMIT };
        let (stream, agreement) = timeout(NEGOTIATION_LIMIT, connecting)
            .await
            .unwrap_or(Err(late))
            .map_err(|error: Error| error.at(&place))?;
        Ok(Self::over(stream, agreement, place))
    }

    fn over(stream: UnixStream, agreement: Agreement, place: Arc<str>) -> Self {
        let (reader, writer) = stream.into_split();
        let calls = Calls::new(place.clone());
        let (outgoing, queue) = mpsc::channel(CLIENT_IN_FLIGHT_MAX);
        tokio::spawn(write_requests(writer, queue, calls.clone()));
        let reading = tokio::spawn(replies::read_replies(BufReader::new(reader), calls.clone(), agreement.structured));
        let in_flight = Semaphore::new(CLIENT_IN_FLIGHT_MAX);
        Self { agreement, place, calls, outgoing, in_flight, reading }
    }

    /// Size of the export in bytes.
    pub fn size(&self) -> u64 {
        self.agreement.size
    }

    pub fn is_read_only(&self) -> bool {
        self.agreement.has(transmission::READ_ONLY)
    }

    /// Fills `buffer` from `offset`. Larger buffers than the server takes at once are read in parts.
    pub async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.check_range(offset, buffer.len() as u64)?;
        let block = u64::from(self.agreement.block_min);
        let mut at = offset;
        for part in buffer.chunks_mut(self.agreement.request_max as usize) {
            let end = at + part.len() as u64;
            if at.is_multiple_of(block) && end.is_multiple_of(block) {
                part.copy_from_slice(&self.read_exactly(at, part.len() as u64).await?);
            } else {
                self.read_widened(at, part).await?;
            }
            at = end;
        }
        Ok(())
    }

    /// Reads the whole blocks around `part`, for servers with larger blocks than the caller's.
    async fn read_widened(&self, offset: u64, part: &mut [u8]) -> Result<()> {
        let block = u64::from(self.agreement.block_min);
        let mut done = 0;
        while done < part.len() {
            let at = offset + done as u64;
            let begin = at - at % block;
            let wanted = (at - begin) + (part.len() - done) as u64;
            let length = wanted.next_multiple_of(block).min(u64::from(self.agreement.request_max));
            let data = self.read_exactly(begin, length.min(self.size() - begin)).await?;
            let fresh = data.get((at - begin) as usize..).unwrap_or_default();
            let count = fresh.len().min(part.len() - done);
            if count == 0 {
                return Err(self.misuse("the export's size is no multiple of its block size"));
            }
            part[done..done + count].copy_from_slice(&fresh[..count]);
            done += count;
        }
        Ok(())
    }

    async fn read_exactly(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let length = u32::try_from(length).map_err(|_| self.misuse("a read of more than 4 GiB"))?;
        let want = Want::Data { offset, buffer: vec![0; length as usize], arrived: 0 };
        match self.call(command::READ, offset, length, Bytes::new(), want).await? {
            Want::Data { buffer, .. } => Ok(buffer),
            _ => Err(self.misuse("a read came back as something else")),
        }
    }

    pub async fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check_writable(offset, data.len() as u64)?;
        let mut at = offset;
        for part in data.chunks(self.agreement.request_max as usize) {
            self.call(command::WRITE, at, part.len() as u32, Bytes::copy_from_slice(part), Want::Done).await?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes the range read as zeroes; the server may drop what was allocated for it.
    pub async fn write_zeroes(&self, offset: u64, length: u64) -> Result<()> {
        self.check_writable(offset, length)?;
        if self.agreement.has(transmission::SEND_WRITE_ZEROES) {
            return self.in_parts(command::WRITE_ZEROES, offset, length).await;
        }
        const ZEROES: &[u8] = &[0; 64 << 10];
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let count = (end - at).min(ZEROES.len() as u64);
            self.write_at(at, &ZEROES[..count as usize]).await?;
            at += count;
        }
        Ok(())
    }

    /// Says that the range's content is no longer wanted. A hint: does nothing where the server cannot.
    pub async fn trim(&self, offset: u64, length: u64) -> Result<()> {
        self.check_writable(offset, length)?;
        if self.agreement.has(transmission::SEND_TRIM) {
            self.in_parts(command::TRIM, offset, length).await?;
        }
        Ok(())
    }

    /// Returns once everything that was written before is on stable storage.
    pub async fn flush(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        if !self.agreement.has(transmission::SEND_FLUSH) {
            return Err(Error::Lacks("flush, so nothing written to it is safe".to_owned()).at(&self.place));
        }
        self.call(command::FLUSH, 0, 0, Bytes::new(), Want::Done).await.map(drop)
    }

    /// The flags of `[offset, offset + length)` in a context given when connecting: covers the range exactly, in
    /// order, neighbours with the same flags merged.
    pub async fn block_status(&self, context: &str, offset: u64, length: u64) -> Result<Vec<BlockStatus>> {
        self.check_range(offset, length)?;
        let number = *self
            .agreement
            .contexts
            .get(context)
            .ok_or_else(|| self.misuse(&format!("the context `{context}` was not asked for when connecting")))?;
        let block = u64::from(self.agreement.block_min);
        if !offset.is_multiple_of(block) {
            return Err(self.misuse(&format!("offset {offset} is no multiple of the block size {block}")));
        }
        let mut merged: Vec<BlockStatus> = Vec::new();
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let asked = (end - at).next_multiple_of(block).min(u64::from(STATUS_BYTES_MAX)).min(self.size() - at);
            let want = Want::Status { context: number, extents: Vec::new() };
            let Want::Status { extents, .. } =
                self.call(command::BLOCK_STATUS, at, asked as u32, Bytes::new(), want).await?
            else {
                return Err(self.misuse("block status came back as something else"));
            };
            for extent in extents {
                if extent.length == 0 {
                    return Err(Error::protocol("an extent of no length").at(&self.place));
                }
                // The last extent may reach beyond what was asked.
                let length = extent.length.min(end - at);
                match merged.last_mut() {
                    Some(last) if last.flags == extent.flags => last.length += length,
                    _ if length > 0 => merged.push(BlockStatus { length, flags: extent.flags }),
                    _ => {}
                }
                at += length;
            }
        }
        Ok(merged)
    }

    async fn in_parts(&self, what: u16, offset: u64, length: u64) -> Result<()> {
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let count = (end - at).min(u64::from(self.agreement.request_max));
            self.call(what, at, count as u32, Bytes::new(), Want::Done).await?;
            at += count;
        }
        Ok(())
    }

    async fn call(&self, what: u16, offset: u64, length: u32, data: Bytes, want: Want) -> Result<Want> {
        let calling = async {
            let gone = || Error::Io(std::io::ErrorKind::ConnectionAborted.into()).at(&self.place);
            let _permit = self.in_flight.acquire().await.map_err(|_| gone())?;
            let (cookie, answer) = self.calls.begin(want)?;
            let head = Request { flags: 0, command: what, cookie, offset, length }.encode();
            if self.outgoing.send(Outgoing { head, data }).await.is_err() {
                self.calls.forget(cookie);
                return Err(gone());
            }
            answer.await.map_err(|_| gone())?
        };
        let late = Error::Late { doing: "waiting for a reply", limit: REQUEST_LIMIT };
        timeout(REQUEST_LIMIT, calling).await.unwrap_or_else(|_| Err(late.at(&self.place)))
    }

    fn check_range(&self, offset: u64, length: u64) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(self.misuse(&format!("{length} bytes at {offset} are beyond its size of {} bytes", self.size()))),
        }
    }

    fn check_writable(&self, offset: u64, length: u64) -> Result<()> {
        self.check_range(offset, length)?;
        if self.is_read_only() {
            return Err(Error::ReadOnly.at(&self.place));
        }
        let block = u64::from(self.agreement.block_min);
        if !offset.is_multiple_of(block) || !length.is_multiple_of(block) {
            let message = format!("{length} bytes at {offset} are not whole blocks of {block} bytes");
            return Err(self.misuse(&message));
        }
        Ok(())
    }

    fn misuse(&self, what: &str) -> Failure {
        Error::Misuse(what.to_owned()).at(&self.place)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let head = Request { flags: 0, command: command::DISCONNECT, cookie: 0, offset: 0, length: 0 }.encode();
        // A goodbye is a courtesy: with the queue full or the connection gone, closing the socket says the same.
        let _ = self.outgoing.try_send(Outgoing { head, data: Bytes::new() });
        self.reading.abort();
    }
}

/// Writes requests whole and in order, until the client is dropped or the socket fails.
async fn write_requests(mut writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Outgoing>, calls: Calls) {
    while let Some(request) = queue.recv().await {
        let writing = async {
            writer.write_all(&request.head).await?;
            writer.write_all(&request.data).await
        };
        let late = Error::Late { doing: "sending a request", limit: REQUEST_LIMIT };
        if let Err(error) = timeout(REQUEST_LIMIT, writing).await.map_err(|_| late).and_then(|done| Ok(done?)) {
            calls.close(&error);
            return;
        }
    }
    // The socket may be gone already; there is nobody left to tell.
    let _ = writer.shutdown().await;
}
