//! Which credentials are handed out to programs of others.

use ids::{SecretId, WorkspaceId};

use crate::store::StoreFuture;

/// A program that asks for user names and passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recipient {
    /// Docker, podman and whatever else asks a docker credential helper.
    Docker,
    /// The kubelet of Kubernetes.
    Kubelet,
}

impl Recipient {
    pub const ALL: [Self; 2] = [Self::Docker, Self::Kubelet];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Kubelet => "kubelet",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|recipient| recipient.as_str() == name)
    }
}

/// A credential that a recipient is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// In its canonical form.
    pub scope: String,
    pub recipient: Recipient,
    /// The secret that was meant: one that takes its place is not shared.
    pub secret_id: SecretId,
}

/// Where shares are kept.
pub trait ShareRecords {
    /// Notes a share, in the place of another one of its scope and recipient.
    fn put_share<'a>(&'a self, workspace: WorkspaceId, share: &'a Share) -> StoreFuture<'a, ()>;

    /// All shares of a workspace, by scope and recipient.
    fn shares(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<Share>>;

    /// Ends a share; answers whether there was one.
    fn remove_share<'a>(
        &'a self,
        workspace: WorkspaceId,
        scope: &'a str,
        recipient: Recipient,
    ) -> StoreFuture<'a, bool>;
}
