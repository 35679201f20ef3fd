//! A whole blob in order, over several requests at once.
//!
//! Some storage gives each connection a part of the link only, and every connection begins slowly.
//! So a long blob is asked for in stretches, a few at a time, which are handed out in their order.
//! What has come and is not handed out yet holds its place among the requests, so that memory is
//! bounded, however slow the reader is. Storage that serves no ranges is read in one request.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blob::{collect, explain_foreign};
use crate::body::BlobReader;
use crate::error::RegistryError;
use crate::exchange::Core;
use crate::manifest::Descriptor;

/// A stretch. At 200 Mbit/s it takes four round trips of 20 ms, so that the wait for an answer is
/// short beside it, and eight of them are as much memory as may be had.
const STRETCH_BYTES: u64 = 2 * 1024 * 1024;

/// Requests for one blob at once. One of them waits for its first byte while the others use the
/// link; a flow that gets a quarter of the link is four times as fast so.
const PER_BLOB: usize = 6;

/// Requests for all blobs of a pass at once: what a browser opens to one host, and somewhat more.
const AT_ONCE: usize = 8;

/// A blob that is no longer than so many stretches is read in one request.
const FEW_STRETCHES: u64 = 2;

/// How many requests the blobs that share it may have under way.
#[derive(Clone, Debug)]
pub struct Flows(Arc<Semaphore>);

impl Default for Flows {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// The next bytes of a blob. They hold their place until they are dropped.
#[derive(Debug)]
pub struct Part {
    pub bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

/// A blob in parts, as long as its descriptor says; not verified.
pub struct BlobParts(Pin<Box<dyn Stream<Item = Result<Part, RegistryError>> + Send>>);

impl BlobParts {
    /// The next part, or `None` after the last byte.
    pub async fn next(&mut self) -> Result<Option<Part>, RegistryError> {
        self.0.try_next().await
    }
}

impl fmt::Debug for BlobParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BlobParts")
    }
}

/// What is read, and from where.
#[derive(Clone)]
struct Source {
    core: Arc<Core>,
    repository: String,
    descriptor: Descriptor,
}

pub(crate) fn parts(
    core: Arc<Core>,
    repository: &str,
    descriptor: &Descriptor,
    flows: &Flows,
) -> BlobParts {
    let source = Source {
        core,
        repository: repository.to_owned(),
        descriptor: descriptor.clone(),
    };
    if descriptor.size <= FEW_STRETCHES * STRETCH_BYTES {
        return BlobParts(Box::pin(source.whole(0)));
    }
    let stretches = {
        let (source, flows) = (source.clone(), flows.clone());
        let requests = stretches(descriptor.size).map(move |range| {
            let (source, flows) = (source.clone(), flows.clone());
            async move { source.stretch(range, &flows).await }
        });
        stream::iter(requests).buffered(PER_BLOB)
    };
    let state = State::Stretches {
        parts: Box::pin(stretches),
        source,
        position: 0,
    };
    BlobParts(Box::pin(stream::try_unfold(state, State::next)))
}

fn stretches(size: u64) -> impl Iterator<Item = Range<u64>> + Send {
    let starts = (0..size).step_by(usize::try_from(STRETCH_BYTES).expect("a short stretch"));
    starts.map(move |start| start..size.min(start.saturating_add(STRETCH_BYTES)))
}

type Parts = Pin<Box<dyn Stream<Item = Result<Part, RegistryError>> + Send>>;

enum State {
    Stretches {
        parts: Parts,
        source: Source,
        position: u64,
    },
    /// The storage serves no ranges.
    Whole(Parts),
}

impl State {
    async fn next(self) -> Result<Option<(Part, Self)>, RegistryError> {
        let (mut parts, source, position) = match self {
            Self::Whole(mut parts) => {
                let part = parts.try_next().await?;
                return Ok(part.map(|part| (part, Self::Whole(parts))));
            }
            Self::Stretches {
                parts,
                source,
                position,
            } => (parts, source, position),
        };
        match parts.try_next().await {
            Ok(None) => Ok(None),
            Ok(Some(part)) => {
                let position = position + part.bytes.len() as u64;
                let next = Self::Stretches {
                    parts,
                    source,
                    position,
                };
                Ok(Some((part, next)))
            }
            Err(RegistryError::Unsupported { .. }) => {
                // Gives back the places of those that are under way.
                drop(parts);
                let mut parts: Parts = Box::pin(source.whole(position));
                let part = parts.try_next().await?;
                Ok(part.map(|part| (part, Self::Whole(parts))))
            }
            Err(error) => Err(error),
        }
    }
}

impl Source {
    fn reader(&self, range: Range<u64>) -> BlobReader {
        let Descriptor { digest, size, .. } = &self.descriptor;
        BlobReader::new(
            Arc::clone(&self.core),
            &self.repository,
            digest,
            *size,
            range,
        )
    }

    async fn stretch(&self, range: Range<u64>, flows: &Flows) -> Result<Part, RegistryError> {
        let place = Arc::clone(&flows.0).acquire_owned().await;
        let length = range.end - range.start;
        let reader = self.reader(range).only_by_range();
        let bytes = collect(reader, length).await;
        Ok(Part {
            bytes: bytes.map_err(|error| explain_foreign(&self.descriptor, error))?,
            _place: place.ok(),
        })
    }

    /// The blob from `position` on, in one request.
    fn whole(self, position: u64) -> impl Stream<Item = Result<Part, RegistryError>> + Send {
        let reader = self.reader(0..self.descriptor.size);
        let descriptor = self.descriptor;
        stream::try_unfold((reader, position), async |(mut reader, mut before)| {
            while let Some(mut bytes) = reader.next().await? {
                let over = usize::try_from(before)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                before -= over as u64;
                let _ = bytes.split_to(over);
                if !bytes.is_empty() {
                    let part = Part {
                        bytes,
                        _place: None,
                    };
                    return Ok(Some((part, (reader, before))));
                }
            }
            Ok(None)
        })
        .map_err(move |error| explain_foreign(&descriptor, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_a_blob_once() {
        for size in [1, STRETCH_BYTES, STRETCH_BYTES + 1, 5 * STRETCH_BYTES - 1] {
            let all: Vec<_> = stretches(size).collect();
            assert_eq!(all.first().map(|first| first.start), Some(0));
            assert_eq!(all.last().map(|last| last.end), Some(size));
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(all.iter().all(|range| range.start < range.end));
        }
    }
}
