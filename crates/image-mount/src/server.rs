//! The mount process: reads one request from its parent, mounts that image, serves it until told
//! to stop or the parent is gone.
//!
//! Invariants: it knows nothing but what came over the socket; it cannot be dumped; however it
//! ends, the mount is taken off first. It exits when the parent's end of the socket closes, so a
//! parent that is killed leaves nothing behind.

mod auth;
mod blobs;
mod log;
mod open;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use credential::auth::AuthSource;
use image_fs::ImageFs;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::auth::RemoteAuth;
use self::open::Refusal;
use crate::filesystem::Adaptor;
use crate::mount::{self, MountGuard};
use crate::request::{MountRequest, MountStats};
use crate::wire::{self, Frame, MAX_QUEUED, ToChild, ToParent, WireError, WireRefused, bounded};

/// A parent that has started us has its request ready.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What is still in the socket's queue when we end is written for this long.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

const MIN_WORKERS: usize = 2;
const MAX_WORKERS: usize = 4;

/// Decoders, and readers of the cache's disk.
const MAX_BLOCKING: usize = 32;

/// How a mount process ended otherwise than as told.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the mount process was not started by holdfast: its standard input is no socket")]
    NotASocket,
    #[error("cannot set the mount process up")]
    Setup(#[source] io::Error),
    #[error("the parent's message is unusable: {0}")]
    Protocol(String),
    /// The parent has been told why.
    #[error("{0}")]
    Refused(String),
    #[error("the image was unmounted by somebody else")]
    Unmounted,
}

/// The main function of a process that [`crate::MountProcess`] started: the control socket is its
/// standard input.
pub fn serve_inherited() -> Result<(), ServeError> {
    let stdin = rustix::stdio::stdin();
    let is_socket =
        rustix::fs::fstat(stdin).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    if !matches!(is_socket, Ok(rustix::fs::FileType::Socket)) {
        return Err(ServeError::NotASocket);
    }
    let take = || -> io::Result<OwnedFd> {
        let control = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
        let null = OpenOptions::new().read(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(control)
    };
    serve(take().map_err(ServeError::Setup)?)
}

/// Serves one mount over this control socket. Blocks until it is over; must not be called from
/// within a tokio runtime.
pub fn serve(control: OwnedFd) -> Result<(), ServeError> {
    harden().map_err(ServeError::Setup)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(MIN_WORKERS, MAX_WORKERS))
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name("mount")
        .enable_all()
        .build()
        .map_err(ServeError::Setup)?;
    let result = runtime.block_on(run(control));
    // Readers that still wait get their error when the process ends.
    runtime.shutdown_background();
    result
}

/// Secrets of this process go into no core file and to no debugger, and it gains no privileges; a
/// layer takes four files.
fn harden() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    let files = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files.maximum,
            maximum: files.maximum,
        },
    )?;
    Ok(())
}

/// The child's end of the socket, without its reading half.
struct Parent {
    frames: mpsc::Sender<Frame>,
    writer: JoinHandle<io::Result<()>>,
}

impl Parent {
    async fn tell(&self, message: &ToParent) {
        match wire::encode(message) {
            Ok(frame) => drop(self.frames.send(frame).await),
            Err(error) => tracing::error!(%error, "cannot answer the parent"),
        }
    }

    /// Waits until what was said is written.
    async fn close(self) {
        drop(self.frames);
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.writer).await;
    }
}

async fn run(control: OwnedFd) -> Result<(), ServeError> {
    let socket = StdUnixStream::from(control);
    socket.set_nonblocking(true).map_err(ServeError::Setup)?;
    let socket = UnixStream::from_std(socket).map_err(ServeError::Setup)?;
    let (mut reader, writer) = socket.into_split();
    let (frames, queue) = mpsc::channel(MAX_QUEUED);
    let parent = Parent {
        frames,
        writer: tokio::spawn(wire::send_all(writer, queue)),
    };
    let request = first_request(&mut reader).await?;
    let auth = Arc::new(RemoteAuth::new(parent.frames.downgrade()));
    let messages = listen(reader, Arc::clone(&auth));
    let result = match Mount::start(request, &parent, Arc::clone(&auth)).await {
        Ok(mount) => mount.attend(&parent, messages).await,
        Err(refusal) => {
            let message = bounded(&refusal.message);
            let wire = WireRefused {
                kind: refusal.kind,
                message: message.clone(),
            };
            parent.tell(&ToParent::Refused(wire)).await;
            Err(ServeError::Refused(message))
        }
    };
    parent.close().await;
    result
}

async fn first_request(reader: &mut OwnedReadHalf) -> Result<MountRequest, ServeError> {
    let unusable = |message: &str| ServeError::Protocol(message.to_owned());
    let message = tokio::time::timeout(REQUEST_TIMEOUT, wire::receive(reader)).await;
    let message = message.map_err(|_| unusable("there is none"))?;
    match message.map_err(|error| ServeError::Protocol(error.to_string()))? {
        Some(ToChild::Mount(wire)) => MountRequest::try_from(*wire).map_err(unusable),
        Some(_) => Err(unusable("the first one is not a mount request")),
        None => Err(unusable("the socket was closed")),
    }
}

/// What the main loop has to act on; auth answers go straight to who waits for them.
enum Event {
    Stats(u64),
    Trace(u64),
    Stop,
    ParentGone,
}

/// Reads the socket in a task of its own, so that no message is ever read by half.
fn listen(mut reader: OwnedReadHalf, auth: Arc<RemoteAuth>) -> mpsc::Receiver<Event> {
    let (events, receiver) = mpsc::channel(MAX_QUEUED);
    tokio::spawn(async move {
        loop {
            let event = match wire::receive(&mut reader).await {
                Ok(Some(ToChild::Auth(wire))) => {
                    auth.answer(wire.id, Ok(wire.into()));
                    continue;
                }
                Ok(Some(ToChild::AuthDenied(wire))) => {
                    auth.answer(wire.id, Err(wire.into()));
                    continue;
                }
                Ok(Some(ToChild::Stats { id })) => Event::Stats(id),
                Ok(Some(ToChild::Trace { id })) => Event::Trace(id),
                Ok(Some(ToChild::Stop {})) => Event::Stop,
                Ok(Some(ToChild::Mount(_))) => {
                    unexpected(&WireError::Malformed("a second mount request".to_owned()))
                }
                Ok(None) => Event::ParentGone,
                Err(error) => unexpected(&error),
            };
            let is_last = matches!(event, Event::ParentGone);
            if events.send(event).await.is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// A parent that speaks nonsense is as good as gone.
fn unexpected(error: &WireError) -> Event {
    tracing::error!(%error, "control socket");
    Event::ParentGone
}

struct Mount {
    filesystem: Arc<ImageFs>,
    auth: Arc<RemoteAuth>,
    guard: MountGuard,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Mount {
    async fn start(
        request: MountRequest,
        parent: &Parent,
        auth: Arc<RemoteAuth>,
    ) -> Result<Self, Refusal> {
        let mountpoint = request.mountpoint.clone();
        let shift = request.id_shift;
        let notices = log::sink(parent.frames.downgrade());
        let source: Arc<dyn AuthSource> = Arc::clone(&auth) as _;
        let opened = open::open(request, source, notices).await?;
        let filesystem = Arc::new(opened);
        let runtime = tokio::runtime::Handle::current();
        let adaptor = Adaptor::new(Arc::clone(&filesystem), runtime, shift);
        let mounting = tokio::task::spawn_blocking(move || mount::mount(adaptor, &mountpoint));
        let mounted = mounting
            .await
            .map_err(Refusal::internal)?
            .map_err(Refusal::from)?;
        let (sender, ended) = oneshot::channel();
        let guard = mounted.serve(move |result| drop(sender.send(result)));
        let mount = Self {
            filesystem,
            auth,
            guard,
            ended,
        };
        mount.widen_read_ahead().await;
        Ok(mount)
    }

    /// Also proves that the mount answers. Failing to widen costs speed only.
    async fn widen_read_ahead(&self) {
        let mountpoint = self.guard.mountpoint().to_owned();
        let widen = move || mount::widen_read_ahead(&mountpoint);
        match tokio::task::spawn_blocking(widen).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot widen the mount's read-ahead"),
            Err(error) => tracing::warn!(%error, "cannot widen the mount's read-ahead"),
        }
    }

    /// Serves until it is over, and takes the mount off.
    async fn attend(
        mut self,
        parent: &Parent,
        mut messages: mpsc::Receiver<Event>,
    ) -> Result<(), ServeError> {
        let mut terminated = signal(SignalKind::terminate()).map_err(ServeError::Setup)?;
        parent.tell(&ToParent::Mounted {}).await;
        loop {
            let event = tokio::select! {
                event = messages.recv() => event.unwrap_or(Event::ParentGone),
                _ = terminated.recv() => Event::ParentGone,
                _ = &mut self.ended => return Err(ServeError::Unmounted),
            };
            match event {
                Event::Stats(id) => {
                    let stats = self.stats().into();
                    parent.tell(&ToParent::Stats { id, stats }).await;
                }
                Event::Trace(id) => {
                    let entries = self.filesystem.trace();
                    let entries = entries
                        .iter()
                        .map(|entry| (entry.layer, entry.span))
                        .collect();
                    parent.tell(&ToParent::Trace { id, entries }).await;
                }
                Event::ParentGone => return Ok(()),
                Event::Stop => {
                    let stats = self.stats().into();
                    self.guard.unmount();
                    parent.tell(&ToParent::Stopped { stats }).await;
                    return Ok(());
                }
            }
        }
    }

    fn stats(&self) -> MountStats {
        let (spans, present) = self.filesystem.spans_present();
        MountStats {
            fs: self.filesystem.stats(),
            spans: spans as u64,
            spans_present: present as u64,
            auth_requests: self.auth.requests(),
        }
    }
}
