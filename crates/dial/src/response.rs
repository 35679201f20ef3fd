//! One reply: its head at once, its body under limits.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::error::DialError;
use crate::limits::Limits;

/// Memory set aside before the first byte has come, whatever length the reply claims.
const MAX_INITIAL_CAPACITY: usize = 64 * 1024;

/// Longest wait that a host can ask for and be obeyed; beyond it, the caller is told.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A reply whose body has not been read.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    inner: reqwest::Response,
    host: String,
    limits: Limits,
}

impl Response {
    pub(crate) fn new(inner: reqwest::Response, host: String, limits: Limits) -> Self {
        Self {
            status: inner.status(),
            headers: inner.headers().clone(),
            inner,
            host,
            limits,
        }
    }

    /// The value of a header, when it is there and is text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The length that the reply claims for its body.
    pub fn content_length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// When it was sent, by the clock of who sent it, where it says so.
    pub fn date(&self) -> Option<Timestamp> {
        let date = jiff::fmt::rfc2822::parse(self.header(&DATE)?).ok()?;
        Some(date.timestamp())
    }

    /// How long it asks to wait. A date is one of the clock of who sent it.
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.header(&RETRY_AFTER)?;
        parse_retry_after(value, self.date().unwrap_or_else(Timestamp::now))
    }

    /// The body as it comes. A pause longer than the idle limit ends it with an error.
    pub fn into_stream(self) -> BodyStream {
        let Self {
            inner,
            host,
            limits,
            ..
        } = self;
        let body = Box::pin(inner.bytes_stream());
        let pieces = futures::stream::unfold(Some(body), move |body| {
            let host = host.clone();
            async move {
                let mut body = body?;
                match tokio::time::timeout(limits.idle, body.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
                    Ok(Some(Err(error))) => {
                        Some((Err(DialError::from_http(&host, &error, true)), None))
                    }
                    Err(_) => {
                        let message = "nothing came for too long".to_owned();
                        Some((Err(DialError::Interrupted { host, message }), None))
                    }
                }
            }
        });
        BodyStream(Box::pin(pieces))
    }

    /// The whole body, when it is no longer than `limit_bytes` and comes in good time.
    pub async fn read_bounded(self, limit_bytes: usize) -> Result<Bytes, DialError> {
        let host = self.host.clone();
        let too_large = || DialError::TooLarge {
            host: host.clone(),
            limit_bytes,
        };
        let claimed = self.content_length().unwrap_or(0);
        if claimed > limit_bytes as u64 {
            return Err(too_large());
        }
        let deadline = self.limits.bounded_body;
        let read = async {
            let capacity = usize::try_from(claimed)
                .unwrap_or(0)
                .min(MAX_INITIAL_CAPACITY);
            let mut whole = BytesMut::with_capacity(capacity);
            let mut stream = self.into_stream();
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                if whole.len() + piece.len() > limit_bytes {
                    return Err(too_large());
                }
                whole.extend_from_slice(&piece);
            }
            Ok(whole.freeze())
        };
        tokio::time::timeout(deadline, read)
            .await
            .unwrap_or_else(|_| {
                let message = "the body took too long".to_owned();
                Err(DialError::Interrupted {
                    host: host.clone(),
                    message,
                })
            })
    }
}

impl fmt::Debug for Response {
    /// Headers stay out: `Location` may be a signed URL.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Response")
            .field("host", &self.host)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A body as it comes. Ends after its first error.
pub struct BodyStream(Pin<Box<dyn Stream<Item = Result<Bytes, DialError>> + Send>>);

impl Stream for BodyStream {
    type Item = Result<Bytes, DialError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BodyStream")
    }
}

/// Seconds, or a date of HTTP. Bounded, so that a caller may add it to anything.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()).min(MAX_RETRY_AFTER));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait = Duration::try_from(date.duration_since(now)).unwrap_or_default();
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_and_bounded() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let cases = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("999999999", Some(3600)),
            ("Thu, 01 Jan 2026 00:00:09 GMT", Some(9)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, now), expected, "{value:?}");
        }
    }
}
