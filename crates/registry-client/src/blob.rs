//! A whole blob as a stream, and stretches of it in memory.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use reference::Digest;

use crate::body::BlobReader;
use crate::error::RegistryError;
use crate::exchange::Core;
use crate::manifest::Descriptor;
use crate::verify::Hasher;

/// Memory set aside for a stretch before any byte has come.
const MAX_INITIAL_CAPACITY: usize = 1024 * 1024;

/// A blob or a stretch of it as it comes, resumed when a connection breaks. Exactly as many bytes
/// as were asked for; of a whole blob, an error after the last of them if their digest is another.
pub struct BlobStream {
    pieces: Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>,
    size: u64,
}

impl BlobStream {
    /// How many bytes will come.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, RegistryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.as_mut().poll_next(context)
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BlobStream")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Opens the whole blob; its first piece has been asked for when this returns.
pub(crate) async fn stream(
    core: Arc<Core>,
    repository: &str,
    descriptor: &Descriptor,
) -> Result<BlobStream, RegistryError> {
    let size = descriptor.size;
    let mut reader = BlobReader::new(core, repository, &descriptor.digest, size, 0..size);
    let first = reader
        .next()
        .await
        .map_err(|error| explain_foreign(descriptor, error))?;
    let state = State {
        hasher: Hasher::for_digest(&descriptor.digest),
        digest: descriptor.digest.clone(),
        reader,
        waiting: first,
    };
    let pieces = futures::stream::try_unfold(Some(state), next_piece);
    Ok(BlobStream {
        pieces: Box::pin(pieces),
        size,
    })
}

struct State {
    reader: BlobReader,
    hasher: Hasher,
    digest: Digest,
    waiting: Option<Bytes>,
}

async fn next_piece(state: Option<State>) -> Result<Option<(Bytes, Option<State>)>, RegistryError> {
    let Some(mut state) = state else {
        return Ok(None);
    };
    let piece = match state.waiting.take() {
        Some(piece) => Some(piece),
        None => state.reader.next().await?,
    };
    if let Some(piece) = piece {
        state.hasher.update(&piece);
        return Ok(Some((piece, Some(state))));
    }
    if state.hasher.matches(&state.digest) {
        return Ok(None);
    }
    Err(wrong_digest(state.reader.subject()))
}

/// The whole blob in memory.
pub(crate) async fn bytes(
    core: Arc<Core>,
    repository: &str,
    descriptor: &Descriptor,
) -> Result<Bytes, RegistryError> {
    let size = descriptor.size;
    let reader = BlobReader::new(core, repository, &descriptor.digest, size, 0..size);
    let subject = reader.subject();
    let bytes = collect(reader, size)
        .await
        .map_err(|error| explain_foreign(descriptor, error))?;
    if crate::verify::matches(&bytes, &descriptor.digest) {
        return Ok(bytes);
    }
    Err(wrong_digest(subject))
}

/// Exactly this range of the blob, unverified.
pub(crate) async fn range(
    core: Arc<Core>,
    repository: &str,
    digest: &Digest,
    size: u64,
    range: Range<u64>,
) -> Result<Bytes, RegistryError> {
    let length = range.end.saturating_sub(range.start);
    let reader = range_reader(core, repository, digest, size, range)?;
    collect(reader, length).await
}

/// The same as it comes; its first piece has been asked for when this returns.
pub(crate) async fn range_stream(
    core: Arc<Core>,
    repository: &str,
    digest: &Digest,
    size: u64,
    range: Range<u64>,
) -> Result<BlobStream, RegistryError> {
    let length = range.end.saturating_sub(range.start);
    let mut reader = range_reader(core, repository, digest, size, range)?;
    let first = reader.next().await?;
    let rest = futures::stream::try_unfold(reader, async |mut reader| {
        let piece = reader.next().await?;
        Ok(piece.map(|piece| (piece, reader)))
    });
    let first = futures::stream::iter(first.map(Ok));
    Ok(BlobStream {
        pieces: Box::pin(first.chain(rest)),
        size: length,
    })
}

fn range_reader(
    core: Arc<Core>,
    repository: &str,
    digest: &Digest,
    size: u64,
    range: Range<u64>,
) -> Result<BlobReader, RegistryError> {
    let reader = BlobReader::new(core, repository, digest, size, range.clone());
    if range.start > range.end || range.end > size {
        let message = format!(
            "{} to {} is outside its {size} bytes",
            range.start, range.end
        );
        return Err(RegistryError::corrupt(&reader.subject(), &message));
    }
    Ok(reader)
}

pub(crate) async fn collect(mut reader: BlobReader, length: u64) -> Result<Bytes, RegistryError> {
    let capacity = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .min(MAX_INITIAL_CAPACITY);
    let mut whole = BytesMut::with_capacity(capacity);
    while let Some(piece) = reader.next().await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// A layer that the registry may lawfully not have gets an error that says so. Its URLs are not an
/// alternative: they lead wherever the image's author likes.
pub(crate) fn explain_foreign(descriptor: &Descriptor, error: RegistryError) -> RegistryError {
    match error {
        RegistryError::NotFound { subject } if descriptor.is_foreign() => {
            RegistryError::Unsupported {
                subject,
                message: "it is a foreign layer that the registry does not hold, and layers are \
                          read from nowhere else"
                    .to_owned(),
            }
        }
        other => other,
    }
}

fn wrong_digest(subject: String) -> RegistryError {
    let message = "its bytes do not have this digest".to_owned();
    RegistryError::Corrupt { subject, message }
}
