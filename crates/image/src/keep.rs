//! Images that are kept whole: every span of every layer in the cache, and a pin that keeps them
//! there, so that a start needs nothing of the registry but its word.

use std::sync::Arc;
use std::time::SystemTime;

use image_fs::{CacheError, LayerFiles, Pin, PinPlan, SpanCache};
use layer_index::IndexSummary;
use reference::{Digest, Reference};
use registry_client::RegistryClient;

use crate::error::ImageError;
use crate::index::{Fill, Indexing, LayerReport};
use crate::pinned::PinnedImage;
use crate::progress::Progress;

/// What a layer takes on disk beside its decoded bytes: its other files, and what rounds up.
const BESIDE_BYTES: u64 = 16 * 1024;

/// An image that is in the cache whole. Its layers are in use, by which nobody evicts them, until
/// this is gone: with the pin, or with a process that ended before there was one.
#[derive(Debug)]
pub struct Filled {
    pub layers: Vec<LayerReport>,
    cache: SpanCache,
    pin: Pin,
    /// Open, and nothing else.
    _in_use: Vec<LayerFiles>,
}

impl Filled {
    /// Keeps it from now on.
    pub fn pin(self) -> Result<(), ImageError> {
        Ok(self.cache.pin(&self.pin)?)
    }
}

impl Indexing {
    /// Brings all of an image into the cache, for `owner` to pin. What is known not to fit is
    /// refused before anything is read: of a layer without an index no more is known then than
    /// that it is not smaller than it is compressed.
    pub async fn fill(
        &self,
        client: &RegistryClient,
        image: &PinnedImage,
        owner: &str,
        progress: Arc<dyn Progress>,
    ) -> Result<Filled, ImageError> {
        let cache = self.cache.as_ref().ok_or(ImageError::NoCache)?;
        let fill = || self.index(client, image, Fill::Uncached, Arc::clone(&progress));
        self.check_room(cache, image, owner)?;
        let layers = fill().await?;
        self.check_room(cache, image, owner)?;
        let open = |layer: &LayerReport| cache.layer_files(&image.origin, &layer.index);
        let in_use = layers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        if self.missing(image, &layers)? > 0 {
            // Others took the room before it was in use.
            fill().await?;
        }
        let missing = self.missing(image, &layers)?;
        if missing > 0 {
            let spans = layers.iter().map(|layer| layer.index.header.span_count);
            return Err(ImageError::NotWhole {
                image: image.reference.canonical(),
                missing,
                spans: spans.fold(0, u64::saturating_add),
            });
        }
        Ok(Filled {
            layers,
            cache: cache.clone(),
            pin: pin_of(image, owner),
            _in_use: in_use,
        })
    }

    /// Whether a container of this image needs no byte of its registry: the indexes with these
    /// roots are there, and all that they list.
    pub fn is_whole(&self, image: &PinnedImage, roots: &[[u8; 32]]) -> Result<bool, ImageError> {
        for (layer, root) in image.layers.iter().zip(roots) {
            let index = self.store.index(image.index_key(layer))?;
            let Some(index) = index.filter(|index| index.root == *root) else {
                return Ok(false);
            };
            if self.missing_spans(image, &index)? > 0 {
                return Ok(false);
            }
        }
        Ok(image.layers.len() == roots.len())
    }

    fn missing(&self, image: &PinnedImage, layers: &[LayerReport]) -> Result<u64, ImageError> {
        let missing = |layer: &LayerReport| self.missing_spans(image, &layer.index);
        layers.iter().map(missing).sum()
    }

    fn check_room(
        &self,
        cache: &SpanCache,
        image: &PinnedImage,
        owner: &str,
    ) -> Result<(), ImageError> {
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let index = self.store.index(image.index_key(layer))?;
            let bytes = index.as_ref().map_or(layer.descriptor.size, on_disk);
            layers.push((layer.descriptor.digest.as_str(), bytes));
        }
        let name = image.reference.canonical();
        let plan = PinPlan {
            owner,
            name: &name,
            origin: &image.origin,
            layers: &layers,
        };
        Ok(cache.check_room_for_pin(plan)?)
    }
}

/// What a name meant when its owner pinned it, as read from `origin`: a tag has the digest that it
/// had then, and a digest is its own.
pub fn manifest_pinned_as(
    cache: &SpanCache,
    owner: &str,
    origin: &str,
    name: &Reference,
) -> Result<Option<Digest>, CacheError> {
    let canonical = name.canonical();
    let means = |pin: &Pin| {
        let is_digest = name
            .digest()
            .is_some_and(|digest| digest.as_str() == pin.manifest_digest);
        let is_own = pin.owner == owner && pin.origin == origin;
        is_own && (is_digest || pin.name == canonical)
    };
    let found = cache.pins()?.into_iter().find(means);
    Ok(found.and_then(|pin| Digest::parse(&pin.manifest_digest).ok()))
}

/// The names by which an owner has this manifest of this origin pinned.
pub fn names_pinned(pins: &[Pin], owner: &str, origin: &str, manifest: &Digest) -> Vec<String> {
    let means = |pin: &&Pin| {
        pin.owner == owner && pin.origin == origin && pin.manifest_digest == manifest.as_str()
    };
    let names = pins.iter().filter(means).map(|pin| pin.name.clone());
    names.collect()
}

fn on_disk(index: &IndexSummary) -> u64 {
    index.header.uncompressed_size.saturating_add(BESIDE_BYTES)
}

fn pin_of(image: &PinnedImage, owner: &str) -> Pin {
    let digests = image
        .layers
        .iter()
        .map(|layer| layer.descriptor.digest.to_string());
    Pin {
        owner: owner.to_owned(),
        name: image.reference.canonical(),
        manifest_digest: image.manifest_digest.to_string(),
        origin: image.origin.clone(),
        layers: digests.collect(),
        pinned_at: SystemTime::now(),
    }
}
