//! Layers that have no index get one; the same pass fills the span cache.
//!
//! Invariants: an index is published only after both whole-layer digests were right; a cache that
//! cannot be filled (a full disk) never stops an index from being made; a layer that occurs twice
//! in an image is read once.

mod pass;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image_fs::SpanCache;
use image_store::ImageStore;
use layer_index::IndexSummary;
use registry_client::{Flows, RegistryClient};
use tokio::task::{JoinError, JoinSet};

use self::pass::Reading;
use crate::error::ImageError;
use crate::pinned::{PinnedImage, PinnedLayer};
use crate::progress::Progress;

/// Layers indexed at once where there are few cores. Each takes one for inflating and part of
/// another for hashing; a third one uses what the others leave while they begin and end.
const LAYERS_AT_ONCE_MIN: usize = 3;

/// The same where there are many: each layer may take 64 MiB.
const LAYERS_AT_ONCE_MAX: usize = 8;

/// What a mount process holds of all indexes of an image together: as much as one layer may have
/// of metadata. The largest public images stay below a third of it, and the trees made of it fit
/// into that process's address space beside it.
const METADATA_MAX_BYTES: u64 = layer_index::limits::MAX_METADATA;

/// How layers are indexed, and where the results go.
#[derive(Clone, Debug)]
pub struct Indexing {
    pub store: ImageStore,
    /// Filled in the same pass where given.
    pub cache: Option<SpanCache>,
    /// The binary that can be started as `layer-indexer`.
    pub program: PathBuf,
}

/// What is known of one indexed layer.
#[derive(Clone, Debug)]
pub struct LayerReport {
    pub digest: String,
    pub media_type: String,
    pub index: IndexSummary,
    /// How long the pass took; nothing for an index that was there.
    pub took: Option<Duration>,
}

/// Which layers are read from the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Those without an index; what of them fits into the cache is kept.
    Unindexed,
    /// Those too that are not wholly in the cache.
    Uncached,
}

impl Indexing {
    /// The indexes of all layers of `image`, in its order, reading those layers that `fill` asks
    /// for.
    pub async fn index(
        &self,
        client: &RegistryClient,
        image: &PinnedImage,
        fill: Fill,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<LayerReport>, ImageError> {
        let (mut reports, missing) = self.look(image, fill)?;
        let sizes = missing.iter().map(|layer| layer.descriptor.size);
        progress.begun(missing.len(), sizes.fold(0, u64::saturating_add));
        let reading = Reading {
            indexing: self.clone(),
            client: client.clone(),
            image: image.clone(),
            fill,
            progress,
            flows: Flows::default(),
        };
        for report in read_all(reading, missing).await? {
            reports.insert(report.digest.clone(), report);
        }
        let of_layer = |layer: &PinnedLayer| {
            let report = reports.get(layer.descriptor.digest.as_str());
            report.cloned().expect("every layer has a report")
        };
        let reports: Vec<_> = image.layers.iter().map(of_layer).collect();
        check_metadata(reports.iter().map(|report| report.index.memory_bytes)).map_err(
            |problem| ImageError::TooLarge {
                image: image.reference.canonical(),
                problem,
            },
        )?;
        Ok(reports)
    }

    /// The same where all are here; nobody is asked, and nothing made.
    pub fn indexed(&self, image: &PinnedImage) -> Result<Option<Vec<LayerReport>>, ImageError> {
        let report = |layer: &PinnedLayer| {
            let index = self.store.index(image.index_key(layer))?;
            let index = index.filter(|index| is_promised(layer, index));
            Ok(index.map(|index| LayerReport::new(layer, index, None)))
        };
        image.layers.iter().map(report).collect()
    }

    /// What is there, by layer, and the layers that are to be read, each once.
    fn look(
        &self,
        image: &PinnedImage,
        fill: Fill,
    ) -> Result<(HashMap<String, LayerReport>, Vec<PinnedLayer>), ImageError> {
        let (mut found, mut missing, mut seen) = (HashMap::new(), Vec::new(), HashSet::new());
        for layer in &image.layers {
            let digest = layer.descriptor.digest.as_str();
            if !seen.insert(digest) {
                continue;
            }
            match self.store.index(image.index_key(layer))? {
                Some(index)
                    if is_promised(layer, &index)
                        && (fill == Fill::Unindexed || self.is_cached(image, &index)?) =>
                {
                    found.insert(digest.to_owned(), LayerReport::new(layer, index, None));
                }
                _ => missing.push(layer.clone()),
            }
        }
        Ok((found, missing))
    }

    fn is_cached(&self, image: &PinnedImage, index: &IndexSummary) -> Result<bool, ImageError> {
        Ok(self.missing_spans(image, index)? == 0)
    }

    /// How many spans of a layer are to be had from its registry alone.
    pub(crate) fn missing_spans(
        &self,
        image: &PinnedImage,
        index: &IndexSummary,
    ) -> Result<u64, ImageError> {
        let Some(cache) = &self.cache else {
            return Ok(0);
        };
        let present = cache.present_spans(&image.origin, index)?;
        Ok(index.header.span_count.saturating_sub(present))
    }
}

impl LayerReport {
    fn new(layer: &PinnedLayer, index: IndexSummary, took: Option<Duration>) -> Self {
        Self {
            digest: layer.descriptor.digest.as_str().to_owned(),
            media_type: layer.descriptor.media_type.clone(),
            index,
            took,
        }
    }
}

/// Reads layers, a few at once. The largest come first: one that is begun last would keep a core
/// busy while the others have nothing to do.
async fn read_all(
    reading: Reading,
    mut layers: Vec<PinnedLayer>,
) -> Result<Vec<LayerReport>, ImageError> {
    let reading = Arc::new(reading);
    let at_once = layers_at_once();
    layers.sort_by_key(|layer| layer.descriptor.size);
    // Dropped on the way, it ends those that are under way.
    let (mut tasks, mut reports) = (JoinSet::new(), Vec::new());
    loop {
        while tasks.len() < at_once
            && let Some(layer) = layers.pop()
        {
            let reading = Arc::clone(&reading);
            tasks.spawn(async move { reading.layer(&layer).await });
        }
        match tasks.join_next().await {
            None => return Ok(reports),
            Some(Ok(report)) => reports.push(report?),
            Some(Err(error)) => go_on_panicking(error),
        }
    }
}

fn layers_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.clamp(LAYERS_AT_ONCE_MIN, LAYERS_AT_ONCE_MAX)
}

/// A panic of a task is one of whoever waits for it. Nobody cancels a task but by dropping the set.
fn go_on_panicking(error: JoinError) -> ! {
    std::panic::resume_unwind(error.into_panic())
}

/// What does not fit is read again, which tells an image that lies about a layer, and is refused
/// then, from an index that was damaged.
fn is_promised(layer: &PinnedLayer, index: &IndexSummary) -> bool {
    let header = &index.header;
    header.diff_id == layer.diff_id.as_str() && header.compressed_size == layer.descriptor.size
}

/// Each layer keeps to the limits of its index; several hundred of them together need not.
fn check_metadata(of_layers: impl Iterator<Item = u64>) -> Result<(), String> {
    let total = of_layers.fold(0, u64::saturating_add);
    if total > METADATA_MAX_BYTES {
        return Err(format!(
            "its layers' indexes take {total} bytes of memory, more than {METADATA_MAX_BYTES}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_of_all_layers_together_is_bounded() {
        let check = |sizes: &[u64]| check_metadata(sizes.iter().copied());
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[METADATA_MAX_BYTES]), Ok(()));
        for sizes in [
            vec![METADATA_MAX_BYTES, 1],
            vec![METADATA_MAX_BYTES / 256; 257],
            vec![u64::MAX, u64::MAX],
        ] {
            let problem = check(&sizes).expect_err("too much");
            assert!(problem.contains("more than 1073741824"), "{problem}");
        }
    }
}
