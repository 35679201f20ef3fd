//! The mount process: takes the files and the request that its parent sends, and serves that image
//! until told to stop or the parent is gone.
//!
//! Invariants: it is confined before anything else; it knows nothing but what came over the socket,
//! and mounts, opens and unmounts nothing. It exits when the parent's end of the socket closes, so
//! that a parent that is killed leaves no process behind.

mod auth;
mod blobs;
mod copies;
mod fill;
mod log;
mod open;
mod reads;
mod room;
mod session;
mod shared;
mod verify;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use confine::{ConfineError, Limits, Profile, SystemCalls, confine};
use credential::auth::{AuthError, ReadError, ReadFrom};
use image_fs::ImageFs;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::auth::{Given, RemoteAuth};
use self::copies::Copies;
use self::open::{Refusal, Surroundings};
use self::room::RemoteRoom;
use crate::descriptors::{self, MAX_LAYERS, Received};
use crate::filesystem::Adaptor;
use crate::opens::Opens;
use crate::request::{ExpectedLayer, MountStats, ServerRequest};
use crate::wire::{
    self, Frame, FromParent, MAX_QUEUED, ToChild, ToParent, WireError, WireRefused, bounded,
};

/// A parent that has started us has its request ready.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What is still in the socket's queue when we end is written for this long.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

const MIN_WORKERS: usize = 2;
const MAX_WORKERS: usize = 4;

/// Decoders, and readers of the cache's disk.
const MAX_BLOCKING: usize = 32;

/// Address space: indexes at their limit, some dozens of threads with their stacks and the C
/// library's reserves for each, and spans on their way.
const MEMORY_MAX_BYTES: u64 = 8 << 30;

/// Four for each of the layers that may come, and connections.
const DESCRIPTORS_MAX: u64 = 4 * MAX_LAYERS as u64 + 1024;

/// What the system's name service and certificates need; permissions guard what is secret there.
const READABLE: &[&str] = &[
    "/etc",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
];

/// The room of a mount process: its files, the network as a client, names and certificates.
pub const SERVER_PROFILE: Profile<'static> = Profile {
    limits: Limits {
        memory_bytes: MEMORY_MAX_BYTES,
        descriptors: DESCRIPTORS_MAX,
    },
    readable: READABLE,
    system_calls: SystemCalls::NetworkClient,
};

/// How a mount process ended otherwise than as told.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the mount process was not started by holdfast: its standard input is no socket")]
    NotASocket,
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("the parent did not send the files to serve")]
    Files(#[source] io::Error),
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
/// within a tokio runtime, nor with other threads about that are to stay unconfined.
pub fn serve(control: OwnedFd) -> Result<(), ServeError> {
    confine(&SERVER_PROFILE)?;
    let files = descriptors::receive_all(control.as_fd()).map_err(ServeError::Files)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(MIN_WORKERS, MAX_WORKERS))
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name("mount")
        .enable_all()
        .build()
        .map_err(ServeError::Setup)?;
    let result = runtime.block_on(run(control, files));
    // Readers that still wait get their error when the process ends.
    runtime.shutdown_background();
    result
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

async fn run(control: OwnedFd, files: Received) -> Result<(), ServeError> {
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
    let remote = Remote {
        auth: Arc::new(RemoteAuth::new(parent.frames.downgrade())),
        room: Arc::new(RemoteRoom::new(parent.frames.downgrade())),
    };
    let result = match request {
        Request::Verify(layer) => verify(&parent, layer, files).await,
        Request::Fill(request) => {
            let messages = listen(reader, remote.clone());
            fill::fill(*request, files, &parent, remote, messages).await
        }
        Request::Mount(request) => {
            let messages = listen(reader, remote.clone());
            mount(*request, files, &parent, remote, messages).await
        }
    };
    parent.close().await;
    result
}

async fn mount(
    request: ServerRequest,
    files: Received,
    parent: &Parent,
    remote: Remote,
    mut messages: mpsc::Receiver<Event>,
) -> Result<(), ServeError> {
    let started = tokio::select! {
        started = Mount::start(request, files, parent, remote) => started,
        // Nobody is left to be told, and the threads that still work end with the process.
        () = parent_gone(&mut messages) => return Ok(()),
    };
    match started {
        Ok(mount) => mount.attend(parent, messages).await,
        Err(refusal) => Err(refuse(parent, refusal).await),
    }
}

/// Tells the parent why it is not to be.
async fn refuse(parent: &Parent, refusal: Refusal) -> ServeError {
    let message = bounded(&refusal.message);
    let wire = WireRefused {
        kind: refusal.kind,
        message: message.clone(),
    };
    parent.tell(&ToParent::Refused(wire)).await;
    ServeError::Refused(message)
}

fn surroundings(parent: &Parent, remote: Remote) -> Surroundings {
    Surroundings {
        auth: remote.auth as _,
        notices: log::sink(parent.frames.downgrade()),
        room: remote.room,
        bytes_shared: Arc::default(),
    }
}

/// What the parent can be asked for.
#[derive(Clone)]
struct Remote {
    auth: Arc<RemoteAuth>,
    room: Arc<RemoteRoom>,
}

enum Request {
    Mount(Box<ServerRequest>),
    Fill(Box<ServerRequest>),
    Verify(ExpectedLayer),
}

async fn first_request(reader: &mut OwnedReadHalf) -> Result<Request, ServeError> {
    let unusable = |message: &str| ServeError::Protocol(message.to_owned());
    let message = tokio::time::timeout(REQUEST_TIMEOUT, wire::receive(reader)).await;
    let message = message.map_err(|_| unusable("there is none"))?;
    match message.map_err(|error| ServeError::Protocol(error.to_string()))? {
        Some(ToChild::Mount(wire)) => {
            let request = ServerRequest::try_from(*wire).map_err(unusable)?;
            Ok(Request::Mount(Box::new(request)))
        }
        Some(ToChild::Fill(wire)) => {
            let request = ServerRequest::try_from(*wire).map_err(unusable)?;
            Ok(Request::Fill(Box::new(request)))
        }
        Some(ToChild::Verify { layer }) => {
            let layer = ExpectedLayer::try_from(layer).map_err(unusable)?;
            Ok(Request::Verify(layer))
        }
        Some(_) => Err(unusable("the first one is no request")),
        None => Err(unusable("the socket was closed")),
    }
}

async fn verify(parent: &Parent, layer: ExpectedLayer, files: Received) -> Result<(), ServeError> {
    let files = files.layers.into_iter().next();
    let files = files.ok_or_else(|| ServeError::Protocol("there are no files".to_owned()))?;
    let verdict = tokio::task::spawn_blocking(move || verify::verify(&layer, files)).await;
    let verdict = verdict.map_err(|error| ServeError::Setup(io::Error::other(error)))?;
    parent.tell(&ToParent::Verified(verdict)).await;
    Ok(())
}

/// What the main loop has to act on; auth answers go straight to who waits for them.
enum Event {
    Stats(u64),
    Trace(u64),
    Stop,
    ParentGone,
}

/// Reads the socket in a task of its own, so that no message is ever read by half.
fn listen(mut reader: OwnedReadHalf, remote: Remote) -> mpsc::Receiver<Event> {
    let (events, receiver) = mpsc::channel(MAX_QUEUED);
    tokio::spawn(async move {
        loop {
            let event = match wire::receive_from_parent(&mut reader).await {
                Ok(Some(FromParent::Bytes { id, bytes })) => {
                    remote.auth.reads().take(id, bytes);
                    continue;
                }
                Ok(Some(FromParent::Message(message))) => match remote.hear(message) {
                    Some(event) => event,
                    None => continue,
                },
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

impl Remote {
    /// Answers go straight to who waits for them.
    fn hear(&self, message: ToChild) -> Option<Event> {
        match message {
            ToChild::Auth(wire) => self.auth.answer(wire.id, Ok(Given::Auth(wire.into()))),
            ToChild::Location(wire) => {
                let (id, location) = (wire.id, ReadFrom::Location(wire.into()));
                self.auth.answer(id, Ok(Given::Location(location)));
            }
            ToChild::NoLocation { id } => {
                let given = Given::Location(ReadFrom::Registry);
                self.auth.answer(id, Ok(given));
            }
            ToChild::ReadHere { id } => {
                let given = Given::Location(ReadFrom::Source);
                self.auth.answer(id, Ok(given));
            }
            ToChild::Shared(wire) => {
                let (id, shared) = (wire.id, Some(wire.into()));
                self.auth.answer(id, Ok(Given::Shared(shared)));
            }
            ToChild::NotShared { id } => self.auth.answer(id, Ok(Given::Shared(None))),
            ToChild::AuthDenied(wire) => self.auth.answer(wire.id, Err(wire.into())),
            ToChild::BytesDenied(wire) => {
                let (id, error) = (wire.id, AuthError::from(wire));
                self.auth.reads().fail(id, error.into());
            }
            ToChild::BytesNotFound { id } => self.auth.reads().fail(id, ReadError::NotFound),
            ToChild::BytesCorrupt { id, message } => {
                self.auth.reads().fail(id, ReadError::Corrupt { message });
            }
            ToChild::Room { id, granted } => self.room.answer(id, granted),
            ToChild::Stats { id } => return Some(Event::Stats(id)),
            ToChild::Trace { id } => return Some(Event::Trace(id)),
            ToChild::Stop {} => return Some(Event::Stop),
            ToChild::Mount(_) | ToChild::Fill(_) | ToChild::Verify { .. } => {
                let second = WireError::Malformed("a second request".to_owned());
                return Some(unexpected(&second));
            }
        }
        None
    }
}

/// A parent that speaks nonsense is as good as gone.
fn unexpected(error: &WireError) -> Event {
    tracing::error!(%error, "control socket");
    Event::ParentGone
}

/// Before there is a mount, the only news is the end.
async fn parent_gone(messages: &mut mpsc::Receiver<Event>) {
    while !matches!(messages.recv().await, None | Some(Event::ParentGone)) {}
}

struct Mount {
    filesystem: Arc<ImageFs>,
    /// Where there is a file that could be backed.
    opens: Option<Arc<Opens>>,
    auth: Arc<RemoteAuth>,
    bytes_shared: Arc<AtomicU64>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Mount {
    async fn start(
        mut request: ServerRequest,
        files: Received,
        parent: &Parent,
        remote: Remote,
    ) -> Result<Self, Refusal> {
        let foretold = std::mem::take(&mut request.foretold);
        let program = request.program.take();
        let device = files.device.ok_or_else(Refusal::no_device)?;
        let (shift, start_lasts) = (request.id_shift, request.start_lasts);
        let auth = Arc::clone(&remote.auth);
        let surroundings = surroundings(parent, remote);
        let bytes_shared = Arc::clone(&surroundings.bytes_shared);
        let filesystem = Arc::new(open::open(request, files.layers, surroundings).await?);
        // The kernel and the container that is being made need not be waited for.
        match program {
            Some(program) if foretold.is_empty() => filesystem.prefetch_program(program),
            _ => filesystem.prefetch(foretold),
        }
        let opens = files
            .backing
            .filter(|_| copies::are_of_use(filesystem.tree()))
            .and_then(|socket| back_files(&filesystem, socket, &device, start_lasts).ok());
        let runtime = tokio::runtime::Handle::current();
        let adaptor = Adaptor::new(Arc::clone(&filesystem), runtime, shift, opens.clone());
        let (sender, ended) = oneshot::channel();
        let told = move |result| drop(sender.send(result));
        // Waits for the kernel's first word.
        tokio::task::spawn_blocking(move || session::serve(adaptor, device, told))
            .await
            .map_err(Refusal::internal)?
            .map_err(|error| Refusal::handshake(&error))?;
        Ok(Self {
            filesystem,
            opens,
            auth,
            bytes_shared,
            ended,
        })
    }

    /// Serves until it is over.
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
                        .map(|entry| (entry.layer, entry.span, entry.at_ms))
                        .collect();
                    parent.tell(&ToParent::Trace { id, entries }).await;
                }
                Event::ParentGone => return Ok(()),
                Event::Stop => {
                    let stats = self.stats().into();
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
            bytes_shared: self.bytes_shared.load(Ordering::Relaxed),
            files_backed: self.opens.as_ref().map_or(0, |opens| opens.backed()),
        }
    }
}

/// Has files copied for the kernel, when their time comes.
fn back_files(
    filesystem: &Arc<ImageFs>,
    socket: OwnedFd,
    device: &OwnedFd,
    start_lasts: Duration,
) -> io::Result<Arc<Opens>> {
    let (opens, wanted) = Opens::new();
    let opens = Arc::new(opens);
    let copies = Copies {
        filesystem: Arc::clone(filesystem),
        opens: Arc::clone(&opens),
        socket,
        device: device.try_clone()?,
    };
    copies.begin(wanted, start_lasts)?;
    Ok(opens)
}
