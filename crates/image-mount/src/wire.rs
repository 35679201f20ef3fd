//! The control protocol between a parent and its mount process.
//!
//! ```text
//! frame    4 bytes length, little endian, at most 1 MiB; then that many bytes of JSON
//! JSON     {"version":1,"message":{"<name>":{…}}}
//! bytes    4 bytes length, its highest bit set; 8 bytes number of the read; what was read
//!
//! parent to child   mount, fill, verify, auth, auth-denied, location, no-location, read-here,
//!                   shared, not-shared, bytes-denied, bytes-not-found, bytes-corrupt, stats,
//!                   trace, room, stop; bytes
//! child to parent   mounted, refused, want-auth, want-location, want-shared, want-bytes,
//!                   no-more-bytes, want-room, want-spare, stats, trace, log, stopped, filled,
//!                   verified
//! ```
//!
//! Bytes wait in a lane of their own, so that no message waits for them, and reads that are under
//! way at once take turns by the frame. How many come was said by who asked, who counts them.
//!
//! Before the first frame come the open files, see `descriptors`. The first message is `mount`,
//! answered by `mounted` or `refused`, `fill`, answered by `filled` when all of the image is in the
//! cache or cannot be, or by `refused`, or `verify`, answered by `verified` and the end. Everything
//! after that may come in any order; questions carry a number that their answers repeat. Secrets
//! cross here and nowhere else: as hexadecimal, so that no JSON parser copies them to undo an
//! escape, in buffers that are zeroed. What does not parse is an error, never a panic.

mod bytes;
mod convert;
mod messages;
mod secret;

use std::io;

use frames::Protocol;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub(crate) use bytes::{FromParent, MAX_BYTES, encode_bytes, receive_from_parent};
pub(crate) use convert::{bounded, denied_to_wire, rejection_to_wire};
pub(crate) use messages::{
    Answer, RefusalKind, ToChild, ToParent, WireAuth, WireFilled, WireLocation, WireLog, WireMount,
    WireRead, WireRefused, WireShared, WireStats, WireVerdict,
};

pub(crate) use frames::{Frame, WireError};

pub(crate) const PROTOCOL: Protocol = Protocol {
    version: 1,
    // A trace at its bound, or a mount of some hundreds of layers, fits.
    max_bytes: 1024 * 1024,
};

/// Where a frame's buffer starts: most messages are smaller, and those with secrets say so.
const SMALL_FRAME: usize = 4 * 1024;

/// Frames that wait to be written. More means that the other side does not read.
pub(crate) const MAX_QUEUED: usize = 256;

/// A message as a frame.
pub(crate) fn encode<Message: Serialize + Answer>(message: &Message) -> Result<Frame, WireError> {
    PROTOCOL.encode(message, SMALL_FRAME + message.secret_bytes())
}

/// The next message, or nothing when the other side has closed between two.
pub(crate) async fn receive<Message: DeserializeOwned>(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Message>, WireError> {
    PROTOCOL.receive(socket).await
}

/// Frames of bytes that wait to be written: what a socket takes meanwhile.
pub(crate) const MAX_BYTES_QUEUED: usize = 8;

/// Writes frames one after the other, and those of bytes when there are no others, until there can
/// be no others.
pub(crate) async fn send_with_bytes(
    mut socket: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    mut bytes: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    loop {
        let frame = tokio::select! {
            biased;
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return socket.shutdown().await,
            },
            Some(frame) = bytes.recv() => frame,
        };
        socket.write_all(&frame).await?;
    }
}

/// Writes frames one after the other. A sender whose future is dropped never leaves half a frame.
pub(crate) async fn send_all(
    mut socket: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        socket.write_all(&frame).await?;
    }
    socket.shutdown().await
}

#[cfg(test)]
mod tests;
