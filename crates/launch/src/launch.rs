//! The launch itself: what begins side by side, who hears what, and the order of the end.
//!
//! The mount ends before the container's directory goes, so that nothing waits for a registry that
//! does not answer. What killed owners left is cleared away meanwhile, and has been when a launch
//! ends.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use container::{
    ContainerSpec, ExitStatus, IDS_PER_RANGE, IdRange, Network, NetworkMode, Outputs, PortMap,
    Process, Reaped, Resources, RunDir, Running, Runtime, Signals, Streams, Volume, reap_stale,
    vacate,
};
use credential::auth::AuthSource;
use ids::ContainerId;
use image_mount::{
    IdShift, MountError, MountLog, MountProcess, MountRequest, MountServer, MountStats, RECORD_FOR,
};
use tokio::sync::mpsc::Receiver;

use crate::about::About;
use crate::error::LaunchError;
use crate::leave::Leave;
use crate::sandbox::{Preparing, Sandbox, blocking, failed, remove};
use crate::traces::{Keeping, Recording, Traces};
use crate::waterfall::Waterfall;

/// Everything about one container that its sandbox is not.
#[derive(Debug)]
pub struct LaunchRequest {
    pub about: About,
    /// Its mountpoint is decided here, and what is foretold to it.
    pub mount: MountRequest,
    /// Where what starts read is kept; without, this one is neither foretold nor recorded.
    pub traces: Option<Traces>,
    pub process: Process,
    pub volumes: Vec<Volume>,
    pub ports: Vec<PortMap>,
    pub shm_bytes: u64,
    pub resources: Resources,
    pub hostname: String,
    /// What it reads from and writes to.
    pub streams: Streams,
    /// Until it is given, all is made ready and nothing of the image runs.
    pub leave: Leave,
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

/// Runs one container to its end, in a sandbox that may still be on its way. Many may run side by
/// side.
pub async fn launch(
    request: LaunchRequest,
    sandbox: Preparing,
    auth: Arc<dyn AuthSource>,
    signals: &mut Signals,
    waterfall: &Waterfall,
    observer: &mut dyn Observer,
) -> Result<Outcome, LaunchError> {
    let Sandbox {
        request: sandbox,
        dir,
        network,
        runtime,
        server,
    } = sandbox_unless_called_off(sandbox, &request.leave, signals).await?;
    let containers = sandbox.containers_dir;
    // Beside the start, which need not wait for what it may take others' processes to end.
    let clearing = tokio::spawn(clear_stale(containers.clone()));
    let inside = Inside {
        dir: &dir,
        ids: sandbox.ids,
        mode: sandbox.network,
        network,
        runtime,
    };
    let running = run_in(inside, request, server, auth, signals, waterfall, observer);
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

/// One that is still on its way is let end before it is taken away.
async fn sandbox_unless_called_off(
    mut sandbox: Preparing,
    leave: &Leave,
    signals: &mut Signals,
) -> Result<Sandbox, LaunchError> {
    let why = tokio::select! {
        ready = sandbox.ready() => return ready,
        why = called_off(leave, signals) => why,
    };
    sandbox.undo().await;
    Err(why)
}

/// Returns when the launch is not to go on. Before the command runs a signal ends the launch;
/// afterwards signals are the command's.
async fn called_off(leave: &Leave, signals: &mut Signals) -> LaunchError {
    tokio::select! {
        signal = signals.asked_to_end() => LaunchError::Interrupted { signal },
        refused = leave.refused() => refused,
    }
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

/// A sandbox that a container is put into.
struct Inside<'a> {
    dir: &'a RunDir,
    ids: Option<IdRange>,
    mode: NetworkMode,
    network: Network,
    runtime: Runtime,
}

async fn run_in(
    mut inside: Inside<'_>,
    request: LaunchRequest,
    server: MountServer,
    auth: Arc<dyn AuthSource>,
    signals: &mut Signals,
    waterfall: &Waterfall,
    observer: &mut dyn Observer,
) -> Result<Outcome, LaunchError> {
    let (leave, auth) = (request.leave.clone(), request.leave.guard(auth));
    let readying = make_ready(&inside, &request, server, auth, waterfall);
    let (mut mount, recording) = undone_if_called_off(readying, &leave, signals).await?;
    let mut attendance = Attendance {
        logs: mount.take_logs(),
        mount: &mut mount,
        recording,
        keeping: None,
        observer,
    };
    let (spec, streams) = spec(request, inside.dir, inside.mode);
    let start = start(&mut inside, &spec, streams, &leave, waterfall);
    let started = tokio::select! {
        started = attendance.during(start) => started,
        why = called_off(&leave, signals) => Err(why),
    };
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
    drop(inside.network);
    let unmounting = waterfall.measure("unmount", mount.stop());
    let stats = match &exit {
        Ok(_) => tokio::join!(unmounting, vacated(inside.dir.id())).0,
        // What did not start as it should is taken away when its mount has let it go.
        Err(_) => unmounting.await,
    };
    if let Some(keeping) = keeping {
        keeping.over().await;
    }
    outcome(exit, stats)
}

/// What fails here is tried again with the directory.
async fn vacated(id: ContainerId) {
    match blocking(move || vacate(id)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%id, %error, "a container is not all away yet"),
        Err(error) => tracing::debug!(%id, %error, "a container is not all away yet"),
    }
}

/// Starts the command as soon as it may begin. What waits for that is made meanwhile.
async fn start(
    inside: &mut Inside<'_>,
    spec: &ContainerSpec,
    streams: Streams,
    leave: &Leave,
    waterfall: &Waterfall,
) -> Result<Running, LaunchError> {
    let Inside {
        dir,
        network,
        runtime,
        ..
    } = inside;
    if leave.is_given() {
        network.publish(&spec.ports).await?;
        let run = runtime.run(spec, dir, network, streams);
        return Ok(waterfall.measure("container", run).await?);
    }
    let create = runtime.create(spec, dir, network, streams);
    let created = waterfall.measure("container", create).await?;
    leave.wait().await?;
    network.publish(&spec.ports).await?;
    Ok(waterfall.measure("start", created.start(dir)).await?)
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
            LaunchError::Mount(_) | LaunchError::Interrupted { .. } | LaunchError::NoLeave
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

/// What is called off here is let end before it is undone, since a mount that comes late would
/// stay. It waits for nothing but this machine.
async fn undone_if_called_off(
    readying: impl Future<Output = Result<Mounted, LaunchError>>,
    leave: &Leave,
    signals: &mut Signals,
) -> Result<Mounted, LaunchError> {
    let mut readying = pin!(readying);
    tokio::select! {
        ready = &mut readying => ready,
        why = called_off(leave, signals) => {
            if let Ok((mount, _)) = readying.await {
                undo(mount).await;
            }
            Err(why)
        }
    }
}

/// Ends a mount that is not needed.
async fn undo(mount: MountProcess) {
    if let Err(error) = mount.stop().await {
        tracing::debug!(%error, "the mount process did not end in order");
    }
}

type Mounted = (MountProcess, Option<Recording>);

/// Puts the image into the sandbox, and says what it is.
async fn make_ready(
    inside: &Inside<'_>,
    request: &LaunchRequest,
    server: MountServer,
    auth: Arc<dyn AuthSource>,
    waterfall: &Waterfall,
) -> Result<Mounted, LaunchError> {
    let mount = MountRequest {
        mountpoint: inside.dir.lower(),
        id_shift: inside.ids.map(|ids| IdShift {
            base: ids.first(),
            count: IDS_PER_RANGE,
        }),
        program: Some(crate::traces::program(&request.process)),
        start_lasts: RECORD_FOR,
        ..request.mount.clone()
    };
    let traces = request.traces.clone();
    let (about, directory) = (request.about.clone(), inside.dir.path().to_owned());
    let (mounted, described) = tokio::join!(
        waterfall.measure("mount", mount_image(server, mount, traces, auth)),
        blocking(move || about.write(&directory)),
    );
    let mounted = mounted?;
    match described.and_then(|done| done.map_err(failed("describe the container"))) {
        Ok(()) => Ok(mounted),
        Err(error) => {
            undo(mounted.0).await;
            Err(error)
        }
    }
}

async fn mount_image(
    server: MountServer,
    mut request: MountRequest,
    traces: Option<Traces>,
    auth: Arc<dyn AuthSource>,
) -> Result<Mounted, LaunchError> {
    let mut recording = None;
    if let Some(traces) = traces {
        recording = Some(Recording::begin(&traces, &request));
        let foretelling = move || {
            request.foretold = traces.foretell(&request);
            request
        };
        request = blocking(foretelling).await?;
    }
    let mount = server.mount(request, auth).await?;
    Ok((mount, recording))
}

fn spec(request: LaunchRequest, dir: &RunDir, network: NetworkMode) -> (ContainerSpec, Streams) {
    let spec = ContainerSpec {
        id: dir.id(),
        lower: dir.lower(),
        process: request.process,
        volumes: request.volumes,
        network,
        ports: request.ports,
        shm_bytes: request.shm_bytes,
        resources: request.resources,
        hostname: request.hostname,
    };
    (spec, request.streams)
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
    use std::io;

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
