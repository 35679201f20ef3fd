//! `holdfast run`: a command in an image, with the habits of docker's `run`.
//!
//! Exit codes: the command's own; 125 when it did not start for a reason of ours, 126 and 127 when
//! it could not be executed or found.

mod start;

use std::sync::Arc;
use std::time::Duration;

use broker::{AfterRemoval, Lease};
use container::{
    IdRange, IdRangeError, ImageDefaults, NetworkError, NetworkMode, Overrides, PortMap, Resources,
    Volume,
};
use ids::ContainerId;
use image::PinnedImage;
use image_mount::MountError;
use launch::{
    About, Control, LaunchError, LaunchRequest, Leave, MountLog, NoticeKind, Observer, Outcome,
    SandboxRequest, Signals, Streams, Traces, Waterfall,
};
use serde::Serialize;

use crate::app::{App, own_program};
use crate::args::RunArgs;
use crate::commands::image::remove_damaged_indexes;
use crate::failure::{Failure, Kind, Result, printable};
use crate::output::{Output, bytes};
use crate::resolved::Resolved;
use crate::settings::{Filling, Userns, parse_size};

use self::start::{Ended, Proven, Start};

/// How often a removal is looked for.
const CALLED_OFF_EVERY: Duration = Duration::from_secs(1);
/// Why nothing of the image's command was run.
const NOT_STARTED: u8 = 125;

pub(crate) async fn run(app: Result<App>, args: RunArgs) -> Result<u8> {
    let ours = |mut failure: Failure| {
        failure.exit_code.get_or_insert(NOT_STARTED);
        failure
    };
    let app = app.map_err(ours)?;
    start(&app, &args).await.map_err(ours)
}

/// Refuses a command that starts containers to who cannot.
pub(crate) fn must_be_root(command: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let message = "mounting and running containers needs root";
    Err(Failure::new(Kind::Machine, message).hint(format!("sudo holdfast {command} …")))
}

async fn start(app: &App, args: &RunArgs) -> Result<u8> {
    let wanted = Wanted::parse(app, args)?;
    must_be_root("run")?;
    refuse_used_name(app, args)?;
    let waterfall = Arc::new(Waterfall::begin());
    let signals = Signals::listen()
        .map_err(|error| Failure::new(Kind::Machine, format!("signals: {error}")))?;
    let start = Start {
        app,
        args,
        wanted,
        waterfall,
    };
    let Ended {
        proven: Proven { resolved, cold, .. },
        launched,
        is_damaged,
    } = start.run(signals).await?;
    resolved.end().await;
    if is_damaged || matches!(launched, Err(LaunchError::Mount(MountError::Index { .. }))) {
        remove_damaged_indexes(app, &resolved).await?;
    }
    let outcome = launched?;
    if let Some(note) = outcome.exit.memory_note() {
        eprintln!("holdfast: {note}");
    }
    let timing = Timing::new(&resolved, &start.waterfall, &outcome, cold);
    timing.report(args)?;
    Ok(outcome.exit.code)
}

/// Stops the container when its credential is removed by somebody who says so. A command is one
/// call, so that one that drains goes on to its end.
async fn end_when_called_off(lease: Arc<Lease>, control: Control) {
    let mut looks = tokio::time::interval(CALLED_OFF_EVERY);
    loop {
        looks.tick().await;
        match lease.called_off().await {
            Ok(Some(AfterRemoval::Kill)) => break,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a removed credential cannot be looked for"),
        }
    }
    let scope = lease.scope().map(ToString::to_string).unwrap_or_default();
    eprintln!("holdfast: stopped, since the credential for {scope} was removed");
    control.kill();
}

fn interrupted(signal: i32) -> Failure {
    let mut failure = Failure::new(Kind::Interrupted, "interrupted before the command started");
    failure.exit_code = u8::try_from(128 + signal).ok();
    failure
}

/// `stop` could not tell two of the same name apart.
fn refuse_used_name(app: &App, args: &RunArgs) -> Result<()> {
    let Some(name) = &args.name else {
        return Ok(());
    };
    let running = launch::list(&app.containers_dir());
    if running
        .iter()
        .any(|other| other.about.name.as_ref() == Some(name))
    {
        let message = format!("a container {name} is running");
        return Err(Failure::invalid(message).hint(format!("holdfast stop {name}")));
    }
    Ok(())
}

/// True when nothing of the image is in the cache.
fn is_cold(app: &App, origin: &str, layers: &[image::LayerReport]) -> Result<bool> {
    let cache = app.span_cache()?;
    for layer in layers {
        if cache.present_spans(origin, &layer.index)? > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells at once what the mount process says, and keeps what has to be mended afterwards.
struct Log {
    output: Output,
    is_damaged: bool,
}

impl Log {
    fn new(output: Output) -> Self {
        Self {
            output,
            is_damaged: false,
        }
    }
}

impl Observer for Log {
    fn log(&mut self, message: MountLog) {
        self.is_damaged |= message.kind == NoticeKind::Corrupt;
        tell(self.output, &message);
    }
}

/// What the mount process says about the registry, on the container's own standard error.
fn tell(output: Output, message: &MountLog) {
    say(output, message.kind.name(), &message.message);
}

fn say(output: Output, kind: &str, message: &str) {
    let message = printable(message);
    if output.json {
        let line = serde_json::json!({ "notice": { "kind": kind, "message": message } });
        eprintln!("{line}");
    } else {
        eprintln!("holdfast: {kind}: {message}");
    }
}

/// What was typed, understood before anything is asked of a registry.
struct Wanted {
    id: ContainerId,
    userns: Userns,
    fill: Filling,
    volumes: Vec<Volume>,
    network: NetworkMode,
    ports: Vec<PortMap>,
    shm_bytes: u64,
    resources: Resources,
    env: Vec<String>,
}

impl Wanted {
    fn parse(app: &App, args: &RunArgs) -> Result<Self> {
        refuse_unsupported(args)?;
        let userns = args.userns.as_deref().map(Userns::parse).transpose()?;
        let userns = userns.unwrap_or(app.settings.userns);
        let fill = args.fill.as_deref().map(Filling::parse).transpose()?;
        let network = args.network.parse().map_err(Failure::invalid)?;
        if (network, userns) == (NetworkMode::Host, Userns::Private) {
            let message = "network host needs the machine's user namespace too";
            return Err(Failure::invalid(message).hint("add --userns host"));
        }
        if network != NetworkMode::Nat && !args.publish.is_empty() {
            return Err(Failure::invalid(NetworkError::PortsWithoutNat));
        }
        let volumes = args.volume.iter().map(|text| Volume::parse(text));
        let ports = args.publish.iter().map(|text| PortMap::parse(text));
        let resources = Resources {
            memory_bytes: args.memory.as_deref().map(parse_size).transpose()?,
            cpus: args.cpus,
            pids: args.pids_limit.or(Resources::default().pids),
            ..Resources::default()
        };
        container::check_limits(&resources).map_err(Failure::invalid)?;
        Ok(Self {
            id: ContainerId::new(),
            volumes: volumes
                .collect::<Result<_, _>>()
                .map_err(Failure::invalid)?,
            userns,
            fill: fill.unwrap_or(app.settings.fill),
            network,
            ports: ports.collect::<Result<_, _>>().map_err(Failure::invalid)?,
            shm_bytes: parse_size(&args.shm_size)?,
            resources,
            env: args.env.iter().filter_map(|text| variable(text)).collect(),
        })
    }

    fn sandbox(&self, app: &App) -> Result<SandboxRequest> {
        Ok(SandboxRequest {
            id: self.id,
            program: own_program()?,
            containers_dir: app.containers_dir(),
            ids: ids(app, self.userns)?,
            network: self.network,
        })
    }

    /// The image's configuration with what was typed over it.
    fn process(&self, pinned: &PinnedImage, args: &RunArgs) -> Result<container::Process> {
        let defaults = ImageDefaults::from_config(&pinned.config).map_err(Failure::invalid)?;
        let overrides = Overrides {
            entrypoint: args.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
            args: args.command.clone(),
            env: self.env.clone(),
            working_dir: args.workdir.clone(),
            user: args.user.clone(),
            terminal: args.tty,
            stdin: args.interactive,
        };
        let hostname = container::default_hostname(&self.id);
        container::compose(&defaults, &overrides, &hostname).map_err(Failure::invalid)
    }

    fn complete(
        &self,
        app: &App,
        args: &RunArgs,
        mount: image_mount::MountRequest,
        pinned: &PinnedImage,
        leave: Leave,
    ) -> Result<LaunchRequest> {
        let process = self.process(pinned, args)?;
        Ok(LaunchRequest {
            about: About {
                name: args.name.clone(),
                image: pinned.reference.canonical(),
                command: process.args.clone(),
                owner_pid: std::process::id(),
                started_at: jiff::Timestamp::now().as_second(),
            },
            mount: image_mount::MountRequest {
                fill_when_idle: self.fill == Filling::WhenIdle,
                ..mount
            },
            traces: Some(Traces::Here {
                store: app.image_store()?,
                workspace: app.settings.workspace.to_string(),
                command: process.args.clone(),
            }),
            process,
            volumes: self.volumes.clone(),
            ports: self.ports.clone(),
            shm_bytes: self.shm_bytes,
            resources: self.resources,
            hostname: container::default_hostname(&self.id),
            streams: Streams::Ours,
            leave,
        })
    }
}

/// The ids of the workspace's containers, `None` for the machine's own.
fn ids(app: &App, userns: Userns) -> Result<Option<IdRange>> {
    if userns == Userns::Host {
        return Ok(None);
    }
    let (directory, first_id) = (app.ids_dir(), app.settings.userns_first_id);
    let range = IdRange::of_workspace(&directory, first_id, app.settings.workspace.as_str());
    range.map(Some).map_err(|error| {
        let (kind, hint) = match &error {
            IdRangeError::FirstId(_) | IdRangeError::Subordinate(..) | IdRangeError::Moved(..) => {
                (Kind::Invalid, "see userns_first_id in the configuration")
            }
            IdRangeError::Full(_) => (
                Kind::Machine,
                "remove the file in `ids` of a workspace that is gone and has no files left",
            ),
            IdRangeError::Io(_) => (Kind::Machine, "see `holdfast doctor`"),
        };
        Failure::of(kind, &error).hint(hint)
    })
}

/// A bare name takes the caller's value, and is left out where there is none.
fn variable(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    Some(format!("{text}={}", std::env::var(text).ok()?))
}

/// What docker knows and we do not is refused by name, never ignored.
fn refuse_unsupported(args: &RunArgs) -> Result<()> {
    let refused = [
        (args.gpus.is_some(), "--gpus"),
        (args.detach, "--detach"),
        (args.privileged, "--privileged"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(
            Failure::new(Kind::Unsupported, format!("{flag} is not supported"))
                .hint("containers run in the foreground, without GPUs and without privileges"),
        ),
        None => Ok(()),
    }
}

#[derive(Debug, Serialize)]
struct Timing {
    image: String,
    cold: bool,
    phases: Vec<Phase>,
    bytes_fetched: u64,
    bytes_total: u64,
    bytes_prefetched: u64,
    spans_prefetched: u64,
    prefetch_hits: u64,
    /// Questions of the kernel for bytes, and how long 99 of 100 waited for the registry at most.
    reads: u64,
    stall_p99_ms: f64,
    bytes_filled: u64,
    requests: u64,
    token_requests: u64,
    exit_code: u8,
}

#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    start_ms: f64,
    ms: f64,
}

impl Timing {
    fn new(resolved: &Resolved, waterfall: &Waterfall, outcome: &Outcome, cold: bool) -> Self {
        let stats = outcome.stats.unwrap_or_default();
        let client = resolved.reader.client.stats();
        let phases = waterfall.phases().into_iter().map(|phase| Phase {
            name: phase.name,
            start_ms: phase.start.as_secs_f64() * 1000.0,
            ms: phase.took.as_secs_f64() * 1000.0,
        });
        Self {
            image: resolved.pinned.reference.canonical(),
            cold,
            phases: phases.collect(),
            bytes_fetched: stats.fs.bytes_fetched
                + client.bytes_received
                + resolved.asked.bytes_received,
            bytes_total: resolved.pinned.compressed_bytes(),
            bytes_prefetched: stats.fs.bytes_prefetched,
            spans_prefetched: stats.fs.spans_prefetched,
            prefetch_hits: stats.fs.prefetch_hits,
            reads: stats.fs.reads,
            stall_p99_ms: Duration::from_micros(stats.fs.stall_p99_us).as_secs_f64() * 1000.0,
            bytes_filled: stats.fs.bytes_filled,
            requests: stats.fs.requests + client.requests + resolved.asked.requests,
            token_requests: resolved.opened.broker.token_requests(),
            exit_code: outcome.exit.code,
        }
    }

    fn report(&self, args: &RunArgs) -> Result<()> {
        if let Some(path) = &args.timing_json {
            let text = serde_json::to_string_pretty(self)
                .map_err(|error| Failure::of(Kind::Internal, &error))?;
            std::fs::write(path, text).map_err(|error| {
                Failure::new(Kind::Machine, format!("{}: {error}", path.display()))
            })?;
        }
        if args.timing {
            eprint!("{}", self.render());
        }
        Ok(())
    }

    /// Each phase as a bar that begins where the phase began.
    fn render(&self) -> String {
        const WIDTH: f64 = 40.0;
        let end = self
            .phases
            .iter()
            .map(|phase| phase.start_ms + phase.ms)
            .fold(1.0, f64::max);
        let mut text = String::new();
        for phase in &self.phases {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and WIDTH"
            )]
            let column = |ms: f64| (ms / end * WIDTH).round().clamp(0.0, WIDTH) as usize;
            let (start, length) = (column(phase.start_ms), column(phase.ms).max(1));
            text.push_str(&format!(
                "{:<13} {:>8.1} ms  {}{}\n",
                phase.name,
                phase.ms,
                " ".repeat(start),
                "█".repeat(length)
            ));
        }
        let temperature = if self.cold { "cold" } else { "warm" };
        text.push_str(&format!(
            "fetched {} of {} in {} requests ({temperature} cache)\n",
            bytes(self.bytes_fetched),
            bytes(self.bytes_total),
            self.requests,
        ));
        if self.reads > 0 {
            text.push_str(&format!(
                "answered {} reads, of which 99 in 100 waited {:.1} ms at most\n",
                self.reads, self.stall_p99_ms,
            ));
        }
        if self.spans_prefetched > 0 {
            text.push_str(&format!(
                "of that {} ahead of reads, which wanted {} of {} spans\n",
                bytes(self.bytes_prefetched),
                self.prefetch_hits,
                self.spans_prefetched,
            ));
        }
        if self.bytes_filled > 0 {
            text.push_str(&format!(
                "of that {} while nothing was read\n",
                bytes(self.bytes_filled),
            ));
        }
        text
    }
}
