//! The container's input and output: pipes that are copied to and from our own, a terminal, or
//! pipes that the caller reads.
//!
//! Our own descriptors are never given to a container: the runtime changes the owner of what it is
//! given, and a program inside could change the settings of our terminal. Two outputs that are one
//! file outside stay one pipe inside, so that their order holds. Input is only connected where it
//! was asked for. Copying blocks, in a thread per direction.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, fstat, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::UnixListener;
use tokio::process::Child;

use crate::id_range::IdRange;
use crate::process::Process;
use crate::run_dir::RunDir;
use crate::runtime::RunError;
use crate::streams::{Captured, Outputs, Streams};
use crate::terminal::{RawTerminal, receive_terminal, resize, size_of};

const CONSOLE_SOCKET: &str = "console.sock";

/// What is copied at once: what a pipe holds.
const COPY_BYTES: usize = 64 << 10;

/// The terminal in front of us, when the container gets one.
#[derive(Debug)]
pub(crate) struct Console {
    input: bool,
}

impl Console {
    /// Whether a terminal is asked for, and whether there is one to connect it to.
    pub(crate) fn of(process: &Process, streams: &Streams) -> Result<Option<Self>, RunError> {
        if matches!(streams, Streams::Captured { .. }) && (process.terminal || process.stdin) {
            return Err(RunError::NotCapturable);
        }
        if !process.terminal {
            return Ok(None);
        }
        if process.stdin && !rustix::termios::isatty(rustix::stdio::stdin()) {
            return Err(RunError::NotATerminal);
        }
        Ok(Some(Self {
            input: process.stdin,
        }))
    }

    /// Rows and columns.
    pub(crate) fn size() -> Option<(u16, u16)> {
        let size = size_of(rustix::stdio::stdout()).or_else(|| size_of(rustix::stdio::stdin()))?;
        Some((size.ws_row, size.ws_col))
    }
}

/// Both ends of what a container reads and writes, before it runs.
#[derive(Debug)]
pub(crate) enum ContainerStdio {
    Terminal {
        console: Console,
        listener: UnixListener,
        master: Option<OwnedFd>,
    },
    Pipes(Pipes),
    Captured(Captured),
}

#[derive(Debug)]
pub(crate) struct Pipes {
    /// The end that the container reads from, until the runtime has it.
    input_reader: Option<OwnedFd>,
    input: Option<OwnedFd>,
    output_writers: Option<(OwnedFd, OwnedFd)>,
    outputs: Vec<(OwnedFd, BorrowedFd<'static>)>,
}

impl ContainerStdio {
    pub(crate) fn new(
        dir: &RunDir,
        process: &Process,
        console: Option<Console>,
        streams: Streams,
    ) -> io::Result<Self> {
        match (streams, console) {
            (Streams::Captured { socket }, _) => Ok(Self::Captured(Captured::new(socket, dir)?)),
            (Streams::Ours, None) => Ok(Self::Pipes(Pipes::new(process.stdin, dir)?)),
            (Streams::Ours, Some(console)) => Ok(Self::Terminal {
                console,
                listener: listen(dir.path())?,
                master: None,
            }),
        }
    }

    /// What to add to the runtime's arguments.
    pub(crate) fn arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Terminal { .. } => &["--console-socket", CONSOLE_SOCKET],
            Self::Pipes(_) => &[],
            Self::Captured(captured) => captured.arguments(),
        }
    }

    /// Gives the runtime what it passes on to the container.
    pub(crate) fn connect(&mut self, command: &mut Command) {
        match self {
            Self::Terminal { .. } => {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
            }
            Self::Pipes(pipes) => pipes.connect(command),
            Self::Captured(captured) => captured.connect(command),
        }
    }

    /// Waits for the runtime to end, and for the terminal that it sends meanwhile.
    pub(crate) async fn wait_for(
        &mut self,
        child: &mut Child,
    ) -> io::Result<std::process::ExitStatus> {
        if let Self::Terminal {
            listener, master, ..
        } = self
        {
            tokio::select! {
                biased;
                accepted = listener.accept() => {
                    let (socket, _) = accepted?;
                    // A runtime that fails after it connected says why in its log.
                    *master = receive_terminal(&socket).await.ok();
                }
                status = child.wait() => return status,
            }
        }
        child.wait().await
    }

    /// Starts copying what is ours, or gives what the caller reads.
    pub(crate) fn attach(self) -> io::Result<(Option<Attached>, Option<Outputs>)> {
        match self {
            Self::Pipes(pipes) => Ok((Some(pipes.attach()?), None)),
            Self::Terminal {
                console, master, ..
            } => Ok((Some(attach_terminal(&console, master)?), None)),
            Self::Captured(captured) => Ok((None, Some(captured.into_outputs()))),
        }
    }
}

fn attach_terminal(console: &Console, master: Option<OwnedFd>) -> io::Result<Attached> {
    let mut attached = Attached::new()?;
    let master = master.ok_or_else(|| io::Error::other("no terminal was sent"))?;
    if console.input {
        attached.raw = RawTerminal::enter(rustix::stdio::stdin())?;
        attached.copy(Source::Ours, Sink::Container(master.try_clone()?))?;
    }
    let output = Sink::Ours(rustix::stdio::stdout());
    attached.copy(Source::Container(master.try_clone()?), output)?;
    attached.master = Some(master);
    Ok(attached)
}

impl Pipes {
    fn new(wants_input: bool, dir: &RunDir) -> io::Result<Self> {
        let (stdout, stderr) = (rustix::stdio::stdout(), rustix::stdio::stderr());
        let (input_reader, input) = if wants_input {
            let (reader, writer) = pipe_of(dir)?;
            (Some(reader), Some(writer))
        } else {
            (None, None)
        };
        let (reader, writer) = pipe_of(dir)?;
        let mut outputs = vec![(reader, stdout)];
        let errors = if is_same_file(stdout, stderr) {
            writer.try_clone()?
        } else {
            let (reader, writer) = pipe_of(dir)?;
            outputs.push((reader, stderr));
            writer
        };
        Ok(Self {
            input_reader,
            input,
            output_writers: Some((writer, errors)),
            outputs,
        })
    }

    fn connect(&mut self, command: &mut Command) {
        let input = self
            .input_reader
            .take()
            .map_or_else(Stdio::null, Stdio::from);
        let (output, errors) = self.output_writers.take().expect("connected once");
        command.stdin(input).stdout(output).stderr(errors);
    }

    fn attach(self) -> io::Result<Attached> {
        let mut attached = Attached::new()?;
        for (from, to) in self.outputs {
            attached.copy(Source::Container(from), Sink::Ours(to))?;
        }
        if let Some(input) = self.input {
            attached.copy(Source::Ours, Sink::Container(input))?;
        }
        Ok(attached)
    }
}

/// A pipe of the container's root, so that the runtime can pass it on to the container's user, who
/// may open it again by its name.
pub(crate) fn pipe_of(dir: &RunDir) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let owner = dir.layout().ids.map_or(0, IdRange::first);
    fchown(
        &writer,
        Some(Uid::from_raw(owner)),
        Some(Gid::from_raw(owner)),
    )?;
    Ok((reader, writer))
}

fn is_same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// The socket on which the runtime sends the terminal. The directory goes by descriptor, since a
/// socket's path may only be about a hundred bytes long.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, directory, flags, Mode::empty())?;
    UnixListener::bind(format!(
        "/proc/self/fd/{}/{CONSOLE_SOCKET}",
        directory.as_raw_fd()
    ))
}

/// Copying in progress. Dropping it gives the terminal back and lets the copying end.
#[derive(Debug)]
pub(crate) struct Attached {
    stop: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    master: Option<OwnedFd>,
    raw: Option<RawTerminal>,
}

enum Source {
    Ours,
    Container(OwnedFd),
}

enum Sink {
    Ours(BorrowedFd<'static>),
    Container(OwnedFd),
}

impl Attached {
    fn new() -> io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            stop: Arc::new(stop),
            threads: Vec::new(),
            master: None,
            raw: None,
        })
    }

    fn copy(&mut self, from: Source, to: Sink) -> io::Result<()> {
        let stop = Arc::clone(&self.stop);
        let thread = thread::Builder::new()
            .name(String::from("container-stdio"))
            .spawn(move || {
                // Either end going away is how copying ends.
                let ended = copy(&from, &to, &stop);
                if let Err(error) = ended {
                    tracing::debug!(%error, "copying for the container ended");
                }
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Tells the container's terminal the size of ours.
    pub(crate) fn resize(&self) {
        if let Some(master) = &self.master {
            resize(rustix::stdio::stdout(), master.as_fd());
        }
    }

    /// Waits until everything that the container wrote is written, once it has ended.
    pub(crate) fn finish(mut self) {
        self.request_stop();
        for thread in self.threads.drain(..) {
            thread.join().expect("copying does not panic");
        }
    }

    fn request_stop(&self) {
        // It can only fail by being full, which means that it was done before.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.request_stop();
        drop(self.raw.take());
    }
}

/// Copies until the end of the source, the end of the sink, or a stop. What the container has
/// written is copied even after a stop; what we could still read is not.
fn copy(from: &Source, to: &Sink, stop: &OwnedFd) -> io::Result<()> {
    let (source, drains) = match from {
        Source::Ours => (rustix::stdio::stdin(), false),
        Source::Container(source) => (source.as_fd(), true),
    };
    let sink = match to {
        Sink::Ours(sink) => *sink,
        Sink::Container(sink) => sink.as_fd(),
    };
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(source, PollFlags::IN),
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        ];
        retry_on_intr(|| poll(&mut ready, None))?;
        let stopped = !ready[1].revents().is_empty();
        if ready[0].revents().is_empty() || (stopped && !drains) {
            return Ok(());
        }
        let length = match rustix::io::read(source, &mut buffer) {
            // A terminal whose other end is closed reads as an error.
            Ok(0) | Err(Errno::IO) => return Ok(()),
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(errno) => return Err(errno.into()),
        };
        write_all(sink, &buffer[..length])?;
    }
}

fn write_all(sink: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(sink, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            // Somebody who shares our output made it so; wait as if nobody had.
            Err(Errno::AGAIN) => {
                let mut ready = [PollFd::from_borrowed_fd(sink, PollFlags::OUT)];
                retry_on_intr(|| poll(&mut ready, None))?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
