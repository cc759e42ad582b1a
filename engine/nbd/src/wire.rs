//! The protocol's numbers and the fixed-size pieces of its messages. No I/O beyond reading exact sizes.

use crate::error::{Error, Result};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943; // "NBDMAGIC"
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(crate) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Flags of the greeting, and the client's answer to it.
pub(crate) mod greeting {
    pub(crate) const FIXED_NEWSTYLE: u16 = 1;
    pub(crate) const NO_ZEROES: u16 = 2;
}

pub(crate) mod option {
    pub(crate) const EXPORT_NAME: u32 = 1;
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const LIST: u32 = 3;
    pub(crate) const START_TLS: u32 = 5;
    pub(crate) const INFO: u32 = 6;
    pub(crate) const GO: u32 = 7;
    pub(crate) const STRUCTURED_REPLY: u32 = 8;
    pub(crate) const LIST_META_CONTEXT: u32 = 9;
    pub(crate) const SET_META_CONTEXT: u32 = 10;
}

/// Types of replies to options; errors have the top bit.
pub(crate) mod reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const SERVER: u32 = 2;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const META_CONTEXT: u32 = 4;
    pub(crate) const ERROR: u32 = 1 << 31;
    pub(crate) const ERR_UNSUPPORTED: u32 = ERROR | 1;
    pub(crate) const ERR_POLICY: u32 = ERROR | 2;
    pub(crate) const ERR_INVALID: u32 = ERROR | 3;
    pub(crate) const ERR_PLATFORM: u32 = ERROR | 4;
    pub(crate) const ERR_TLS_REQUIRED: u32 = ERROR | 5;
    pub(crate) const ERR_UNKNOWN: u32 = ERROR | 6;
    pub(crate) const ERR_SHUTDOWN: u32 = ERROR | 7;
    pub(crate) const ERR_BLOCK_SIZE_REQUIRED: u32 = ERROR | 8;
    pub(crate) const ERR_TOO_BIG: u32 = ERROR | 9;
}

/// Kinds of information about an export.
pub(crate) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const NAME: u16 = 1;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub(crate) mod transmission {
    pub(crate) const HAS_FLAGS: u16 = 1;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
}

pub(crate) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISCONNECT: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const CACHE: u16 = 5;
    pub(crate) const WRITE_ZEROES: u16 = 6;
    pub(crate) const BLOCK_STATUS: u16 = 7;
    /// Flag: answer block status with one extent.
    pub(crate) const FLAG_ONE: u16 = 1 << 3;
}

/// Types of chunks of a structured reply; errors have the top bit.
pub(crate) mod chunk {
    pub(crate) const NONE: u16 = 0;
    pub(crate) const DATA: u16 = 1;
    pub(crate) const HOLE: u16 = 2;
    pub(crate) const BLOCK_STATUS: u16 = 5;
    pub(crate) const ERROR: u16 = 1 << 15 | 1;
    pub(crate) const ERROR_BIT: u16 = 1 << 15;
    pub(crate) const FLAG_DONE: u16 = 1;
}

/// Error numbers on the wire, the same on every platform.
pub(crate) mod errno {
    pub(crate) const EPERM: u32 = 1;
    pub(crate) const EIO: u32 = 5;
    pub(crate) const ENOMEM: u32 = 12;
    pub(crate) const EINVAL: u32 = 22;
    pub(crate) const ENOSPC: u32 = 28;
    pub(crate) const EOVERFLOW: u32 = 75;
    pub(crate) const ENOTSUP: u32 = 95;
    pub(crate) const ESHUTDOWN: u32 = 108;
}

/// A request's head; write data follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        let mut head = BytesMut::with_capacity(28);
        head.put_u32(REQUEST_MAGIC);
        head.put_u16(self.flags);
        head.put_u16(self.command);
        head.put_u64(self.cookie);
        head.put_u64(self.offset);
        head.put_u32(self.length);
        head.freeze()
    }

    pub(crate) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Self> {
        let magic = reader.read_u32().await?;
        if magic != REQUEST_MAGIC {
            return Err(Error::protocol(format!("a request begins with {magic:#x}")));
        }
        Ok(Self {
            flags: reader.read_u16().await?,
            command: reader.read_u16().await?,
            cookie: reader.read_u64().await?,
            offset: reader.read_u64().await?,
            length: reader.read_u32().await?,
        })
    }
}

pub(crate) fn encode_option(option: u32, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(16 + data.len());
    message.put_u64(OPTION_MAGIC);
    message.put_u32(option);
    message.put_u32(length(data));
    message.put_slice(data);
    message.freeze()
}

pub(crate) fn encode_option_reply(option: u32, kind: u32, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(20 + data.len());
    message.put_u64(OPTION_REPLY_MAGIC);
    message.put_u32(option);
    message.put_u32(kind);
    message.put_u32(length(data));
    message.put_slice(data);
    message.freeze()
}

pub(crate) fn encode_simple_reply(cookie: u64, error: u32) -> Bytes {
    let mut message = BytesMut::with_capacity(16);
    message.put_u32(SIMPLE_REPLY_MAGIC);
    message.put_u32(error);
    message.put_u64(cookie);
    message.freeze()
}

/// The head of a chunk and its payload; `parts` are put one after the other.
pub(crate) fn encode_chunk(cookie: u64, kind: u16, done: bool, parts: &[&[u8]]) -> Bytes {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    let mut message = BytesMut::with_capacity(20 + payload);
    message.put_u32(STRUCTURED_REPLY_MAGIC);
    message.put_u16(if done { chunk::FLAG_DONE } else { 0 });
    message.put_u16(kind);
    message.put_u64(cookie);
    message.put_u32(u32::try_from(payload).unwrap_or(u32::MAX));
    for part in parts {
        message.put_slice(part);
    }
    message.freeze()
}

/// The head of a data chunk; `length` bytes of data follow it.
pub(crate) fn encode_data_head(cookie: u64, offset: u64, length: u32) -> Bytes {
    let mut message = BytesMut::with_capacity(28);
    message.put_u32(STRUCTURED_REPLY_MAGIC);
    message.put_u16(0);
    message.put_u16(chunk::DATA);
    message.put_u64(cookie);
    message.put_u32(length + 8);
    message.put_u64(offset);
    message.freeze()
}

/// Everything that is encoded here is far below 4 GiB: names, texts and pieces have limits.
fn length(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// Exactly `length` bytes; the caller has checked it against a limit.
pub(crate) async fn read_bytes(reader: &mut (impl AsyncRead + Unpin), length: u32) -> Result<Vec<u8>> {
    let mut data = vec![0; length as usize];
    reader.read_exact(&mut data).await?;
    Ok(data)
}

/// Takes fields off the front of a message; a message that is too short is an error.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.0.split_at_checked(length).ok_or_else(|| Error::protocol("a message is shorter than it says"))?;
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) =
            self.0.split_first_chunk().ok_or_else(|| Error::protocol("a message is shorter than it says"))?;
        self.0 = rest;
        Ok(*head)
    }
    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    /// A length of 32 bits and that many bytes of text.
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Error::protocol("a name is not utf-8"))
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A peer's text as it may be shown: one line, no control characters, not endless.
pub(crate) fn printable(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 300;
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_read_back() {
        let request = Request { flags: 8, command: command::BLOCK_STATUS, cookie: 7, offset: 1 << 40, length: 4096 };
        assert_eq!(Request::read(&mut &request.encode()[..]).await.unwrap(), request);
    }

    #[tokio::test]
    async fn a_foreign_magic_is_an_error() {
        let error = Request::read(&mut &[0u8; 28][..]).await.unwrap_err();
        assert!(error.to_string().contains("begins with 0x0"), "{error}");
    }

    #[test]
    fn fields_never_read_past_the_end() {
        let mut fields = Fields(&[0, 0, 0, 9, b'x']);
        assert!(fields.text().is_err());
        assert!(Fields(&[1]).u16().is_err());
        assert_eq!(Fields(&[0, 0, 0, 1, b'x']).text().unwrap(), "x");
    }

    #[test]
    fn option_reply_magic_is_the_protocols() {
        assert_eq!(OPTION_REPLY_MAGIC, 0x3e889045565a9);
    }
}
