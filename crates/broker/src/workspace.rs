//! What a workspace has as its own way: what becomes of containers whose credential is removed.

use control_store::Workspace;
use ids::WorkspaceId;
use vault::{AfterRemoval, AuditAction, Noted};

use crate::broker::Broker;
use crate::error::BrokerError;

impl Broker {
    /// What becomes of a workspace's containers whose credential is removed, where whoever removes
    /// it does not say.
    pub async fn after_removal(&self, workspace: WorkspaceId) -> Result<AfterRemoval, BrokerError> {
        let all = self.inner.store.workspaces().await?;
        let own = all.iter().find(|own| own.id == workspace);
        Ok(own.map_or(AfterRemoval::Continue, after_removal_of))
    }

    /// Sets it, with a row in the audit log before it counts.
    pub async fn set_after_removal(
        &self,
        workspace: WorkspaceId,
        then: AfterRemoval,
        actor: &str,
    ) -> Result<(), BrokerError> {
        let about = Noted {
            workspace: Some(workspace),
            subject: "running",
            detail: then.as_str(),
        };
        let broker = &*self.inner;
        broker.vault.note(AuditAction::Set, actor, about).await?;
        let store = &broker.store;
        store.set_after_removal(workspace, then.as_str()).await?;
        Ok(())
    }
}

/// What a workspace's row has of it. Whoever removes a credential by mistake has killed nothing,
/// unless its workspace wants otherwise.
pub fn after_removal_of(workspace: &Workspace) -> AfterRemoval {
    let set = workspace.after_removal.as_deref();
    // The table takes no other word.
    set.and_then(AfterRemoval::from_name)
        .unwrap_or(AfterRemoval::Continue)
}
