//! Frames on the runner's socket: two lengths, a header, a payload.
//!
//! ```text
//! frame    4 bytes  length of the header, little endian, 1 to 65536
//!          4 bytes  length of the payload, little endian, 0 to 33554432
//!          header   one JSON object; payload  bytes
//! ```
//!
//! Invariants: a length is held against its limit before a byte behind it is waited for, and memory
//! grows with what has arrived, not with what was announced. Headers of ours are in buffers that
//! do not grow and are zeroed, since one carries secrets. Does not know what a header says.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use worker_protocol::MAX_PAYLOAD_BYTES;
use zeroize::Zeroizing;

/// A header holds names, limits and a traceback; a longer one is a mistake or an attack.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 10;

const LENGTHS_BYTES: usize = 8;

/// More than a socket's buffer usually holds, so that a long payload takes few reads.
const READ_BYTES: usize = 256 << 10;

/// One message of the runner, not looked into.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Bytes,
    pub(crate) payload: Bytes,
}

/// What came is no frame, or is cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a header of {0} bytes")]
    Header(u32),
    #[error("a payload of {0} bytes")]
    Payload(u32),
    #[error("the beginning of a message and no more")]
    Cut,
    #[error("nothing: {0}")]
    Io(#[from] io::Error),
}

/// Takes one whole frame off the front of what has arrived, if there is one.
fn take(arrived: &mut BytesMut) -> Result<Option<Frame>, WireError> {
    let Some((header_bytes, payload_bytes)) = lengths(arrived) else {
        return Ok(None);
    };
    let header = header_bytes as usize;
    if header == 0 || header > MAX_HEADER_BYTES {
        return Err(WireError::Header(header_bytes));
    }
    let payload = payload_bytes as usize;
    if payload > MAX_PAYLOAD_BYTES {
        return Err(WireError::Payload(payload_bytes));
    }
    if arrived.len() < LENGTHS_BYTES + header + payload {
        return Ok(None);
    }
    arrived.advance(LENGTHS_BYTES);
    Ok(Some(Frame {
        header: arrived.split_to(header).freeze(),
        payload: arrived.split_to(payload).freeze(),
    }))
}

fn lengths(arrived: &[u8]) -> Option<(u32, u32)> {
    let (header, rest) = arrived.split_first_chunk()?;
    let (payload, _) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*header), u32::from_le_bytes(*payload)))
}

/// Reads frames. What a cancelled `next` has read is there for the following one.
#[derive(Debug)]
pub(crate) struct FrameReader<Socket> {
    socket: Socket,
    arrived: BytesMut,
}

impl<Socket: AsyncRead + Unpin> FrameReader<Socket> {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            arrived: BytesMut::new(),
        }
    }

    /// The next frame, or nothing when the other side has closed between two.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            if let Some(frame) = take(&mut self.arrived)? {
                return Ok(Some(frame));
            }
            self.arrived.reserve(READ_BYTES);
            if self.read().await? == 0 {
                let is_whole = self.arrived.is_empty();
                return if is_whole {
                    Ok(None)
                } else {
                    Err(WireError::Cut)
                };
            }
        }
    }

    /// A container that is killed may leave its end reset.
    async fn read(&mut self) -> io::Result<usize> {
        match self.socket.read_buf(&mut self.arrived).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            read => read,
        }
    }
}

/// A header that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} bytes")]
pub(crate) struct TooLong(usize);

/// A message of ours.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: Zeroizing<Vec<u8>>,
    payload: Bytes,
}

impl Outgoing {
    /// Encodes a header of at most `limit_bytes`, in a buffer that has room for it from the start.
    pub(crate) fn encode(
        header: &impl Serialize,
        payload: Bytes,
        limit_bytes: usize,
    ) -> Result<Self, TooLong> {
        let too_long = || TooLong(limit_bytes);
        let payload_bytes = u32::try_from(payload.len()).map_err(|_| too_long())?;
        let mut head = Zeroizing::new(vec![0; LENGTHS_BYTES + limit_bytes]);
        let (lengths, json) = head.split_at_mut(LENGTHS_BYTES);
        let mut rest = &mut *json;
        // Only the end of the buffer keeps a header of ours from being written.
        serde_json::to_writer(&mut rest, header).map_err(|_| too_long())?;
        let unused = rest.len();
        let header_bytes = limit_bytes - unused;
        lengths[..4].copy_from_slice(
            &u32::try_from(header_bytes)
                .map_err(|_| too_long())?
                .to_le_bytes(),
        );
        lengths[4..].copy_from_slice(&payload_bytes.to_le_bytes());
        head.truncate(LENGTHS_BYTES + header_bytes);
        Ok(Self { head, payload })
    }
}

/// Messages on their way to the runner, which may be slow to read. Their number is the sender's to
/// bound.
#[derive(Debug)]
pub(crate) struct Outbox<Socket> {
    socket: Socket,
    waiting: VecDeque<Outgoing>,
    /// Of the first message, head and payload together.
    written_bytes: usize,
}

impl<Socket: AsyncWrite + Unpin> Outbox<Socket> {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
            written_bytes: 0,
        }
    }

    pub(crate) fn put(&mut self, message: Outgoing) {
        self.waiting.push_back(message);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets what waits: nobody reads any more.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.written_bytes = 0;
    }

    /// Writes as much as the socket takes, waiting until it takes anything. When it is cancelled,
    /// nothing was written.
    pub(crate) async fn write_some(&mut self) -> io::Result<()> {
        let Some(first) = self.waiting.front() else {
            return Ok(());
        };
        let head = first.head.get(self.written_bytes..).unwrap_or_default();
        let written_bytes = self.written_bytes.saturating_sub(first.head.len());
        // Together: the runner is woken by each part that comes alone.
        let rest = [
            IoSlice::new(head),
            IoSlice::new(&first.payload[written_bytes..]),
        ];
        self.written_bytes += self.socket.write_vectored(&rest).await?;
        if self.written_bytes == first.head.len() + first.payload.len() {
            self.waiting.pop_front();
            self.written_bytes = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(header: &[u8], payload: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        [&length(header)[..], &length(payload), header, payload].concat()
    }

    #[tokio::test]
    async fn frames_are_read_whole_and_in_order() {
        let bytes = [frame(b"{}", b""), frame(b"{\"a\":1}", b"payload")].concat();
        for piece in [1, 3, 8, 100] {
            let mut reader = FrameReader::new(Pieces {
                bytes: &bytes,
                piece,
            });
            for (header, payload) in [(&b"{}"[..], &b""[..]), (b"{\"a\":1}", b"payload")] {
                let frame = reader.next().await.unwrap().unwrap();
                assert_eq!((&*frame.header, &*frame.payload), (header, payload));
            }
            assert!(reader.next().await.unwrap().is_none());
        }
    }

    /// Gives so many bytes at a time.
    struct Pieces<'a> {
        bytes: &'a [u8],
        piece: usize,
    }

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let (now, later) = self.bytes.split_at(self.piece.min(self.bytes.len()));
            buffer.put_slice(now);
            self.bytes = later;
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused_before_it_is_waited_for() {
        let table: &[(&[u8], &str)] = &[
            (b"\0\0\0\0\0\0\0\0", "a header of 0 bytes"),
            (b"\x01\0\x01\0\0\0\0\0", "a header of 65537 bytes"),
            (b"\x01\0\0\0\x01\0\0\x02", "a payload of 33554433 bytes"),
            (b"\x01\0\0", "the beginning of a message and no more"),
            (
                b"\x01\0\0\0\0\0\0\0",
                "the beginning of a message and no more",
            ),
        ];
        for (bytes, expected) in table {
            let error = FrameReader::new(*bytes).next().await.unwrap_err();
            assert_eq!(error.to_string(), *expected);
        }
    }

    #[tokio::test]
    async fn messages_are_written_as_they_are_read() {
        let mut outbox = Outbox::new(Vec::new());
        for payload in ["", "payload"] {
            let payload = Bytes::from_static(payload.as_bytes());
            let message = Outgoing::encode(&json!({"a": "b"}), payload, 64).unwrap();
            outbox.put(message);
        }
        while !outbox.is_empty() {
            outbox.write_some().await.unwrap();
        }
        let header = br#"{"a":"b"}"#;
        let expected = [frame(header, b""), frame(header, b"payload")].concat();
        assert_eq!(outbox.socket, expected);
    }

    #[test]
    fn a_header_fits_or_is_refused() {
        for (limit_bytes, fits) in [(9, true), (8, false)] {
            let encoded = Outgoing::encode(&json!({"a": "b"}), Bytes::new(), limit_bytes);
            assert_eq!(encoded.is_ok(), fits, "{limit_bytes}");
        }
    }
}
