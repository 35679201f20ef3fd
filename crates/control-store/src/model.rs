//! The things the store keeps, as the rest of Holdfast speaks of them.

use std::fmt;

use ids::{GrantId, SecretId, WorkspaceId, WorkspaceName};
use jiff::Timestamp;
use reference::Digest;

/// A tenant. One machine has one, called `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub name: WorkspaceName,
    pub created_at: Timestamp,
}

/// How a registry is spoken to, for one scope of one workspace.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RegistrySettings {
    pub plain_http: bool,
    /// A CA bundle beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// The host that may be given this scope's credential in exchange for tokens.
    pub token_service: Option<String>,
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistrySettings")
            .field("plain_http", &self.plain_http)
            .field("own_ca", &self.ca_pem.is_some())
            .field("token_service", &self.token_service)
            .finish()
    }
}

/// A runnable thing: what one manifest pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: Digest,
    /// The name as the user typed it first.
    pub typed: String,
    /// The name that a pull uses.
    pub canonical: String,
    /// Registry and repository that its layers were read from.
    pub origin: String,
    pub manifest_digest: Digest,
    pub config_digest: Digest,
    /// In the order in which they stack.
    pub layers: Vec<ImageLayer>,
    pub created_at: Timestamp,
}

/// One layer of an image and the root of the index that was derived from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    pub digest: Digest,
    pub size_bytes: u64,
    pub media_type: String,
    pub diff_id: Digest,
    pub index_root: [u8; 32],
}

/// What a name meant when it was last asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageAlias {
    pub canonical: String,
    pub manifest_digest: Digest,
    pub image_id: Digest,
    pub checked_at: Timestamp,
}

/// The version of a secret that an origin answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenVersion {
    pub secret_id: SecretId,
    pub version: u32,
}

/// What a workspace proved possession with: a credential, or nothing where none is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantProof {
    Anonymous,
    Credential(ProvenVersion),
}

/// A workspace's right to run an image from an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    pub workspace: WorkspaceId,
    pub image_id: Digest,
    pub origin: String,
    pub proof: GrantProof,
    pub granted_at: Timestamp,
}

/// A grant that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    pub image_id: Digest,
    pub origin: String,
    pub proof: GrantProof,
}

/// What became of a grant that was to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantOutcome {
    Recorded(GrantId),
    /// A later version of the same secret has proved it already; that grant stands.
    Superseded,
}

/// An image, the name it was found by and the right to run it: all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub image: Image,
    pub proof: GrantProof,
}
