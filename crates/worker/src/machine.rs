//! This machine: a container of the plan's image, with the runner in it.
//!
//! ```text
//! in the container            on the machine
//! /holdfast/runner.pyz (ro)   the worker's copy of the runner
//! /holdfast/code.zip   (ro)   the archive of the user's code
//! descriptor 3                one end of a socket pair
//! ```
//!
//! Without `-I`: the variables that an image sets for its Python have effect. The runner looks for
//! its own modules in its archive, which is first on the path.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use container::{
    DEFAULT_SHM_BYTES, IdRange, ImageDefaults, NetworkMode, Overrides, Process, Volume,
    default_hostname,
};
use futures::future::BoxFuture;
use ids::ContainerId;
use image_mount::{FillError, FillWatch, LayerRef, MountError, MountRequest};
use image_store::{ImageStore, IndexKey, StoreError, Touch};
use jiff::Timestamp;
use launch::{
    About, LaunchError, LaunchRequest, Leave, MountLog, MountStats, NoticeKind, Observer, Outcome,
    Outputs, Preparing, Signals, Spares, Streams, Traces,
};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use worker_protocol::ended::Cause;

use crate::config::{Ids, WorkerConfig};
use crate::container::end::{End, LaunchEnd};
use crate::launching::{Launched, Machine, Order, Places};
use crate::plan::{Image, Plan};
use crate::warming::WarmOrder;

const RUNNER: &str = "/holdfast/runner.pyz";
const CODE: &str = "/holdfast/code.zip";

/// Where users expect their code, if they may write there.
const CODE_DIR: &str = "/mnt/code";

/// Where anybody may write.
const CODE_DIR_OF_ANYBODY: &str = "/tmp/holdfast-code";

/// How long a read of the image waits for a registry that is away or refuses.
const READ_DEADLINE: Duration = Duration::from_mins(2);

/// What shells exit with.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A worker that is asked to end ends all of its containers.
const NO_OWNER: u32 = 0;

/// Notices that wait while the container's own words are passed on; later ones are dropped.
const MAX_LOGS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct ThisMachine {
    config: Arc<WorkerConfig>,
    runner: PathBuf,
    spares: Spares,
}

impl ThisMachine {
    pub(crate) fn new(config: WorkerConfig, runner: PathBuf) -> Self {
        let (program, containers) = (config.program.clone(), config.containers_dir.clone());
        Self {
            config: Arc::new(config),
            runner,
            spares: Spares::new(program, containers, NetworkMode::Nat),
        }
    }

    /// The sandboxes that are ready for the next starts.
    pub(crate) fn spares(&self) -> Spares {
        self.spares.clone()
    }
}

impl Machine for ThisMachine {
    fn index_store(&self) -> Option<&ImageStore> {
        Some(&self.config.image_store)
    }

    fn launch(&self, order: Order) -> io::Result<Launched> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (outputs_in, outputs) = oneshot::channel();
        let (logs_in, logs) = mpsc::channel(MAX_LOGS);
        let (touched_in, touched) = mpsc::channel(1);
        let kill = CancellationToken::new();
        let ears = Ears {
            outputs: Some(outputs_in),
            logs: logs_in,
            is_damaged: false,
            next: None,
        };
        let places = Places {
            code: order.code.as_ref().map(|_| CODE.to_owned()),
            code_dir: code_dir(&order.plan.image.defaults).to_owned(),
        };
        let theirs = Theirs {
            socket: theirs,
            touched: touched_in,
        };
        let launching = self.clone().run(order, theirs, ears, kill.clone());
        Ok(Launched {
            socket: UnixStream::from_std(ours)?,
            places,
            outputs,
            logs,
            touched,
            kill,
            end: AbortOnDropHandle::new(tokio::spawn(launching)),
        })
    }

    fn warm(&self, order: WarmOrder) -> BoxFuture<'static, Result<(), End>> {
        Box::pin(self.clone().fill(order))
    }
}

/// Who writes nowhere but where anybody may is not given the place that users expect.
fn code_dir(image: &ImageDefaults) -> &'static str {
    let user = image.user.split(':').next().unwrap_or_default();
    match user {
        "" | "0" | "root" => CODE_DIR,
        _ => CODE_DIR_OF_ANYBODY,
    }
}

/// What a launch has of its container.
struct Theirs {
    /// The runner's end.
    socket: StdUnixStream,
    /// Who is told what its start has read.
    touched: mpsc::Sender<Vec<Touch>>,
}

/// Hears what a launch says on its way.
struct Ears {
    outputs: Option<oneshot::Sender<Outputs>>,
    logs: mpsc::Sender<MountLog>,
    is_damaged: bool,
    /// Who is to have a sandbox ready for the next start, with which ids. What this one leaves of
    /// the processors is for that.
    next: Option<(Spares, Option<IdRange>)>,
}

impl Observer for Ears {
    fn log(&mut self, message: MountLog) {
        self.is_damaged |= message.kind == NoticeKind::Corrupt;
        if self.logs.try_send(message).is_err() {
            tracing::debug!("a notice about a container is dropped");
        }
    }

    fn started(&mut self, outputs: Option<Outputs>) {
        if let Some((spares, ids)) = self.next.take() {
            spares.refill(ids);
        }
        if let (Some(sender), Some(outputs)) = (self.outputs.take(), outputs) {
            // Without anybody who reads them the container is about to be ended.
            let _ = sender.send(outputs);
        }
    }
}

impl ThisMachine {
    async fn run(
        self,
        order: Order,
        theirs: Theirs,
        mut ears: Ears,
        kill: CancellationToken,
    ) -> LaunchEnd {
        let machine = self.clone();
        let workspace = order.plan.workspace.clone();
        let ids = spawn_blocking(move || machine.ids(&workspace)).await;
        let ids = match ids.expect("ids do not panic") {
            Ok(ids) => ids,
            Err(end) => return end,
        };
        let sandbox = self.spares.take(ids, &order.waterfall).await;
        let (machine, wanted, id) = (self.clone(), order.clone(), sandbox.id());
        let request = spawn_blocking(move || machine.request(&wanted, id, theirs)).await;
        let request = match request.expect("a request does not panic") {
            Ok(request) => request,
            Err(end) => {
                sandbox.undo().await;
                return end;
            }
        };
        ears.next = Some((self.spares.clone(), ids));
        let launched = launch_in(sandbox, request, &order, &kill, &mut ears).await;
        if ears.is_damaged || matches!(launched, Err(LaunchError::Mount(MountError::Index { .. })))
        {
            self.remove_damaged(&order.plan.image).await;
        }
        if let Ok(outcome) = &launched {
            note_reads(outcome);
        }
        launch_end(launched)
    }

    /// Everything that is decided before the container starts. Blocks.
    fn request(
        &self,
        order: &Order,
        id: ContainerId,
        theirs: Theirs,
    ) -> Result<LaunchRequest, LaunchEnd> {
        let plan = &*order.plan;
        let hostname = default_hostname(&id);
        let process = process(plan, &order.interpreter, &hostname)?;
        Ok(LaunchRequest {
            about: About {
                name: Some(plan.name.clone()),
                image: plan.image.reference.clone(),
                command: process.args.clone(),
                owner_pid: NO_OWNER,
                started_at: Timestamp::now().as_second(),
            },
            mount: self.mount(&plan.image)?,
            // The control plane keeps them: it knows what starts on other machines have read.
            traces: Some(Traces::There {
                foretold: plan.foretold.clone(),
                touched: theirs.touched,
            }),
            process,
            volumes: self.volumes(order),
            ports: Vec::new(),
            shm_bytes: DEFAULT_SHM_BYTES,
            resources: plan.resources,
            hostname,
            streams: Streams::Captured {
                socket: Some(theirs.socket.into()),
            },
            // Its lease came with it.
            leave: Leave::given(),
        })
    }

    async fn fill(self, order: WarmOrder) -> Result<(), End> {
        let (machine, image) = (self.clone(), Arc::clone(&order.image));
        let request = spawn_blocking(move || machine.mount(&image)).await;
        let request = request.expect("a request does not panic")?;
        let progress = order.progress;
        let watch = FillWatch {
            logs: order.logs,
            progress: |reached| {
                progress.send_replace(reached);
            },
        };
        let filled = image_mount::fill(&self.config.program, request, order.auth, watch).await;
        let error = match filled {
            Ok(reached) => {
                progress.send_replace(reached);
                return Ok(());
            }
            Err(error) => error,
        };
        let cause = match &error {
            FillError::NoRoom => Cause::NoRoom,
            FillError::Unread { .. } => Cause::Mount,
            FillError::Damaged { .. } | FillError::Process(MountError::Index { .. }) => {
                self.remove_damaged(&order.image).await;
                Cause::Index
            }
            FillError::Process(_) => Cause::Machine,
        };
        Err(End::new(cause, in_one_line(&error)))
    }

    fn ids(&self, workspace: &str) -> Result<Option<IdRange>, LaunchEnd> {
        match &self.config.ids {
            Ids::Machine => Ok(None),
            Ids::OfWorkspace {
                directory,
                first_id,
            } => IdRange::of_workspace(directory, *first_id, workspace)
                .map(Some)
                .map_err(|error| unable("ids", &error)),
        }
    }

    fn mount(&self, image: &Image) -> Result<MountRequest, LaunchEnd> {
        let layers = image.layers.iter().map(|layer| {
            let digest = layer.digest.to_string();
            let found = self.layer(&image.origin, &digest);
            let found = found.map_err(|error| unable("its index", &error))?;
            match found {
                Some(found) if found.index.root == layer.index_root => Ok(found),
                Some(_) => Err(no_index(format!("the index of {digest} is another one"))),
                None => Err(no_index(format!("there is no index of {digest}"))),
            }
        });
        Ok(MountRequest {
            // The launch decides it.
            mountpoint: PathBuf::from("/"),
            registry: image.registry.clone(),
            repository: image.repository.clone(),
            plain_http: image.plain_http,
            ca_pem: image.ca_pem.clone(),
            dial: self.config.dial.clone(),
            layers: layers.collect::<Result<_, _>>()?,
            origin: image.origin.clone(),
            cache: self.config.span_cache.clone(),
            has_shared_cache: image.has_shared_cache,
            id_shift: None,
            read_deadline: READ_DEADLINE,
            foretold: Vec::new(),
            program: None,
            start_lasts: Duration::ZERO,
            fill_when_idle: self.config.fill_when_idle,
        })
    }

    fn layer(&self, origin: &str, layer: &str) -> Result<Option<LayerRef>, StoreError> {
        let (store, key) = (&self.config.image_store, IndexKey { origin, layer });
        let index_path = store.index_path(key)?;
        let index = store.index(key)?;
        Ok(index.map(|index| LayerRef { index_path, index }))
    }

    fn volumes(&self, order: &Order) -> Vec<Volume> {
        let code = order.code.as_ref().map(|code| (code, CODE));
        let volume = |(source, target): (&PathBuf, &str)| Volume {
            source: source.clone(),
            target: target.into(),
            read_only: true,
        };
        let files = [(&self.runner, RUNNER)].into_iter().chain(code);
        files.map(volume).collect()
    }

    /// Once a mount found an index damaged, whoever wants it again makes it anew.
    async fn remove_damaged(&self, image: &Image) {
        for layer in &image.layers {
            let digest = layer.digest.to_string();
            if let Err(error) = self.remove_if_damaged(&image.origin, &digest).await {
                tracing::warn!(layer = digest, error, "cannot see to a damaged index");
            }
        }
    }

    async fn remove_if_damaged(&self, origin: &str, layer: &str) -> Result<(), String> {
        let found = self
            .layer(origin, layer)
            .map_err(|error| error.to_string())?;
        let Some(found) = found else {
            return Ok(());
        };
        let (config, cache) = (&self.config, self.config.span_cache.clone());
        let verified = image_mount::verify(&config.program, found, origin.to_owned(), cache).await;
        let verdict = verified.map_err(|error| error.to_string())?;
        if verdict.index_problem.is_none() {
            return Ok(());
        }
        let removed = config.image_store.remove_index(IndexKey { origin, layer });
        removed.map_err(|error| error.to_string())
    }
}

/// Launches until told otherwise.
async fn launch_in(
    sandbox: Preparing,
    request: LaunchRequest,
    order: &Order,
    kill: &CancellationToken,
    ears: &mut Ears,
) -> Result<Outcome, LaunchError> {
    let (control, mut signals) = Signals::controlled();
    let (auth, waterfall) = (Arc::clone(&order.auth), &order.waterfall);
    let launching = launch::launch(request, sandbox, auth, &mut signals, waterfall, ears);
    let mut launching = pin!(launching);
    tokio::select! {
        launched = &mut launching => launched,
        () = kill.cancelled() => {
            control.kill();
            launching.await
        }
    }
}

fn process(plan: &Plan, interpreter: &str, hostname: &str) -> Result<Process, LaunchEnd> {
    let overrides = Overrides {
        entrypoint: Some(vec![interpreter.to_owned()]),
        args: vec![RUNNER.to_owned()],
        env: plan.image.environment.clone(),
        ..Overrides::default()
    };
    container::compose(&plan.image.defaults, &overrides, hostname)
        .map_err(|error| unable("its command", &error))
}

fn unable(part: &str, error: &dyn std::error::Error) -> LaunchEnd {
    LaunchEnd::Failed(Cause::Machine, format!("{part}: {}", in_one_line(error)))
}

fn no_index(reason: String) -> LaunchEnd {
    LaunchEnd::Failed(Cause::Index, reason)
}

/// For who wants to know what came of a forecast.
fn note_reads(outcome: &Outcome) {
    if let Some(stats) = &outcome.stats {
        let MountStats {
            fs, bytes_shared, ..
        } = stats;
        let (ahead, hits) = (fs.spans_prefetched, fs.prefetch_hits);
        tracing::debug!("{ahead} spans of an image were fetched ahead, {hits} of them were read");
        let fetched = fs.bytes_fetched;
        tracing::debug!("{fetched} bytes were fetched, {bytes_shared} from the shared cache");
    }
}

fn launch_end(launched: Result<Outcome, LaunchError>) -> LaunchEnd {
    let error = match launched {
        Ok(Outcome { exit, .. }) => {
            return LaunchEnd::Exited {
                code: exit.code,
                memory_note: exit.memory_note().map(|note| note.to_string()),
            };
        }
        Err(error) => error,
    };
    let reason = in_one_line(&error);
    match &error {
        LaunchError::Run(run) if run.exit_code() == NOT_FOUND => LaunchEnd::NoProgram(reason),
        LaunchError::Run(run) if run.exit_code() == NOT_EXECUTABLE => {
            LaunchEnd::Failed(Cause::NoPython, reason)
        }
        LaunchError::Mount(MountError::Index { .. }) => LaunchEnd::Failed(Cause::Index, reason),
        LaunchError::Mount(_) => LaunchEnd::Failed(Cause::Mount, reason),
        LaunchError::Interrupted { .. } => LaunchEnd::Failed(Cause::Stopped, reason),
        _ => LaunchEnd::Failed(Cause::Machine, reason),
    }
}

/// The error and what caused it.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(in_one_line);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use image_fs::{CacheLimits, SpanCache};

    use super::*;
    use crate::config::Capacity;
    use crate::tests::starts::probe;

    #[tokio::test]
    async fn an_image_without_its_indexes_is_not_mounted() {
        let top = tempfile::tempdir().unwrap();
        let place = |name: &str| top.path().join(name);
        let limits = CacheLimits { max_bytes: 1 << 20 };
        let config = WorkerConfig {
            name: "worker-1".to_owned(),
            capacity: Capacity {
                cpu_millicores: 1000,
                memory_bytes: 1 << 30,
            },
            program: place("program"),
            containers_dir: place("containers"),
            files_dir: place("files"),
            ids: Ids::Machine,
            image_store: ImageStore::open(place("data")).unwrap(),
            span_cache: SpanCache::open(&place("cache"), limits).unwrap(),
            dial: dial::DialPolicy::default(),
            fill_when_idle: false,
        };
        let machine = ThisMachine::new(config, place("runner.pyz"));
        let plan = Plan::parse(probe()).unwrap();
        let end = machine.mount(&plan.image).unwrap_err();
        let LaunchEnd::Failed(Cause::Index, reason) = end else {
            panic!("an index, not {end:?}");
        };
        assert!(
            reason.starts_with("there is no index of sha256:0000"),
            "{reason}"
        );
    }

    #[test]
    fn the_runner_is_what_runs_with_the_image_around_it() {
        let mut start = probe();
        let image = start.image.as_mut().unwrap();
        image.config = r#"{"config":{"Env":["A=1","B=1"],"Cmd":["sh"],"User":"app"}}"#.into();
        image.environment = vec!["B=2".to_owned()];
        let plan = Plan::parse(start).unwrap();
        let process = process(&plan, "python3", "host").unwrap();
        assert_eq!(process.args, ["python3", RUNNER]);
        assert_eq!(process.env[2..], ["A=1", "B=2"]);
        assert_eq!((process.cwd.as_str(), process.stdin), ("/", false));
        assert_eq!(code_dir(&plan.image.defaults), CODE_DIR_OF_ANYBODY);
        for root in ["", "root", "0:7"] {
            let user = root.to_owned();
            let image = ImageDefaults {
                user,
                ..ImageDefaults::default()
            };
            assert_eq!(code_dir(&image), CODE_DIR, "{root}");
        }
    }
}
