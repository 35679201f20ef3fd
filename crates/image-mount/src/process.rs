//! The parent's side of a mount process: starting it, answering its questions for auth, asking it
//! for numbers, stopping it.
//!
//! The child gets an empty environment, no open files but the control socket, and a process group
//! of its own, so that a Ctrl-C meant for the container does not take its root away. When this
//! handle is dropped, or the whole process killed, the socket closes and the child unmounts.

mod conversation;
mod stderr;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use credential::auth::AuthSource;
use image_fs::TraceEntry;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use self::conversation::{Conversation, Reply};
use self::stderr::Stderr;
use crate::mount::unmount;
use crate::request::{MountLog, MountRequest, MountStats};
use crate::wire::{RefusalKind, ToChild, WireError, WireMount, WireRefused};

/// The hidden command that calls [`crate::serve_inherited`].
const COMMAND: &str = "mount-server";

/// Indexes of a large image are read in about a second; a disk that is busy takes longer.
const MOUNT_TIMEOUT: Duration = Duration::from_mins(1);
/// Answers come from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A child that does not end by itself then is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// The index is not there, not readable or of something else: index the image again.
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
    /// The process is gone, or does not answer.
    #[error("mount process failed: {message}")]
    Died { message: String },
}

impl MountError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoFuse { .. } => Some("load the kernel's module: modprobe fuse"),
            Self::NotPermitted { .. } => Some("run as root, in a container with --privileged"),
            Self::Index { .. } => Some("index the image again: holdfast image index"),
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
    child: Child,
    pid: u32,
    mountpoint: PathBuf,
    conversation: Conversation,
    stderr: Stderr,
    logs: Option<mpsc::Receiver<MountLog>>,
}

impl MountProcess {
    /// Starts `program mount-server` and returns when the image is mounted. Every auth that the
    /// mount needs is asked of `auth` for the request's registry and repository.
    pub async fn spawn(
        program: &Path,
        request: MountRequest,
        auth: Arc<dyn AuthSource>,
    ) -> Result<Self, MountError> {
        let failed = |source| MountError::Spawn {
            program: program.to_owned(),
            source,
        };
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let socket = UnixStream::from_std(ours).map_err(failed)?;
        let mut child = start(program, theirs.into()).map_err(failed)?;
        let stderr = Stderr::collect(child.stderr.take());
        let (log_sender, logs) = mpsc::channel(MAX_LOGS);
        let wire = WireMount::from(&request);
        let mountpoint = request.mountpoint;
        let (registry, repository) = (request.registry, request.repository);
        let answers = conversation::AuthAnswers {
            auth,
            registry,
            repository,
        };
        let conversation = Conversation::start(socket, answers, log_sender);
        let pid = child.id().unwrap_or_default();
        let logs = Some(logs);
        let mut process = Self {
            child,
            pid,
            mountpoint,
            conversation,
            stderr,
            logs,
        };
        match process.mount(wire).await {
            Ok(()) => Ok(process),
            Err(error) => {
                process.end().await;
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
        self.pid
    }

    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
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
            Ok(_) | Err(_) => Err(self.silent()),
        }
    }

    /// The spans that were touched, in the order of their first touch.
    pub async fn trace(&self) -> Result<Vec<TraceEntry>, MountError> {
        let question = |id| ToChild::Trace { id };
        match self.conversation.ask(question, ANSWER_TIMEOUT).await {
            Ok(Reply::Trace(entries)) => Ok(entries
                .into_iter()
                .map(|(layer, span)| TraceEntry { layer, span })
                .collect()),
            Ok(_) | Err(_) => Err(self.silent()),
        }
    }

    /// Returns when the process has ended without having been told to: what its container dies of.
    pub async fn died(&mut self) -> MountError {
        let _ = self.child.wait().await;
        self.death().await
    }

    /// Unmounts and ends the process. Whatever happens, the mount is gone afterwards.
    pub async fn stop(mut self) -> Result<MountStats, MountError> {
        let stopped = self.conversation.stop(ANSWER_TIMEOUT).await;
        let result = match stopped {
            Ok(Reply::Stopped(stats)) => Ok(stats.into()),
            Ok(_) | Err(_) => Err(self.silent()),
        };
        self.end().await;
        result
    }

    /// Waits for the child to end, kills it if it does not, and takes off what it left mounted.
    async fn end(&mut self) -> Option<ExitStatus> {
        self.conversation.close();
        let ended = tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await;
        let status = if let Ok(status) = ended {
            status.ok()
        } else {
            let _ = self.child.start_kill();
            self.child.wait().await.ok()
        };
        let is_clean = status.is_some_and(|status| status.success());
        if !is_clean && is_dead_mount(&self.mountpoint) {
            let _ = unmount(&self.mountpoint);
        }
        status
    }

    fn silent(&self) -> MountError {
        let said = self.stderr.last_line();
        let message = if said.is_empty() {
            "it does not answer".to_owned()
        } else {
            said
        };
        MountError::Died { message }
    }

    /// How the child ended, in words.
    async fn death(&mut self) -> MountError {
        let status = self.end().await;
        let status = status.map_or_else(|| "it is gone".to_owned(), |status| status.to_string());
        let said = self.stderr.last_line();
        let message = if said.is_empty() {
            status
        } else {
            format!("{status}: {said}")
        };
        MountError::Died { message }
    }
}

fn start(program: &Path, control: OwnedFd) -> io::Result<Child> {
    Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// A FUSE mount without its process answers like this. Asked for the whole file system: attributes
/// of its root the kernel would answer from memory.
fn is_dead_mount(mountpoint: &Path) -> bool {
    rustix::fs::statvfs(mountpoint).is_err_and(|error| error == rustix::io::Errno::NOTCONN)
}
