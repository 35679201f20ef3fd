//! The worker: it attaches, keeps the table of its containers, and ends them all when it ends.
//!
//! Reading what the control plane says never waits for a container, nor for the way up: what is
//! answered at once has a lane of its own, and each container an inbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use worker_protocol::from_worker::Message as Up;
use worker_protocol::to_worker::Message as Down;
use worker_protocol::{Delivery, Hello, Stop, Taken, ToWorker, VERSION};

use crate::attach::ControlPlane;
use crate::config::{Capacity, WorkerConfig};
use crate::container::{self, Command, Lines, MAX_COMMANDS, Node};
use crate::files::{Files, FilesError};
use crate::launching::Machine;
use crate::machine::ThisMachine;
use crate::uplink::{Lanes, NotRead};
use crate::warming;

/// The control plane accepts a worker from memory.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// Containers are killed at once; to take mounts and networks away can take as long as a mount
/// process that does not answer.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// For last words to arrive at a control plane that reads.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a worker ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("cannot speak to the control plane")]
    Connect(#[source] hyper::Error),
    #[error("the control plane does not take this worker: {}", shown(.0))]
    Refused(Status),
    /// Whatever it was before: to come again is of no use.
    #[error("{}", .0.message().escape_debug())]
    NotKnown(Status),
    #[error("the control plane does not answer")]
    Silent,
    #[error("the connection to the control plane broke: {}", shown(.0))]
    Broken(Status),
    #[error("the control plane does not read what it is answered")]
    Unread,
}

impl From<NotRead> for WorkerError {
    fn from(_: NotRead) -> Self {
        Self::Unread
    }
}

pub(crate) fn shown(status: &Status) -> String {
    format!("{} {}", status.code(), status.message().escape_debug())
}

/// Attaches to the control plane at the other end of `channel`, and runs containers for it until
/// it hangs up or `shutdown` comes. Then they are killed, and gone when this returns.
pub async fn run<Channel>(
    config: WorkerConfig,
    channel: Channel,
    shutdown: CancellationToken,
) -> Result<(), WorkerError>
where
    Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let directory = config.files_dir.clone();
    let opened = spawn_blocking(move || Files::open(directory)).await;
    let files = opened.expect("opening does not panic")?;
    let identity = Identity {
        name: config.name.clone(),
        capacity: config.capacity,
    };
    let machine = Arc::new(ThisMachine::new(config, files.runner()));
    let spares = machine.spares();
    let attended = attend(identity, machine, files, channel, shutdown).await;
    spares.end().await;
    attended
}

fn refused(status: Status) -> WorkerError {
    match status.code() {
        Code::Unauthenticated => WorkerError::NotKnown(status),
        _ => WorkerError::Refused(status),
    }
}

/// Who a worker is to the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) capacity: Capacity,
}

impl From<Identity> for Hello {
    fn from(identity: Identity) -> Self {
        Self {
            version: VERSION,
            name: identity.name,
            cpu_millicores: identity.capacity.cpu_millicores,
            memory_bytes: identity.capacity.memory_bytes,
        }
    }
}

/// The same with whatever machine it is.
pub(crate) async fn attend<Channel>(
    identity: Identity,
    machine: Arc<dyn Machine>,
    files: Files,
    channel: Channel,
    shutdown: CancellationToken,
) -> Result<(), WorkerError>
where
    Channel: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connecting = ControlPlane::connect(channel).await;
    let (mut control_plane, connection) = connecting.map_err(WorkerError::Connect)?;
    let (lanes, messages) = Lanes::open();
    lanes.say_at_once(Up::Hello(identity.into()))?;
    let attaching = timeout(ATTACH_TIMEOUT, control_plane.attach(messages));
    let attached = tokio::select! {
        attached = attaching => attached.map_err(|_| WorkerError::Silent)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let mut commands = attached.map_err(refused)?;
    let mut worker = Worker {
        node: Node {
            machine,
            files: Arc::new(files),
            control_plane,
        },
        lanes,
        table: HashMap::new(),
        containers: JoinSet::new(),
    };
    let result = worker.listen(&mut commands, &shutdown).await;
    worker.end().await;
    let farewell = async { while let Ok(Some(_)) = commands.message().await {} };
    if result.is_ok() && timeout(FAREWELL_TIMEOUT, farewell).await.is_err() {
        tracing::debug!("the control plane does not hang up");
    }
    drop(connection);
    result
}

/// A container in the table. Dropping it ends the container.
#[derive(Debug)]
struct Entry {
    number: u32,
    inbox: mpsc::Sender<Command>,
}

#[derive(Debug)]
struct Worker {
    node: Node,
    lanes: Lanes,
    table: HashMap<String, Entry>,
    containers: JoinSet<Delivery>,
}

impl Worker {
    async fn listen(
        &mut self,
        commands: &mut Streaming<ToWorker>,
        shutdown: &CancellationToken,
    ) -> Result<(), WorkerError> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                received = commands.message() => match received {
                    Ok(Some(command)) => self.heed(command)?,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(WorkerError::Broken(status)),
                },
                Some(ended) = self.containers.join_next() => {
                    if let Ok(delivery) = ended {
                        self.forget(&delivery);
                    }
                }
            }
        }
    }

    fn heed(&mut self, command: ToWorker) -> Result<(), NotRead> {
        match command.message {
            Some(Down::Start(start)) => {
                let (delivery, node) = (start.delivery.clone(), self.node.clone());
                let run = move |lines| container::run(start, node, lines);
                return self.begin(delivery, run);
            }
            Some(Down::Warm(warm)) => {
                let (delivery, node) = (warm.delivery.clone(), self.node.clone());
                let run = move |lines| warming::run(warm, node, lines);
                return self.begin(delivery, run);
            }
            Some(Down::Call(call)) => {
                let container = call.container.clone();
                self.tell(&container, Command::Call(call));
            }
            Some(Down::Cancel(cancel)) => {
                let attempt = cancel.attempt;
                self.tell(&cancel.container, Command::Cancel { attempt });
            }
            Some(Down::Stop(stop)) => self.stop(stop),
            None => tracing::warn!("the control plane sent a message of no known kind"),
        }
        Ok(())
    }

    /// A later delivery of a container that is here ends the earlier one.
    fn begin<Running>(
        &mut self,
        delivery: Option<Delivery>,
        run: impl FnOnce(Lines) -> Running,
    ) -> Result<(), NotRead>
    where
        Running: Future<Output = ()> + Send + 'static,
    {
        let Some(delivery) = delivery else {
            tracing::warn!("the control plane sent a start of no container");
            return Ok(());
        };
        let known = self.table.get(&delivery.container);
        if known.is_some_and(|entry| entry.number >= delivery.number) {
            tracing::warn!(
                container = delivery.container,
                "a container was started again"
            );
            return Ok(());
        }
        let taken = Taken {
            delivery: Some(delivery.clone()),
        };
        self.lanes.say_at_once(Up::Taken(taken))?;
        let (inbox_in, inbox) = mpsc::channel(MAX_COMMANDS);
        let entry = Entry {
            number: delivery.number,
            inbox: inbox_in,
        };
        self.table.insert(delivery.container.clone(), entry);
        let uplink = self.lanes.of(delivery.clone());
        let running = run(Lines { inbox, uplink });
        self.containers.spawn(async move {
            running.await;
            delivery
        });
        Ok(())
    }

    fn stop(&mut self, stop: Stop) {
        let Some(delivery) = stop.delivery else {
            return;
        };
        if self.knows(&delivery) {
            let grace = Duration::from_millis(stop.grace_ms);
            self.tell(&delivery.container, Command::Stop { grace });
        }
    }

    /// Nobody is told of a container that is not here: it has ended, and that was said.
    fn tell(&mut self, container: &str, command: Command) {
        let Some(entry) = self.table.get(container) else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = entry.inbox.try_send(command) {
            tracing::warn!(container, "a container gets more commands than it can have");
            self.table.remove(container);
        }
    }

    fn knows(&self, delivery: &Delivery) -> bool {
        let known = self.table.get(&delivery.container);
        known.is_some_and(|entry| entry.number == delivery.number)
    }

    fn forget(&mut self, delivery: &Delivery) {
        if self.knows(delivery) {
            self.table.remove(&delivery.container);
        }
    }

    /// Ends all containers. What does not end in time is undone by the guards of its launch.
    async fn end(mut self) {
        self.table.clear();
        let ending = async { while self.containers.join_next().await.is_some() {} };
        if timeout(END_TIMEOUT, ending).await.is_err() {
            tracing::warn!("containers do not end in time");
        }
    }
}
