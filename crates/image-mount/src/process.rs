//! The parent's side of a mount process: mounting, starting it, handing it its files, answering its
//! questions, asking it for numbers, stopping it.
//!
//! The child gets an empty environment, the control socket and the files that come over it, and a
//! process group of its own, so that a Ctrl-C meant for the container does not take its root away.
//! What takes privileges is done here. When this handle is dropped the mount is taken off and the
//! child killed; when the whole process is killed the socket closes and the child ends, and what is
//! left is a mount that answers with an error, for a janitor or the next start to take off.

mod backing;
mod child;
mod conversation;
mod fill;
mod hand_over;
mod reads;
mod stderr;
mod verify;

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use credential::auth::AuthSource;
use image_fs::{SpanCache, TraceEntry};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::backing::Backing;
use self::child::Server;
use self::conversation::{Answers, Conversation, Reply};
pub use self::fill::{FillError, FillWatch, fill};
use self::hand_over::{HandOverError, HandedOver, hand_over};
pub use self::verify::{LayerVerdict, verify};
use crate::mount::{MountGuard, ReadAhead, Settings};
use crate::request::{LayerRef, MountLog, MountRequest, MountStats};
use crate::wire::{RefusalKind, ToChild, WireError, WireMount, WireRefused};

/// Indexes of a large image are read in about a second; a disk that is busy takes longer.
const MOUNT_TIMEOUT: Duration = Duration::from_mins(1);
/// Answers come from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Log lines that nobody has read yet; later ones are dropped.
const MAX_LOGS: usize = 256;

/// An image that is not mounted, or not any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    #[error("{message}")]
    NoFuse { message: String },
    #[error("{message}")]
    NotPermitted { message: String },
    #[error("{message}")]
    Mountpoint { message: String },
    /// Its layers do not make a tree that a container could be given.
    #[error("{message}")]
    Image { message: String },
    /// The index is not there, not readable or of something else: to be removed and made again.
    #[error("{message}")]
    Index { message: String },
    #[error("{message}")]
    Cache { message: String },
    /// Settings of the registry, or of the request, that cannot be used.
    #[error("{message}")]
    Request { message: String },
    #[error("cannot start the mount process {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The process is gone.
    #[error("mount process failed: {message}")]
    Died { message: String },
    /// The process did not answer in time, and was ended for it.
    #[error("mount process failed: {message}")]
    Silent { message: String },
}

impl MountError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoFuse { .. } => Some("load the kernel's module: modprobe fuse"),
            Self::NotPermitted { .. } => Some("run as root, in a container with --privileged"),
            Self::Index { .. } => {
                Some("it was removed if it is damaged: run the command again, which makes it anew")
            }
            Self::Cache { .. } => Some("see that the data directory is writable and has room"),
            _ => None,
        }
    }

    fn refused(refused: WireRefused) -> Self {
        let message = refused.message;
        match refused.kind {
            RefusalKind::NoFuse => Self::NoFuse { message },
            RefusalKind::NotPermitted => Self::NotPermitted { message },
            RefusalKind::Mountpoint => Self::Mountpoint { message },
            RefusalKind::Image => Self::Image { message },
            RefusalKind::Index => Self::Index { message },
            RefusalKind::Cache => Self::Cache { message },
            RefusalKind::Registry | RefusalKind::Request => Self::Request { message },
            RefusalKind::Internal => Self::Died { message },
        }
    }
}

/// A mounted image and the process that serves it.
#[derive(Debug)]
pub struct MountProcess {
    /// Work beside the mount. Ended before it is taken off: its settings may be another's
    /// afterwards.
    attending: JoinSet<()>,
    guard: Option<MountGuard>,
    server: Server,
    conversation: Conversation,
    logs: Option<mpsc::Receiver<MountLog>>,
    /// Tells the cache of the use when it is dropped.
    _in_cache: InCache,
}

/// Where the layers' bytes are kept, which is told when they were last used.
#[derive(Debug)]
struct InCache {
    cache: SpanCache,
    origin: String,
    layers: Vec<LayerRef>,
}

impl InCache {
    fn of(request: MountRequest) -> Self {
        Self {
            cache: request.cache,
            origin: request.origin,
            layers: request.layers,
        }
    }

    /// Whether the cache may take as much as the image unpacks to.
    fn may_hold_all(&self) -> bool {
        let sizes = self
            .layers
            .iter()
            .map(|layer| layer.index.header.uncompressed_size);
        sizes.fold(0, u64::saturating_add) <= self.cache.limits().max_bytes
    }
}

impl Drop for InCache {
    fn drop(&mut self) {
        for layer in &self.layers {
            self.cache.used(&self.origin, &layer.index);
        }
    }
}

/// A mount process that has been given nothing yet: it is in its room and waits for its files.
/// Dropping it ends it.
#[derive(Debug)]
pub struct MountServer {
    server: Server,
    socket: StdUnixStream,
}

impl MountServer {
    /// Starts `program mount-server`.
    pub fn start(program: &Path) -> Result<Self, MountError> {
        let (server, socket) = Server::start(program)?;
        Ok(Self { server, socket })
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// False once it has ended.
    pub fn is_there(&mut self) -> bool {
        self.server.is_there()
    }

    /// Has it serve an image, and returns when that is mounted. Every auth that the mount needs is
    /// asked of `auth` for the request's registry and repository.
    pub async fn mount(
        self,
        request: MountRequest,
        auth: Arc<dyn AuthSource>,
    ) -> Result<MountProcess, MountError> {
        let Self { mut server, socket } = self;
        let (wire, start_lasts) = (WireMount::from(&request), request.start_lasts);
        let answers = Answers::to(&request, auth);
        let mountpoint = request.mountpoint.clone();
        let in_cache = InCache::of(request);
        let handed = blocking(move || {
            let handed = hand_over(&socket, Some(&mountpoint), &in_cache);
            handed.map(|handed| (socket, handed, in_cache))
        });
        let (socket, handed, in_cache) = match handed.await? {
            Ok(handed) => handed,
            Err(HandOverError::Refused(error)) => return Err(error),
            Err(HandOverError::Socket) => return Err(server.death().await),
        };
        let socket = UnixStream::from_std(socket).map_err(died)?;
        let (log_sender, logs) = mpsc::channel(MAX_LOGS);
        let mut attending = JoinSet::new();
        let guard = handed.map(|HandedOver { guard, backing }| {
            attending.spawn(Backing::new(in_cache.cache.clone()).attend(backing));
            guard
        });
        let process = MountProcess {
            attending,
            guard,
            server,
            conversation: Conversation::start(socket, answers, log_sender),
            logs: Some(logs),
            _in_cache: in_cache,
        };
        process.mounted(wire, start_lasts).await
    }

    /// Ends it, unused.
    pub async fn end(self) {
        let Self { mut server, socket } = self;
        drop(socket);
        server.end().await;
    }
}

impl MountProcess {
    /// Starts a mount process for one image, and returns when that is mounted.
    pub async fn spawn(
        program: &Path,
        request: MountRequest,
        auth: Arc<dyn AuthSource>,
    ) -> Result<Self, MountError> {
        MountServer::start(program)?.mount(request, auth).await
    }

    async fn mounted(mut self, wire: WireMount, start_lasts: Duration) -> Result<Self, MountError> {
        match self.mount(wire).await {
            Ok(()) => {
                self.set_read_ahead(start_lasts).await;
                Ok(self)
            }
            Err(error) => {
                self.end().await;
                Err(error)
            }
        }
    }

    async fn mount(&mut self, wire: WireMount) -> Result<(), MountError> {
        let request = self
            .conversation
            .mount(&ToChild::Mount(Box::new(wire)), MOUNT_TIMEOUT)
            .await;
        match request {
            Ok(Reply::Mounted) => Ok(()),
            Ok(Reply::Refused(refused)) => Err(MountError::refused(refused)),
            Err(WireError::TooLong(bytes)) => {
                let message = format!("the request to mount is too long: {bytes} bytes");
                Err(MountError::Request { message })
            }
            Ok(_) | Err(_) => Err(self.death().await),
        }
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What belongs into the container's log. Can be taken once.
    pub fn take_logs(&mut self) -> Option<mpsc::Receiver<MountLog>> {
        self.logs.take()
    }

    /// What the mount has cost so far.
    pub async fn stats(&self) -> Result<MountStats, MountError> {
        let question = |id| ToChild::Stats { id };
        match self.conversation.ask(question, ANSWER_TIMEOUT).await {
            Ok(Reply::Stats(stats)) => Ok(stats.into()),
            Ok(_) | Err(_) => Err(self.server.silent()),
        }
    }

    /// The spans that were touched, in the order of their first touch.
    pub async fn trace(&self) -> Result<Vec<TraceEntry>, MountError> {
        let question = |id| ToChild::Trace { id };
        match self.conversation.ask(question, ANSWER_TIMEOUT).await {
            Ok(Reply::Trace(entries)) => Ok(entries
                .into_iter()
                .map(|(layer, span, at_ms)| TraceEntry { layer, span, at_ms })
                .collect()),
            Ok(_) | Err(_) => Err(self.server.silent()),
        }
    }

    /// Leaves it narrow for as long as the start is recorded. Also proves that the mount answers.
    async fn set_read_ahead(&mut self, start_lasts: Duration) {
        let Some(mountpoint) = self
            .guard
            .as_ref()
            .map(|guard| guard.mountpoint().to_owned())
        else {
            return;
        };
        let settings = tokio::task::spawn_blocking(move || Settings::of(&mountpoint)).await;
        let settings = match settings.map_err(io::Error::other).flatten() {
            Ok(settings) => settings,
            Err(error) => return tracing::warn!(%error, "cannot find the mount's settings"),
        };
        if start_lasts.is_zero() {
            return settings.read_ahead(ReadAhead::Wide);
        }
        settings.read_ahead(ReadAhead::Narrow);
        self.attending.spawn(async move {
            tokio::time::sleep(start_lasts).await;
            settings.read_ahead(ReadAhead::Wide);
        });
    }

    /// Returns when the process has ended without having been told to: what its container dies of.
    pub async fn died(&mut self) -> MountError {
        self.server.ended().await;
        self.death().await
    }

    /// Unmounts and ends the process. Whatever happens, the mount is gone afterwards.
    pub async fn stop(mut self) -> Result<MountStats, MountError> {
        let stopped = match self.conversation.stop(ANSWER_TIMEOUT).await {
            Ok(Reply::Stopped(stats)) => Ok(stats.into()),
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(self.death().await);
            }
            Ok(_) | Err(_) => Err(self.server.silent()),
        };
        self.end().await;
        stopped
    }

    /// Takes the mount off and waits for the process to end.
    async fn end(&mut self) {
        self.attending.shutdown().await;
        self.guard = None;
        self.conversation.close();
        self.server.end().await;
    }

    async fn death(&mut self) -> MountError {
        self.end().await;
        self.server.death().await
    }
}

#[allow(clippy::needless_pass_by_value)] // Its shape is what `map_err` calls.
fn died(error: io::Error) -> MountError {
    MountError::Died {
        message: error.to_string(),
    }
}

/// Runs what waits for locks and disks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MountError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| died(io::Error::other(error)))
}
