//! A start as traces know it: by its command first, then by its program and each of its layers.

use super::{Touch, TraceKey};
use crate::{ImageStore, StoreError};

/// Whose a start is, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedStart {
    pub workspace: String,
    /// Any text that tells origins apart.
    pub origin: String,
    /// Lowest first, as spans are numbered by.
    pub layers: Vec<TracedLayer>,
    /// What tells starts of one image apart: its program first.
    pub command: Vec<String>,
}

/// A layer as it is read: span numbers are those of this index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedLayer {
    /// `sha256:…` of the compressed layer.
    pub digest: String,
    /// The root digest of its index.
    pub root: [u8; 32],
}

impl TracedStart {
    fn key(&self) -> TraceKey {
        TraceKey::of_command(&self.origin, &self.layers, &self.command)
    }

    fn layer_keys(&self) -> impl Iterator<Item = (u32, TraceKey)> {
        let program = self.command.first().map_or("", String::as_str);
        let key = move |layer| TraceKey::of_program(&self.origin, layer, program);
        (0..).zip(self.layers.iter().map(key))
    }
}

impl ImageStore {
    /// What this start will read first, as far as earlier ones of its workspace tell: those of the
    /// command, or those of its program in other images with the same layers.
    pub fn foretell(&self, start: &TracedStart) -> Vec<Touch> {
        let known = self.trace(&start.workspace, &start.key());
        if known.is_empty() {
            self.foretell_of_layers(start)
        } else {
            known
        }
    }

    fn foretell_of_layers(&self, start: &TracedStart) -> Vec<Touch> {
        let mut known = Vec::new();
        for (layer, key) in start.layer_keys() {
            let touches = self.trace(&start.workspace, &key).into_iter();
            known.extend(touches.map(|touch| Touch { layer, ..touch }));
        }
        known.sort_by_key(|touch| touch.at_ms);
        known
    }

    /// Keeps what a start has touched, in the order of its touches, and brings the traces of its
    /// workspace within their limits.
    pub fn keep_start(&self, start: &TracedStart, touched: Vec<Touch>) -> Result<(), StoreError> {
        let workspace = &start.workspace;
        for (number, key) in start.layer_keys() {
            let of_layer = touched.iter().filter(|touch| touch.layer == number);
            let run = of_layer.map(|touch| Touch { layer: 0, ..*touch });
            self.add_trace(workspace, &key, run.collect())?;
        }
        self.add_trace(workspace, &start.key(), touched)?;
        self.prune_traces(workspace)
    }
}

/// What of these touches is of spans that an image has, whose layers have so many each.
pub fn existing(touched: Vec<Touch>, span_counts: &[u64]) -> Vec<Touch> {
    let count = |layer: u32| {
        usize::try_from(layer)
            .ok()
            .and_then(|at| span_counts.get(at))
    };
    let exists =
        |touch: &Touch| count(touch.layer).is_some_and(|count| u64::from(touch.span) < *count);
    touched.into_iter().filter(exists).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(workspace: &str, layers: &[&str], command: &str) -> TracedStart {
        let layer = |digest: &&str| TracedLayer {
            digest: (*digest).to_owned(),
            root: [1; 32],
        };
        TracedStart {
            workspace: workspace.to_owned(),
            origin: "registry.test/acme".to_owned(),
            layers: layers.iter().map(layer).collect(),
            command: command.split(' ').map(str::to_owned).collect(),
        }
    }

    fn touches(spans: &[(u32, u32)]) -> Vec<Touch> {
        let touch = |(at_ms, (layer, span)): (u32, &(u32, u32))| Touch {
            layer: *layer,
            span: *span,
            at_ms,
        };
        (0..).zip(spans).map(touch).collect()
    }

    fn spans(touches: &[Touch]) -> Vec<(u32, u32)> {
        let span = |touch: &Touch| (touch.layer, touch.span);
        touches.iter().map(span).collect()
    }

    #[test]
    fn what_one_start_read_is_foretold_to_the_next_of_its_workspace() {
        let top = tempfile::tempdir().unwrap();
        let store = ImageStore::open(top.path()).unwrap();
        let layers = ["sha256:base", "sha256:app"];
        let app = start("team", &layers, "python3 app.py");
        let touched = [(1, 4), (0, 9), (1, 3), (0, 2)];
        store.keep_start(&app, touches(&touched)).unwrap();
        assert_eq!(spans(&store.foretell(&app)), touched);
        let others = start("others", &layers, "python3 app.py");
        assert_eq!(spans(&store.foretell(&others)), []);
    }

    #[test]
    fn a_program_is_known_from_other_images_with_its_layer() {
        let top = tempfile::tempdir().unwrap();
        let store = ImageStore::open(top.path()).unwrap();
        let first = start("team", &["sha256:base", "sha256:app"], "python3 app.py");
        let touched = touches(&[(1, 4), (0, 9), (1, 3), (0, 2)]);
        store.keep_start(&first, touched).unwrap();
        let layers = ["sha256:below", "sha256:base", "sha256:other"];
        let other = start("team", &layers, "python3 other.py");
        assert_eq!(spans(&store.foretell(&other)), [(1, 9), (1, 2)]);
        let shell = start("team", &layers, "sh other.sh");
        assert_eq!(spans(&store.foretell(&shell)), []);
    }

    #[test]
    fn what_the_image_does_not_have_is_dropped() {
        let touched = touches(&[(0, 10), (1, 0), (0, 9), (u32::MAX, 7), (0, u32::MAX)]);
        assert_eq!(spans(&existing(touched, &[10])), [(0, 9)]);
    }
}
