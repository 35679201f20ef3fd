//! What is written into the audit log of callers that are refused.

use ids::WorkspaceId;
use vault::{AuditAction, Noted};

use crate::broker::Broker;
use crate::error::BrokerError;

/// A caller of the gateway was refused.
#[derive(Debug, Clone, Copy)]
pub struct Denial<'a> {
    /// Who asked, as far as is known.
    pub actor: &'a str,
    pub workspace: Option<WorkspaceId>,
    /// What was asked, by the name that its interface has for it.
    pub question: &'a str,
    pub reason: &'a str,
}

impl Broker {
    /// Has a denial in the audit log before this returns.
    pub async fn note_denial(&self, denial: Denial<'_>) -> Result<(), BrokerError> {
        let about = Noted {
            workspace: denial.workspace,
            subject: denial.question,
            detail: denial.reason,
        };
        let vault = self.vault();
        Ok(vault.note(AuditAction::Deny, denial.actor, about).await?)
    }
}
