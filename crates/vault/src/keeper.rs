//! The root key in a process of its own, which no byte from a registry or an image reaches.
//!
//! ```text
//!   a command                                      its keeper
//!   TLS, HTTP, JSON and images of strangers        the root key's source, and the key
//!        |                                              |
//!        +--- a socket pair: `wire` ---------------------+
//!             ids, wrapped keys, keys of workspaces
//! ```
//!
//! This side starts the process when the vault is opened, asks one question at a time and holds
//! no byte of the root key. A question that fails or is given up ends its process, so that no
//! answer is taken for that of another question; the next question starts a new one. One that only
//! computes is asked once more where a process was killed before it answered. The other side is in
//! `serve`.

mod inherited;
mod serve;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::error::VaultError;
use crate::keys::{Binding, Key, KeyId, WRAPPED_BYTES, Wrapped};
use crate::place::OpeningLock;
use crate::root_key::{Answer, HoldsRootKey, KeySource};

pub use serve::{KeeperError, keep_root_key};
use wire::{Hex, HexPath, Opening, Reply, Request, WireBinding, WireError};

/// An answer takes microseconds, or two syncs of a small file when a key is made. As long as the
/// database waits for other processes; longer means that the machine is in trouble.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an ending keeper is waited for, to say how it ended, and how often it is looked at.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
const EXIT_POLL: Duration = Duration::from_millis(5);

/// What is started as the keeper: a program that calls [`keep_root_key`] when it is given these
/// arguments.
#[derive(Clone, Debug)]
pub struct KeeperProgram {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

/// The key of a source that another process reads.
#[derive(Debug)]
pub(crate) struct Keeper {
    program: KeeperProgram,
    source: KeySource,
    process: Mutex<Process>,
}

#[derive(Debug, Default)]
enum Process {
    #[default]
    Absent,
    Starting(JoinHandle<io::Result<Connection>>),
    Ready(Connection),
}

/// What came of a question.
enum Asked {
    Answered(Reply),
    /// The process was gone before it answered.
    Ended(VaultError),
}

/// What is asked, and the lock that the keeper shares until it has answered: should this process be
/// killed meanwhile, nobody else changes the files while the keeper still does.
struct Question<'a> {
    request: Request,
    lock: Option<&'a OpeningLock>,
}

/// A running keeper. Dropping it ends the process, and returns when it is gone: a command leaves
/// nothing behind for another process to collect.
#[derive(Debug)]
struct Connection {
    child: Child,
    socket: UnixStream,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // One that has ended already is collected all the same.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Keeper {
    pub(crate) fn new(program: KeeperProgram, source: &KeySource) -> Self {
        Self {
            program,
            source: source.clone(),
            process: Mutex::default(),
        }
    }

    /// Asks, and gives a failure that the keeper reports as the error that it is.
    async fn ask(&self, question: Question<'_>) -> Result<Reply, VaultError> {
        let mut process = self.process.lock().await;
        match self.ask_once(&mut process, &question).await? {
            Asked::Answered(reply) => Ok(reply),
            // What changes files is not done twice without a look at what the first time did.
            Asked::Ended(error) if question.lock.is_some() => Err(error),
            Asked::Ended(_) => match self.ask_once(&mut process, &question).await? {
                Asked::Answered(reply) => Ok(reply),
                Asked::Ended(error) => Err(error),
            },
        }
    }

    async fn ask_once(
        &self,
        process: &mut Process,
        question: &Question<'_>,
    ) -> Result<Asked, VaultError> {
        // Taken out until it has answered: whoever is dropped while it waits, or finds it dead,
        // leaves nothing that the next question could mistake for its own.
        let mut connection = match mem::take(process) {
            Process::Ready(connection) => connection,
            Process::Starting(start) => self.started(start).await?,
            Process::Absent => self.started(self.start()).await?,
        };
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, connection.ask(question)).await;
        let reply = match asked {
            Ok(Ok(reply)) => reply,
            Ok(Err(error @ WireError::Io(_))) => {
                return Ok(Asked::Ended(connection.lost(error).await));
            }
            Ok(Err(error)) => return Err(connection.lost(error).await),
            Err(_elapsed) => return Err(lost("does not answer")),
        };
        *process = Process::Ready(connection);
        match reply {
            Reply::Failed(failure) => Err(failure.into()),
            reply => Ok(Asked::Answered(reply)),
        }
    }

    /// Starts the process on a thread that may wait, as starting one does.
    fn start(&self) -> JoinHandle<io::Result<Connection>> {
        let (program, source) = (self.program.clone(), self.source.clone());
        tokio::task::spawn_blocking(move || Connection::start(&program, &source))
    }

    async fn started(
        &self,
        start: JoinHandle<io::Result<Connection>>,
    ) -> Result<Connection, VaultError> {
        let started = start.await.map_err(io::Error::other).flatten();
        started.map_err(|source| VaultError::KeeperNotStarted {
            program: self.program.program.clone(),
            source,
        })
    }

    async fn ask_for_id(&self, question: Question<'_>) -> Result<KeyId, VaultError> {
        match self.ask(question).await? {
            Reply::Id { id } => Ok(KeyId(*id.0)),
            reply => Err(unexpected(&reply)),
        }
    }

    async fn tell(&self, question: Question<'_>) -> Result<(), VaultError> {
        match self.ask(question).await? {
            Reply::Done => Ok(()),
            reply => Err(unexpected(&reply)),
        }
    }
}

impl<'a> Question<'a> {
    fn under(lock: &'a OpeningLock, request: Request) -> Self {
        Self {
            request,
            lock: Some(lock),
        }
    }
}

impl From<Request> for Question<'_> {
    fn from(request: Request) -> Self {
        Self {
            request,
            lock: None,
        }
    }
}

impl HoldsRootKey for Keeper {
    fn prepare(&self) {
        if let Ok(mut process) = self.process.try_lock()
            && matches!(*process, Process::Absent)
        {
            *process = Process::Starting(self.start());
        }
    }

    fn first<'a>(&'a self, data: &'a Path, lock: &'a OpeningLock) -> Answer<'a, KeyId> {
        Box::pin(async move {
            let data = HexPath::absolute(data)?;
            let request = Request::First { data };
            self.ask_for_id(Question::under(lock, request)).await
        })
    }

    fn require(&self, root: KeyId) -> Answer<'_, ()> {
        let request = Request::Require { root: root.into() };
        Box::pin(self.tell(request.into()))
    }

    fn settle<'a>(&'a self, root: KeyId, lock: &'a OpeningLock) -> Answer<'a, ()> {
        let request = Request::Settle { root: root.into() };
        Box::pin(self.tell(Question::under(lock, request)))
    }

    fn begin_rotation<'a>(
        &'a self,
        current: KeyId,
        keep_old: Option<&'a Path>,
        lock: &'a OpeningLock,
    ) -> Answer<'a, KeyId> {
        Box::pin(async move {
            let keep_old = keep_old.map(HexPath::absolute).transpose()?;
            let current = current.into();
            let request = Request::BeginRotation { current, keep_old };
            self.ask_for_id(Question::under(lock, request)).await
        })
    }

    fn wrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        inner: &'a Key,
    ) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let request = Request::Wrap {
                root: root.into(),
                binding: WireBinding::of(binding)
                    .ok_or_else(|| lost("is asked to wrap for what is no vault"))?,
                key: Hex::of(inner.bytes()),
            };
            match self.ask(request.into()).await? {
                Reply::Wrapped { bytes } => Ok(bytes.0.to_vec()),
                reply => Err(unexpected(&reply)),
            }
        })
    }

    fn unwrap<'a>(
        &'a self,
        root: KeyId,
        binding: Binding<'a>,
        wrapped: Wrapped<'a>,
    ) -> Answer<'a, Option<Key>> {
        Box::pin(async move {
            let bytes: Result<[u8; WRAPPED_BYTES], _> = wrapped.bytes.try_into();
            // What has another length is damage, which the keeper is not bothered with.
            let (Ok(bytes), Some(binding)) = (bytes, WireBinding::of(binding)) else {
                return Ok(None);
            };
            let request = Request::Unwrap {
                root: root.into(),
                binding,
                key_id: wrapped.key_id.into(),
                wrapped: Hex::of(&bytes),
            };
            match self.ask(request.into()).await? {
                Reply::Key { key } => Ok(Some(Key::from_bytes(key.0))),
                Reply::Unopened => Ok(None),
                reply => Err(unexpected(&reply)),
            }
        })
    }
}

impl Connection {
    /// Must be called within a tokio runtime, on a thread that may wait.
    fn start(program: &KeeperProgram, source: &KeySource) -> io::Result<Self> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut command = Command::new(&program.program);
        command
            .args(&program.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        inherited::cover(&mut command)?;
        let child = command.spawn()?;
        say_source(&ours, source)?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        Ok(Self { child, socket })
    }

    async fn ask(&mut self, question: &Question<'_>) -> Result<Reply, WireError> {
        let frame = wire::encode(&question.request)?;
        let lock = question.lock.map(OpeningLock::file);
        // One that could not begin has said why before it closed its end.
        let _closed = wire::send(&mut self.socket, &frame, lock).await;
        wire::receive(&mut self.socket).await
    }

    /// The error for a keeper that does not answer any more.
    async fn lost(mut self, error: WireError) -> VaultError {
        if !matches!(error, WireError::Io(_)) {
            return lost(&format!("gave an answer that is none: {error}"));
        }
        match tokio::time::timeout(EXIT_TIMEOUT, self.ended()).await {
            Ok(Ok(status)) => lost(&format!("ended before it answered ({status})")),
            _ => lost(&format!("closed its socket before it answered: {error}")),
        }
    }

    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(EXIT_POLL).await;
        }
    }
}

/// Tells a new keeper where its key comes from, which fits into the socket. One that is gone
/// already is found so by the first question, which also says how it ended.
fn say_source(mut socket: &StdUnixStream, source: &KeySource) -> io::Result<()> {
    let opening = Opening::of(source).map_err(io::Error::other)?;
    let opening = wire::encode(&opening).map_err(io::Error::other)?;
    if let KeySource::Descriptor(_) = source
        && let Ok(file) = crate::root_key::open(&source.path())
    {
        // Opened anew for each keeper, since this process reads none of it.
        let sent = wire::send_with_file(socket.as_fd(), &opening, file.as_fd());
        if let Ok(sent) = sent {
            let _gone = socket.write_all(&opening[sent..]);
        }
        return Ok(());
    }
    let _gone = socket.write_all(&opening);
    Ok(())
}

fn lost(problem: &str) -> VaultError {
    VaultError::KeeperLost {
        problem: problem.to_owned(),
    }
}

fn unexpected(reply: &Reply) -> VaultError {
    lost(&format!("answered another question: {}", reply.name()))
}
