//! The values that reading a manifest gives.

use bytes::Bytes;
use reference::Digest;

use crate::verify;

/// A pointer to a blob, as a manifest gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Descriptor {
    pub digest: Digest,
    pub size: u64,
    /// As the manifest says; unknown types are kept as they are.
    pub media_type: String,
    /// Where else the manifest says that the blob is. Never dialled.
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Whether it is of these bytes.
    pub fn describes(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.size && verify::matches(bytes, &self.digest)
    }

    /// Whether the blob is one that registries may refuse to hold.
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            || self.media_type.contains("nondistributable")
            || self.media_type.contains(".foreign.")
    }
}

/// The manifest of one platform, pinned by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedManifest {
    /// Of the platform's own manifest.
    pub digest: Digest,
    /// Of the index that it was chosen from, when there was one.
    pub index_digest: Option<Digest>,
    pub media_type: String,
    pub config: Descriptor,
    /// In the order of application, lowest first.
    pub layers: Vec<Descriptor>,
    /// The bytes that `digest` is of.
    pub raw: Bytes,
}

/// What a registry says about a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_describes_its_bytes_alone() {
        let of = |digest: Digest, size| Descriptor {
            digest,
            size,
            media_type: String::new(),
            urls: Vec::new(),
        };
        let own = of(verify::sha256(b"{}"), 2);
        assert!(own.describes(b"{}"));
        assert!(!own.describes(b"[]") && !own.describes(b""));
        assert!(!of(verify::sha256(b"{}"), 3).describes(b"{}"));
    }
}
