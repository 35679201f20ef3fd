//! What is written into the audit log of machines that run containers: they are given what images
//! are read with, and secrets of functions.

use ids::WorkerId;
use jiff::Timestamp;
use vault::{AuditAction, Noted};

use crate::broker::Broker;
use crate::error::BrokerError;

/// Who the control plane is in the audit log.
const GATEWAY: &str = "gateway";

/// What a worker, or whoever would be one, did.
#[derive(Debug, Clone, Copy)]
pub enum WorkerEvent<'a> {
    /// Somebody made a token by which one may join, until then.
    Invited { actor: &'a str, until: Timestamp },
    /// It joined, by a token, with this key.
    Joined {
        worker: WorkerId,
        name: &'a str,
        key: &'a str,
    },
    /// Whoever holds this key may not join.
    JoinRefused { key: &'a str, reason: &'a str },
    /// Whoever holds this key asked as a worker, and is none.
    NotKnown { key: &'a str, reason: &'a str },
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
        match event {
            WorkerEvent::Invited { actor, until } => {
                let detail = format!("until {until}");
                self.note(AuditAction::Invite, actor, "join token", &detail)
                    .await
            }
            WorkerEvent::Joined { worker, name, key } => {
                let (subject, detail) = (worker.to_string(), format!("{name}, key {key}"));
                self.note(AuditAction::Join, GATEWAY, &subject, &detail)
                    .await
            }
            WorkerEvent::JoinRefused { key, reason } => {
                let subject = format!("join of key {key}");
                self.note(AuditAction::Deny, GATEWAY, &subject, reason)
                    .await
            }
            WorkerEvent::NotKnown { key, reason } => {
                let subject = format!("attach of key {key}");
                self.note(AuditAction::Deny, GATEWAY, &subject, reason)
                    .await
            }
            WorkerEvent::Denied {
                worker,
                question,
                reason,
            } => {
                let actor = worker.to_string();
                self.note(AuditAction::Deny, &actor, question, reason).await
            }
            WorkerEvent::Removed { worker, actor } => {
                let subject = worker.to_string();
                self.note(AuditAction::Leave, actor, &subject, "worker")
                    .await
            }
        }
    }

    async fn note(
        &self,
        action: AuditAction,
        actor: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), BrokerError> {
        let about = Noted {
            workspace: None,
            subject,
            detail,
        };
        Ok(self.vault().note(action, actor, about).await?)
    }
}
