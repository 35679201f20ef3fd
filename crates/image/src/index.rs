//! Layers that have no index get one; the same pass fills the span cache.
//!
//! Invariants: an index is published only after both whole-layer digests were right; a cache that
//! cannot be filled (a full disk) never stops an index from being made; a layer that occurs twice
//! in an image is read once.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use image_fs::{Incoming, SpanCache};
use image_store::ImageStore;
use layer_index::IndexSummary;
use layer_indexer::{CacheFile, IndexerError, IndexerProcess};
use registry_client::RegistryClient;

use crate::error::ImageError;
use crate::pinned::{PinnedImage, PinnedLayer};
use crate::progress::Progress;

/// Layers indexed at once. Each takes a core for inflating and part of another for hashing; more
/// than this only divides the link.
const LAYERS_AT_ONCE: usize = 3;

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
        let reports = self
            .for_each_layer(image, |layer| {
                self.layer(client, image, layer, &*progress, fill)
            })
            .await?;
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
            Ok(index.map(|index| LayerReport {
                digest: layer.descriptor.digest.to_string(),
                media_type: layer.descriptor.media_type.clone(),
                index,
                took: None,
            }))
        };
        image.layers.iter().map(report).collect()
    }

    async fn for_each_layer<'a, F>(
        &self,
        image: &'a PinnedImage,
        work: impl Fn(&'a PinnedLayer) -> F,
    ) -> Result<Vec<LayerReport>, ImageError>
    where
        F: Future<Output = Result<LayerReport, ImageError>>,
    {
        let mut seen = HashSet::new();
        let distinct = image
            .layers
            .iter()
            .filter(|layer| seen.insert(&layer.descriptor.digest));
        let distinct: Vec<_> = distinct.map(work).collect();
        let reports: Vec<LayerReport> = stream::iter(distinct)
            .buffered(LAYERS_AT_ONCE)
            .try_collect()
            .await?;
        let of_layer = |layer: &PinnedLayer| {
            let digest = layer.descriptor.digest.as_str();
            let report = reports.iter().find(|report| report.digest == digest);
            report.cloned().expect("every distinct layer has a report")
        };
        Ok(image.layers.iter().map(of_layer).collect())
    }

    async fn layer(
        &self,
        client: &RegistryClient,
        image: &PinnedImage,
        layer: &PinnedLayer,
        progress: &dyn Progress,
        fill: Fill,
    ) -> Result<LayerReport, ImageError> {
        let digest = layer.descriptor.digest.as_str();
        let report = |index, took| LayerReport {
            digest: digest.to_owned(),
            media_type: layer.descriptor.media_type.clone(),
            index,
            took,
        };
        if let Some(index) = self.store.index(image.index_key(layer))?
            && is_promised(layer, &index)
            && (fill == Fill::Unindexed || self.is_cached(image, &index)?)
        {
            return Ok(report(index, None));
        }
        let started = Instant::now();
        progress.layer_started(digest, layer.descriptor.size);
        let index = match self
            .pass(client, image, layer, progress, self.cache.as_ref())
            .await
        {
            Err(ImageError::Layer {
                source: IndexerError::Write(problem),
                ..
            }) if self.cache.is_some() && fill == Fill::Unindexed => {
                tracing::warn!(layer = digest, %problem, "indexing without filling the cache");
                self.pass(client, image, layer, progress, None).await
            }
            other => other,
        }?;
        progress.layer_finished(digest);
        Ok(report(index, Some(started.elapsed())))
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

    /// Streams one layer through an indexing process.
    async fn pass(
        &self,
        client: &RegistryClient,
        image: &PinnedImage,
        layer: &PinnedLayer,
        progress: &dyn Progress,
        cache: Option<&SpanCache>,
    ) -> Result<IndexSummary, ImageError> {
        let digest = layer.descriptor.digest.as_str();
        let of_layer = |source| ImageError::Layer {
            layer: digest.to_owned(),
            source,
        };
        let output = self.store.new_file()?;
        let incoming = cache.map(SpanCache::incoming).transpose()?;
        let mut process = IndexerProcess::spawn(
            &self.program,
            digest,
            layer.diff_id.as_str(),
            output.file(),
            cache.zip(incoming.as_ref()).map(cache_file),
        )
        .map_err(of_layer)?;
        let mut blob = client
            .blob_stream(image.reference.repository(), &layer.descriptor)
            .await?;
        while let Some(bytes) = blob.try_next().await? {
            process.feed(&bytes).await.map_err(of_layer)?;
            progress.layer_advanced(digest, bytes.len() as u64);
        }
        process.finish().await.map_err(of_layer)?;
        let index = self.store.publish_index(image.index_key(layer), output)?;
        if let (Some(cache), Some(incoming)) = (cache, incoming) {
            let adopted = cache.adopt(&image.origin, &index, incoming);
            if let Err(error) = adopted {
                tracing::warn!(layer = digest, %error, "the cache does not take the layer");
            }
        }
        Ok(index)
    }
}

/// A layer that alone is more than the cache may hold must not fill the disk on its way.
fn cache_file<'a>((cache, incoming): (&SpanCache, &'a Incoming)) -> CacheFile<'a> {
    CacheFile {
        file: incoming.file(),
        limit_bytes: cache.limits().max_bytes,
    }
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
