//! What a simulated registry holds.

use std::collections::HashMap;

use bytes::Bytes;

use crate::image::{Image, sha256};

#[derive(Debug, Clone)]
pub(crate) struct StoredManifest {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

#[derive(Debug, Default)]
struct Repository {
    /// By tag and by digest.
    manifests: HashMap<String, StoredManifest>,
    blobs: HashMap<String, Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Store(HashMap<String, Repository>);

impl Store {
    pub(crate) fn put_image(&mut self, repository: &str, tag: &str, image: &Image) {
        self.put_blobs(repository, image);
        self.put_manifest(repository, tag, &image.media_type, &image.manifest);
    }

    pub(crate) fn put_blobs(&mut self, repository: &str, image: &Image) {
        for blob in image.layers.iter().chain([&image.config]) {
            self.put_blob(repository, &blob.digest, blob.bytes.clone());
        }
    }

    pub(crate) fn put_blob(&mut self, repository: &str, digest: &str, bytes: Bytes) {
        self.repository(repository)
            .blobs
            .insert(digest.to_owned(), bytes);
    }

    pub(crate) fn remove_blob(&mut self, repository: &str, digest: &str) {
        self.repository(repository).blobs.remove(digest);
    }

    /// Stores under `reference` and under the digest, which is returned.
    pub(crate) fn put_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> String {
        let digest = sha256(bytes);
        let stored = StoredManifest {
            digest: digest.clone(),
            media_type: media_type.to_owned(),
            bytes: Bytes::copy_from_slice(bytes),
        };
        let manifests = &mut self.repository(repository).manifests;
        manifests.insert(reference.to_owned(), stored.clone());
        manifests.insert(digest.clone(), stored);
        digest
    }

    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<StoredManifest> {
        self.0.get(repository)?.manifests.get(reference).cloned()
    }

    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        self.0.get(repository)?.blobs.get(digest).cloned()
    }

    pub(crate) fn tags(&self, repository: &str) -> Option<Vec<String>> {
        let manifests = &self.0.get(repository)?.manifests;
        let mut tags: Vec<String> = manifests
            .keys()
            .filter(|key| !key.contains(':'))
            .cloned()
            .collect();
        tags.sort();
        Some(tags)
    }

    fn repository(&mut self, name: &str) -> &mut Repository {
        self.0.entry(name.to_owned()).or_default()
    }
}
