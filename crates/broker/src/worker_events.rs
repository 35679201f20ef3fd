//! What is written into the audit log of machines that run containers: they are given what images
//! are read with, and secrets of functions.

use ids::WorkerId;
use vault::{AuditAction, Noted};

use crate::broker::Broker;
use crate::error::BrokerError;

/// Who the control plane is in the audit log.
const GATEWAY: &str = "gateway";

/// What a worker, or whoever would be one, did.
#[derive(Debug, Clone, Copy)]
pub enum WorkerEvent<'a> {
    /// It joined, by a token, with this key.
    Joined {
        worker: WorkerId,
        name: &'a str,
        key: &'a str,
    },
    /// Whoever holds this key may not join.
    JoinRefused { key: &'a str, reason: &'a str },
    /// It spoke of what it was not given.
    Denied {
        worker: WorkerId,
        question: &'a str,
        reason: &'a str,
    },
    /// Somebody took it off.
    Removed { worker: WorkerId, actor: &'a str },
}

impl Broker {
    /// Has an event in the audit log before this returns.
    pub async fn note_worker_event(&self, event: WorkerEvent<'_>) -> Result<(), BrokerError> {
        let vault = self.vault();
        match event {
            WorkerEvent::Joined { worker, name, key } => {
                let (subject, detail) = (worker.to_string(), format!("{name}, key {key}"));
                let about = noted(&subject, &detail);
                vault.note(AuditAction::Join, GATEWAY, about).await?;
            }
            WorkerEvent::JoinRefused { key, reason } => {
                let subject = format!("join of key {key}");
                let about = noted(&subject, reason);
                vault.note(AuditAction::Deny, GATEWAY, about).await?;
            }
            WorkerEvent::Denied {
                worker,
                question,
                reason,
            } => {
                let actor = worker.to_string();
                let about = noted(question, reason);
                vault.note(AuditAction::Deny, &actor, about).await?;
            }
            WorkerEvent::Removed { worker, actor } => {
                let subject = worker.to_string();
                let about = noted(&subject, "worker");
                vault.note(AuditAction::Leave, actor, about).await?;
            }
        }
        Ok(())
    }
}

fn noted<'a>(subject: &'a str, detail: &'a str) -> Noted<'a> {
    Noted { subject, detail }
}
