//! The seam between Holdfast and where it remembers.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use ids::{SecretId, WorkspaceId, WorkspaceName};
use reference::Digest;

use crate::error::StoreError;
use crate::model::{
    Grant, GrantOutcome, Image, ImageAlias, NewGrant, Publication, RegistrySettings, Workspace,
};

/// The answer of a store, to be awaited.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Where workspaces, settings, images and grants are kept.
///
/// Scopes and origins are texts in their canonical form; whoever calls has parsed them.
pub trait ControlStore: Debug + Send + Sync {
    /// The workspace of this name, made under the proposed id when there is none.
    fn ensure_workspace<'a>(
        &'a self,
        name: &'a WorkspaceName,
        proposed: WorkspaceId,
    ) -> StoreFuture<'a, Workspace>;

    /// All workspaces, by name.
    fn workspaces(&self) -> StoreFuture<'_, Vec<Workspace>>;

    /// Sets how a registry is spoken to within a scope.
    fn put_settings<'a>(
        &'a self,
        workspace: WorkspaceId,
        scope: &'a str,
        settings: &'a RegistrySettings,
    ) -> StoreFuture<'a, ()>;

    /// All settings of a workspace with their scopes, by scope.
    fn settings(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<(String, RegistrySettings)>>;

    /// Removes the settings of a scope; answers whether there were any.
    fn remove_settings<'a>(
        &'a self,
        workspace: WorkspaceId,
        scope: &'a str,
    ) -> StoreFuture<'a, bool>;

    /// Records an image, its alias and its grant in one transaction. An image that is there
    /// already keeps its first name and date.
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

    /// The images that the workspace has grants for, newest first.
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

    /// Takes back every grant that a secret proved; answers how many.
    fn revoke_grants_of(&self, workspace: WorkspaceId, secret_id: SecretId)
    -> StoreFuture<'_, u64>;
}
