//! Doors to private readers, for the repository's fuzz targets alone: no part of the interface.
//!
//! Each is the call that the client itself makes, with nothing added.

use crate::document::{self, Content, Document, Flaw};
use crate::manifest::Descriptor;
use crate::platform::Platform;

/// What a manifest's bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    pub content: ManifestContent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestContent {
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    /// The entry for the platform that was asked for, or why there is none.
    Index(Result<Descriptor, String>),
}

/// Reads a manifest that came with this `Content-Type`; an index is asked for one platform.
pub fn read_manifest(
    content_type: Option<&str>,
    bytes: &[u8],
    platform: &Platform,
) -> Result<Manifest, String> {
    let Document {
        media_type,
        content,
    } = document::read(content_type, bytes).map_err(message)?;
    let content = match content {
        Content::Image { config, layers } => ManifestContent::Image { config, layers },
        Content::Index(offers) => ManifestContent::Index(offers.choose(platform).map_err(message)),
    };
    Ok(Manifest {
        media_type,
        content,
    })
}

fn message(flaw: Flaw) -> String {
    match flaw {
        Flaw::Corrupt(message) | Flaw::Unsupported(message) => message,
    }
}
