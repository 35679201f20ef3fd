//! What starts like this one have read: told to the mount before one, and kept after it, on this
//! disk or by who asked for the start.
//!
//! A trace comes from the mount process, which decodes what strangers wrote: what it says that the
//! image does not have is dropped, and nothing but the order of fetching depends on the rest. None
//! of it is needed: whatever fails here costs time at the next start.

use std::time::Duration;

use container::Process;
use image_mount::{MountProcess, MountRequest, Program, RECORD_FOR, TraceEntry};
use image_store::{ImageStore, Touch, TracedLayer, TracedStart, existing};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// A mount process answers from memory; one that does not is asked no more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the end of a container waits for its trace to be written: a few small files, and as
/// many are looked at as a workspace may have. A disk that takes longer is busy with what matters.
const KEEP_TIMEOUT: Duration = Duration::from_secs(1);

/// What will be started, as far as it says which files come first.
pub(crate) fn program(process: &Process) -> Program {
    let variable = |name: &str| {
        let values = process.env.iter().rev();
        let found = values
            .filter_map(|text| text.split_once('='))
            .find(|(given, _)| *given == name);
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    Program {
        name: process.args.first().cloned().unwrap_or_default(),
        working_dir: process.cwd.clone(),
        path: variable("PATH"),
        library_path: variable("LD_LIBRARY_PATH"),
    }
}

/// Where what starts read is kept.
#[derive(Clone, Debug)]
pub enum Traces {
    /// On this disk.
    Here {
        store: ImageStore,
        workspace: String,
        /// What tells starts of one image apart: its program first.
        command: Vec<String>,
    },
    /// By who asks for this start, knows what it will read and is told once what it has.
    There {
        foretold: Vec<Touch>,
        touched: mpsc::Sender<Vec<Touch>>,
    },
}

/// What is done with what one start has read.
#[derive(Debug)]
enum Keeper {
    Disk(ImageStore, TracedStart),
    Asker(mpsc::Sender<Vec<Touch>>),
}

impl Traces {
    /// What this start will read first, as far as earlier ones tell. Blocks.
    pub(crate) fn foretell(&self, request: &MountRequest) -> Vec<TraceEntry> {
        let known = match self {
            Self::Here {
                store,
                workspace,
                command,
            } => store.foretell(&start(workspace, command, request)),
            Self::There { foretold, .. } => foretold.clone(),
        };
        let own = existing(known, &span_counts(request)).into_iter();
        own.map(|Touch { layer, span, at_ms }| TraceEntry { layer, span, at_ms })
            .collect()
    }

    fn keeper(&self, request: &MountRequest) -> Keeper {
        match self {
            Self::Here {
                store,
                workspace,
                command,
            } => Keeper::Disk(store.clone(), start(workspace, command, request)),
            Self::There { touched, .. } => Keeper::Asker(touched.clone()),
        }
    }
}

fn start(workspace: &str, command: &[String], request: &MountRequest) -> TracedStart {
    let layers = request.layers.iter().map(|layer| TracedLayer {
        digest: layer.index.header.layer_digest.clone(),
        root: layer.index.root,
    });
    TracedStart {
        workspace: workspace.to_owned(),
        origin: request.origin.clone(),
        layers: layers.collect(),
        command: command.to_vec(),
    }
}

/// How many spans each layer has.
fn span_counts(request: &MountRequest) -> Vec<u64> {
    let layers = request.layers.iter();
    layers.map(|layer| layer.index.header.span_count).collect()
}

/// A start that is being recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    keeper: Keeper,
    span_counts: Vec<u64>,
    over: Instant,
}

impl Recording {
    /// Of a mount that is there now.
    pub(crate) fn begin(traces: &Traces, request: &MountRequest) -> Self {
        Self {
            keeper: traces.keeper(request),
            span_counts: span_counts(request),
            over: Instant::now() + RECORD_FOR,
        }
    }

    /// Returns when nothing more is recorded. A container may run for days, and its owner be
    /// killed.
    pub(crate) async fn over(&self) {
        tokio::time::sleep_until(self.over).await;
    }

    /// What has been touched so far.
    pub(crate) async fn touched(mount: &MountProcess) -> Vec<TraceEntry> {
        match timeout(ANSWER_TIMEOUT, mount.trace()).await {
            Ok(Ok(touched)) => touched,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a mount process does not say what was read");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Keeps it, on a thread that may wait for the disk.
    pub(crate) fn keep(self, touched: Vec<TraceEntry>) -> Keeping {
        Keeping::begin(move || self.keep_now(touched))
    }

    fn keep_now(&self, touched: Vec<TraceEntry>) {
        let touched = touched.into_iter();
        let touched = touched.map(|TraceEntry { layer, span, at_ms }| Touch { layer, span, at_ms });
        let touched = existing(touched.collect(), &self.span_counts);
        match &self.keeper {
            Keeper::Disk(store, start) => {
                if let Err(error) = store.keep_start(start, touched) {
                    tracing::warn!(%error, "what a start has read is not kept");
                }
            }
            Keeper::Asker(asker) => {
                // One that is not there any more wants nothing.
                let _told = asker.try_send(touched);
            }
        }
    }
}

/// A recording on its way to the disk.
#[derive(Debug)]
pub(crate) struct Keeping(oneshot::Receiver<()>);

impl Keeping {
    /// Not on a thread of the runtime, whose end would wait for the disk.
    fn begin(work: impl FnOnce() + Send + 'static) -> Self {
        let (done, over) = oneshot::channel();
        let work = move || {
            work();
            let _waiting = done.send(());
        };
        let spawned = std::thread::Builder::new().name("traces".to_owned());
        if let Err(error) = spawned.spawn(work) {
            tracing::warn!(%error, "what a start has read is not kept");
        }
        Self(over)
    }

    /// Returns when it is kept, or has taken too long; what is half-written then counts for
    /// nothing.
    pub(crate) async fn over(self) {
        let _kept = timeout(KEEP_TIMEOUT, self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_what_is_started_and_where_it_is_sought() {
        let defaults = container::ImageDefaults::from_config(b"{}").unwrap();
        let words = |text: &[&str]| text.iter().map(|word| (*word).to_owned()).collect();
        let overrides = container::Overrides {
            args: words(&["app", "-v"]),
            env: words(&[
                "LD_LIBRARY_PATH=/opt",
                "PATH=/a",
                "PATH=/b:/c",
                "OTHER=PATH=/d",
            ]),
            working_dir: Some("/srv".to_owned()),
            ..container::Overrides::default()
        };
        let process = container::compose(&defaults, &overrides, "host").unwrap();
        let found = program(&process);
        assert_eq!((&*found.name, &*found.working_dir), ("app", "/srv"));
        assert_eq!((&*found.path, &*found.library_path), ("/b:/c", "/opt"));
    }

    #[tokio::test]
    async fn who_asked_for_a_start_is_told_what_it_read_of_the_image() {
        let (asker, mut told) = mpsc::channel(1);
        let recording = |asker: &mpsc::Sender<_>| Recording {
            keeper: Keeper::Asker(asker.clone()),
            span_counts: vec![10, 10],
            over: Instant::now(),
        };
        let entry = |layer, span| TraceEntry {
            layer,
            span,
            at_ms: 7,
        };
        let touched = vec![entry(1, 9), entry(0, 10), entry(2, 0), entry(0, 3)];
        recording(&asker).keep(touched.clone()).over().await;
        let heard = told.try_recv().unwrap().into_iter();
        let heard: Vec<_> = heard.map(|touch| (touch.layer, touch.span)).collect();
        assert_eq!(heard, [(1, 9), (0, 3)]);
        drop(told);
        recording(&asker).keep(touched).over().await;
    }

    #[tokio::test]
    async fn an_end_waits_for_a_trace_and_not_for_a_disk() {
        Keeping::begin(|| {}).0.await.unwrap();
        tokio::time::pause();
        let begun = Instant::now();
        let (disk, stalled) = std::sync::mpsc::channel::<()>();
        let keeping = Keeping::begin(move || {
            let _gone = stalled.recv();
        });
        keeping.over().await;
        assert_eq!(begun.elapsed().as_secs(), KEEP_TIMEOUT.as_secs());
        drop(disk);
    }
}
