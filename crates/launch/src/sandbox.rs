//! What a container needs and its image has no say in: a directory and user namespace, a network,
//! the runtime, and a mount process that waits for its files.
//!
//! It is made beside what a start waits for elsewhere, such as the registry's word. Invariants: it
//! holds nothing of an image, no secret and no lease; it is used by one container or by none, and
//! taken away whole in either case.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use container::{IdRange, Network, NetworkMode, NetworkRequest, RunDir, Runtime};
use ids::ContainerId;
use image_mount::MountServer;
use tokio::task::JoinHandle;

use crate::error::LaunchError;
use crate::waterfall::Waterfall;

/// Which sandbox.
#[derive(Clone, Debug)]
pub struct SandboxRequest {
    pub id: ContainerId,
    /// The binary that can be started as `mount-server`.
    pub program: PathBuf,
    /// Where containers live while they run: a directory on a disk, since what they write goes
    /// there too.
    pub containers_dir: PathBuf,
    /// The ids of its user namespace; without, it is the machine's.
    pub ids: Option<IdRange>,
    pub network: NetworkMode,
}

/// One that is ready.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) request: SandboxRequest,
    pub(crate) dir: RunDir,
    pub(crate) network: Network,
    pub(crate) runtime: Runtime,
    pub(crate) server: MountServer,
}

/// One that is on its way, in a task of its own. What is dropped is taken away when it is ready,
/// and by the next start if this process ends before.
#[derive(Debug)]
pub struct Preparing {
    id: ContainerId,
    task: JoinHandle<Result<Sandbox, LaunchError>>,
}

impl Preparing {
    /// Begins at once.
    pub fn begin(request: SandboxRequest, waterfall: &Arc<Waterfall>) -> Self {
        let (id, waterfall) = (request.id, Arc::clone(waterfall));
        let task = tokio::spawn(async move { Sandbox::make(request, &waterfall).await });
        Self { id, task }
    }

    /// The container's.
    pub fn id(&self) -> ContainerId {
        self.id
    }

    /// Waits for it. May be dropped and called again, until it has answered.
    pub(crate) async fn ready(&mut self) -> Result<Sandbox, LaunchError> {
        let made = (&mut self.task).await;
        made.map_err(|error| failed("prepare a sandbox")(io::Error::other(error)))?
    }

    /// One that is ready.
    pub(crate) fn of(sandbox: Sandbox) -> Self {
        let id = sandbox.request.id;
        let task = tokio::spawn(std::future::ready(Ok(sandbox)));
        Self { id, task }
    }

    /// Takes it away. Nothing of it is left when this returns.
    pub async fn undo(mut self) {
        // One that failed is away already.
        if let Ok(sandbox) = self.ready().await {
            sandbox.undo().await;
        }
    }
}

impl Sandbox {
    /// All parts at once. Where one fails, the others are undone.
    async fn make(request: SandboxRequest, waterfall: &Waterfall) -> Result<Self, LaunchError> {
        let (rooms, runtime, server) = tokio::join!(
            make_rooms(&request, waterfall),
            waterfall.measure("runtime", find_runtime()),
            waterfall.measure("mount process", start_server(request.program.clone())),
        );
        match (rooms, runtime, server) {
            (Ok((dir, network)), Ok(runtime), Ok(server)) => Ok(Self {
                request,
                dir,
                network,
                runtime,
                server,
            }),
            (rooms, runtime, server) => Err(give_up(rooms, runtime, server).await),
        }
    }

    /// Whether it can still be used: a machine that is short of memory may have taken its process.
    pub(crate) fn is_sound(&mut self) -> bool {
        self.server.is_there()
    }

    pub(crate) async fn undo(self) {
        drop(self.network);
        self.server.end().await;
        clear_away(self.dir).await;
    }
}

type Rooms = (RunDir, Network);

/// A directory, and a network that is kept in it.
async fn make_rooms(request: &SandboxRequest, waterfall: &Waterfall) -> Result<Rooms, LaunchError> {
    let dir = waterfall.measure("directory", make_directory(request));
    let dir = dir.await?;
    let wanted = NetworkRequest {
        mode: request.network,
        ..NetworkRequest::default()
    };
    let network = waterfall.measure("network", Network::prepare(&dir, wanted));
    match network.await {
        Ok(network) => Ok((dir, network)),
        Err(error) => {
            clear_away(dir).await;
            Err(error.into())
        }
    }
}

async fn make_directory(request: &SandboxRequest) -> Result<RunDir, LaunchError> {
    let (containers, id, ids) = (request.containers_dir.clone(), request.id, request.ids);
    Ok(blocking(move || RunDir::create(&containers, id, ids)).await??)
}

async fn find_runtime() -> Result<Runtime, LaunchError> {
    Ok(blocking(Runtime::find).await??)
}

/// Whatever starts a process waits until that runs.
async fn start_server(program: PathBuf) -> Result<MountServer, LaunchError> {
    let executor = tokio::runtime::Handle::current();
    let start = move || {
        let _entered = executor.enter();
        MountServer::start(&program)
    };
    Ok(blocking(start).await??)
}

/// Undoes what there is, and says what went wrong.
async fn give_up(
    rooms: Result<Rooms, LaunchError>,
    runtime: Result<Runtime, LaunchError>,
    server: Result<MountServer, LaunchError>,
) -> LaunchError {
    let mut errors = Vec::from_iter(runtime.err());
    match server {
        Ok(server) => server.end().await,
        Err(error) => errors.push(error),
    }
    match rooms {
        Ok((dir, network)) => {
            drop(network);
            clear_away(dir).await;
        }
        Err(error) => errors.push(error),
    }
    errors.pop().expect("one of them failed")
}

/// What stays is cleared away by the next start.
async fn clear_away(dir: RunDir) {
    let id = dir.id();
    if let Err(error) = remove(dir).await {
        tracing::warn!(%id, %error, "a sandbox is not cleared away");
    }
}

pub(crate) async fn remove(dir: RunDir) -> Result<(), LaunchError> {
    let removed = blocking(move || dir.remove()).await?;
    removed.map_err(failed("clear the container away"))
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LaunchError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| failed("wait for a worker thread")(io::Error::other(error)))
}

pub(crate) fn failed(action: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Io { action, source }
}
