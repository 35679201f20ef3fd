//! Reading a stretch of a blob to its last byte, over as many connections as it takes.
//!
//! A stretch is read from one reply while it lasts; when that breaks off, the rest is asked for by
//! `Range`. Tries are counted from the last real progress, so that a long read over a bad link ends
//! and a reply that drips a byte at a time does not go on for ever. What a source reads in our
//! place comes in several replies where the stretch is long, and is counted like any other.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use credential::auth::Pieces;
use dial::header::{CONTENT_RANGE, HeaderMap};
use dial::{BodyStream, Method, StatusCode};
use futures::StreamExt;
use reference::Digest;

use crate::error::RegistryError;
use crate::exchange::{Call, Core};
use crate::follow::Landed;
use crate::opening::{Opened, Stretch, by_source};
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
    /// A stretch that ends after this is not read from a reply that is all of the blob. For the
    /// whole blob reading over is never refused.
    read_over_max: u64,
    open: Option<Open>,
    attempts: Attempts,
    /// `position` when tries were last counted from zero.
    counted_from: u64,
}

struct Open {
    body: Body,
    /// Bytes that come before the stretch.
    read_over: u64,
    /// Whether the reply goes on after the stretch.
    goes_on: bool,
    /// The byte after the last that is wanted of this reply.
    until: u64,
}

enum Body {
    Registry(BodyStream),
    Source(Pieces),
}

impl BlobReader {
    pub(crate) fn new(
        core: Arc<Core>,
        repository: &str,
        digest: &Digest,
        size: u64,
        stretch: Range<u64>,
    ) -> Self {
        let whole = stretch == (0..size);
        let attempts = if whole {
            Attempts::resuming(core.retry)
        } else {
            Attempts::new(core.retry)
        };
        Self {
            core,
            repository: repository.to_owned(),
            digest: digest.clone(),
            size,
            read_over_max: if whole { u64::MAX } else { MAX_READ_OVER_BYTES },
            position: stretch.start,
            end: stretch.end,
            open: None,
            attempts,
            counted_from: stretch.start,
        }
    }

    /// A part of a blob that is read whole: it is resumed as that would be, and what comes of a
    /// registry that ignores `Range` is of no use.
    pub(crate) fn only_by_range(mut self) -> Self {
        self.read_over_max = 0;
        self.attempts = Attempts::resuming(self.core.retry);
        self
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
                match self.open().await {
                    Ok(open) => self.open = Some(open),
                    Err(error) => {
                        self.after_break(error).await?;
                        continue;
                    }
                }
            }
            match self.piece().await {
                Ok(Some(piece)) => return Ok(Some(piece)),
                Ok(None) => self.check_part().await?,
                Err(error) => {
                    self.attempts.broke_off();
                    self.after_break(error).await?;
                }
            }
        }
        self.check_end().await?;
        Ok(None)
    }

    /// A reply that was asked for a part of the stretch makes way for the next one at its end.
    async fn check_part(&mut self) -> Result<(), RegistryError> {
        let is_over = |open: &Open| open.until <= self.position;
        if self.open.as_ref().is_some_and(is_over) {
            self.check_end().await?;
        }
        Ok(())
    }

    /// One piece of the open reply; `Ok(None)` when it was all before the stretch.
    async fn piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let subject = self.subject();
        let open = self.open.as_mut().expect("opened by the caller");
        if open.until <= self.position {
            return Ok(None);
        }
        let Some(piece) = open.body.next(&self.core.name, &subject).await else {
            let message = "the reply ended before its time".to_owned();
            return Err(RegistryError::Unreachable {
                registry: self.core.name.clone(),
                message,
            });
        };
        let mut piece = piece?;
        self.core.counters.count_bytes(piece.len());
        let before = open.read_over.min(piece.len() as u64);
        open.read_over -= before;
        let _ = piece.split_to(to_usize(before));
        let left = open.until - self.position;
        if piece.len() as u64 > left {
            if !open.goes_on {
                return Err(RegistryError::corrupt(
                    &subject,
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
        let subject = self.subject();
        while let Some(Ok(piece)) = open.body.next(&self.core.name, &subject).await {
            if !piece.is_empty() {
                return Err(RegistryError::corrupt(
                    &subject,
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
        let stretch = Stretch {
            digest: &self.digest,
            size: self.size,
            range: part.clone(),
        };
        match self.core.open_blob(&call, &stretch).await? {
            Opened::Registry(landed) => self.reply(*landed, part, range),
            Opened::Source { pieces, until } => Ok(Open {
                body: Body::Source(pieces),
                read_over: 0,
                goes_on: false,
                until,
            }),
        }
    }

    /// The registry's answer to the question for a part, with its first and last byte where it is
    /// not the whole blob.
    fn reply(
        &self,
        landed: Landed,
        part: Range<u64>,
        asked: Option<(u64, u64)>,
    ) -> Result<Open, RegistryError> {
        let response = landed.response;
        let (read_over, goes_on) = match (response.status, asked) {
            (StatusCode::OK, None) => {
                self.check_length(response.content_length(), self.size)?;
                (0, false)
            }
            (StatusCode::PARTIAL_CONTENT, Some(asked)) => {
                self.check_range(&response.headers, asked)?;
                self.check_length(response.content_length(), part.end - part.start)?;
                (0, false)
            }
            (StatusCode::OK, Some(_)) => {
                self.check_length(response.content_length(), self.size)?;
                self.check_reading_over()?;
                (part.start, self.end < self.size)
            }
            (status, _) => {
                let message = format!("status {} for a blob", status.as_u16());
                return Err(self.core.protocol(&message));
            }
        };
        Ok(Open {
            body: Body::Registry(response.into_stream()),
            read_over,
            goes_on,
            until: part.end,
        })
    }

    fn check_reading_over(&self) -> Result<(), RegistryError> {
        if self.end <= self.read_over_max {
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

    fn check_total(&self, total: Option<u64>) -> Result<(), RegistryError> {
        match total {
            Some(total) if total != self.size => {
                let message = format!("it has {total} bytes, the manifest says {}", self.size);
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
        // What is shorter than it was said to be cannot give what was asked either.
        self.check_total(total)?;
        if (first, last) != asked {
            let message = format!("bytes {first}-{last} for bytes {}-{}", asked.0, asked.1);
            return Err(self.core.protocol(&message));
        }
        Ok(())
    }
}

impl Body {
    async fn next(
        &mut self,
        registry: &str,
        subject: &str,
    ) -> Option<Result<Bytes, RegistryError>> {
        match self {
            Self::Registry(body) => {
                let piece = body.next().await?;
                Some(piece.map_err(|error| RegistryError::from_dial(registry, &error)))
            }
            Self::Source(pieces) => {
                let piece = pieces.next().await?;
                Some(piece.map_err(|error| by_source(error, subject)))
            }
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
