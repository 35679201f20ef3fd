//! Bringing layers to the shared cache, beside everything else.
//!
//! A layer is read from its registry once more, with a lease of this process's own, which needs the
//! workspace's right to the image; sealed as it comes; and there when all of it had its digest.

use std::collections::HashSet;
use std::time::Duration;

use aws_api::{Part, Upload};
use control_store::ImageLayer;
use dial::HttpClient;
use futures::TryStreamExt;
use ids::WorkspaceId;
use jiff::Timestamp;
use reference::Digest;
use registry_client::{BlobStream, Descriptor};
use shared_cache::Sealing;
use tokio::time::Instant;

use super::{Keys, LayerAt, Object, SharedCache, SharedCacheError};
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::operations::images::OpenImage;

/// Images that are filled at once: each takes a connection to its registry and a part in memory.
pub(super) const AT_ONCE: usize = 2;
/// Written in one request: enough that a round trip is little beside it.
const PART_BYTES: usize = 8 << 20;
/// Parts of one object are 10,000 at most.
pub(super) const OBJECT_MAX_BYTES: u64 = PART_BYTES as u64 * 10_000;
/// How often it is looked whether all of an image is there.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// How long it rests after a failure.
const PAUSE: Duration = Duration::from_mins(1);
/// Images that are remembered. What is forgotten is looked at again.
const IMAGES_LIMIT: usize = 1024;

impl Gateway {
    /// Has what is missing of an image brought to the shared cache, if there is one.
    pub(crate) fn share_image(&self, workspace: WorkspaceId, image: &Digest) {
        let Some(cache) = self.shared_cache() else {
            return;
        };
        let key = (workspace, image.clone());
        if !cache.takes_on(&key) {
            return;
        }
        let gateway = self.clone();
        tokio::spawn(async move {
            let cache = gateway.shared_cache().expect("there was one");
            let turn = cache.turns.acquire().await;
            let filled = gateway.fill(cache, key.0, &key.1).await;
            drop(turn);
            let pause = match filled {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    cache.tell(&error);
                    PAUSE
                }
            };
            cache.rests(key, pause);
        });
    }

    async fn fill(
        &self,
        cache: &SharedCache,
        workspace: WorkspaceId,
        image: &Digest,
    ) -> Result<(), SharedCacheError> {
        let opened = self.open_image(workspace, image).await;
        let opened = opened.map_err(SharedCacheError::Problem)?;
        let filled = self.fill_opened(cache, &opened).await;
        if let Err(error) = opened.lease.end().await {
            tracing::debug!(%error, "the lease lapses by itself");
        }
        filled
    }

    async fn fill_opened(
        &self,
        cache: &SharedCache,
        opened: &OpenImage,
    ) -> Result<(), SharedCacheError> {
        let secret = cache.secret(self.broker()).await?;
        let http = cache.http(self.dialer())?;
        let origin = opened.lease.origin();
        let mut seen = HashSet::new();
        let distinct = opened.image.layers.iter();
        for layer in distinct.filter(|layer| seen.insert(&layer.digest)) {
            let at = LayerAt {
                origin: &origin,
                digest: &layer.digest,
                size_bytes: layer.size_bytes,
            };
            let Some(object) = cache.object(secret, at)? else {
                continue;
            };
            if cache.known(&object) == Some(true) {
                continue;
            }
            let keys = cache.keys().await?;
            // That it is not there may have been said before anybody had looked.
            if cache.look(&http, &keys, &object).await? {
                continue;
            }
            let key = secret.layer_key(&origin, layer.digest.as_str());
            let writing = Writing {
                cache,
                http: &http,
                keys: &keys,
                object: &object,
                sealing: Sealing::new(&key, layer.size_bytes),
                upload: None,
                parts: Vec::new(),
            };
            writing.write(self.blob(opened, layer).await?).await?;
            cache.note(&object, true);
            self.metrics().shared_cache_written(object.sealed_bytes);
        }
        Ok(())
    }

    async fn blob(
        &self,
        opened: &OpenImage,
        layer: &ImageLayer,
    ) -> Result<BlobStream, SharedCacheError> {
        let client = self.client(&opened.lease);
        let client = client.map_err(SharedCacheError::Problem)?;
        let descriptor = Descriptor {
            digest: layer.digest.clone(),
            size: layer.size_bytes,
            media_type: layer.media_type.clone(),
            urls: Vec::new(),
        };
        let repository = opened.reference.repository();
        Ok(client.blob_stream(repository, &descriptor).await?)
    }
}

impl SharedCache {
    /// Whether nobody looks at the image, or has lately.
    fn takes_on(&self, key: &(WorkspaceId, Digest)) -> bool {
        let now = Instant::now();
        let mut images = lock(&self.images);
        if images.get(key).is_some_and(|until| now < *until) {
            return false;
        }
        if images.len() >= IMAGES_LIMIT {
            images.retain(|_, until| now < *until);
        }
        if images.len() >= IMAGES_LIMIT {
            return false;
        }
        // Longer than any filling takes, which says itself when it has ended.
        images.insert(key.clone(), now + Duration::from_hours(24));
        true
    }

    fn rests(&self, key: (WorkspaceId, Digest), pause: Duration) {
        lock(&self.images).insert(key, Instant::now() + pause);
    }
}

/// An object that is being written.
struct Writing<'a> {
    cache: &'a SharedCache,
    http: &'a HttpClient,
    keys: &'a Keys,
    object: &'a Object,
    sealing: Sealing,
    /// Where it has more than one part.
    upload: Option<Upload>,
    parts: Vec<Part>,
}

impl Writing<'_> {
    async fn write(mut self, blob: BlobStream) -> Result<(), SharedCacheError> {
        let written = self.write_parts(blob).await;
        if written.is_err()
            && let Some(upload) = &self.upload
        {
            let way = (self.http, &Timestamp::now as _);
            let bucket = &self.cache.settings.bucket;
            if let Err(error) = bucket.abandon(way, self.keys, upload).await {
                tracing::debug!(%error, "parts of a layer are left in the bucket");
            }
        }
        written
    }

    async fn write_parts(&mut self, mut blob: BlobStream) -> Result<(), SharedCacheError> {
        let mut sealed = Vec::new();
        // Its last word is whether all had the layer's digest.
        while let Some(piece) = blob.try_next().await? {
            self.sealing.push(&piece, &mut sealed)?;
            if sealed.len() >= PART_BYTES {
                self.put_part(std::mem::take(&mut sealed)).await?;
            }
        }
        self.sealing.finish()?;
        let way = (self.http, &Timestamp::now as _);
        let bucket = &self.cache.settings.bucket;
        if self.upload.is_none() {
            let body = sealed.into();
            bucket.put(way, self.keys, &self.object.key, body).await?;
            return Ok(());
        }
        if !sealed.is_empty() {
            self.put_part(sealed).await?;
        }
        let upload = self.upload.as_ref().expect("it was begun");
        bucket.finish(way, self.keys, upload, &self.parts).await?;
        Ok(())
    }

    async fn put_part(&mut self, sealed: Vec<u8>) -> Result<(), SharedCacheError> {
        let way = (self.http, &Timestamp::now as _);
        let bucket = &self.cache.settings.bucket;
        if self.upload.is_none() {
            let begun = bucket.begin(way, self.keys, &self.object.key).await?;
            self.upload = Some(begun);
        }
        let upload = self.upload.as_ref().expect("it was begun");
        let next = (self.parts.len() + 1, sealed.into());
        let part = bucket.put_part(way, self.keys, upload, next).await?;
        self.parts.push(part);
        Ok(())
    }
}
