//! The launch itself.

use std::path::PathBuf;
use std::sync::Arc;

use container::{
    ContainerSpec, ExitStatus, Network, NetworkMode, NetworkRequest, PortMap, Process, Resources,
    RunDir, Running, Runtime, Signals, Volume, reap_stale,
};
use credential::auth::AuthSource;
use ids::ContainerId;
use image_mount::{MountLog, MountProcess, MountRequest, MountStats};

use tokio::sync::mpsc::Receiver;

use crate::about::About;
use crate::error::LaunchError;
use crate::waterfall::Waterfall;

/// Everything that is decided before a container starts.
#[derive(Debug)]
pub struct LaunchRequest {
    pub id: ContainerId,
    /// The binary that can be started as `mount-server`.
    pub program: PathBuf,
    /// Where containers live while they run.
    pub containers_dir: PathBuf,
    pub about: About,
    /// Its mountpoint is decided here.
    pub mount: MountRequest,
    pub process: Process,
    pub volumes: Vec<Volume>,
    pub network: NetworkMode,
    pub ports: Vec<PortMap>,
    pub shm_bytes: u64,
    pub resources: Resources,
    pub hostname: String,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub exit: ExitStatus,
    /// What the mount has cost; nothing where its process could not say.
    pub stats: Option<MountStats>,
}

/// What the mount process tells; nothing once it is gone.
type Logs = Option<Receiver<MountLog>>;

/// Runs one container to its end. `log` hears what belongs into the container's log.
pub async fn launch(
    request: LaunchRequest,
    auth: Arc<dyn AuthSource>,
    signals: &mut Signals,
    waterfall: &Waterfall,
    log: &mut (dyn FnMut(MountLog) + Send),
) -> Result<Outcome, LaunchError> {
    let runtime = Runtime::find()?;
    let dir = prepare_directory(&request).await?;
    let result = run_in(&runtime, request, &dir, auth, signals, waterfall, log).await;
    let removed = waterfall.measure("clean up", remove(dir)).await;
    let outcome = result?;
    removed?;
    Ok(outcome)
}

async fn prepare_directory(request: &LaunchRequest) -> Result<RunDir, LaunchError> {
    let (containers, id, about) = (
        request.containers_dir.clone(),
        request.id,
        request.about.clone(),
    );
    let work = move || {
        for reaped in reap_stale(&containers) {
            match reaped.error {
                Some(error) => tracing::warn!(id = %reaped.id, %error, "a dead container stays"),
                None => tracing::info!(id = %reaped.id, "cleared a dead container away"),
            }
        }
        let dir = RunDir::create(&containers, id)?;
        let written = about.write(&dir);
        written.map_err(|source| LaunchError::Io {
            action: "describe the container",
            source,
        })?;
        Ok(dir)
    };
    blocking(work).await?
}

async fn remove(dir: RunDir) -> Result<(), LaunchError> {
    let removed = blocking(move || dir.remove()).await?;
    removed.map_err(|source| LaunchError::Io {
        action: "clear the container away",
        source,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LaunchError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| LaunchError::Io {
        action: "wait for a worker thread",
        source: std::io::Error::other(error),
    })
}

async fn run_in(
    runtime: &Runtime,
    request: LaunchRequest,
    dir: &RunDir,
    auth: Arc<dyn AuthSource>,
    signals: &mut Signals,
    waterfall: &Waterfall,
    log: &mut (dyn FnMut(MountLog) + Send),
) -> Result<Outcome, LaunchError> {
    let network = NetworkRequest {
        mode: request.network,
        ports: request.ports.clone(),
        ..NetworkRequest::default()
    };
    let mount = MountRequest {
        mountpoint: dir.lower(),
        ..request.mount.clone()
    };
    let parts = async {
        tokio::try_join!(
            waterfall.measure("mount", spawn_mount(&request.program, mount, auth)),
            waterfall.measure("network", prepare_network(dir, network)),
        )
    };
    let (mut mount, network) = unless_interrupted(signals, parts).await?;
    let spec = spec(request, dir);
    let start = async { Ok(runtime.run(&spec, dir, &network).await?) };
    let started = unless_interrupted(signals, waterfall.measure("container", start)).await;
    let mut logs = mount.take_logs();
    let exit = match started {
        Ok(mut running) => {
            let command = watch(&mut running, &mut mount, &mut logs, signals, log);
            waterfall.measure("command", command).await
        }
        Err(error) => Err(error),
    };
    drain(&mut logs, log);
    let stats = mount.stats().await.ok();
    drop(network);
    drop(mount);
    Ok(Outcome { exit: exit?, stats })
}

async fn spawn_mount(
    program: &std::path::Path,
    request: MountRequest,
    auth: Arc<dyn AuthSource>,
) -> Result<MountProcess, LaunchError> {
    let lower = request.mountpoint.clone();
    let made = tokio::fs::create_dir_all(&lower).await;
    made.map_err(|source| LaunchError::Io {
        action: "make the image's mountpoint",
        source,
    })?;
    Ok(MountProcess::spawn(program, request, auth).await?)
}

async fn prepare_network(dir: &RunDir, request: NetworkRequest) -> Result<Network, LaunchError> {
    Ok(Network::prepare(dir, request).await?)
}

fn spec(request: LaunchRequest, dir: &RunDir) -> ContainerSpec {
    ContainerSpec {
        id: request.id,
        lower: dir.lower(),
        process: request.process,
        volumes: request.volumes,
        network: request.network,
        ports: request.ports,
        shm_bytes: request.shm_bytes,
        resources: request.resources,
        hostname: request.hostname,
    }
}

/// A signal before the command runs ends the launch; afterwards signals are the command's.
async fn unless_interrupted<T>(
    signals: &mut Signals,
    work: impl Future<Output = Result<T, LaunchError>>,
) -> Result<T, LaunchError> {
    tokio::select! {
        result = work => result,
        signal = signals.asked_to_end() => Err(LaunchError::Interrupted { signal }),
    }
}

/// Waits for the command's end, telling what the mount process tells. Without its mount process
/// a container cannot go on.
async fn watch(
    running: &mut Running,
    mount: &mut MountProcess,
    logs: &mut Logs,
    signals: &mut Signals,
    log: &mut (dyn FnMut(MountLog) + Send),
) -> Result<ExitStatus, LaunchError> {
    let waited = |source| LaunchError::Io {
        action: "wait for the command",
        source,
    };
    loop {
        let next_log = async {
            match logs {
                Some(logs) => logs.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exit = running.wait(signals) => return exit.map_err(waited),
            message = next_log => match message {
                Some(message) => log(message),
                None => *logs = None,
            },
            error = mount.died() => {
                running.kill();
                running.wait(signals).await.map_err(waited)?;
                return Err(error.into());
            }
        }
    }
}

/// What was said between the command's end and ours.
fn drain(logs: &mut Logs, log: &mut (dyn FnMut(MountLog) + Send)) {
    while let Some(Ok(message)) = logs.as_mut().map(Receiver::try_recv) {
        log(message);
    }
}
