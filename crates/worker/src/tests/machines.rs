//! Machines of tests: one starts the real runner without a container around it, the other has the
//! test play what the runner says.

use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use credential::auth::{AuthError, AuthRequest, RegistryAuth};
use futures::future::BoxFuture;
use image_store::{ImageStore, Touch};
use launch::{MountLog, Outputs};
use reference::Registry;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command as AsyncCommand};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::control_plane::within;
use crate::container::end::{End, LaunchEnd};
use crate::launching::{Launched, Machine, Order, Places};
use crate::runner::ARCHIVE;
use crate::runner::wire::FrameReader;
use crate::warming::WarmOrder;

/// The runner's end of everything.
struct Ends {
    socket: StdUnixStream,
    stdout: PipeWriter,
    stderr: PipeWriter,
    logs: mpsc::Sender<MountLog>,
    touched: mpsc::Sender<Vec<Touch>>,
    kill: CancellationToken,
    started: oneshot::Sender<Outputs>,
    outputs: Outputs,
}

/// Both ends, and the way to complete ours.
fn ends() -> io::Result<(
    Ends,
    impl FnOnce(Places, AbortOnDropHandle<LaunchEnd>) -> Launched,
)> {
    let (ours, socket) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let (stdout_reader, stdout) = io::pipe()?;
    let (stderr_reader, stderr) = io::pipe()?;
    let outputs = Outputs {
        stdout: non_blocking(stdout_reader.into())?,
        stderr: non_blocking(stderr_reader.into())?,
    };
    let (started, outputs_out) = oneshot::channel();
    let (logs_in, logs) = mpsc::channel(16);
    let (touched_in, touched) = mpsc::channel(1);
    let kill = CancellationToken::new();
    let ends = Ends {
        socket,
        stdout,
        stderr,
        logs: logs_in,
        touched: touched_in,
        kill: kill.clone(),
        started,
        outputs,
    };
    let complete = move |places, end| Launched {
        socket: ours,
        places,
        outputs: outputs_out,
        logs,
        touched,
        kill,
        end,
    };
    Ok((ends, complete))
}

fn non_blocking(end: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Ok(end)
}

/// Starts the runner as a process. An interpreter named `missing` is missing.
#[derive(Debug)]
pub(super) struct Processes {
    directory: PathBuf,
}

impl Processes {
    pub(super) fn new(directory: &std::path::Path) -> Self {
        let directory = directory.to_owned();
        std::fs::write(directory.join("runner.pyz"), ARCHIVE).unwrap();
        Self { directory }
    }
}

impl Machine for Processes {
    fn index_store(&self) -> Option<&ImageStore> {
        None
    }

    fn launch(&self, order: Order) -> io::Result<Launched> {
        let (ends, complete) = ends()?;
        let places = Places {
            code: order.code.map(|path| path.to_str().unwrap().to_owned()),
            code_dir: self.directory.join("code").to_str().unwrap().to_owned(),
        };
        let mut command = std::process::Command::new(&order.interpreter);
        let runner = self.directory.join("runner.pyz");
        let end = async move {
            if order.interpreter == "missing" {
                return LaunchEnd::NoProgram("`missing` is not in the image".to_owned());
            }
            let socket = FdMapping {
                parent_fd: ends.socket.into(),
                child_fd: 3,
            };
            command
                .arg(runner)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(ends.stdout)
                .stderr(ends.stderr)
                .fd_mappings(vec![socket])
                .unwrap();
            // The command goes too, so that the pipes end with the processes.
            let child = AsyncCommand::from(command).spawn().unwrap();
            let _ = ends.started.send(ends.outputs);
            run(child, ends.kill).await
        };
        Ok(complete(places, AbortOnDropHandle::new(tokio::spawn(end))))
    }

    fn warm(&self, _: WarmOrder) -> BoxFuture<'static, Result<(), End>> {
        panic!("there is no cache here")
    }
}

async fn run(mut child: Child, kill: CancellationToken) -> LaunchEnd {
    let group = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    let status = tokio::select! {
        status = child.wait() => status.unwrap(),
        () = kill.cancelled() => {
            let _ = kill_process_group(group, Signal::KILL);
            child.wait().await.unwrap()
        }
    };
    // As the end of a container's first process ends the others.
    let _ = kill_process_group(group, Signal::KILL);
    LaunchEnd::Exited {
        code: u8::try_from(status.code().unwrap_or(137)).unwrap(),
        memory_note: None,
    }
}

/// Has the test play each program.
#[derive(Debug)]
pub(super) struct Played {
    programs: mpsc::UnboundedSender<Program>,
    store: Option<ImageStore>,
    /// Is given each image that is to be warmed.
    warmings: Option<mpsc::UnboundedSender<PlayedWarming>>,
}

/// An image that the test plays the warming of. It has ended when `end` is closed.
#[derive(Debug)]
pub(super) struct PlayedWarming {
    pub(super) order: WarmOrder,
    pub(super) end: oneshot::Sender<Result<(), End>>,
}

/// A program that the test plays. Dropping it is its end, with 0.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) order: Order,
    pub(super) reader: FrameReader<tokio::net::unix::OwnedReadHalf>,
    pub(super) writer: tokio::net::unix::OwnedWriteHalf,
    pub(super) stdout: PipeWriter,
    pub(super) logs: mpsc::Sender<MountLog>,
    pub(super) touched: mpsc::Sender<Vec<Touch>>,
    pub(super) kill: CancellationToken,
    end: oneshot::Sender<LaunchEnd>,
    started: Option<(oneshot::Sender<Outputs>, Outputs)>,
    _stderr: PipeWriter,
}

impl Played {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Program>) {
        let (programs, played) = mpsc::unbounded_channel();
        let machine = Self {
            programs,
            store: None,
            warmings: None,
        };
        (machine, played)
    }

    /// One that has the test play what is warmed.
    pub(super) fn with_cache() -> (Self, mpsc::UnboundedReceiver<PlayedWarming>) {
        let (mut machine, _) = Self::new();
        let (warmings, played) = mpsc::unbounded_channel();
        machine.warmings = Some(warmings);
        (machine, played)
    }

    /// One that mounts images, and has indexes here.
    pub(super) fn with_store(store: ImageStore) -> (Self, mpsc::UnboundedReceiver<Program>) {
        let (mut machine, played) = Self::new();
        machine.store = Some(store);
        (machine, played)
    }
}

impl Machine for Played {
    fn index_store(&self) -> Option<&ImageStore> {
        self.store.as_ref()
    }

    fn launch(&self, order: Order) -> io::Result<Launched> {
        let (ends, complete) = ends()?;
        let (end, ended) = oneshot::channel();
        ends.socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ends.socket)?.into_split();
        let kill = ends.kill.clone();
        let program = Program {
            order,
            reader: FrameReader::new(reader),
            writer,
            stdout: ends.stdout,
            logs: ends.logs,
            touched: ends.touched,
            kill: ends.kill,
            end,
            started: Some((ends.started, ends.outputs)),
            _stderr: ends.stderr,
        };
        let _ = self.programs.send(program);
        let exited = |code| LaunchEnd::Exited {
            code,
            memory_note: None,
        };
        let ending = async move {
            tokio::select! {
                end = ended => end.unwrap_or_else(|_| exited(0)),
                () = kill.cancelled() => exited(137),
            }
        };
        let places = Places {
            code: Some("/code.zip".to_owned()),
            code_dir: "/code".to_owned(),
        };
        Ok(complete(
            places,
            AbortOnDropHandle::new(tokio::spawn(ending)),
        ))
    }

    fn warm(&self, order: WarmOrder) -> BoxFuture<'static, Result<(), End>> {
        let (end, ended) = oneshot::channel();
        let warmings = self.warmings.as_ref().expect("the test plays it");
        let _ = warmings.send(PlayedWarming { order, end });
        Box::pin(async { ended.await.expect("the test says how it ends") })
    }
}

impl Program {
    /// Runs, and says hello.
    pub(super) async fn greet(&mut self) {
        self.begin();
        self.say(
            &json!({"type": "hello", "version": 1, "python": "3.11.2",
            "implementation": "cpython"}),
            b"",
        )
        .await;
    }

    /// Runs, and is ready at once.
    pub(super) async fn be_ready(&mut self) {
        self.greet().await;
        assert_eq!(self.hear().await.0["type"], "setup");
        self.say(&json!({"type": "ready"}), b"").await;
    }

    pub(super) fn begin(&mut self) {
        if let Some((started, outputs)) = self.started.take() {
            let _ = started.send(outputs);
        }
    }

    pub(super) async fn say(&mut self, header: &Value, payload: &[u8]) {
        let header = serde_json::to_vec(header).unwrap();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let frame = [&length(&header)[..], &length(payload), &header, payload].concat();
        self.say_bytes(&frame).await;
    }

    /// A worker that has given up does not read, which is no error of a test's.
    pub(super) async fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = within(self.writer.write_all(bytes)).await;
    }

    pub(super) async fn hear(&mut self) -> (Value, Vec<u8>) {
        let frame = within(self.reader.next())
            .await
            .unwrap()
            .expect("a message");
        let header = serde_json::from_slice(&frame.header).unwrap();
        (header, frame.payload.to_vec())
    }

    pub(super) async fn auth(&self) -> Result<RegistryAuth, AuthError> {
        let request = AuthRequest {
            registry: &Registry::parse("registry.test:5000").unwrap(),
            repository: "team/app",
            rejected: None,
        };
        within(self.order.auth.auth(request)).await
    }

    pub(super) fn end(self, end: LaunchEnd) {
        let _ = self.end.send(end);
    }
}

/// What a result of the one call that tests make looks like.
pub(super) fn result_of(attempt: &str, nonce: &str) -> Value {
    json!({"type": "result", "attempt": attempt, "nonce": nonce, "outcome": "returned"})
}

/// The nonce of the control plane's calls, as the runner has it.
pub(super) fn nonce() -> String {
    frames::hex::encode(&super::control_plane::NONCE).to_string()
}
