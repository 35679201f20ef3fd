//! Reading a stretch of a blob to its last byte, over as many connections as it takes.
//!
//! A stretch is read from one reply while it lasts; when that breaks off, the rest is asked for by
//! `Range`. Tries are counted from the last real progress, so that a long read over a bad link ends
//! and a reply that drips a byte at a time does not go on for ever.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use dial::header::{CONTENT_RANGE, HeaderMap};
use dial::{BodyStream, Method, StatusCode};
use futures::StreamExt;
use reference::Digest;

use crate::error::RegistryError;
use crate::exchange::{Call, Core};
use crate::retry::Attempts;

/// Fewer new bytes than this between two breaks do not count as progress.
const MIN_PROGRESS_BYTES: u64 = 64 * 1024;

/// A registry that ignores `Range` sends the blob from its start. For a range that ends below this
/// it is cheaper to read over what comes first than to fail.
const MAX_READ_OVER_BYTES: u64 = 64 * 1024 * 1024;

pub(crate) struct BlobReader {
    core: Arc<Core>,
    repository: String,
    digest: Digest,
    /// Of the whole blob.
    size: u64,
    /// The next byte to hand out, and the one after the last.
    position: u64,
    end: u64,
    /// Whether the stretch is the whole blob, for which reading over is never refused.
    whole: bool,
    open: Option<Open>,
    attempts: Attempts,
    /// `position` when tries were last counted from zero.
    counted_from: u64,
}

struct Open {
    body: BodyStream,
    /// Bytes that come before the stretch.
    read_over: u64,
    /// Whether the reply goes on after the stretch.
    goes_on: bool,
}

impl BlobReader {
    pub(crate) fn new(
        core: Arc<Core>,
        repository: &str,
        digest: &Digest,
        size: u64,
        stretch: Range<u64>,
    ) -> Self {
        let attempts = Attempts::new(core.retry);
        Self {
            core,
            repository: repository.to_owned(),
            digest: digest.clone(),
            size,
            whole: stretch == (0..size),
            position: stretch.start,
            end: stretch.end,
            open: None,
            attempts,
            counted_from: stretch.start,
        }
    }

    pub(crate) fn subject(&self) -> String {
        format!(
            "blob {} of {}/{}",
            self.digest, self.core.name, self.repository
        )
    }

    /// The next piece, or `None` after the last byte.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.position < self.end {
            if self.open.is_none() {
                self.open = Some(self.open().await?);
            }
            match self.piece().await {
                Ok(Some(piece)) => return Ok(Some(piece)),
                Ok(None) => {}
                Err(error) => self.after_break(error).await?,
            }
        }
        self.check_end().await?;
        Ok(None)
    }

    /// One piece of the open reply; `Ok(None)` when it was all before the stretch.
    async fn piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let open = self.open.as_mut().expect("opened by the caller");
        let mut piece = match open.body.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(RegistryError::from_dial(&self.core.name, &error)),
            None => {
                let message = "the reply ended before its time".to_owned();
                return Err(RegistryError::Unreachable {
                    registry: self.core.name.clone(),
                    message,
                });
            }
        };
        self.core.counters.count_bytes(piece.len());
        let before = open.read_over.min(piece.len() as u64);
        open.read_over -= before;
        let _ = piece.split_to(to_usize(before));
        let left = self.end - self.position;
        if piece.len() as u64 > left {
            if !open.goes_on {
                return Err(RegistryError::corrupt(
                    &self.subject(),
                    "more bytes came than it has",
                ));
            }
            piece.truncate(to_usize(left));
        }
        self.position += piece.len() as u64;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    async fn after_break(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.open = None;
        if self.position - self.counted_from >= MIN_PROGRESS_BYTES {
            self.attempts.reset();
            self.counted_from = self.position;
        }
        self.core.pause_after(&mut self.attempts, error).await
    }

    /// A reply that should be at its end is read to it, which also frees its connection.
    async fn check_end(&mut self) -> Result<(), RegistryError> {
        let Some(mut open) = self.open.take().filter(|open| !open.goes_on) else {
            return Ok(());
        };
        while let Some(Ok(piece)) = open.body.next().await {
            if !piece.is_empty() {
                return Err(RegistryError::corrupt(
                    &self.subject(),
                    "more bytes came than it has",
                ));
            }
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<Open, RegistryError> {
        let part = self.position..self.end;
        let range = (part != (0..self.size)).then(|| (part.start, part.end - 1));
        let call = Call {
            method: Method::GET,
            path: format!("/v2/{}/blobs/{}", self.repository, self.digest),
            repository: &self.repository,
            accept: None,
            range,
            subject: self.subject(),
        };
        let landed = self.core.open_blob(&call, &self.digest).await?;
        let response = landed.response;
        match (response.status, range) {
            (StatusCode::OK, None) => {
                self.check_length(response.content_length(), self.size)?;
                Ok(Open {
                    body: response.into_stream(),
                    read_over: 0,
                    goes_on: false,
                })
            }
            (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                self.check_range(&response.headers, range)?;
                self.check_length(response.content_length(), part.end - part.start)?;
                Ok(Open {
                    body: response.into_stream(),
                    read_over: 0,
                    goes_on: false,
                })
            }
            (StatusCode::OK, Some(_)) => {
                self.check_length(response.content_length(), self.size)?;
                self.check_reading_over()?;
                let goes_on = self.end < self.size;
                Ok(Open {
                    body: response.into_stream(),
                    read_over: part.start,
                    goes_on,
                })
            }
            (status, _) => Err(self
                .core
                .protocol(&format!("status {} for a blob", status.as_u16()))),
        }
    }

    fn check_reading_over(&self) -> Result<(), RegistryError> {
        if self.whole || self.end <= MAX_READ_OVER_BYTES {
            return Ok(());
        }
        Err(RegistryError::Unsupported {
            subject: self.subject(),
            message: "the registry does not serve ranges of it".to_owned(),
        })
    }

    fn check_length(&self, claimed: Option<u64>, expected: u64) -> Result<(), RegistryError> {
        match claimed {
            Some(claimed) if claimed != expected => {
                let message = format!("the registry sends {claimed} bytes for {expected}");
                Err(RegistryError::corrupt(&self.subject(), &message))
            }
            _ => Ok(()),
        }
    }

    fn check_range(&self, headers: &HeaderMap, asked: (u64, u64)) -> Result<(), RegistryError> {
        let value = headers
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        let Some((first, last, total)) = value.and_then(parse_content_range) else {
            return Err(self
                .core
                .protocol("a partial reply that does not say which part it is"));
        };
        if (first, last) != asked {
            let message = format!("bytes {first}-{last} for bytes {}-{}", asked.0, asked.1);
            return Err(self.core.protocol(&message));
        }
        match total {
            Some(total) if total != self.size => {
                let message = format!("it has {total} bytes, the manifest says {}", self.size);
                Err(RegistryError::corrupt(&self.subject(), &message))
            }
            _ => Ok(()),
        }
    }
}

/// `bytes first-last/total`, where the total may be unknown.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (span, total) = rest.trim().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    let known = unit.eq_ignore_ascii_case("bytes");
    known.then_some((first.parse().ok()?, last.parse().ok()?, total))
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).expect("no more than the length of a piece in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        let cases = [
            ("bytes 0-9/10", Some((0, 9, Some(10)))),
            ("Bytes 5-9/*", Some((5, 9, None))),
            ("bytes */10", None),
            ("items 0-9/10", None),
            ("bytes 0-9", None),
            ("bytes -1-9/10", None),
            ("bytes 0-99999999999999999999999/10", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_content_range(value), expected, "{value:?}");
        }
    }
}
