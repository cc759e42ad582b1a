//! Frames on a stream: a length and that many bytes of JSON.

use crate::limits::*;
use bytes::Bytes;
use muster_ports::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the connection was closed")]
    Closed,
    #[error("{0}")]
    Io(std::io::Error),
    #[error("nothing was heard for {} s", IDLE_LIMIT.as_secs())]
    Silence,
    #[error("a message could not be sent within {} s", WRITE_LIMIT.as_secs())]
    Stuck,
    #[error("a message of {bytes} bytes, {FRAME_BYTES_MAX} are allowed")]
    TooLong { bytes: u64 },
    #[error("a message does not read as one of this protocol: {0}")]
    Malformed(serde_json::Error),
}

impl From<std::io::Error> for FrameError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// The next frame; silence beyond the idle limit is an error. Not to be cancelled if the stream is used afterwards.
pub(crate) async fn read_frame<T: DeserializeOwned>(reader: &mut (impl AsyncRead + Unpin)) -> Result<T, FrameError> {
    let length = timeout(IDLE_LIMIT, reader.read_u32()).await.map_err(|_| FrameError::Silence)??;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { bytes: u64::from(length) });
    }
    // Grows with what really arrives: a peer that only announces 16 MiB gets no 16 MiB. Every piece that comes is a sign
    // of life, so that a long message may take its time on a slow line.
    let mut body = Vec::new();
    let mut rest = reader.take(u64::from(length));
    while body.len() < length as usize {
        let read = timeout(IDLE_LIMIT, rest.read_buf(&mut body)).await.map_err(|_| FrameError::Silence)??;
        if read == 0 {
            return Err(FrameError::Closed);
        }
    }
    serde_json::from_slice(&body).map_err(FrameError::Malformed)
}

pub(crate) fn encode(frame: &impl Serialize) -> Result<Bytes, Failure> {
    let mut message = vec![0; 4];
    serde_json::to_writer(&mut message, frame)
        .map_err(|error| Failure::permanent(format!("a message cannot be written as json: {error}")))?;
    let bytes = message.len() - 4;
    match u32::try_from(bytes) {
        Ok(length) if length <= FRAME_BYTES_MAX => message[..4].copy_from_slice(&length.to_be_bytes()),
        _ => {
            let text =
                format!("a message of {bytes} bytes is too large for the site agent, which takes {FRAME_BYTES_MAX}");
            return Err(Failure::permanent(text));
        }
    }
    Ok(message.into())
}

pub(crate) async fn write_frame(writer: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<(), FrameError> {
    for piece in message.chunks(WRITE_PIECE_BYTES) {
        timeout(WRITE_LIMIT, writer.write_all(piece)).await.map_err(|_| FrameError::Stuck)??;
    }
    // What is sealed may still wait for room on the wire.
    Ok(timeout(WRITE_LIMIT, writer.flush()).await.map_err(|_| FrameError::Stuck)??)
}

/// Writes what is queued, whole and in order, until all senders are gone.
pub(crate) async fn write_queue(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
) -> Result<(), FrameError> {
    while let Some(message) = queue.recv().await {
        write_frame(&mut writer, &message).await?;
    }
    // Both sides may say goodbye at once.
    let _ = writer.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Call, ToAgent};

    #[tokio::test]
    async fn frames_read_back_and_bad_ones_are_errors() {
        let frame = ToAgent::Call { id: 7, token: None, call: Box::new(Call::Bubbles) };
        let message = encode(&frame).unwrap();
        assert_eq!(read_frame::<ToAgent>(&mut &message[..]).await.unwrap(), frame);
        let cut = read_frame::<ToAgent>(&mut &message[..message.len() - 1]).await.unwrap_err();
        assert!(matches!(cut, FrameError::Closed), "{cut}");
        let long = read_frame::<ToAgent>(&mut &[255u8; 8][..]).await.unwrap_err();
        assert!(matches!(long, FrameError::TooLong { .. }), "{long}");
        let noise = read_frame::<ToAgent>(&mut &[0, 0, 0, 2, b'{', b'x'][..]).await.unwrap_err();
        assert!(matches!(noise, FrameError::Malformed(_)), "{noise}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_error() {
        let (mut near, _far) = tokio::io::duplex(64);
        let silence = read_frame::<ToAgent>(&mut near).await.unwrap_err();
        assert!(matches!(silence, FrameError::Silence), "{silence}");
    }

    #[test]
    fn too_long_a_message_is_refused_before_it_is_sent() {
        let failure = encode(&"x".repeat(FRAME_BYTES_MAX as usize)).unwrap_err();
        assert!(failure.message.contains("too large"), "{failure}");
    }
}
