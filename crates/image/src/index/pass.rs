//! One layer on its way from its registry through an indexing process.
//!
//! Downloading and feeding go on side by side; what is between them is bounded.

use std::sync::Arc;
use std::time::Instant;

use image_fs::{Incoming, SpanCache};
use image_store::Temporary;
use layer_index::IndexSummary;
use layer_indexer::{CacheFile, Finished, IndexerError, IndexerProcess, Outputs};
use registry_client::{BlobParts, Flows, Part, RegistryClient};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Fill, Indexing, LayerReport};
use crate::error::ImageError;
use crate::pinned::{PinnedImage, PinnedLayer};
use crate::progress::Progress;

/// Parts between the download and the process: while one is fed, the next one is there.
const PARTS_AHEAD: usize = 1;

/// What the layers of an image are read with.
pub(super) struct Reading {
    pub(super) indexing: Indexing,
    pub(super) client: RegistryClient,
    pub(super) image: PinnedImage,
    pub(super) fill: Fill,
    pub(super) progress: Arc<dyn Progress>,
    /// Of all layers together.
    pub(super) flows: Flows,
}

/// Files that a pass writes.
struct Written {
    index: Temporary,
    cache: Option<(SpanCache, Incoming)>,
}

impl Reading {
    pub(super) async fn layer(&self, layer: &PinnedLayer) -> Result<LayerReport, ImageError> {
        let digest = layer.descriptor.digest.as_str();
        let started = Instant::now();
        self.progress.layer_started(digest, layer.descriptor.size);
        let cache = self.indexing.cache.as_ref();
        let index = match self.pass(layer, cache).await {
            Err(ImageError::Layer {
                source: IndexerError::Write(problem),
                ..
            }) if cache.is_some() && self.fill == Fill::Unindexed => {
                tracing::warn!(layer = digest, %problem, "indexing without filling the cache");
                self.pass(layer, None).await
            }
            other => other,
        }?;
        self.progress.layer_finished(digest);
        Ok(LayerReport::new(layer, index, Some(started.elapsed())))
    }

    /// Streams one layer through an indexing process.
    async fn pass(
        &self,
        layer: &PinnedLayer,
        cache: Option<&SpanCache>,
    ) -> Result<IndexSummary, ImageError> {
        let store = &self.indexing.store;
        let (index, scratch) = (store.new_file()?, store.new_file()?);
        let incoming = |cache: &SpanCache| Ok::<_, ImageError>((cache.clone(), cache.incoming()?));
        let cache = cache.map(incoming).transpose()?;
        let written = Written { index, cache };
        let outputs = Outputs {
            index: written.index.file(),
            scratch: scratch.file(),
            cache: written.cache.as_ref().map(cache_file),
        };
        let digest = layer.descriptor.digest.as_str();
        let diff_id = layer.diff_id.as_str();
        let process = IndexerProcess::spawn(&self.indexing.program, digest, diff_id, outputs);
        let process = process.map_err(|error| of_layer(layer, error))?;
        let repository = self.image.reference.repository();
        let parts = self
            .client
            .blob_parts(repository, &layer.descriptor, &self.flows)?;
        let (send, receive) = channel(PARTS_AHEAD);
        let feeding = self.feed(layer, process, receive);
        let (process, ()) = tokio::try_join!(feeding, download(parts, send))?;
        let finished = process.finish().await;
        let Finished {
            peak_memory_bytes, ..
        } = finished.map_err(|error| of_layer(layer, error))?;
        tracing::debug!(layer = digest, peak_memory_bytes, "indexed");
        self.publish(layer, written).await
    }

    async fn feed(
        &self,
        layer: &PinnedLayer,
        mut process: IndexerProcess,
        mut parts: Receiver<Part>,
    ) -> Result<IndexerProcess, ImageError> {
        let digest = layer.descriptor.digest.as_str();
        while let Some(part) = parts.recv().await {
            let fed = process.feed(&part.bytes).await;
            fed.map_err(|error| of_layer(layer, error))?;
            let bytes = part.bytes.len() as u64;
            self.progress.layer_advanced(digest, bytes);
        }
        Ok(process)
    }

    /// Waits for the disk, which would hold up other layers in their tasks.
    async fn publish(
        &self,
        layer: &PinnedLayer,
        written: Written,
    ) -> Result<IndexSummary, ImageError> {
        let (store, image) = (self.indexing.store.clone(), self.image.clone());
        let layer = layer.clone();
        let publish = move || {
            let index = store.publish_index(image.index_key(&layer), written.index)?;
            if let Some((cache, incoming)) = written.cache {
                let adopted = cache.adopt(&image.origin, &index, incoming);
                if let Err(error) = adopted {
                    let layer = layer.descriptor.digest.as_str();
                    tracing::warn!(layer, %error, "the cache does not take the layer");
                }
            }
            Ok(index)
        };
        match tokio::task::spawn_blocking(publish).await {
            Ok(published) => published,
            Err(error) => super::go_on_panicking(error),
        }
    }
}

/// Ends early where nobody takes the parts any more, who says why.
async fn download(mut parts: BlobParts, send: Sender<Part>) -> Result<(), ImageError> {
    while let Some(part) = parts.next().await? {
        if send.send(part).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn of_layer(layer: &PinnedLayer, source: IndexerError) -> ImageError {
    ImageError::Layer {
        layer: layer.descriptor.digest.as_str().to_owned(),
        source,
    }
}

/// A layer that alone is more than the cache may hold must not fill the disk on its way.
fn cache_file((cache, incoming): &(SpanCache, Incoming)) -> CacheFile<'_> {
    CacheFile {
        file: incoming.file(),
        limit_bytes: cache.limits().max_bytes,
    }
}
