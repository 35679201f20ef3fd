//! The control protocol between a parent and its mount process.
//!
//! ```text
//! frame    4 bytes length, little endian, at most 1 MiB; then that many bytes of JSON
//! JSON     {"version":1,"message":{"<name>":{…}}}
//!
//! parent to child   mount, verify, auth, auth-denied, stats, trace, room, stop
//! child to parent   mounted, refused, want-auth, want-room, stats, trace, log, stopped, verified
//! ```
//!
//! Before the first frame come the open files, see `descriptors`. The first message is `mount`,
//! answered by `mounted` or `refused`, or `verify`, answered by `verified` and the end. Everything
//! after that may come in any order; questions carry a number that their answers repeat. Secrets
//! cross here and nowhere else: as hexadecimal, so that no JSON parser copies them to undo an
//! escape, in buffers that are zeroed. What does not parse is an error, never a panic.

mod convert;
mod messages;
mod secret;

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

pub(crate) use convert::{bounded, denied_to_wire, rejection_to_wire};
pub(crate) use messages::{
    Answer, RefusalKind, ToChild, ToParent, WireAuth, WireLog, WireMount, WireRefused, WireStats,
    WireVerdict,
};

pub(crate) const VERSION: u32 = 1;

/// Longest frame: a trace at its bound, or a mount of some hundreds of layers, fits.
pub(crate) const MAX_FRAME: usize = 1024 * 1024;

const LENGTH: usize = 4;

/// Where a frame's buffer starts: most messages are smaller, and those with secrets say so.
const SMALL_FRAME: usize = 4 * 1024;

/// Frames that wait to be written. More means that the other side does not read.
pub(crate) const MAX_QUEUED: usize = 256;

/// A whole frame. Zeroed when it is dropped.
pub(crate) type Frame = Zeroizing<Vec<u8>>;

/// What came over the socket is not a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("message of {0} bytes is longer than the protocol has")]
    TooLong(usize),
    #[error("message is malformed: {0}")]
    Malformed(String),
    #[error("message has version {0}, expected {VERSION}")]
    Version(u32),
    #[error("control socket failed")]
    Io(#[from] io::Error),
}

#[derive(Serialize)]
struct Outgoing<'a, Message> {
    version: u32,
    message: &'a Message,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Incoming<Message> {
    #[serde(rename = "version")]
    _version: u32,
    message: Message,
}

/// Read before the message: another version's message need not parse.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// A message as a frame.
pub(crate) fn encode<Message: Serialize + Answer>(message: &Message) -> Result<Frame, WireError> {
    // A buffer that never grows leaves no copy of a secret behind.
    let capacity = SMALL_FRAME + message.secret_bytes();
    let mut frame = Zeroizing::new(Vec::with_capacity(capacity));
    frame.extend([0; LENGTH]);
    serde_json::to_writer(
        &mut *frame,
        &Outgoing {
            version: VERSION,
            message,
        },
    )
    .map_err(|error| WireError::Malformed(error.to_string()))?;
    let body = frame.len() - LENGTH;
    let length = u32::try_from(body).ok().filter(|_| body <= MAX_FRAME);
    let length = length.ok_or(WireError::TooLong(body))?;
    frame[..LENGTH].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// The message of a frame's JSON.
pub(crate) fn decode<Message: DeserializeOwned>(json: &[u8]) -> Result<Message, WireError> {
    // The error's own words could repeat what it read.
    let malformed = |error: serde_json::Error| {
        WireError::Malformed(format!("line {} column {}", error.line(), error.column()))
    };
    let version = serde_json::from_slice::<VersionOnly>(json)
        .map_err(malformed)?
        .version;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    Ok(serde_json::from_slice::<Incoming<Message>>(json)
        .map_err(malformed)?
        .message)
}

/// The next message, or nothing when the other side has closed between two frames.
pub(crate) async fn receive<Message: DeserializeOwned>(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Message>, WireError> {
    let mut length = [0; LENGTH];
    match socket.read(&mut length).await? {
        0 => return Ok(None),
        got => socket.read_exact(&mut length[got..]).await?,
    };
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(WireError::TooLong(length));
    }
    let mut json = Zeroizing::new(vec![0; length]);
    socket.read_exact(&mut json).await?;
    decode(&json).map(Some)
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
