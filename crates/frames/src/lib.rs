//! Messages between a process of ours and a child of it: a length, a version, and JSON.
//!
//! ```text
//! frame    4 bytes length, little endian, at most the protocol's; then that many bytes of JSON
//! JSON     {"version":1,"message":…}
//! ```
//!
//! Invariants: buffers are zeroed, since secrets cross here; what does not parse is an error that
//! repeats nothing of it, never a panic. Knows no message.

pub mod hex;

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// What stands before the JSON.
pub const LENGTH_BYTES: usize = 4;

/// A whole frame, or the JSON of one. Zeroed when it is dropped.
pub type Frame = Zeroizing<Vec<u8>>;

/// What came over the socket is not a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("message of {0} bytes is longer than the protocol has")]
    TooLong(usize),
    #[error("message is malformed: {0}")]
    Malformed(String),
    #[error("message has version {found}, expected {expected}")]
    Version { found: u32, expected: u32 },
    #[error("socket failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What both ends know of each other.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub version: u32,
    /// Longest JSON.
    pub max_bytes: usize,
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

impl Protocol {
    /// A message as a frame. One that holds a secret says a capacity that suffices: a buffer that
    /// never grows leaves no copy behind.
    pub fn encode(&self, message: &impl Serialize, capacity: usize) -> Result<Frame, WireError> {
        let mut frame = Zeroizing::new(Vec::with_capacity(capacity));
        frame.extend([0; LENGTH_BYTES]);
        let version = self.version;
        serde_json::to_writer(&mut *frame, &Outgoing { version, message })
            .map_err(|error| WireError::Malformed(error.to_string()))?;
        let body = frame.len() - LENGTH_BYTES;
        let length = u32::try_from(body).ok().filter(|_| body <= self.max_bytes);
        let length = length.ok_or(WireError::TooLong(body))?;
        frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        Ok(frame)
    }

    /// The message of a frame's JSON.
    pub fn decode<Message: DeserializeOwned>(&self, json: &[u8]) -> Result<Message, WireError> {
        // The error's own words could repeat what it read.
        let malformed = |error: serde_json::Error| {
            WireError::Malformed(format!("line {} column {}", error.line(), error.column()))
        };
        let head: VersionOnly = serde_json::from_slice(json).map_err(malformed)?;
        if head.version != self.version {
            return Err(WireError::Version {
                found: head.version,
                expected: self.version,
            });
        }
        let whole: Incoming<Message> = serde_json::from_slice(json).map_err(malformed)?;
        Ok(whole.message)
    }

    /// A buffer for JSON of this length, if the protocol has it.
    pub fn body(&self, length: [u8; LENGTH_BYTES]) -> Result<Frame, WireError> {
        let length = u32::from_le_bytes(length) as usize;
        if length > self.max_bytes {
            return Err(WireError::TooLong(length));
        }
        Ok(Zeroizing::new(vec![0; length]))
    }

    /// The next message, or nothing when the other side has closed between two.
    pub async fn receive<Message: DeserializeOwned>(
        &self,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Message>, WireError> {
        let mut length = [0; LENGTH_BYTES];
        match socket.read(&mut length).await? {
            0 => return Ok(None),
            got => socket.read_exact(&mut length[got..]).await?,
        };
        let mut json = self.body(length)?;
        socket.read_exact(&mut json).await?;
        self.decode(&json).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: Protocol = Protocol {
        version: 3,
        max_bytes: 64,
    };

    async fn received(mut bytes: &[u8]) -> Result<Option<String>, WireError> {
        PROTOCOL.receive(&mut bytes).await
    }

    #[tokio::test]
    async fn what_is_sent_arrives() {
        let frame = PROTOCOL.encode(&"hello", 0).expect("short");
        let json = &frame[LENGTH_BYTES..];
        assert_eq!(json, br#"{"version":3,"message":"hello"}"#);
        let message = received(&frame).await.expect("whole");
        assert_eq!(message.as_deref(), Some("hello"));
        assert!(received(b"").await.expect("closed").is_none());
    }

    #[tokio::test]
    async fn lengths_are_bounded_before_anything_is_read() {
        let long = PROTOCOL.encode(&"x".repeat(64), 0);
        assert!(matches!(long, Err(WireError::TooLong(_))));
        let claimed = received(b"\x41\0\0\0").await;
        assert!(matches!(claimed, Err(WireError::TooLong(65))));
        for cut in [&b"\x01"[..], b"\x05\0\0\0", b"\x05\0\0\0{}"] {
            let error = received(cut).await.expect_err("cut");
            assert!(matches!(error, WireError::Io(_)), "{cut:?}: {error}");
        }
    }

    #[test]
    fn errors_name_the_version_and_repeat_no_secret() {
        let decode = |json: &str| PROTOCOL.decode::<u32>(json.as_bytes());
        let error = decode(r#"{"version":2,"message":{"fly":{}}}"#).expect_err("another");
        assert_eq!(error.to_string(), "message has version 2, expected 3");
        for json in [
            r#"{"version":3,"message":"hunter2"}"#,
            r#"{"version":3,"message":1,"hunter2":2}"#,
            r#"{"version":"hunter2","message":1}"#,
            "hunter2",
        ] {
            let error = decode(json).expect_err("malformed");
            assert!(matches!(error, WireError::Malformed(_)), "{json}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
