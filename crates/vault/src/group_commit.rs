//! Changes of concurrent callers, written in one commit.
//!
//! Whoever gets the lead writes what waits, its own change included; the others find theirs
//! written when their turn comes. There is no task behind this, so nothing outlives the callers.
//! The rows of the audit log are in the same transaction as what they are about.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::audit::Entry;
use crate::error::{Doing, VaultError};
use crate::leases::{self, LeaseChange, Left};
use crate::vault::Inner;

/// Changes in one commit: many enough that a thousand starts are a few commits, few enough that a
/// writer of another process gets its turn in between.
const BATCH_LIMIT: usize = 256;

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct GroupCommit {
    waiting: Mutex<Vec<Waiting>>,
    lead: tokio::sync::Mutex<()>,
}

/// What one caller has written. Trying it again comes to the same.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Note(Entry),
    Lease(LeaseChange),
}

/// Whether it was made, and why not.
type Made = Result<(), VaultError>;

#[derive(Debug)]
struct Waiting {
    change: Change,
    written: oneshot::Sender<Made>,
}

impl GroupCommit {
    /// Makes a change, and returns when it is on disk.
    pub(crate) async fn make(&self, vault: &Inner, change: Change) -> Made {
        let mut written = self.enqueue(change.clone());
        let _lead = self.lead.lock().await;
        loop {
            match written.try_recv() {
                Ok(made) => return made,
                // The leader that took it failed or was cancelled: it was not written.
                Err(oneshot::error::TryRecvError::Closed) => {
                    written = self.enqueue(change.clone());
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            // Apart, since every caller's future would be as large as a whole batch's.
            Box::pin(self.write_batch(vault)).await?;
        }
    }

    fn enqueue(&self, change: Change) -> oneshot::Receiver<Made> {
        let (written, receiver) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Waiting { change, written });
        receiver
    }

    async fn write_batch(&self, vault: &Inner) -> Result<(), VaultError> {
        let mut transaction = vault.begin().await?;
        let batch = self.take_batch();
        let mut entries = Vec::with_capacity(batch.len());
        let mut retiring = BTreeSet::new();
        let mut settled = Vec::with_capacity(batch.len());
        for Waiting { change, written } in batch {
            let left = match change {
                Change::Note(entry) => Ok(Left::of(entry)),
                Change::Lease(change) => leases::make(vault, &mut transaction, change).await?,
            };
            let made = left.map(|left| {
                entries.extend(left.entries);
                retiring.extend(left.retiring);
            });
            settled.push((written, made));
        }
        if !entries.is_empty() {
            vault.audit(&mut transaction, &entries).await?;
        }
        let mut retired = 0;
        for secret in retiring {
            retired += leases::retire_within(vault, &mut transaction, Some(secret)).await?;
        }
        transaction.commit().await.doing("committing changes")?;
        for (written, made) in settled {
            // A caller that went away does not need to know.
            let _gone = written.send(made);
        }
        vault.after_retiring(retired).await;
        Ok(())
    }

    fn take_batch(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let length = waiting.len().min(BATCH_LIMIT);
        waiting.drain(..length).collect()
    }
}
