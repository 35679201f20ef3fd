//! What starts of this command have read: told to the mount before one, and kept after it.
//!
//! A trace comes from the mount process, which decodes what strangers wrote: what it says that the
//! image does not have is dropped, and nothing but the order of fetching depends on the rest. None
//! of it is needed: whatever fails here costs time at the next start.

use std::time::Duration;

use container::Process;
use image_mount::{MountProcess, MountRequest, Program, RECORD_FOR, TraceEntry};
use image_store::{ImageStore, Touch, TraceKey, TracedLayer};
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

/// The image as a trace numbers its spans.
#[derive(Debug)]
struct Image {
    origin: String,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    digest: String,
    root: [u8; 32],
    spans: u64,
}

impl Layer {
    fn traced(&self) -> TracedLayer<'_> {
        TracedLayer {
            digest: &self.digest,
            root: &self.root,
        }
    }
}

impl From<&MountRequest> for Image {
    fn from(request: &MountRequest) -> Self {
        let layers = request.layers.iter().map(|layer| Layer {
            digest: layer.index.header.layer_digest.clone(),
            root: layer.index.root,
            spans: layer.index.header.span_count,
        });
        Self {
            origin: request.origin.clone(),
            layers: layers.collect(),
        }
    }
}

impl Traces {
    /// What this start will read first, as far as earlier ones tell: those of the command, or those
    /// of its program in other images with the same layers. Blocks.
    pub(crate) fn foretell(&self, request: &MountRequest) -> Vec<TraceEntry> {
        let image = Image::from(request);
        let mut known = self.store.trace(&self.workspace, &self.key(&image));
        if known.is_empty() {
            known = self.of_layers(&image);
        }
        image.entries(known)
    }

    fn of_layers(&self, image: &Image) -> Vec<Touch> {
        let mut known = Vec::new();
        for (number, key) in self.layer_keys(image) {
            let touches = self.store.trace(&self.workspace, &key).into_iter();
            known.extend(touches.map(|touch| Touch {
                layer: number,
                ..touch
            }));
        }
        known.sort_by_key(|touch| touch.at_ms);
        known
    }

    /// Keeps what a start has touched. Blocks.
    fn keep(&self, image: &Image, touched: Vec<TraceEntry>) {
        let touched = image.touches(touched);
        for (number, key) in self.layer_keys(image) {
            let of_layer = touched.iter().filter(|touch| touch.layer == number);
            let run = of_layer.map(|touch| Touch { layer: 0, ..*touch });
            self.add(&key, run.collect());
        }
        self.add(&self.key(image), touched);
        if let Err(error) = self.store.prune_traces(&self.workspace) {
            tracing::warn!(%error, "traces are not pruned");
        }
    }

    fn add(&self, key: &TraceKey, run: Vec<Touch>) {
        if let Err(error) = self.store.add_trace(&self.workspace, key, run) {
            tracing::warn!(%error, "what a start has read is not kept");
        }
    }

    fn key(&self, image: &Image) -> TraceKey {
        let layers: Vec<_> = image.layers.iter().map(Layer::traced).collect();
        TraceKey::of_command(&image.origin, &layers, &self.command)
    }

    fn layer_keys(&self, image: &Image) -> Vec<(u32, TraceKey)> {
        let program = self.command.first().map_or("", String::as_str);
        let key = |layer: &Layer| TraceKey::of_program(&image.origin, layer.traced(), program);
        (0..).zip(image.layers.iter().map(key)).collect()
    }
}

impl Image {
    fn has(&self, layer: u32, span: u32) -> bool {
        let layer = usize::try_from(layer).ok();
        let layer = layer.and_then(|layer| self.layers.get(layer));
        layer.is_some_and(|layer| u64::from(span) < layer.spans)
    }

    fn entries(&self, touches: Vec<Touch>) -> Vec<TraceEntry> {
        let own = touches
            .into_iter()
            .filter(|touch| self.has(touch.layer, touch.span));
        own.map(|Touch { layer, span, at_ms }| TraceEntry { layer, span, at_ms })
            .collect()
    }

    fn touches(&self, entries: Vec<TraceEntry>) -> Vec<Touch> {
        let own = entries
            .into_iter()
            .filter(|entry| self.has(entry.layer, entry.span));
        own.map(|TraceEntry { layer, span, at_ms }| Touch { layer, span, at_ms })
            .collect()
    }
}

/// A start that is being recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    traces: Traces,
    image: Image,
    over: Instant,
}

impl Recording {
    /// Of a mount that is there now.
    pub(crate) fn begin(traces: Traces, request: &MountRequest) -> Self {
        Self {
            traces,
            image: request.into(),
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
        Keeping::begin(move || self.traces.keep(&self.image, touched))
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

    fn image(layers: &[&str]) -> Image {
        let layer = |digest: &&str| Layer {
            digest: (*digest).to_owned(),
            root: [1; 32],
            spans: 10,
        };
        Image {
            origin: "registry.test/acme".to_owned(),
            layers: layers.iter().map(layer).collect(),
        }
    }

    fn traces(store: &ImageStore, workspace: &str, command: &str) -> Traces {
        Traces {
            store: store.clone(),
            workspace: workspace.to_owned(),
            command: command.split(' ').map(str::to_owned).collect(),
        }
    }

    fn entries(spans: &[(u32, u32)]) -> Vec<TraceEntry> {
        let entry = |(at_ms, (layer, span)): (u32, &(u32, u32))| TraceEntry {
            layer: *layer,
            span: *span,
            at_ms,
        };
        (0..).zip(spans).map(entry).collect()
    }

    fn known(traces: &Traces, image: &Image) -> Vec<(u32, u32)> {
        let own = traces.store.trace(&traces.workspace, &traces.key(image));
        let known = if own.is_empty() {
            traces.of_layers(image)
        } else {
            own
        };
        let entries = image.entries(known).into_iter();
        entries.map(|entry| (entry.layer, entry.span)).collect()
    }

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

    #[test]
    fn what_one_start_read_is_foretold_to_the_next_of_its_workspace() {
        let top = tempfile::tempdir().unwrap();
        let store = ImageStore::open(top.path()).unwrap();
        let app = traces(&store, "team", "python3 app.py");
        let image = image(&["sha256:base", "sha256:app"]);
        let touched = [(1, 4), (0, 9), (1, 3), (0, 2)];
        app.keep(&image, entries(&touched));
        assert_eq!(known(&app, &image), touched);
        let others = traces(&store, "others", "python3 app.py");
        assert_eq!(known(&others, &image), []);
    }

    #[test]
    fn a_program_is_known_from_other_images_with_its_layer() {
        let top = tempfile::tempdir().unwrap();
        let store = ImageStore::open(top.path()).unwrap();
        let app = traces(&store, "team", "python3 app.py");
        let first = image(&["sha256:base", "sha256:app"]);
        app.keep(&first, entries(&[(1, 4), (0, 9), (1, 3), (0, 2)]));
        let other = traces(&store, "team", "python3 other.py");
        let second = image(&["sha256:below", "sha256:base", "sha256:other"]);
        assert_eq!(known(&other, &second), [(1, 9), (1, 2)]);
        let shell = traces(&store, "team", "sh other.sh");
        assert_eq!(known(&shell, &second), []);
    }

    #[test]
    fn what_the_image_does_not_have_is_dropped() {
        let top = tempfile::tempdir().unwrap();
        let store = ImageStore::open(top.path()).unwrap();
        let app = traces(&store, "team", "python3 app.py");
        let image = image(&["sha256:base"]);
        app.keep(&image, entries(&[(0, 10), (1, 0), (0, 9), (u32::MAX, 7)]));
        assert_eq!(known(&app, &image), [(0, 9)]);
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
