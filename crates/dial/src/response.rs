//! One reply: its head at once, its body under limits.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName};

use crate::error::DialError;
use crate::limits::Limits;

/// Memory set aside before the first byte has come, whatever length the reply claims.
const MAX_INITIAL_CAPACITY: usize = 64 * 1024;

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
