//! What starts of this command have read: told to the mount before one, and kept after it.
//!
//! A trace comes from the mount process, which decodes what strangers wrote: what it says that the
//! image does not have is dropped, and nothing but the order of fetching depends on the rest. None
//! of it is needed: whatever fails here costs time at the next start.

use std::time::Duration;

use container::Process;
use image_mount::{MountProcess, MountRequest, Program, RECORD_FOR, TraceEntry};
use image_store::{ImageStore, Touch, TracedLayer, TracedStart, existing};
use tokio::sync::oneshot;
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

/// Whose starts these are, and of what.
#[derive(Clone, Debug)]
pub struct Traces {
    pub store: ImageStore,
    pub workspace: String,
    /// What tells starts of one image apart: its program first.
    pub command: Vec<String>,
}

impl Traces {
    /// What this start will read first, as far as earlier ones tell. Blocks.
    pub(crate) fn foretell(&self, request: &MountRequest) -> Vec<TraceEntry> {
        let known = self.store.foretell(&self.start(request));
        let own = existing(known, &span_counts(request)).into_iter();
        own.map(|Touch { layer, span, at_ms }| TraceEntry { layer, span, at_ms })
            .collect()
    }

    fn start(&self, request: &MountRequest) -> TracedStart {
        let layers = request.layers.iter().map(|layer| TracedLayer {
            digest: layer.index.header.layer_digest.clone(),
            root: layer.index.root,
        });
        TracedStart {
            workspace: self.workspace.clone(),
            origin: request.origin.clone(),
            layers: layers.collect(),
            command: self.command.clone(),
        }
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
    store: ImageStore,
    start: TracedStart,
    span_counts: Vec<u64>,
    over: Instant,
}

impl Recording {
    /// Of a mount that is there now.
    pub(crate) fn begin(traces: &Traces, request: &MountRequest) -> Self {
        Self {
            store: traces.store.clone(),
            start: traces.start(request),
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
        if let Err(error) = self.store.keep_start(&self.start, touched) {
            tracing::warn!(%error, "what a start has read is not kept");
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
