//! One client: negotiation, then requests until it leaves, breaks the protocol or its export is withdrawn.
//!
//! Requests run side by side, as many as [`SERVER_IN_FLIGHT_MAX`]; each reads its range in pieces of
//! [`SERVER_PIECE_BYTES`], so that memory does not depend on what a client asks for.

use crate::error::{Error, Result};
use crate::limits::*;
use crate::server::export::Exports;
use crate::server::negotiation::{ALLOCATION_NUMBER, Agreement, negotiate, negotiate_tls};
use crate::wire::{self, Request, chunk, command, errno};
use crate::{ALLOCATION_HOLE, ALLOCATION_ZERO};
use muster_ports::{BlockSource, Extent, ExtentKind, Failure};
use muster_tls::TlsAcceptor;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Never fails: a bad client is its own problem, and worth a line at debug level.
pub(crate) async fn serve(mut stream: UnixStream, exports: &Exports) {
    if let Some(agreement) = agreed(negotiate(&mut stream, exports)).await {
        let (reader, writer) = stream.into_split();
        converse(reader, writer, agreement).await;
    }
}

/// The same for a client that has to show who it is first.
pub(crate) async fn serve_tls(stream: TcpStream, acceptor: &TlsAcceptor, exports: &Exports) {
    if let Some((stream, agreement)) = agreed(negotiate_tls(stream, acceptor, exports)).await {
        let (reader, writer) = tokio::io::split(stream);
        converse(reader, writer, agreement).await;
    }
}

async fn agreed<T>(negotiating: impl Future<Output = Result<Option<T>>>) -> Option<T> {
    let late = Err(Error::Late { doing: "negotiating", limit: NEGOTIATION_LIMIT });
    timeout(NEGOTIATION_LIMIT, negotiating).await.unwrap_or(late).unwrap_or_else(|error| {
        tracing::debug!(%error, "an nbd client left in mid-negotiation");
        None
    })
}

async fn converse<R, W>(reader: R, writer: W, agreement: Agreement)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let export = agreement.export.clone();
    tokio::select! {
        ended = transmit(reader, writer, agreement) => {
            if let Err(error) = ended {
                tracing::debug!(export = export.name, %error, "an nbd client left without a goodbye");
            }
        }
        () = export.withdrawn() => {}
    }
}

/// What the tasks of one connection share.
struct Session<W> {
    agreement: Agreement,
    writer: Mutex<W>,
}

async fn transmit<R, W>(reader: R, writer: W, agreement: Agreement) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let mut reader = BufReader::new(reader);
    let session = Arc::new(Session { agreement, writer: Mutex::new(writer) });
    let room = Arc::new(Semaphore::new(SERVER_IN_FLIGHT_MAX));
    // The first answer that could not be given ends the session at once: a client must not wait for it in vain.
    let (broken, mut breaks) = mpsc::channel(1);
    let mut answering = JoinSet::new();
    loop {
        while answering.try_join_next().is_some() {}
        let request = tokio::select! {
            request = Request::read(&mut reader) => request?,
            Some(error) = breaks.recv() => return Err(error),
        };
        if request.command == command::DISCONNECT {
            break;
        }
        if request.command == command::WRITE {
            skip(&mut reader, request.length).await?;
        }
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let (session, broken) = (session.clone(), broken.clone());
        answering.spawn(async move {
            if let Err(error) = session.answer(request).await {
                // Full means that another one has told already.
                let _ = broken.try_send(error);
            }
            drop(permit);
        });
    }
    while answering.join_next().await.is_some() {}
    Ok(())
}

/// The data of a write that will be refused has to be taken off the socket first.
async fn skip(reader: &mut (impl AsyncRead + Unpin), length: u32) -> Result<()> {
    if length > REQUEST_BYTES_MAX {
        return Err(Error::protocol(format!("a write of {length} bytes")));
    }
    let mut data = reader.take(u64::from(length));
    if tokio::io::copy(&mut data, &mut tokio::io::sink()).await? < u64::from(length) {
        return Err(Error::protocol("a write with less data than it says"));
    }
    Ok(())
}

impl<W: AsyncWrite + Unpin> Session<W> {
    fn source(&self) -> &dyn BlockSource {
        &*self.agreement.export.source
    }

    async fn answer(&self, request: Request) -> Result<()> {
        let inside =
            request.offset.checked_add(u64::from(request.length)).is_some_and(|end| end <= self.source().size());
        match request.command {
            command::READ if !inside => self.fail(&request, errno::EINVAL, "beyond the end of the disk").await,
            command::READ if request.length > REQUEST_BYTES_MAX => {
                self.fail(&request, errno::EOVERFLOW, "more than 32 MiB in one read").await
            }
            command::READ if self.agreement.structured => self.read_structured(&request).await,
            command::READ => self.read_simple(&request).await,
            command::BLOCK_STATUS if !self.agreement.allocation => {
                self.fail(&request, errno::EINVAL, "no context was agreed on").await
            }
            command::BLOCK_STATUS if !inside || request.length == 0 => {
                self.fail(&request, errno::EINVAL, "beyond the end of the disk, or nothing at all").await
            }
            command::BLOCK_STATUS => self.block_status(&request).await,
            command::WRITE | command::WRITE_ZEROES | command::TRIM => {
                self.fail(&request, errno::EPERM, "the export is read-only").await
            }
            // Nothing is ever written, and there is no cache to warm: done already.
            command::FLUSH | command::CACHE => self.succeed(&request).await,
            _ => self.fail(&request, errno::ENOTSUP, "this request is not known here").await,
        }
    }

    async fn read_structured(&self, request: &Request) -> Result<()> {
        let end = request.offset + u64::from(request.length);
        let mut at = request.offset;
        while at < end {
            let extent = match self.piece(at, end).await {
                Ok(extent) => extent,
                Err(failure) => return self.fail_read(request, &failure).await,
            };
            let offset = at.to_be_bytes();
            if extent.kind == ExtentKind::Zero {
                // At most a piece, so it fits.
                let length = (extent.length as u32).to_be_bytes();
                self.send(&wire::encode_chunk(request.cookie, chunk::HOLE, false, &[&offset, &length])).await?;
            } else {
                let mut data = vec![0; extent.length as usize];
                if let Err(failure) = self.source().read_at(at, &mut data).await {
                    return self.fail_read(request, &failure).await;
                }
                self.send_data(request.cookie, at, &data).await?;
            }
            at += extent.length;
        }
        self.send(&wire::encode_chunk(request.cookie, chunk::NONE, true, &[])).await
    }

    /// A simple reply cannot fail once it has begun: then the only honest end is to hang up.
    async fn read_simple(&self, request: &Request) -> Result<()> {
        let end = request.offset + u64::from(request.length);
        let mut at = request.offset;
        let mut data = vec![0; request.length.min(SERVER_PIECE_BYTES) as usize];
        if let Err(failure) = self.source().read_at(at, &mut data).await {
            return self.fail_read(request, &failure).await;
        }
        let mut writer = self.writer.lock().await;
        write(&mut *writer, &[&wire::encode_simple_reply(request.cookie, 0)]).await?;
        loop {
            write(&mut *writer, &[&data]).await?;
            at += data.len() as u64;
            if at == end {
                return Ok(());
            }
            data.resize((end - at).min(u64::from(SERVER_PIECE_BYTES)) as usize, 0);
            if let Err(failure) = self.source().read_at(at, &mut data).await {
                self.report(request, &failure);
                return Err(Error::protocol(format!("a read failed half-way: {failure}")));
            }
        }
    }

    /// What to answer next of `[at, end)`: a hole or a run of data, of at most a piece. Neighbours are taken together:
    /// sources may know their extents in small frames.
    async fn piece(&self, at: u64, end: u64) -> Result<Extent, Failure> {
        let extents = self.extents(at, end.min(at + u64::from(SERVER_PIECE_BYTES))).await?;
        let is_hole = |extent: &Extent| extent.kind == ExtentKind::Zero;
        let hole = extents.first().is_some_and(is_hole);
        let length = extents.iter().take_while(|extent| is_hole(extent) == hole).map(|extent| extent.length).sum();
        let kind = if hole { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { offset: at, length, kind })
    }

    /// The source's extents, at least one, checked: it is other code, and a wrong answer here would be wrong data.
    async fn extents(&self, at: u64, end: u64) -> Result<Vec<Extent>, Failure> {
        let extents = self.source().extents(at, end - at).await?;
        let mut next = at;
        for extent in &extents {
            if extent.offset != next || extent.length == 0 || extent.length > end - next {
                return Err(Failure::permanent(format!("the source's extents from {at} have gaps or overlap")));
            }
            next += extent.length;
        }
        if extents.is_empty() {
            return Err(Failure::permanent(format!("the source knows nothing about offset {at}")));
        }
        Ok(extents)
    }

    async fn block_status(&self, request: &Request) -> Result<()> {
        let end = request.offset + u64::from(request.length);
        let extents_max = if request.flags & command::FLAG_ONE != 0 { 1 } else { EXTENTS_MAX };
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut at = request.offset;
        'covered: while at < end {
            let extents = match self.extents(at, end.min(at + STATUS_WINDOW_BYTES)).await {
                Ok(extents) => extents,
                Err(failure) => return self.fail_read(request, &failure).await,
            };
            for extent in extents {
                let flags = if extent.kind == ExtentKind::Zero { ALLOCATION_HOLE | ALLOCATION_ZERO } else { 0 };
                // No longer than the request, whose length has 32 bits.
                let length = extent.length as u32;
                let full = runs.len() == extents_max;
                match runs.last_mut() {
                    Some(last) if last.1 == flags => last.0 += length,
                    _ if full => break 'covered,
                    _ => runs.push((length, flags)),
                }
                at += extent.length;
            }
        }
        let mut payload = ALLOCATION_NUMBER.to_be_bytes().to_vec();
        for (length, flags) in runs {
            payload.extend_from_slice(&length.to_be_bytes());
            payload.extend_from_slice(&flags.to_be_bytes());
        }
        self.send(&wire::encode_chunk(request.cookie, chunk::BLOCK_STATUS, true, &[&payload])).await
    }

    async fn succeed(&self, request: &Request) -> Result<()> {
        self.send(&wire::encode_simple_reply(request.cookie, 0)).await
    }

    async fn fail_read(&self, request: &Request, failure: &Failure) -> Result<()> {
        self.report(request, failure);
        self.fail(request, errno::EIO, &failure.message).await
    }

    fn report(&self, request: &Request, failure: &Failure) {
        let export = &self.agreement.export.name;
        tracing::warn!(export, offset = request.offset, length = request.length, %failure, "an exported disk failed");
    }

    async fn fail(&self, request: &Request, code: u32, why: &str) -> Result<()> {
        if !self.agreement.structured {
            return self.send(&wire::encode_simple_reply(request.cookie, code)).await;
        }
        let text = &why.as_bytes()[..why.floor_char_boundary(ERROR_TEXT_BYTES_MAX)];
        let parts: [&[u8]; 3] = [&code.to_be_bytes(), &(text.len() as u16).to_be_bytes(), text];
        self.send(&wire::encode_chunk(request.cookie, chunk::ERROR, true, &parts)).await
    }

    async fn send(&self, message: &[u8]) -> Result<()> {
        write(&mut *self.writer.lock().await, &[message]).await
    }

    /// A data chunk without copying the data behind its head.
    async fn send_data(&self, cookie: u64, offset: u64, data: &[u8]) -> Result<()> {
        let head = wire::encode_data_head(cookie, offset, data.len() as u32);
        write(&mut *self.writer.lock().await, &[&head, data]).await
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), parts: &[&[u8]]) -> Result<()> {
    let writing = async {
        for part in parts {
            writer.write_all(part).await?;
        }
        // What is sealed may still wait for room on the wire.
        Ok(writer.flush().await?)
    };
    let late = Error::Late { doing: "sending a reply", limit: REPLY_LIMIT };
    timeout(REPLY_LIMIT, writing).await.unwrap_or(Err(late))
}
