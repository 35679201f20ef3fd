//! Whose input and output a container gets: ours, or pipes of its own that the caller reads.
//!
//! Captured, the container's processes hold the only writing ends, so that the caller's reading
//! ends come to an end by themselves when the last of those processes has. Nothing is copied.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::run_dir::RunDir;
use crate::stdio::pipe_of;

/// The socket's number in the container, and in the runtime that passes it on.
pub(crate) const SOCKET: RawFd = 3;

/// What a container reads from and writes to.
#[derive(Debug)]
pub enum Streams {
    /// This process's own standard input, output and error, or its terminal.
    Ours,
    /// No input, outputs that the caller reads, and a socket as descriptor 3 if one is given. The
    /// program gets the socket as it is, so whether it blocks is the caller's to set before.
    Captured {
        /// The container's end.
        socket: Option<OwnedFd>,
    },
}

/// The ends from which a container's outputs are read. They do not block, and they can be read to
/// their end after the container has ended.
#[derive(Debug)]
pub struct Outputs {
    /// What it writes to its standard output.
    pub stdout: OwnedFd,
    /// What it writes to its standard error.
    pub stderr: OwnedFd,
}

/// Captured streams before the container runs.
#[derive(Debug)]
pub(crate) struct Captured {
    /// The container's ends, until the runtime has them.
    writers: Option<(OwnedFd, OwnedFd)>,
    socket: Option<OwnedFd>,
    outputs: Outputs,
}

impl Captured {
    pub(crate) fn new(socket: Option<OwnedFd>, dir: &RunDir) -> io::Result<Self> {
        let (stdout, output) = pipe_of(dir)?;
        let (stderr, errors) = pipe_of(dir)?;
        for reader in [&stdout, &stderr] {
            set_non_blocking(reader)?;
        }
        Ok(Self {
            writers: Some((output, errors)),
            socket,
            outputs: Outputs { stdout, stderr },
        })
    }

    /// What to add to the runtime's arguments.
    pub(crate) fn arguments(&self) -> &'static [&'static str] {
        match self.socket {
            Some(_) => &["--preserve-fds", "1"],
            None => &[],
        }
    }

    /// Moves the container's ends into the command.
    pub(crate) fn connect(&mut self, command: &mut Command) {
        let (output, errors) = self.writers.take().expect("connected once");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let socket = self.socket.take().map(|socket| FdMapping {
            parent_fd: socket,
            child_fd: SOCKET,
        });
        command
            .fd_mappings(socket.into_iter().collect())
            .expect("one descriptor meets no other");
    }

    pub(crate) fn into_outputs(self) -> Outputs {
        self.outputs
    }
}

fn set_non_blocking(descriptor: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&descriptor)?;
    Ok(fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?)
}
