//! The parent's end of the control socket: questions and their answers, and the child's questions
//! for auth, for bytes and for room in the cache, each answered in a task of its own so that a slow
//! token service holds up nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credential::auth::{
    AuthError, AuthRequest, AuthSource, LocationRequest, ReadFrom, Rejection, SharedRequest,
};
use image_fs::{Room, SpanCache};
use reference::{Digest, Registry};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::reads::Reads;
use crate::request::{LayerRef, MountLog, MountRequest};
use crate::wire::{
    self, Frame, MAX_BYTES_QUEUED, MAX_QUEUED, ToChild, ToParent, WireAuth, WireError, WireFilled,
    WireLocation, WireRefused, WireShared, WireStats, denied_to_wire,
};

/// Questions that are worked on at once. The child asks for auth one at a time, for a location once
/// for each layer, whether that is shared too, and for room from a few threads; more is a child
/// gone wrong, which then waits.
const MAX_QUESTIONS: usize = 8;

/// Number of the one answer to the request to mount or to fill, and of the one to `stop`; questions
/// count from 1 up and never get there.
const MOUNT: u64 = 0;
const STOP: u64 = u64::MAX;

/// What the child answered.
#[derive(Debug)]
pub(super) enum Reply {
    Mounted,
    Refused(WireRefused),
    Stats(WireStats),
    Trace(Vec<(u32, u32, u32)>),
    Stopped(WireStats),
    Filled(WireFilled, WireStats),
}

/// Who answers the child's questions, and for what. The child does not choose.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) auth: Arc<dyn AuthSource>,
    pub(super) registry: Registry,
    pub(super) repository: String,
    /// The digests of its image's layers.
    pub(super) layers: Vec<String>,
    pub(super) cache: SpanCache,
}

/// Who waits for which answer; nobody any more once the child's end of the socket has closed.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>;

#[derive(Debug)]
pub(super) struct Conversation {
    frames: Option<mpsc::Sender<Frame>>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    reader: AbortHandle,
    writer: AbortHandle,
}

impl Conversation {
    pub(super) fn start(
        socket: UnixStream,
        answers: Answers,
        logs: mpsc::Sender<MountLog>,
    ) -> Self {
        let (reader, writer) = socket.into_split();
        let (frames, queue) = mpsc::channel(MAX_QUEUED);
        let (bytes, bytes_queue) = mpsc::channel(MAX_BYTES_QUEUED);
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let answers = Arc::new(answers);
        let listener = Listener {
            waiting: Arc::clone(&waiting),
            frames: frames.downgrade(),
            reads: Reads::new(Arc::clone(&answers), bytes),
            answers,
            logs,
        };
        let reader = tokio::spawn(listener.listen(reader)).abort_handle();
        let writing = wire::send_with_bytes(writer, queue, bytes_queue);
        let writer = tokio::spawn(writing).abort_handle();
        let next = AtomicU64::new(MOUNT + 1);
        Self {
            frames: Some(frames),
            waiting,
            next,
            reader,
            writer,
        }
    }

    pub(super) async fn mount(
        &self,
        message: &ToChild,
        timeout: Duration,
    ) -> Result<Reply, WireError> {
        self.exchange(MOUNT, message, timeout).await
    }

    pub(super) async fn ask(
        &self,
        question: impl FnOnce(u64) -> ToChild,
        timeout: Duration,
    ) -> Result<Reply, WireError> {
        let id = self.next.fetch_add(1, Relaxed);
        self.exchange(id, &question(id), timeout).await
    }

    pub(super) async fn stop(&self, timeout: Duration) -> Result<Reply, WireError> {
        self.exchange(STOP, &ToChild::Stop {}, timeout).await
    }

    async fn exchange(
        &self,
        id: u64,
        message: &ToChild,
        timeout: Duration,
    ) -> Result<Reply, WireError> {
        let closed = || WireError::Io(std::io::ErrorKind::BrokenPipe.into());
        let frame = wire::encode(message)?;
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting)
            .as_mut()
            .ok_or_else(closed)?
            .insert(id, sender);
        let answer = async {
            let frames = self.frames.as_ref().ok_or_else(closed)?;
            frames.send(frame).await.map_err(|_| closed())?;
            receiver.await.map_err(|_| closed())
        };
        let answer = tokio::time::timeout(timeout, answer).await;
        take(&self.waiting, id);
        answer.unwrap_or_else(|_| Err(WireError::Io(std::io::ErrorKind::TimedOut.into())))
    }

    /// Closes our end, so that the child ends.
    pub(super) fn close(&mut self) {
        self.frames = None;
        self.reader.abort();
        self.writer.abort();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Reply>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(waiting: &Waiting, id: u64) -> Option<oneshot::Sender<Reply>> {
    lock(waiting).as_mut()?.remove(&id)
}

struct Listener {
    waiting: Arc<Waiting>,
    /// Weak, so that the socket closes when the handle is dropped.
    frames: mpsc::WeakSender<Frame>,
    answers: Arc<Answers>,
    /// Ends with the listening, as every question does.
    reads: Reads,
    logs: mpsc::Sender<MountLog>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        *lock(&self.waiting) = None;
    }
}

impl Listener {
    async fn listen(mut self, mut reader: OwnedReadHalf) {
        let turns = Arc::new(Semaphore::new(MAX_QUESTIONS));
        // Ends with this task: nothing is sought for a mount that is gone.
        let mut questions = JoinSet::new();
        loop {
            let message = match wire::receive(&mut reader).await {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "mount process");
                    return;
                }
            };
            let (id, reply) = match message {
                ToParent::Mounted {} => (MOUNT, Reply::Mounted),
                ToParent::Refused(refused) => (MOUNT, Reply::Refused(refused)),
                ToParent::Stats { id, stats } => (id, Reply::Stats(stats)),
                ToParent::Trace { id, entries } => (id, Reply::Trace(entries)),
                ToParent::Stopped { stats } => (STOP, Reply::Stopped(stats)),
                ToParent::Filled { filled, stats } => (MOUNT, Reply::Filled(filled, stats)),
                ToParent::Log(log) => {
                    let _ = self.logs.try_send(log.into());
                    continue;
                }
                ToParent::Verified(_) => continue,
                ToParent::WantAuth { id, rejected } => {
                    let answer = Question::Auth(rejected.map(Rejection::from));
                    self.work_on(id, answer, &turns, &mut questions).await;
                    continue;
                }
                ToParent::WantLocation {
                    id,
                    digest,
                    refused,
                } => {
                    let answer = Question::Location { digest, refused };
                    self.work_on(id, answer, &turns, &mut questions).await;
                    continue;
                }
                ToParent::WantShared { id, digest } => {
                    let answer = Question::Shared { digest };
                    self.work_on(id, answer, &turns, &mut questions).await;
                    continue;
                }
                ToParent::WantBytes(read) => {
                    self.reads.begin(read);
                    continue;
                }
                ToParent::NoMoreBytes { id } => {
                    self.reads.end(id);
                    continue;
                }
                ToParent::WantRoom { id, disk_full } => {
                    let answer = Question::Room { disk_full };
                    self.work_on(id, answer, &turns, &mut questions).await;
                    continue;
                }
                ToParent::WantSpare { id, bytes } => {
                    let answer = Question::Spare { bytes };
                    self.work_on(id, answer, &turns, &mut questions).await;
                    continue;
                }
            };
            if let Some(sender) = take(&self.waiting, id) {
                let _ = sender.send(reply);
            }
        }
    }

    /// Answers in a task of its own, when it is its turn.
    async fn work_on(
        &self,
        id: u64,
        question: Question,
        turns: &Arc<Semaphore>,
        questions: &mut JoinSet<()>,
    ) {
        while questions.try_join_next().is_some() {}
        let turn = Arc::clone(turns).acquire_owned().await;
        let answers = Arc::clone(&self.answers);
        let frames = self.frames.clone();
        questions.spawn(async move {
            let message = answers.answer(id, question).await;
            if let (Ok(frame), Some(frames)) = (wire::encode(&message), frames.upgrade()) {
                let _ = frames.send(frame).await;
            }
            drop(turn);
        });
    }
}

/// What the child wants.
enum Question {
    Auth(Option<Rejection>),
    Location {
        digest: String,
        refused: Option<u64>,
    },
    Shared {
        digest: String,
    },
    Room {
        disk_full: Option<u64>,
    },
    Spare {
        bytes: u64,
    },
}

impl Answers {
    /// Of the image that is to be served.
    pub(super) fn to(request: &MountRequest, auth: Arc<dyn AuthSource>) -> Self {
        let digest_of = |layer: &LayerRef| layer.index.header.layer_digest.clone();
        Self {
            auth,
            registry: request.registry.clone(),
            repository: request.repository.clone(),
            layers: request.layers.iter().map(digest_of).collect(),
            cache: request.cache.clone(),
        }
    }

    async fn answer(&self, id: u64, question: Question) -> ToChild {
        match question {
            Question::Auth(rejected) => self.auth(id, rejected).await,
            Question::Location { digest, refused } => self.location(id, &digest, refused).await,
            Question::Shared { digest } => self.shared(id, &digest).await,
            Question::Room { disk_full } => {
                let look = move |cache: SpanCache| match disk_full {
                    Some(bytes) => cache.make(bytes),
                    None => cache.is_within_limit(),
                };
                self.room(id, look).await
            }
            Question::Spare { bytes } => self.room(id, move |cache| cache.has_spare(bytes)).await,
        }
    }

    async fn auth(&self, id: u64, rejected: Option<Rejection>) -> ToChild {
        let request = AuthRequest {
            registry: &self.registry,
            repository: &self.repository,
            rejected,
        };
        match self.auth.auth(request).await {
            Ok(auth) => ToChild::Auth(WireAuth::new(id, auth)),
            Err(error) => ToChild::AuthDenied(denied_to_wire(id, &error)),
        }
    }

    async fn location(&self, id: u64, digest: &str, refused: Option<u64>) -> ToChild {
        let digest = match self.layer(digest) {
            Ok(digest) => digest,
            Err(error) => return ToChild::AuthDenied(denied_to_wire(id, &error)),
        };
        let request = LocationRequest {
            registry: &self.registry,
            repository: &self.repository,
            digest: &digest,
            refused,
        };
        match self.auth.location(request).await {
            Ok(ReadFrom::Location(location)) => ToChild::Location(WireLocation::new(id, location)),
            Ok(ReadFrom::Registry) => ToChild::NoLocation { id },
            Ok(ReadFrom::Source) => ToChild::ReadHere { id },
            Err(error) => ToChild::AuthDenied(denied_to_wire(id, &error)),
        }
    }

    async fn shared(&self, id: u64, digest: &str) -> ToChild {
        let digest = match self.layer(digest) {
            Ok(digest) => digest,
            Err(error) => return ToChild::AuthDenied(denied_to_wire(id, &error)),
        };
        let request = SharedRequest {
            registry: &self.registry,
            repository: &self.repository,
            digest: &digest,
        };
        match self.auth.shared(request).await {
            Ok(Some(shared)) => ToChild::Shared(WireShared::new(id, shared)),
            Ok(None) => ToChild::NotShared { id },
            Err(error) => ToChild::AuthDenied(denied_to_wire(id, &error)),
        }
    }

    /// A layer of its image, and no other.
    pub(super) fn layer(&self, digest: &str) -> Result<Digest, AuthError> {
        let own = self.layers.iter().find(|layer| *layer == digest);
        let own = own.and_then(|layer| Digest::parse(layer).ok());
        own.ok_or_else(|| AuthError::Refused {
            message: "the mount asks for no layer of its image".to_owned(),
        })
    }

    async fn room(
        &self,
        id: u64,
        look: impl FnOnce(SpanCache) -> bool + Send + 'static,
    ) -> ToChild {
        let cache = self.cache.clone();
        let granted = tokio::task::spawn_blocking(move || look(cache)).await;
        let granted = granted.unwrap_or(false);
        ToChild::Room { id, granted }
    }
}
