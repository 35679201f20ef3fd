//! The process that serves a mount: starting it, its end, and its last words.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::MountError;
use super::stderr::Stderr;

/// The hidden command that calls [`crate::serve_inherited`].
const COMMAND: &str = "mount-server";

/// A child that does not end by itself then is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pid: u32,
    stderr: Stderr,
}

impl Server {
    /// Starts it with one end of a new control socket; the other end is ours.
    pub(super) fn start(program: &Path) -> Result<(Self, StdUnixStream), MountError> {
        let start = || -> io::Result<_> {
            let (ours, theirs) = StdUnixStream::pair()?;
            let child = Command::new(program)
                .arg(COMMAND)
                .env_clear()
                .current_dir("/")
                .process_group(0)
                .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            Ok((child, ours))
        };
        let (mut child, ours) = start().map_err(|source| MountError::Spawn {
            program: program.to_owned(),
            source,
        })?;
        let stderr = Stderr::collect(child.stderr.take());
        let pid = child.id().unwrap_or_default();
        Ok((Self { child, pid, stderr }, ours))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn is_there(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns when it has ended.
    pub(super) async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Waits for it to end by itself, its socket being closed, and kills it if it does not.
    pub(super) async fn end(&mut self) -> Option<ExitStatus> {
        let ended = tokio::time::timeout(EXIT_TIMEOUT, self.child.wait()).await;
        if let Ok(status) = ended {
            return status.ok();
        }
        let _ = self.child.start_kill();
        self.child.wait().await.ok()
    }

    /// Why it does not answer, as far as it said.
    pub(super) fn silent(&self) -> MountError {
        let said = self.stderr.last_line();
        let message = if said.is_empty() {
            "it does not answer".to_owned()
        } else {
            said
        };
        MountError::Silent { message }
    }

    /// How it ended, in words.
    pub(super) async fn death(&mut self) -> MountError {
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
