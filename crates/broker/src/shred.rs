//! Shredding a workspace: its secrets, what was minted with them, and what they were the proof of.

use ids::{WorkspaceId, WorkspaceName};

use crate::broker::Broker;
use crate::error::BrokerError;

/// What a shredding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShredReport {
    pub secrets: usize,
    pub grants_revoked: u64,
}

impl Broker {
    /// The workspace of this name, if there is one.
    pub async fn known_workspace(
        &self,
        name: &WorkspaceName,
    ) -> Result<Option<WorkspaceId>, BrokerError> {
        let known = self.inner.store.workspaces().await?;
        let found = known.into_iter().find(|workspace| workspace.name == *name);
        Ok(found.map(|workspace| workspace.id))
    }

    /// Makes what a workspace has sealed unreadable. Every lease is revoked at its next question.
    pub async fn shred(
        &self,
        workspace: WorkspaceId,
        name: &WorkspaceName,
        actor: &str,
    ) -> Result<ShredReport, BrokerError> {
        let broker = &*self.inner;
        let removed = broker.vault.shred(workspace, name.as_str(), actor).await?;
        let mut grants_revoked = 0;
        for sealed in &removed {
            broker.forget(workspace, *sealed);
            let revoked = broker.store.revoke_grants_of(workspace, sealed.secret_id);
            grants_revoked += revoked.await?;
        }
        Ok(ShredReport {
            secrets: removed.len(),
            grants_revoked,
        })
    }
}
