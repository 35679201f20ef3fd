//! What worker and runner say, as headers: past this file each has the fields that it should, of
//! the types and within the lengths that it should, and no other.
//!
//! Errors name what is wrong and repeat nothing of it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use credential::{ExposeSecret, SecretString};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use worker_protocol::Exception;

use super::wire::{Frame, MAX_HEADER_BYTES, Outgoing, TooLong, WireError};

/// What both sides name first.
const VERSION: u32 = 1;

/// The runner's own limit on the id of an attempt.
pub(crate) const MAX_ATTEMPT_BYTES: usize = 128;

/// The payload of one `output`.
const MAX_OUTPUT_BYTES: usize = 32 << 10;

/// Room for two ids, a nonce and a version, however JSON writes them.
const SMALL_HEADER_BYTES: usize = 4 << 10;

/// "3.11.2" is six; an interpreter of somebody's own making says no more than this.
const MAX_VERSION_BYTES: usize = 32;

/// Variables, secrets among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(pub(crate) BTreeMap<String, SecretString>);

impl Serialize for Environment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value.expose_secret())?;
        }
        map.end()
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Limits {
    pub(crate) code_entries: u64,
    pub(crate) code_bytes: u64,
    pub(crate) result_bytes: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Setup<'a> {
    pub(crate) handler: &'a str,
    pub(crate) code: Option<&'a str>,
    pub(crate) code_dir: &'a str,
    pub(crate) limits: Limits,
    pub(crate) environment: &'a Environment,
    pub(crate) concurrency: u32,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Call<'a> {
    pub(crate) attempt: &'a str,
    pub(crate) nonce: Nonce,
    pub(crate) task: &'a str,
    pub(crate) format: Format,
    pub(crate) python: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Pickle,
    Json,
}

/// What a result must repeat, so that it cannot be that of another call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nonce(pub(crate) [u8; 16]);

impl fmt::Debug for Nonce {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Nonce")
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&frames::hex::encode(&self.0))
    }
}

impl Nonce {
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        frames::hex::decode_into(text, &mut bytes).then_some(Self(bytes))
    }
}

/// Messages of ours.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ToRunner<'a> {
    Setup {
        version: u32,
        #[serde(flatten)]
        setup: Setup<'a>,
    },
    Call(Call<'a>),
    Cancel {
        attempt: &'a str,
    },
    Stop {},
}

impl Setup<'_> {
    pub(crate) fn encode(self) -> Result<Outgoing, TooLong> {
        let version = VERSION;
        let message = ToRunner::Setup {
            version,
            setup: self,
        };
        Outgoing::encode(&message, Bytes::new(), MAX_HEADER_BYTES)
    }
}

impl Call<'_> {
    pub(crate) fn encode(self, payload: Bytes) -> Result<Outgoing, TooLong> {
        Outgoing::encode(&ToRunner::Call(self), payload, SMALL_HEADER_BYTES)
    }
}

pub(crate) fn cancel(attempt: &str) -> Result<Outgoing, TooLong> {
    let message = ToRunner::Cancel { attempt };
    Outgoing::encode(&message, Bytes::new(), SMALL_HEADER_BYTES)
}

pub(crate) fn stop() -> Outgoing {
    Outgoing::encode(&ToRunner::Stop {}, Bytes::new(), SMALL_HEADER_BYTES)
        .expect("a message without fields is short")
}

/// A message of the runner.
#[derive(Debug)]
pub(crate) enum Said {
    Hello(Hello),
    Ready,
    Failed(Exception),
    Output(Output),
    Result(CallEnd),
}

/// Which Python it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// "3.11.2"
    pub(crate) python: String,
    major: u32,
    minor: u32,
}

/// Of a call that is one of several.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) attempt: Option<String>,
    pub(crate) stream: OutputStream,
    pub(crate) data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

#[derive(Debug)]
pub(crate) struct CallEnd {
    pub(crate) attempt: String,
    pub(crate) nonce: Nonce,
    pub(crate) outcome: Outcome,
    pub(crate) exception: Option<Exception>,
    pub(crate) payload: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Returned,
    Raised,
    Cancelled,
}

/// What the runner sent has no meaning. Completes "the runner sent …".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("a header that is no message, at column {0}")]
    Header(usize),
    #[error("{0}")]
    Message(&'static str),
}

/// Headers as they are written.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum FromRunner {
    Hello {
        version: u32,
        python: String,
        #[serde(rename = "implementation")]
        _implementation: String,
    },
    Ready {},
    Failed {
        #[serde(rename = "stage")]
        _stage: Stage,
        exception: WireException,
    },
    Output {
        attempt: Option<String>,
        stream: OutputStream,
    },
    Result {
        attempt: String,
        nonce: String,
        outcome: Outcome,
        exception: Option<WireException>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Environment,
    Unpack,
    Import,
    Handler,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireException {
    r#type: String,
    module: String,
    message: String,
    traceback: String,
}

impl From<WireException> for Exception {
    fn from(wire: WireException) -> Self {
        Self {
            r#type: wire.r#type,
            module: wire.module,
            message: wire.message,
            traceback: wire.traceback,
        }
    }
}

impl Said {
    /// Makes a message of a frame.
    pub(crate) fn parse(frame: Frame) -> Result<Self, Malformed> {
        let header: FromRunner = serde_json::from_slice(&frame.header)
            .map_err(|error| Malformed::Header(error.column()))?;
        let payload = frame.payload;
        if !payload.is_empty()
            && !matches!(
                header,
                FromRunner::Output { .. } | FromRunner::Result { .. }
            )
        {
            return Err(Malformed::Message("a payload where there is none"));
        }
        match header {
            FromRunner::Hello {
                version, python, ..
            } => Hello::parse(version, python).map(Self::Hello),
            FromRunner::Ready {} => Ok(Self::Ready),
            FromRunner::Failed { exception, .. } => Ok(Self::Failed(exception.into())),
            FromRunner::Output { attempt, stream } => parse_output(attempt, stream, payload),
            FromRunner::Result {
                attempt,
                nonce,
                outcome,
                exception,
            } => {
                let nonce =
                    Nonce::parse(&nonce).ok_or(Malformed::Message("a nonce that is none"))?;
                if exception.is_none() != (outcome == Outcome::Returned) {
                    let problem = "a result whose exception does not go with its outcome";
                    return Err(Malformed::Message(problem));
                }
                Ok(Self::Result(CallEnd {
                    attempt,
                    nonce,
                    outcome,
                    exception: exception.map(Exception::from),
                    payload,
                }))
            }
        }
    }
}

fn parse_output(
    attempt: Option<String>,
    stream: OutputStream,
    data: Bytes,
) -> Result<Said, Malformed> {
    if data.len() > MAX_OUTPUT_BYTES {
        return Err(Malformed::Message("a longer output than there is"));
    }
    Ok(Said::Output(Output {
        attempt,
        stream,
        data,
    }))
}

impl Hello {
    /// The oldest Python that the runner is written for.
    const OLDEST: (u32, u32) = (3, 8);

    fn parse(version: u32, python: String) -> Result<Self, Malformed> {
        if version != VERSION {
            return Err(Malformed::Message("a hello of another version"));
        }
        let numbers = || {
            let mut numbers = python.split('.').map(|number| number.parse::<u32>().ok());
            let three = [numbers.next()??, numbers.next()??, numbers.next()??];
            let is_whole = numbers.next().is_none() && python.len() <= MAX_VERSION_BYTES;
            is_whole.then_some(three)
        };
        let [major, minor, _] = numbers().ok_or(Malformed::Message("a Python of no version"))?;
        Ok(Self {
            python,
            major,
            minor,
        })
    }

    /// Why the runner goes no further in it, if it does not.
    pub(crate) fn too_old(&self) -> Option<String> {
        let (major, minor) = Self::OLDEST;
        let is_too_old = (self.major, self.minor) < Self::OLDEST;
        is_too_old.then(|| format!("Python {} is older than {major}.{minor}", self.python))
    }
}

#[cfg(test)]
mod tests;
