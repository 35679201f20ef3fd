//! What the parent reads for a mount process that has no auth: each read is a task, whose bytes go
//! into a short queue as the socket takes them.
//!
//! What a read holds is a piece of its source and a place in that queue. The child says how much it
//! wants and when it wants it no more; it is sent nothing beyond.

use std::collections::HashMap;
use std::sync::Arc;

use credential::auth::{AuthError, Pieces, ReadError, ReadRequest};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::conversation::Answers;
use crate::wire::{
    self, Frame, MAX_BYTES, ToChild, WireRead, bounded, denied_to_wire, encode_bytes,
};

/// Reads of a mount at once: somewhat more than it has connections, since one that it has just
/// taken back may be there still.
const MAX_READS: usize = 32;

/// The child has gone away.
struct Unheard;

/// The reads of one mount. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Reads {
    answers: Arc<Answers>,
    bytes: mpsc::Sender<Frame>,
    tasks: JoinSet<()>,
    running: HashMap<u64, AbortHandle>,
}

impl Reads {
    pub(super) fn new(answers: Arc<Answers>, bytes: mpsc::Sender<Frame>) -> Self {
        Self {
            answers,
            bytes,
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    pub(super) fn begin(&mut self, read: WireRead) {
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|_, task| !task.is_finished());
        let id = read.id;
        if self.running.len() >= MAX_READS {
            let message = "the mount reads too much at once".to_owned();
            let refusal = refusal(id, &AuthError::Unreachable { message }.into());
            // A child that does not listen is told nothing.
            let _ = refusal.map(|frame| self.bytes.try_send(frame));
            return;
        }
        let (answers, bytes) = (Arc::clone(&self.answers), self.bytes.clone());
        let task = self.tasks.spawn(async move {
            if let Err(error) = send(&answers, &read, &bytes).await
                && let Some(frame) = refusal(id, &error)
            {
                let _ = bytes.send(frame).await;
            }
        });
        if let Some(earlier) = self.running.insert(id, task) {
            earlier.abort();
        }
    }

    pub(super) fn end(&mut self, id: u64) {
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
    }
}

/// Its end is heard after all bytes that came before it.
fn refusal(id: u64, error: &ReadError) -> Option<Frame> {
    let message = match error {
        ReadError::Auth(error) => ToChild::BytesDenied(denied_to_wire(id, error)),
        ReadError::NotFound => ToChild::BytesNotFound { id },
        ReadError::Corrupt { message } => ToChild::BytesCorrupt {
            id,
            message: bounded(message),
        },
    };
    wire::encode(&message).ok()
}

async fn send(
    answers: &Answers,
    read: &WireRead,
    bytes: &mpsc::Sender<Frame>,
) -> Result<(), ReadError> {
    let digest = answers.layer(&read.digest)?;
    let request = ReadRequest {
        registry: &answers.registry,
        repository: &answers.repository,
        digest: &digest,
        size_bytes: read.size_bytes,
        range: read.start..read.end,
    };
    let length = request.length().ok_or_else(|| AuthError::Refused {
        message: "the mount asks for no stretch of a layer".to_owned(),
    })?;
    let pieces = answers.auth.read(request).await?;
    match pass_on(pieces, read.id, length, bytes).await {
        Ok(told) => told,
        Err(Unheard) => Ok(()),
    }
}

/// Passes pieces on until there are as many bytes as were asked for.
async fn pass_on(
    mut pieces: Pieces,
    id: u64,
    length: u64,
    bytes: &mpsc::Sender<Frame>,
) -> Result<Result<(), ReadError>, Unheard> {
    let mut left = length;
    while left > 0 {
        let piece = match pieces.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Ok(Err(error)),
            None => return Ok(Err(ended_early())),
        };
        let Some(still_left) = left.checked_sub(piece.len() as u64) else {
            let message = "more bytes came than were asked for".to_owned();
            return Ok(Err(ReadError::Corrupt { message }));
        };
        left = still_left;
        for part in piece.chunks(MAX_BYTES) {
            let frame = encode_bytes(id, part).map_err(|_| Unheard)?;
            bytes.send(frame).await.map_err(|_| Unheard)?;
        }
    }
    Ok(Ok(()))
}

fn ended_early() -> ReadError {
    let message = "the read ended before its time".to_owned();
    AuthError::Unreachable { message }.into()
}
