//! The launch itself: what begins side by side, who hears what, and the order of the end.
//!
//! The mount ends before the container's directory goes, so that nothing waits for a registry that
//! does not answer. What killed owners left is cleared away meanwhile, and has been when a launch
//! ends.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use container::{
    ContainerSpec, ExitStatus, IDS_PER_RANGE, IdRange, Network, NetworkMode, NetworkRequest,
    Outputs, PortMap, Process, Reaped, Resources, RunDir, Running, Runtime, Signals, Streams,
    Volume, reap_stale,
};
use credential::auth::AuthSource;
use ids::ContainerId;
use image_mount::{
    IdShift, MountError, MountLog, MountProcess, MountRequest, MountStats, RECORD_FOR,
};
use tokio::sync::mpsc::Receiver;

use crate::about::About;
use crate::error::LaunchError;
use crate::traces::{Keeping, Recording, Traces};
use crate::waterfall::Waterfall;

/// Everything that is decided before a container starts.
#[derive(Debug)]
pub struct LaunchRequest {
    pub id: ContainerId,
    /// The binary that can be started as `mount-server`.
    pub program: PathBuf,
    /// Where containers live while they run: a directory on a disk, since what they write goes
    /// there too.
    pub containers_dir: PathBuf,
    /// The ids of its user namespace; without, it runs in the machine's.
    pub ids: Option<IdRange>,
    pub about: About,
    /// Its mountpoint is decided here, and what is foretold to it.
    pub mount: MountRequest,
    /// Where what starts read is kept; without, this one is neither foretold nor recorded.
    pub traces: Option<Traces>,
    pub process: Process,
    pub volumes: Vec<Volume>,
    pub network: NetworkMode,
    pub ports: Vec<PortMap>,
    pub shm_bytes: u64,
    pub resources: Resources,
    pub hostname: String,
    /// What it reads from and writes to.
    pub streams: Streams,
}

/// Hears of a launch while it goes on, in the task that runs it: what takes long holds it up.
pub trait Observer: Send {
    /// What belongs into the container's log.
    fn log(&mut self, message: MountLog);

    /// The container runs. Captured outputs come with that, and writing to one that is dropped
    /// fails; there are none where the container has this process's own streams.
    fn started(&mut self, outputs: Option<Outputs>) {
        drop(outputs);
    }
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub exit: ExitStatus,
    /// What the mount has cost; nothing where its process could not say.
    pub stats: Option<MountStats>,
}

/// Runs one container to its end. Many may run side by side.
pub async fn launch(
    request: LaunchRequest,
    auth: Arc<dyn AuthSource>,
    signals: &mut Signals,
    waterfall: &Waterfall,
    observer: &mut dyn Observer,
) -> Result<Outcome, LaunchError> {
    let containers = request.containers_dir.clone();
    // Beside the start, which need not wait for what it may take others' processes to end.
    let clearing = tokio::spawn(clear_stale(containers.clone()));
    let dir = make_directory(&request).await?;
    let running = run_in(request, &dir, auth, signals, waterfall, observer);
    let result = Box::pin(running).await;
    let removed = waterfall.measure("clean up", remove(dir)).await;
    let _first_look = clearing.await;
    // A tool that outlives its killed owner by a moment holds the container until it ends, and may
    // have done so at the first look.
    clear_stale(containers).await;
    let outcome = result?;
    removed?;
    Ok(outcome)
}

async fn clear_stale(containers_dir: PathBuf) {
    let cleared = blocking(move || reap_stale(&containers_dir)).await;
    match cleared {
        Ok(all) => {
            for Reaped { id, error, .. } in all {
                tracing::info!(%id, ?error, "cleared away what a killed owner left");
            }
        }
        Err(error) => tracing::warn!(%error, "clearing away what killed owners left has failed"),
    }
}

async fn make_directory(request: &LaunchRequest) -> Result<RunDir, LaunchError> {
    let containers = request.containers_dir.clone();
    let (id, ids, about) = (request.id, request.ids, request.about.clone());
    blocking(move || {
        let dir = RunDir::create(&containers, id, ids)?;
        about
            .write(&dir)
            .map_err(failed("describe the container"))?;
        Ok(dir)
    })
    .await?
}

async fn remove(dir: RunDir) -> Result<(), LaunchError> {
    let removed = blocking(move || dir.remove()).await?;
    removed.map_err(failed("clear the container away"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LaunchError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| failed("wait for a worker thread")(io::Error::other(error)))
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Io { action, source }
}

/// What a container needs before it can start.
struct Ready {
    mount: MountProcess,
    recording: Option<Recording>,
    network: Network,
    runtime: Runtime,
}

async fn run_in(
    request: LaunchRequest,
    dir: &RunDir,
    auth: Arc<dyn AuthSource>,
    signals: &mut Signals,
    waterfall: &Waterfall,
    observer: &mut dyn Observer,
) -> Result<Outcome, LaunchError> {
    let Ready {
        mut mount,
        recording,
        network,
        runtime,
    } = ready_unless_interrupted(&request, dir, auth, signals, waterfall).await?;
    let mut attendance = Attendance {
        logs: mount.take_logs(),
        mount: &mut mount,
        recording,
        keeping: None,
        observer,
    };
    let (spec, streams) = spec(request, dir);
    let start = async { Ok(runtime.run(&spec, dir, &network, streams).await?) };
    let start = waterfall.measure("container", start);
    let started = unless_interrupted(signals, attendance.during(start)).await;
    let exit = match started {
        Ok(mut running) => {
            attendance.observer.started(running.take_outputs());
            let command = wait(running, signals, &mut attendance);
            waterfall.measure("command", command).await
        }
        Err(error) => Err(error),
    };
    attendance.drain();
    if exit.is_ok() {
        attendance.keep_recording().await;
    }
    let keeping = attendance.keeping.take();
    drop(network);
    let stats = waterfall.measure("unmount", mount.stop()).await;
    if let Some(keeping) = keeping {
        keeping.over().await;
    }
    outcome(exit, stats)
}

/// A command fails in any way when its image goes away under it, and may have ended before it is
/// known that the mount process has. One that was only slow to stop took nothing away.
fn outcome(
    exit: Result<ExitStatus, LaunchError>,
    stats: Result<MountStats, MountError>,
) -> Result<Outcome, LaunchError> {
    let is_symptom = match &exit {
        Ok(exit) => exit.code != 0,
        Err(error) => !matches!(
            error,
            LaunchError::Mount(_) | LaunchError::Interrupted { .. }
        ),
    };
    match stats {
        Err(error @ MountError::Died { .. }) if is_symptom => Err(error.into()),
        stats => Ok(Outcome {
            exit: exit?,
            stats: stats.ok(),
        }),
    }
}

/// An interrupted preparation is let end before it is undone, since a mount that comes late would
/// stay. It waits for nothing but this machine.
async fn ready_unless_interrupted(
    request: &LaunchRequest,
    dir: &RunDir,
    auth: Arc<dyn AuthSource>,
    signals: &mut Signals,
    waterfall: &Waterfall,
) -> Result<Ready, LaunchError> {
    let mut preparing = pin!(prepare(request, dir, auth, waterfall));
    tokio::select! {
        ready = &mut preparing => ready,
        signal = signals.asked_to_end() => {
            if let Ok(ready) = preparing.await {
                undo(ready.mount).await;
            }
            Err(LaunchError::Interrupted { signal })
        }
    }
}

/// Ends a mount that is not needed.
async fn undo(mount: MountProcess) {
    if let Err(error) = mount.stop().await {
        tracing::debug!(%error, "the mount process did not end in order");
    }
}

/// Mounts the image, makes the network and finds the runtime, all at once. Where one fails, the
/// others are undone.
async fn prepare(
    request: &LaunchRequest,
    dir: &RunDir,
    auth: Arc<dyn AuthSource>,
    waterfall: &Waterfall,
) -> Result<Ready, LaunchError> {
    let network = NetworkRequest {
        mode: request.network,
        ports: request.ports.clone(),
        ..NetworkRequest::default()
    };
    let mount = MountRequest {
        mountpoint: dir.lower(),
        id_shift: request.ids.map(|ids| IdShift {
            base: ids.first(),
            count: IDS_PER_RANGE,
        }),
        program: Some(crate::traces::program(&request.process)),
        start_lasts: RECORD_FOR,
        ..request.mount.clone()
    };
    let traces = request.traces.clone();
    let (mount, network, runtime) = tokio::join!(
        waterfall.measure("mount", spawn_mount(&request.program, mount, traces, auth)),
        waterfall.measure("network", prepare_network(dir, network)),
        find_runtime(),
    );
    let (mount, recording) = mount?;
    match (network, runtime) {
        (Ok(network), Ok(runtime)) => Ok(Ready {
            mount,
            recording,
            network,
            runtime,
        }),
        (Err(error), _) | (_, Err(error)) => {
            undo(mount).await;
            Err(error)
        }
    }
}

async fn spawn_mount(
    program: &Path,
    mut request: MountRequest,
    traces: Option<Traces>,
    auth: Arc<dyn AuthSource>,
) -> Result<(MountProcess, Option<Recording>), LaunchError> {
    let mut recording = None;
    if let Some(traces) = traces {
        recording = Some(Recording::begin(&traces, &request));
        let foretelling = move || {
            request.foretold = traces.foretell(&request);
            request
        };
        request = blocking(foretelling).await?;
    }
    let mount = MountProcess::spawn(program, request, auth).await?;
    Ok((mount, recording))
}

async fn prepare_network(dir: &RunDir, request: NetworkRequest) -> Result<Network, LaunchError> {
    Ok(Network::prepare(dir, request).await?)
}

async fn find_runtime() -> Result<Runtime, LaunchError> {
    Ok(blocking(Runtime::find).await??)
}

fn spec(request: LaunchRequest, dir: &RunDir) -> (ContainerSpec, Streams) {
    let spec = ContainerSpec {
        id: request.id,
        lower: dir.lower(),
        process: request.process,
        volumes: request.volumes,
        network: request.network,
        ports: request.ports,
        shm_bytes: request.shm_bytes,
        resources: request.resources,
        hostname: request.hostname,
    };
    (spec, request.streams)
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

/// Waits for the command's end; with its mount process dead it cannot go on.
async fn wait(
    mut running: Running,
    signals: &mut Signals,
    attendance: &mut Attendance<'_>,
) -> Result<ExitStatus, LaunchError> {
    let waiting = async {
        let exit = running.wait(signals).await;
        exit.map_err(failed("wait for the command"))
    };
    let result = attendance.during(waiting).await;
    if let Err(LaunchError::Mount(_)) = &result {
        running.kill();
        let ended = running.wait(signals).await;
        ended.map_err(failed("wait for the command"))?;
    }
    result
}

/// Whoever waits for a container hears what its mount process tells, and that it has died.
struct Attendance<'a> {
    mount: &'a mut MountProcess,
    logs: Option<Receiver<MountLog>>,
    recording: Option<Recording>,
    /// What was recorded, on its way to the disk.
    keeping: Option<Keeping>,
    observer: &'a mut dyn Observer,
}

impl Attendance<'_> {
    async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, LaunchError>>,
    ) -> Result<T, LaunchError> {
        let mut work = pin!(work);
        loop {
            let next = async {
                match &mut self.logs {
                    Some(logs) => logs.recv().await,
                    None => std::future::pending().await,
                }
            };
            let over = async {
                match &self.recording {
                    Some(recording) => recording.over().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                result = &mut work => return result,
                () = over => tokio::select! {
                    result = &mut work => return result,
                    () = self.keep_recording() => {}
                },
                message = next => match message {
                    Some(message) => self.observer.log(message),
                    None => self.logs = None,
                },
                error = self.mount.died() => return Err(error.into()),
            }
        }
    }

    /// Keeps what was read by now, unless that has been done.
    async fn keep_recording(&mut self) {
        if self.recording.is_none() {
            return;
        }
        let touched = Recording::touched(self.mount).await;
        let keep = |recording: Recording| recording.keep(touched);
        self.keeping = self.recording.take().map(keep);
    }

    /// What was said until now.
    fn drain(&mut self) {
        while let Some(Ok(message)) = self.logs.as_mut().map(Receiver::try_recv) {
            self.observer.log(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_died_is_blamed_and_one_that_was_slow_is_not() {
        let message = || String::from("no more");
        let failed = || LaunchError::Io {
            action: "start the command",
            source: io::ErrorKind::NotConnected.into(),
        };
        let died = MountError::Died { message: message() };
        let blamed = outcome(Err(failed()), Err(died)).unwrap_err();
        assert!(matches!(blamed, LaunchError::Mount(_)), "{blamed}");
        let slow = MountError::Silent { message: message() };
        let own = outcome(Err(failed()), Err(slow)).unwrap_err();
        assert!(matches!(own, LaunchError::Io { .. }), "{own}");
    }
}
