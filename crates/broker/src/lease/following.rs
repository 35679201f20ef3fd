//! How a lease goes on: by the secret's current version, on a row of its own, for one holder.

use std::sync::atomic::Ordering;

use credential::auth::AuthError;
use ids::LeaseId;
use vault::{AuditAction, CalledOff, LeaseRequest, Noted, SealedVersion, Stamp, VaultError};

use super::held::Held;
use super::row::{Gift, Row};
use super::stamps::Copied;
use super::{Holder, Lease, LeaseReader, SecretHolder, State, lock};
use crate::error::{revoked, vault_auth_error};

/// A version can be superseded between being read and being leased; twice is a coincidence, and
/// more than this a loop.
pub(super) const VERSION_ATTEMPTS: usize = 4;

impl Lease {
    /// Whether it is the one holder that asks. A question that a second one must have asked ends
    /// the lease for both, and is in the audit log before this returns.
    pub async fn admit(&self, asker: &LeaseReader, stamp: Stamp) -> Result<(), AuthError> {
        if *asker != self.reader {
            return Err(AuthError::Refused {
                message: "the lease is another container's".to_owned(),
            });
        }
        let admitted = lock(&self.stamps).admit(stamp);
        let Err(Copied) = admitted else {
            return Ok(());
        };
        self.alarm(&format!("question {} was not its holder's", stamp.number))
            .await;
        Err(copied())
    }

    /// Ends the lease for everybody who holds it. Who made the alarm may go away before it is
    /// noted, so that whoever asks next sees to it.
    async fn alarm(&self, reason: &str) {
        let broker = &self.broker;
        if !self.is_copied.swap(true, Ordering::Relaxed) {
            broker.lease_alarms.fetch_add(1, Ordering::Relaxed);
        }
        let mut is_noted = self.is_alarm_noted.lock().await;
        if *is_noted {
            return;
        }
        let (container, lease) = (&self.reader.container, self.shown().lease);
        tracing::error!(%container, reason, "a lease was used by two, and has ended for both");
        match self.note_alarm(lease, reason).await {
            Ok(()) => *is_noted = true,
            Err(error) => tracing::error!(%error, "an alarm could not be noted"),
        }
    }

    /// An anonymous reader has no row, and one that asked for nothing may have lost it.
    async fn note_alarm(&self, lease: Option<LeaseId>, reason: &str) -> Result<(), VaultError> {
        let vault = &self.broker.vault;
        if let Some(lease) = lease
            && vault.alarm_lease(lease, reason).await?
        {
            return Ok(());
        }
        let about = Noted {
            workspace: Some(self.workspace),
            subject: &self.image.canonical(),
            detail: reason,
        };
        let action = AuditAction::LeaseAlarm;
        vault.note(action, &self.reader.container, about).await
    }

    /// The current version, which must be of the secret that the lease was made for: a credential
    /// that was removed and given anew is another one.
    pub(super) async fn current(&self, holder: &SecretHolder) -> Result<SealedVersion, AuthError> {
        let lease = self.shown().lease;
        let standing = self
            .broker
            .vault
            .standing(self.workspace, &holder.name, lease)
            .await
            .map_err(|error| vault_auth_error(&holder.scope, &error))?;
        match standing.called_off {
            Some(CalledOff::Evicted) => return Err(evicted()),
            Some(CalledOff::Copied) => return Err(copied()),
            None => {}
        }
        standing
            .current
            .filter(|current| current.secret_id == holder.secret_id)
            .ok_or_else(|| revoked(&holder.scope))
    }

    /// Moves to the current version and keeps the row of the lease alive.
    pub(super) async fn follow(
        &self,
        holder: &SecretHolder,
        state: &mut State,
    ) -> Result<SealedVersion, AuthError> {
        if state.is_over {
            return Err(over());
        }
        for _ in 0..VERSION_ATTEMPTS {
            let current = self.current(holder).await.inspect_err(|_| {
                state.held = Held::default();
            })?;
            if current.version != state.row.version() {
                self.leave(state);
            }
            self.follow_settings(holder, current).await?;
            match self.settle(holder, &mut state.row, current, None).await {
                Ok(()) => return Ok(current),
                Err(VaultError::Retired { .. }) => {}
                Err(error) => return Err(self.refusal(holder, &error).await),
            }
        }
        Err(changes_without_end(holder))
    }

    /// Whether workers may hold it is sealed with each version, so that it changes with it. How the
    /// registry is spoken to does not: a version that was sealed for another way is refused.
    async fn follow_settings(
        &self,
        holder: &SecretHolder,
        current: SealedVersion,
    ) -> Result<(), AuthError> {
        if lock(&holder.settings).version == Some(current.version) {
            return Ok(());
        }
        let found = self.broker.settings_of(self.workspace, &holder.scope).await;
        let found = found.map_err(|error| AuthError::Internal {
            message: error.to_string(),
        })?;
        let mut settings = lock(&holder.settings);
        settings.version = Some(current.version);
        settings.registry.workers_may_hold_password = found.workers_may_hold_password;
        Ok(())
    }

    /// Drops what was minted from a version that is no longer current.
    fn leave(&self, state: &mut State) {
        if let Holder::Secret(holder) = &self.holder {
            let left = SealedVersion {
                secret_id: holder.secret_id,
                version: state.row.version(),
            };
            self.broker.forget(self.workspace, left);
        }
        state.held = Held::default();
    }

    /// Has a live row on this version that says what is given.
    async fn settle(
        &self,
        holder: &SecretHolder,
        row: &mut Row,
        current: SealedVersion,
        gift: Option<Gift>,
    ) -> Result<(), VaultError> {
        let (vault, now) = (&self.broker.vault, self.broker.clock.now());
        let origin = format!("{}/{}", self.image.registry(), self.image.repository());
        let request = LeaseRequest {
            workspace: self.workspace,
            sealed: current,
            image: &self.image.canonical(),
            repository: &origin,
            reader: self.reader.for_vault(),
        };
        let mut written = row.write(vault, request, gift, now).await;
        if matches!(written, Err(VaultError::LeaseEnded { .. })) {
            let standing = vault.standing(self.workspace, &holder.name, row.id());
            if standing.await?.called_off.is_some() {
                return written;
            }
            // It lapsed while nobody asked; a new one takes its place.
            row.take();
            written = row.write(vault, request, gift, now).await;
        }
        lock(&self.shown).lease = row.id();
        if matches!(written, Err(VaultError::LeaseCopied { .. })) {
            self.alarm("another process has renewed it").await;
        }
        written
    }

    /// Has on record what a reader is about to be given.
    pub(super) async fn give(
        &self,
        holder: &SecretHolder,
        state: &mut State,
        current: SealedVersion,
        gift: Gift,
    ) -> Result<(), AuthError> {
        if state.is_over {
            return Err(over());
        }
        let settled = self.settle(holder, &mut state.row, current, Some(gift));
        match settled.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refusal(holder, &error).await),
        }
    }

    /// Why the row was not written: a lease that was called off is told as such.
    async fn refusal(&self, holder: &SecretHolder, error: &VaultError) -> AuthError {
        let standing = match error {
            VaultError::LeaseEnded { .. } | VaultError::LeaseCopied { .. } => {
                self.current(holder).await.err()
            }
            _ => None,
        };
        standing.unwrap_or_else(|| vault_auth_error(&holder.scope, error))
    }

    pub(super) async fn check_sole(&self) -> Result<(), AuthError> {
        if !self.is_copied.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.alarm("it was used by two before").await;
        Err(copied())
    }
}

pub(super) fn changes_without_end(holder: &SecretHolder) -> AuthError {
    AuthError::Internal {
        message: format!("credential for {} changes without end", holder.scope),
    }
}

fn copied() -> AuthError {
    AuthError::Refused {
        message:
            "two have used one lease, so it has ended for both; a new container gets a new one"
                .to_owned(),
    }
}

fn over() -> AuthError {
    AuthError::Refused {
        message: "the lease has ended with its container".to_owned(),
    }
}

fn evicted() -> AuthError {
    AuthError::Refused {
        message: "the lease has ended, since its worker was removed".to_owned(),
    }
}
