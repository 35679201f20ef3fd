//! Building OCI images in memory.

use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A blob with its digest.
#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: String,
    pub media_type: String,
    pub bytes: Bytes,
}

/// An image as a registry holds it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest's bytes, type and digest.
    pub manifest: Bytes,
    pub media_type: String,
    pub digest: String,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    kind: tar::EntryType,
    mode: u32,
    link: Option<String>,
    contents: Vec<u8>,
}

/// One layer before it is part of an image.
#[derive(Debug, Clone)]
pub struct Layer {
    media_type: String,
    bytes: Bytes,
    diff_id: String,
    urls: Vec<String>,
}

/// Puts an image together.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    layers: Vec<Layer>,
    config: Value,
    os: String,
    architecture: String,
    docker: bool,
}

impl Entry {
    pub fn file(path: &str, contents: impl Into<Vec<u8>>) -> Self {
        Self::new(path, tar::EntryType::Regular, 0o644, None, contents.into())
    }

    pub fn directory(path: &str) -> Self {
        Self::new(path, tar::EntryType::Directory, 0o755, None, Vec::new())
    }

    pub fn symlink(path: &str, target: &str) -> Self {
        Self::new(
            path,
            tar::EntryType::Symlink,
            0o777,
            Some(target),
            Vec::new(),
        )
    }

    pub fn hard_link(path: &str, target: &str) -> Self {
        Self::new(path, tar::EntryType::Link, 0o644, Some(target), Vec::new())
    }

    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    fn new(
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        link: Option<&str>,
        contents: Vec<u8>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            mode,
            link: link.map(str::to_owned),
            contents,
        }
    }

    fn append(&self, archive: &mut tar::Builder<Vec<u8>>) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_mtime(1_700_000_000);
        header.set_size(self.contents.len() as u64);
        let appended = match &self.link {
            Some(target) => archive.append_link(&mut header, &self.path, target),
            None => archive.append_data(&mut header, &self.path, self.contents.as_slice()),
        };
        appended.expect("writing to memory does not fail");
    }
}

impl Layer {
    /// A gzip layer of these entries.
    pub fn gzip(entries: &[Entry]) -> Self {
        Self::gzip_of(&archive(entries))
    }

    /// A gzip layer of an archive made elsewhere.
    pub fn gzip_of(archive: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder
            .write_all(archive)
            .expect("writing to memory does not fail");
        let bytes = encoder.finish().expect("writing to memory does not fail");
        Self::compressed(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            bytes,
            archive,
        )
    }

    /// A layer that is not compressed.
    pub fn plain(entries: &[Entry]) -> Self {
        let archive = archive(entries);
        Self::compressed(
            "application/vnd.oci.image.layer.v1.tar",
            archive.clone(),
            &archive,
        )
    }

    /// A layer in any form, with the archive that it decodes to.
    pub fn compressed(media_type: &str, bytes: impl Into<Bytes>, archive: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            bytes: bytes.into(),
            diff_id: sha256(archive),
            urls: Vec::new(),
        }
    }

    /// The same as a foreign layer that is said to be at these URLs.
    #[must_use]
    pub fn foreign(mut self, urls: &[&str]) -> Self {
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            .clone_into(&mut self.media_type);
        self.urls = urls.iter().map(|url| (*url).to_owned()).collect();
        self
    }
}

/// A tar archive of these entries.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        entry.append(&mut archive);
    }
    archive
        .into_inner()
        .expect("writing to memory does not fail")
}

impl ImageBuilder {
    /// An image of no layers for linux/amd64.
    pub fn new() -> Self {
        Self {
            layers: Vec::new(),
            config: json!({}),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            docker: false,
        }
    }

    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets one field of the image's `config`, such as `Env` or `Cmd`.
    #[must_use]
    pub fn config(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    #[must_use]
    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        os.clone_into(&mut self.os);
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Docker's media types instead of OCI's.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    pub fn build(self) -> Image {
        let diff_ids: Vec<&str> = self
            .layers
            .iter()
            .map(|layer| layer.diff_id.as_str())
            .collect();
        let config = json!({
            "architecture": self.architecture,
            "os": self.os,
            "created": "2023-11-14T22:13:20Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let (config_type, media_type) = self.media_types();
        let config = blob(config_type, Bytes::from(config.to_string()));
        let descriptors: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| self.layer_json(layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {
                "mediaType": config_type, "digest": config.digest, "size": config.bytes.len(),
            },
            "layers": descriptors,
        });
        let manifest = Bytes::from(manifest.to_string());
        let layers = self
            .layers
            .iter()
            .map(|layer| blob(&self.layer_type(layer), layer.bytes.clone()));
        Image {
            digest: sha256(&manifest),
            manifest,
            media_type: media_type.to_owned(),
            config,
            layers: layers.collect(),
        }
    }

    fn media_types(&self) -> (&'static str, &'static str) {
        if self.docker {
            return (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.distribution.manifest.v2+json",
            );
        }
        (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
        )
    }

    fn layer_type(&self, layer: &Layer) -> String {
        if self.docker && layer.media_type.ends_with("layer.v1.tar+gzip") {
            return "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned();
        }
        layer.media_type.clone()
    }

    fn layer_json(&self, layer: &Layer) -> Value {
        let mut descriptor = json!({
            "mediaType": self.layer_type(layer),
            "digest": sha256(&layer.bytes),
            "size": layer.bytes.len(),
        });
        if !layer.urls.is_empty() {
            descriptor["urls"] = json!(layer.urls);
        }
        descriptor
    }
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn blob(media_type: &str, bytes: Bytes) -> Blob {
    Blob {
        digest: sha256(&bytes),
        media_type: media_type.to_owned(),
        bytes,
    }
}

/// `sha256:` and the digest of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
}
