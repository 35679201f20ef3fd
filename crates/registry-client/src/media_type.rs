//! Media types of manifests, and which of them are asked for.

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Every kind of manifest that can be read. Without it, old registries convert to schema 1.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// What a media type says about a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Image,
    Index,
    /// Docker's first schema, signed or not.
    SchemaOne,
    /// Not a manifest type that we know; the document itself decides.
    Unknown,
}

/// The type without parameters, lower-case.
pub(crate) fn essence(value: &str) -> String {
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// What this type says, given without parameters.
pub(crate) fn kind(essence: &str) -> Kind {
    match essence {
        OCI_MANIFEST | DOCKER_MANIFEST => Kind::Image,
        OCI_INDEX | DOCKER_LIST => Kind::Index,
        other if other.starts_with("application/vnd.docker.distribution.manifest.v1+") => {
            Kind::SchemaOne
        }
        _ => Kind::Unknown,
    }
}
