//! Reading for a container's mount that is given nothing to read with.
//!
//! Only layers of the container's image, a bounded stretch at a time, a few at once, and no longer
//! than a minute or the container lives: what is cut off is asked for again where it ended. A read
//! holds a piece, and what its stream's window takes; it ends when its worker stops listening.
//!
//! Whether the worker could have read by itself is not asked: it gets what it may read in any case,
//! at the price of these turns alone, and a version that came after it was told to read here may be
//! one that it could hold.

use std::sync::Arc;
use std::time::Duration;

use broker::Lease;
use bytes::Bytes;
use credential::auth::{AuthSource, Pieces, ReadError, ReadRequest};
use futures::{Stream, StreamExt, stream};
use reference::Digest;
use tonic::Status;
use worker_protocol::{MAX_PIECE_BYTES, NotFound, ReadPiece, ReadQuestion, read_piece};

use super::auth::{NO_SUCH_LAYER, wire_denial};
use super::connection::{Answers, Connection};
use super::container::Container;

/// Longest read, its wait for a turn included. A mount gives up a request of its own after as long.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

const NO_STRETCH: &str = "no stretch of a layer, or too long a one";

/// A read of a layer that the container has.
struct Asked {
    container: Arc<Container>,
    digest: Digest,
    question: ReadQuestion,
}

impl Connection {
    pub(super) async fn answer_read(
        &self,
        mut question: ReadQuestion,
    ) -> Result<Answers<ReadPiece>, Status> {
        let origin = (&*question.registry, &*question.repository);
        let delivery = question.delivery.as_ref();
        let container = self.reader(delivery, origin, "read").await?;
        let reading = &container.given.reading;
        let Some(digest) = reading.layer(&question.digest).cloned() else {
            return Err(self.forbid(&container, "read", NO_SUCH_LAYER).await);
        };
        let stamp = question.stamp.take();
        let asked = Asked {
            container: Arc::clone(&container),
            digest,
            question,
        };
        // Looked at before its number is spent.
        if asked.request().length().is_none() {
            return Err(self.forbid(&container, "read", NO_STRETCH).await);
        }
        let lease = match self.admit(&container, stamp, "read").await? {
            Ok(lease) => lease,
            Err(error) => {
                let last = stream::iter([Ok(last(&error.into()))]);
                return Ok(Box::pin(last));
            }
        };
        let pieces = stream::once(asked.read(lease)).flatten();
        let until = async move {
            let gone = container.gone();
            let _either = tokio::time::timeout(READ_TIMEOUT, gone).await;
        };
        Ok(Box::pin(pieces.take_until(until).map(Ok)))
    }
}

impl Asked {
    fn request(&self) -> ReadRequest<'_> {
        let (reading, question) = (&self.container.given.reading, &self.question);
        ReadRequest {
            registry: &reading.registry,
            repository: &reading.repository,
            digest: &self.digest,
            size_bytes: question.size_bytes,
            range: question.offset..question.offset.saturating_add(question.length_bytes),
        }
    }

    /// Waits for its turn, and reads.
    async fn read(self, lease: Arc<Lease>) -> impl Stream<Item = ReadPiece> + Send {
        let turns = [&self.container.reads, &self.container.link.reads];
        let turns = turns.map(|turns| Arc::clone(turns).acquire_owned());
        let [own, all] = turns;
        let turns = (own.await, all.await);
        let pieces: Pieces = match lease.read(self.request()).await {
            Ok(pieces) => pieces,
            Err(error) => Box::pin(stream::iter([Err(error)])),
        };
        pieces
            .flat_map(|piece| stream::iter(parts(piece)))
            .inspect(move |_| {
                let _until_dropped = &turns;
            })
    }
}

/// A piece in parts that leave others their turn.
fn parts(piece: Result<Bytes, ReadError>) -> Vec<ReadPiece> {
    let mut piece = match piece {
        Ok(piece) => piece,
        Err(error) => return vec![last(&error)],
    };
    let mut parts = Vec::new();
    while !piece.is_empty() {
        let part = piece.split_to(piece.len().min(MAX_PIECE_BYTES));
        let piece = Some(read_piece::Piece::Data(part));
        parts.push(ReadPiece { piece });
    }
    parts
}

fn last(error: &ReadError) -> ReadPiece {
    let piece = match error {
        ReadError::Auth(error) => read_piece::Piece::Denial(wire_denial(error)),
        ReadError::NotFound => read_piece::Piece::NotFound(NotFound {}),
        ReadError::Corrupt { message } => read_piece::Piece::Corrupt(message.clone()),
    };
    ReadPiece { piece: Some(piece) }
}
