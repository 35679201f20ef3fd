//! An image whose tag has become a digest, with its configuration and layers.
//!
//! Invariants: every digest was computed over the bytes that are used; layers and diff ids pair
//! up one to one; sizes and counts are bounded before anything is read.

use bytes::Bytes;
use control_store::{Image, ImageLayer};
use image_store::IndexKey;
use jiff::Timestamp;
use reference::{Digest, Reference};
use registry_client::{Descriptor, Platform, RegistryClient};
use serde::Deserialize;

use crate::error::ImageError;
use crate::index::LayerReport;

/// Configurations are a few kilobytes; the largest seen carry long histories and stay far below.
const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// Docker stops at 127 and overlayfs at 500 lower directories. We merge, but a longer list is no
/// honest image.
const LAYERS_MAX: usize = 512;

/// An image name pinned to one manifest.
#[derive(Clone, Debug)]
pub struct PinnedImage {
    pub reference: Reference,
    /// What the layers' bytes belong to: the registry, how it is trusted, and the repository.
    pub origin: String,
    pub manifest_digest: Digest,
    pub config_digest: Digest,
    /// The image configuration, as its digest promises.
    pub config: Bytes,
    pub layers: Vec<PinnedLayer>,
}

impl PinnedImage {
    /// An image as it stands on record, asked of nobody, for who reads it from this origin, which
    /// need not be where it was proven last; nothing where its configuration is not kept.
    pub fn on_record(reference: &Reference, origin: String, image: &Image) -> Option<Self> {
        let layers = image.layers.iter().map(|layer| PinnedLayer {
            descriptor: Descriptor {
                digest: layer.digest.clone(),
                size: layer.size_bytes,
                media_type: layer.media_type.clone(),
                urls: Vec::new(),
            },
            diff_id: layer.diff_id.clone(),
        });
        Some(Self {
            reference: reference.clone(),
            origin,
            manifest_digest: image.manifest_digest.clone(),
            config_digest: image.config_digest.clone(),
            config: image.config.clone()?.into(),
            layers: layers.collect(),
        })
    }

    /// What a full pull would transfer for the layers.
    pub fn compressed_bytes(&self) -> u64 {
        let sizes = self.layers.iter().map(|layer| layer.descriptor.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Where the index of one of its layers is kept.
    pub fn index_key<'a>(&'a self, layer: &'a PinnedLayer) -> IndexKey<'a> {
        IndexKey {
            origin: &self.origin,
            layer: layer.descriptor.digest.as_str(),
        }
    }

    /// The image as it is put on record: by the digest of its manifest, with nothing added.
    /// `indexed` is what [`Indexing::index`](crate::Indexing::index) said of its layers.
    pub fn image(&self, indexed: &[LayerReport], created_at: Timestamp) -> Image {
        let layers = self.layers.iter().zip(indexed);
        let layers = layers.map(|(layer, report)| ImageLayer {
            digest: layer.descriptor.digest.clone(),
            size_bytes: layer.descriptor.size,
            media_type: layer.descriptor.media_type.clone(),
            diff_id: layer.diff_id.clone(),
            index_root: report.index.root,
        });
        Image {
            id: self.manifest_digest.clone(),
            typed: self.reference.typed().to_owned(),
            canonical: self.reference.canonical(),
            origin: self.origin.clone(),
            manifest_digest: self.manifest_digest.clone(),
            config_digest: self.config_digest.clone(),
            layers: layers.collect(),
            environment: Vec::new(),
            python: None,
            config: Some(self.config.to_vec()),
            created_at,
        }
    }
}

/// One layer, in the order in which layers stack.
#[derive(Clone, Debug)]
pub struct PinnedLayer {
    pub descriptor: Descriptor,
    /// Digest of the uncompressed layer, from the configuration.
    pub diff_id: Digest,
}

/// Asks the registry what `reference` is at this moment, for `platform`. The configuration is not
/// asked for where it is `known`: the one that the name had last, which is held against its digest.
pub async fn resolve(
    client: &RegistryClient,
    reference: &Reference,
    platform: &Platform,
    known: Option<&[u8]>,
) -> Result<PinnedImage, ImageError> {
    let repository = reference.repository();
    let manifest = client
        .manifest(repository, &reference.selector(), platform)
        .await?;
    let malformed = |problem: String| ImageError::Malformed {
        image: reference.canonical(),
        problem,
    };
    if manifest.layers.len() > LAYERS_MAX {
        let count = manifest.layers.len();
        return Err(malformed(format!(
            "has {count} layers, more than {LAYERS_MAX}"
        )));
    }
    let known = known.filter(|known| manifest.config.describes(known));
    let config = if let Some(known) = known {
        Bytes::copy_from_slice(known)
    } else {
        let asking = client.blob_bytes(repository, &manifest.config, CONFIG_MAX_BYTES);
        asking.await?
    };
    let diff_ids = diff_ids(&config).map_err(malformed)?;
    if diff_ids.len() != manifest.layers.len() {
        return Err(malformed(format!(
            "manifest lists {} layers, configuration {}",
            manifest.layers.len(),
            diff_ids.len(),
        )));
    }
    let layers = manifest.layers.into_iter().zip(diff_ids);
    Ok(PinnedImage {
        reference: reference.clone(),
        origin: client.endpoint().origin(repository),
        manifest_digest: manifest.digest,
        config_digest: manifest.config.digest,
        config,
        layers: layers
            .map(|(descriptor, diff_id)| PinnedLayer {
                descriptor,
                diff_id,
            })
            .collect(),
    })
}

/// The part of an image configuration that says what the layers unpack to.
#[derive(Deserialize)]
struct ConfigRootfs {
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// Digests of the uncompressed layers, as an image configuration lists them, lowest first.
pub fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, String> {
    let config: ConfigRootfs = serde_json::from_slice(config)
        .map_err(|error| format!("configuration is not understood: {error}"))?;
    let parse = |text: &String| {
        Digest::parse(text).map_err(|error| format!("configuration: diff id: {error}"))
    };
    config.rootfs.diff_ids.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diff_ids_are_read_or_refused() {
        let zeros = format!("sha256:{}", "0".repeat(64));
        let good =
            format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{zeros}"]}}}}"#);
        assert_eq!(diff_ids(good.as_bytes()).map(|ids| ids.len()), Ok(1));
        for (bad, problem) in [
            ("", "not understood"),
            ("{}", "missing field `rootfs`"),
            (r#"{"rootfs":{"diff_ids":["md5:00"]}}"#, "diff id"),
            (r#"{"rootfs":{"diff_ids":[7]}}"#, "not understood"),
        ] {
            let error = diff_ids(bad.as_bytes()).expect_err(bad);
            assert!(error.contains(problem), "{bad}: {error}");
        }
    }
}
