//! Workspaces, and how each speaks to its registries.

use std::fmt;
use std::time::Duration;

use ids::{WorkspaceId, WorkspaceName};
use jiff::Timestamp;

use crate::store::StoreFuture;

/// A tenant. One machine has one, called `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub name: WorkspaceName,
    pub created_at: Timestamp,
    /// What becomes of its containers whose credential is removed, where somebody has set it.
    pub after_removal: Option<String>,
    /// For how long what a registry proved counts while it does not answer, where somebody has set
    /// it.
    pub offline: Option<Duration>,
}

/// How a registry is spoken to, for one scope of one workspace.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RegistrySettings {
    pub plain_http: bool,
    /// A CA bundle beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// The host that may be given this scope's credential in exchange for tokens.
    pub token_service: Option<String>,
    /// Whether workers may be given the credential as it is, or all that it may do, where the
    /// registry takes nothing less. Otherwise they read through the broker.
    pub workers_may_hold_password: bool,
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistrySettings")
            .field("plain_http", &self.plain_http)
            .field("own_ca", &self.ca_pem.is_some())
            .field("token_service", &self.token_service)
            .field("workers_may_hold_password", &self.workers_may_hold_password)
            .finish()
    }
}

/// Where workspaces and their settings are kept. Scopes are texts in their canonical form.
pub trait WorkspaceRecords {
    /// The workspace of this name, made under the proposed id when there is none.
    fn ensure_workspace<'a>(
        &'a self,
        name: &'a WorkspaceName,
        proposed: WorkspaceId,
    ) -> StoreFuture<'a, Workspace>;

    /// All workspaces, by name.
    fn workspaces(&self) -> StoreFuture<'_, Vec<Workspace>>;

    /// Sets what becomes of its containers whose credential is removed; answers whether there is
    /// such a workspace.
    fn set_after_removal<'a>(
        &'a self,
        workspace: WorkspaceId,
        then: &'a str,
    ) -> StoreFuture<'a, bool>;

    /// Sets, in whole seconds, for how long what a registry proved counts while it does not
    /// answer; answers whether there is such a workspace.
    fn set_offline(&self, workspace: WorkspaceId, offline: Duration) -> StoreFuture<'_, bool>;

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
}
