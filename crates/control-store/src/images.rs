//! Images, the names they were found by, and who has proved that they may be run.

use ids::{GrantId, SecretId, WorkspaceId};
use jiff::Timestamp;
use reference::Digest;

use crate::store::StoreFuture;

/// A runnable thing: what one manifest pins, and what a build said beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub id: Digest,
    /// The name as the user typed it last.
    pub typed: String,
    /// The name that a pull uses.
    pub canonical: String,
    /// Registry and repository that its layers are read from: where it was proven last.
    pub origin: String,
    pub manifest_digest: Digest,
    pub config_digest: Digest,
    /// In the order in which they stack.
    pub layers: Vec<ImageLayer>,
    /// Variables that a build added to those of the configuration.
    pub environment: Vec<(String, String)>,
    /// The Python of an image that functions run in.
    pub python: Option<Python>,
    /// The configuration's bytes, where they are kept. Lists leave them out.
    pub config: Option<Vec<u8>>,
    pub created_at: Timestamp,
}

/// The interpreter that was found in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// As it is called: `python3`.
    pub program: String,
    /// As it says itself: `3.11.2`.
    pub version: String,
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
    /// When the registry, asked again, has said no since.
    pub refused_at: Option<Timestamp>,
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

/// Where images and grants are kept. Origins and canonical names are texts in their canonical
/// form.
pub trait ImageRecords {
    /// Records an image, its alias and its grant in one transaction. An image that is there
    /// already keeps its date, and what of it is known and not said again; its name and origin
    /// become those that were proven now, from which it is read.
    fn publish<'a>(
        &'a self,
        workspace: WorkspaceId,
        publication: &'a Publication,
    ) -> StoreFuture<'a, GrantOutcome>;

    /// An image that the workspace has a grant for.
    fn image<'a>(
        &'a self,
        workspace: WorkspaceId,
        id: &'a Digest,
    ) -> StoreFuture<'a, Option<Image>>;

    /// The images that the workspace has grants for, newest first, without configurations.
    fn images(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<Image>>;

    /// What a canonical name meant for this workspace when it last asked.
    fn alias<'a>(
        &'a self,
        workspace: WorkspaceId,
        canonical: &'a str,
    ) -> StoreFuture<'a, Option<ImageAlias>>;

    /// Records a proof of possession, unless a later version of the same secret has proved it.
    fn record_grant<'a>(
        &'a self,
        workspace: WorkspaceId,
        grant: &'a NewGrant,
    ) -> StoreFuture<'a, GrantOutcome>;

    /// The grant of a workspace for an image from an origin.
    fn grant<'a>(
        &'a self,
        workspace: WorkspaceId,
        image_id: &'a Digest,
        origin: &'a str,
    ) -> StoreFuture<'a, Option<Grant>>;

    /// The newest grant of a workspace for any image of a manifest from an origin: what was proven
    /// of it last.
    fn last_proof<'a>(
        &'a self,
        workspace: WorkspaceId,
        manifest_digest: &'a Digest,
        origin: &'a str,
    ) -> StoreFuture<'a, Option<Grant>>;

    /// Notes that a registry has said no to a workspace that asked for a manifest from an origin;
    /// answers how many grants say otherwise. They stay, and the next proof takes it back.
    fn note_refusal<'a>(
        &'a self,
        workspace: WorkspaceId,
        manifest_digest: &'a Digest,
        origin: &'a str,
    ) -> StoreFuture<'a, u64>;

    /// Notes the same of all that a secret proved: it is the credential that was refused.
    fn note_refused_credential(
        &self,
        workspace: WorkspaceId,
        secret_id: SecretId,
    ) -> StoreFuture<'_, u64>;

    /// Takes back every grant that a secret proved; answers how many.
    fn revoke_grants_of(&self, workspace: WorkspaceId, secret_id: SecretId)
    -> StoreFuture<'_, u64>;
}
