//! What starts have read: kept for their workspace, and given to its next ones on whichever worker.
//!
//! What a trace is of, the gateway knows by itself; a worker says of its own container, once, what
//! was touched, and what that image's indexes do not have is dropped. It costs and gains nothing
//! but the order in which later starts of that workspace fetch. No start waits for it beyond a
//! moment, and none fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use image_store::{
    ImageStore, IndexKey, Touch, TracedLayer, TracedStart, existing, pack_touches, unpack_touches,
};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use worker_protocol::{Start, Touched, Trace};

use super::container::Container;
use crate::gateway::Gateway;

/// A few small files are read from memory; a disk that takes longer is busy with what matters.
const LOOK_TIMEOUT: Duration = Duration::from_millis(250);
/// Threads that may wait for the disk so, of the few hundred that there are for all.
const LOOKS_LIMIT: usize = 16;
/// The same for what is kept, which looks at every trace of its workspace. What comes when all are
/// busy is not kept.
const KEEPS_LIMIT: usize = 8;

/// Turns at the disk.
#[derive(Debug)]
pub(super) struct TraceTurns {
    looks: Arc<Semaphore>,
    keeps: Arc<Semaphore>,
}

impl Default for TraceTurns {
    fn default() -> Self {
        Self {
            looks: Arc::new(Semaphore::new(LOOKS_LIMIT)),
            keeps: Arc::new(Semaphore::new(KEEPS_LIMIT)),
        }
    }
}

/// What starts of a container are known by.
#[derive(Debug, Clone, Default)]
pub(super) struct Traced {
    workspace: String,
    origin: String,
    layers: Vec<TracedLayer>,
    /// Programs of which the first that is there runs.
    interpreters: Vec<String>,
    /// Functions of one image run the same program, and read what their handlers want.
    handler: Option<String>,
}

impl From<&Start> for Traced {
    fn from(start: &Start) -> Self {
        let image = start.image.clone().unwrap_or_default();
        let layers = image.layers.into_iter().map(|layer| TracedLayer {
            digest: layer.digest,
            root: (*layer.index_root)
                .try_into()
                .expect("a root is a digest: it was one before it was put here"),
        });
        Self {
            workspace: start.workspace.clone(),
            origin: image.origin,
            layers: layers.collect(),
            interpreters: start.interpreters.clone(),
            handler: start.setup.as_ref().map(|setup| setup.handler.clone()),
        }
    }
}

impl Traced {
    /// The start by this program, if it is one of those to try.
    fn by(&self, interpreter: &str) -> Option<TracedStart> {
        let is_own = self.interpreters.iter().any(|own| own == interpreter);
        let program = [interpreter.to_owned()];
        is_own.then(|| TracedStart {
            workspace: self.workspace.clone(),
            origin: self.origin.clone(),
            layers: self.layers.clone(),
            command: program.into_iter().chain(self.handler.clone()).collect(),
        })
    }

    /// What is known of the first of its programs of which anything is. Blocks.
    fn look_up(&self, store: &ImageStore) -> Vec<Touch> {
        let starts = self.interpreters.iter().filter_map(|name| self.by(name));
        let mut known = starts.map(|start| store.foretell(&start));
        known.find(|known| !known.is_empty()).unwrap_or_default()
    }

    /// Keeps what a worker says of one start. Blocks.
    fn keep(&self, store: &ImageStore, touched: &Touched) {
        let touches = touched.trace.as_ref().map(|trace| &*trace.touches);
        let touches = touches.and_then(unpack_touches);
        let (Some(start), Some(touches)) = (self.by(&touched.interpreter), touches) else {
            tracing::debug!("a worker says of a start what makes no sense");
            return;
        };
        let touches = existing(touches, &self.span_counts(store));
        if let Err(error) = store.keep_start(&start, touches) {
            tracing::warn!(%error, "what a start has read is not kept");
        }
    }

    /// How many spans each layer has; none where the index is gone or another one by now.
    fn span_counts(&self, store: &ImageStore) -> Vec<u64> {
        let count = |layer: &TracedLayer| {
            let key = IndexKey {
                origin: &self.origin,
                layer: &layer.digest,
            };
            let found = store.index(key).ok().flatten();
            let own = found.filter(|index| index.root == layer.root);
            own.map_or(0, |index| index.header.span_count)
        };
        self.layers.iter().map(count).collect()
    }
}

impl Gateway {
    /// What a start is told of its first reads, where anything is known in time.
    pub(super) async fn foretell(&self, traced: &Traced) -> Option<Trace> {
        let looks = Arc::clone(&self.dispatch().traces.looks);
        let (store, traced) = (self.indexing().store.clone(), traced.clone());
        let looking = async {
            let turn = looks.acquire_owned().await.ok()?;
            let look = move || {
                let _until_done = turn;
                traced.look_up(&store)
            };
            spawn_blocking(look).await.ok()
        };
        let known = timeout(LOOK_TIMEOUT, looking).await.ok().flatten()?;
        (!known.is_empty()).then(|| Trace {
            touches: pack_touches(&known).into(),
        })
    }

    /// Hears what a container has read in its start, the first time that it is said.
    pub(super) fn hear_touched(&self, container: &Container, touched: Touched) {
        if container.has_touched.swap(true, Ordering::Relaxed) {
            return;
        }
        let keeps = Arc::clone(&self.dispatch().traces.keeps);
        let Ok(turn) = keeps.try_acquire_owned() else {
            tracing::debug!("what a start has read is not kept: too much is at once");
            return;
        };
        let (store, traced) = (
            self.indexing().store.clone(),
            container.given.traced.clone(),
        );
        spawn_blocking(move || {
            let _until_done = turn;
            traced.keep(&store, &touched);
        });
    }
}

#[cfg(test)]
mod tests {
    use worker_protocol::{Image, Layer, Setup};

    use super::*;

    fn start(workspace: &str, interpreters: &[&str], handler: Option<&str>) -> Start {
        let setup = |handler: &str| Setup {
            handler: handler.to_owned(),
            ..Setup::default()
        };
        Start {
            workspace: workspace.to_owned(),
            image: Some(Image {
                origin: "registry.test/acme".to_owned(),
                layers: vec![Layer {
                    digest: format!("sha256:{}", "a".repeat(64)),
                    index_root: vec![7; 32].into(),
                }],
                ..Image::default()
            }),
            interpreters: interpreters.iter().map(ToString::to_string).collect(),
            setup: handler.map(setup),
            ..Start::default()
        }
    }

    fn touch(span: u32) -> Touch {
        Touch {
            layer: 0,
            span,
            at_ms: 0,
        }
    }

    fn touched(interpreter: &str, touches: &[u8]) -> Touched {
        Touched {
            interpreter: interpreter.to_owned(),
            trace: Some(Trace {
                touches: touches.to_vec().into(),
            }),
            ..Touched::default()
        }
    }

    #[test]
    fn what_is_known_of_a_program_is_given_to_its_workspace() {
        let top = tempfile::tempdir().unwrap();
        let store = ImageStore::open(top.path()).unwrap();
        let own = Traced::from(&start("team", &["python3"], Some("app:main")));
        let run = vec![touch(4)];
        store.keep_start(&own.by("python3").unwrap(), run).unwrap();
        let known = |workspace, interpreters: &[&str], handler| {
            let traced = Traced::from(&start(workspace, interpreters, handler));
            traced.look_up(&store).len()
        };
        assert_eq!(known("team", &["python3"], Some("app:main")), 1);
        assert_eq!(
            known("team", &["python3"], Some("app:other")),
            1,
            "by layer"
        );
        assert_eq!(known("team", &["python3.12", "python3"], None), 1);
        assert_eq!(known("team", &["python3.12"], Some("app:main")), 0);
        assert_eq!(known("others", &["python3"], Some("app:main")), 0);
    }

    #[test]
    fn what_a_worker_makes_up_is_not_kept() {
        let top = tempfile::tempdir().unwrap();
        let store = ImageStore::open(top.path()).unwrap();
        let own = Traced::from(&start("team", &["python3"], Some("app:main")));
        let packed = pack_touches(&[touch(0)]);
        for touched in [
            Touched::default(),
            touched("sh", &packed),
            touched("python3", &packed[1..]),
            touched("python3", &vec![0; 1 << 20]),
            // There is no index, so no span either.
            touched("python3", &packed),
        ] {
            own.keep(&store, &touched);
        }
        assert!(!top.path().join("traces").exists());
    }
}
