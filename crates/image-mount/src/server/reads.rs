//! What the parent reads for this process, which has no auth: stretches of layers, several at once,
//! each in pieces that come between those of the others.
//!
//! No more is kept of a read than was asked for. One that nobody waits for any more is taken back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use credential::auth::{AuthError, Pieces, ReadError, ReadRequest};
use tokio::sync::mpsc;

use crate::wire::{self, Frame, ToParent, WireRead};

/// How long the parent may be silent: the registry may be slow, and is asked again.
const PIECE_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct RemoteReads {
    /// Weak, so that the socket can close while readers still wait.
    frames: mpsc::WeakSender<Frame>,
    waiting: Waiting,
    next: AtomicU64,
}

/// Who waits for which read.
type Waiting = Arc<Mutex<HashMap<u64, Expected>>>;

#[derive(Debug)]
struct Expected {
    left: u64,
    /// Of what is left at most.
    pieces: mpsc::UnboundedSender<Result<Bytes, ReadError>>,
}

impl RemoteReads {
    pub(super) fn new(frames: mpsc::WeakSender<Frame>) -> Self {
        Self {
            frames,
            waiting: Waiting::default(),
            next: AtomicU64::default(),
        }
    }

    /// Bytes of a read. Those of one that was taken back are dropped.
    pub(super) fn take(&self, id: u64, bytes: Bytes) {
        let mut waiting = lock(&self.waiting);
        let Some(expected) = waiting.get_mut(&id) else {
            return;
        };
        let Some(left) = expected.left.checked_sub(bytes.len() as u64) else {
            let _ = expected.pieces.send(Err(too_many()));
            waiting.remove(&id);
            return;
        };
        expected.left = left;
        let _ = expected.pieces.send(Ok(bytes));
        if left == 0 {
            waiting.remove(&id);
        }
    }

    /// The parent does not read any more of it.
    pub(super) fn fail(&self, id: u64, error: ReadError) {
        if let Some(expected) = lock(&self.waiting).remove(&id) {
            let _ = expected.pieces.send(Err(error));
        }
    }

    pub(super) async fn read(&self, request: ReadRequest<'_>) -> Result<Pieces, ReadError> {
        let left = request.length().ok_or_else(|| AuthError::Internal {
            message: "no such stretch of a layer can be read".to_owned(),
        })?;
        let frames = self.frames.upgrade().ok_or_else(|| gone("is ending"))?;
        let id = self.next.fetch_add(1, Relaxed);
        let question = ToParent::WantBytes(WireRead {
            id,
            digest: request.digest.to_string(),
            size_bytes: request.size_bytes,
            start: request.range.start,
            end: request.range.end,
        });
        let frame = wire::encode(&question).map_err(|error| AuthError::Internal {
            message: error.to_string(),
        })?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let expected = Expected {
            left,
            pieces: sender,
        };
        lock(&self.waiting).insert(id, expected);
        let read = Read {
            id,
            receiver,
            waiting: Arc::clone(&self.waiting),
            frames: self.frames.clone(),
        };
        frames.send(frame).await.map_err(|_| gone("is gone"))?;
        Ok(Box::pin(futures::stream::unfold(read, next_piece)))
    }
}

/// A read that is under way. Dropping it takes it back.
struct Read {
    id: u64,
    receiver: mpsc::UnboundedReceiver<Result<Bytes, ReadError>>,
    waiting: Waiting,
    frames: mpsc::WeakSender<Frame>,
}

impl Drop for Read {
    fn drop(&mut self) {
        if lock(&self.waiting).remove(&self.id).is_none() {
            return;
        }
        let taking_back = wire::encode(&ToParent::NoMoreBytes { id: self.id });
        if let (Ok(frame), Some(frames)) = (taking_back, self.frames.upgrade()) {
            // Where the queue is full, what comes is dropped.
            let _ = frames.try_send(frame);
        }
    }
}

async fn next_piece(mut read: Read) -> Option<(Result<Bytes, ReadError>, Read)> {
    let piece = match tokio::time::timeout(PIECE_TIMEOUT, read.receiver.recv()).await {
        Ok(piece) => piece?,
        Err(_) => Err(gone("read nothing for too long")),
    };
    Some((piece, read))
}

fn gone(what: &str) -> ReadError {
    let message = format!("holdfast {what}");
    AuthError::Unreachable { message }.into()
}

fn too_many() -> ReadError {
    let message = "holdfast sent more than it was asked for".to_owned();
    ReadError::Corrupt { message }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, Expected>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use reference::{Digest, Registry};

    use super::*;

    struct Stage {
        reads: RemoteReads,
        _frames: mpsc::Sender<Frame>,
        questions: mpsc::Receiver<Frame>,
    }

    impl Stage {
        fn new() -> Self {
            let (sender, questions) = mpsc::channel(8);
            Self {
                reads: RemoteReads::new(sender.downgrade()),
                _frames: sender,
                questions,
            }
        }

        async fn read(&self, range: std::ops::Range<u64>) -> Result<Pieces, ReadError> {
            let registry = Registry::parse("localhost:5000").unwrap();
            let digest = Digest::sha256([7; 32]);
            let request = ReadRequest {
                registry: &registry,
                repository: "acme/fn",
                digest: &digest,
                size_bytes: 100,
                range,
            };
            self.reads.read(request).await
        }

        fn question(&mut self) -> ToParent {
            let frame = self.questions.try_recv().expect("a question");
            wire::PROTOCOL.decode(&frame[4..]).unwrap()
        }

        fn asked(&mut self) -> WireRead {
            match self.question() {
                ToParent::WantBytes(read) => read,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn whole(pieces: Pieces) -> Vec<Result<Bytes, ReadError>> {
        pieces.collect().await
    }

    #[tokio::test]
    async fn reads_at_once_get_their_own_bytes() {
        let mut stage = Stage::new();
        let one = stage.read(0..6).await.unwrap();
        let other = stage.read(6..8).await.unwrap();
        let (first, second) = (stage.asked(), stage.asked());
        assert_eq!((first.start, first.end, first.size_bytes), (0, 6, 100));
        stage.reads.take(first.id, "abc".into());
        stage.reads.take(second.id, "xy".into());
        stage.reads.take(first.id, "def".into());
        assert_eq!(whole(other).await, [Ok("xy".into())]);
        assert_eq!(whole(one).await, [Ok("abc".into()), Ok("def".into())]);
        assert!(stage.questions.try_recv().is_err(), "nothing is taken back");
    }

    #[tokio::test]
    async fn more_than_was_asked_for_is_an_error_and_not_kept() {
        let mut stage = Stage::new();
        let pieces = stage.read(0..4).await.unwrap();
        let id = stage.asked().id;
        stage.reads.take(id, "abc".into());
        stage.reads.take(id, "de".into());
        stage.reads.take(id, "more".into());
        assert_eq!(whole(pieces).await, [Ok("abc".into()), Err(too_many())]);
        for range in [0..0, 0..101] {
            assert!(stage.read(range).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_is_taken_back() {
        let mut stage = Stage::new();
        let pieces = stage.read(0..4).await.unwrap();
        let asked = stage.asked().id;
        drop(pieces);
        let ToParent::NoMoreBytes { id } = stage.question() else {
            panic!("not taken back");
        };
        assert_eq!(id, asked);
        stage.reads.take(id, "late".into());
        assert!(lock(&stage.reads.waiting).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_and_silence_end_a_read() {
        let mut stage = Stage::new();
        let pieces = stage.read(0..4).await.unwrap();
        let id = stage.asked().id;
        stage.reads.take(id, "a".into());
        let message = "no such blob".to_owned();
        let error = ReadError::Corrupt { message };
        stage.reads.fail(id, error.clone());
        assert_eq!(whole(pieces).await, [Ok("a".into()), Err(error)]);
        let mut pieces = stage.read(0..4).await.unwrap();
        let silence = pieces.next().await.unwrap().unwrap_err();
        assert!(matches!(silence, ReadError::Auth(error) if error.is_transient()));
    }
}
