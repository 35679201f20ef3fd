//! The renewal of a lease: what its holder was given, until when it lasts, and that there is one
//! holder alone.
//!
//! Each renewal has the next number and random bytes that its holder made. Who comes with a number
//! that is not the next one holds a copy, or the one that was copied: which of the two cannot be
//! told. The last renewal may be repeated with its own bytes, since its answer may have been lost.

use std::fmt;

use credential::SecretName;
use database::{Transaction, query};
use ids::{LeaseId, WorkspaceId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ending::end;
use super::{CalledOff, Held, LeaseChange, LeaseReader, Left, check_leasable, expiry, held};
use crate::audit::{AuditAction, Entry};
use crate::error::{Doing, VaultError};
use crate::group_commit::Change;
use crate::keys::fill_random;
use crate::secrets::SealedVersion;
use crate::vault::{Inner, Vault};

const NONCE_BYTES: usize = 16;

/// Which renewal it is, and whose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The first is 1.
    pub number: u64,
    pub nonce: [u8; NONCE_BYTES],
}

impl Stamp {
    /// One that nobody else has.
    pub fn fresh(number: u64) -> Self {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce);
        Self { number, nonce }
    }
}

/// The bytes are what tells a holder from a copy.
impl fmt::Debug for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Stamp({})", self.number)
    }
}

/// What a holder was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The rung of the vending ladder.
    pub rung: String,
    /// Until when it can be used at most, where that is known.
    pub not_after: Option<Timestamp>,
}

/// Which program of others was given something, and for what.
#[derive(Debug, Clone, Copy)]
pub struct HandedOutTo<'a> {
    pub recipient: &'a str,
    /// The registry, or a repository in it, that it asked for.
    pub asked: &'a str,
    pub given: &'a Given,
}

/// What a holder says when it renews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub stamp: Stamp,
    /// The version that it uses from now on, which may retire the one that it leaves.
    pub version: u32,
    /// When what it is about to be given ends, which the lease does not outlast.
    pub until: Option<Timestamp>,
    /// What it is about to be given; nothing new where this is absent.
    pub given: Option<Given>,
}

/// What stands in the audit log of something that was given.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VendDetail {
    pub(crate) lease: String,
    pub(crate) worker: String,
    pub(crate) container: String,
    pub(crate) repository: String,
    pub(crate) rung: String,
    pub(crate) not_after: Option<Timestamp>,
    /// The program of others that it was handed out to, where it was no container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recipient: Option<String>,
}

impl Vault {
    /// Extends a lease from now on, and has in the audit log what is given with it. One that has
    /// ended stays ended; one that somebody else has renewed too is refused.
    pub async fn renew_lease(&self, lease: LeaseId, renewal: Renewal) -> Result<(), VaultError> {
        let renew = LeaseChange::Renew(lease, renewal);
        self.inner.make(Change::Lease(renew)).await
    }

    /// Ends a lease that two have renewed, for both. Says whether it was live; one that was not has
    /// no row of this.
    pub async fn alarm_lease(&self, lease: LeaseId, reason: &str) -> Result<bool, VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.begin().await?;
        let held = match held(&mut transaction, lease).await {
            Err(VaultError::LeaseEnded { .. }) => return Ok(false),
            held => held?,
        };
        let (id, now) = (lease.to_string(), vault.clock.now_ms());
        end(&mut transaction, &id, CalledOff::Copied.as_str(), now).await?;
        let entry = held.entry(AuditAction::LeaseAlarm, lease);
        let worker = Some(held.worker.as_str()).filter(|worker| !worker.is_empty());
        let worker = worker.unwrap_or("none");
        let entry = entry.detail(&format!("{reason}; lease {lease}, worker {worker}"));
        vault.audit(&mut transaction, &[entry]).await?;
        transaction.commit().await.doing("committing an alarm")?;
        Ok(true)
    }

    /// Notes that a container was given a version of a named secret.
    pub async fn note_given(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        sealed: SealedVersion,
        to: &LeaseReader<'_>,
    ) -> Result<(), VaultError> {
        let container = to.container;
        let detail = VendDetail {
            lease: String::new(),
            worker: to
                .worker
                .map(|worker| worker.to_string())
                .unwrap_or_default(),
            container: container.to_owned(),
            repository: String::new(),
            rung: "secret".to_owned(),
            not_after: None,
            recipient: None,
        };
        let entry = Entry::new(AuditAction::Give, container)
            .of(workspace, name.as_str())
            .version(sealed.secret_id, sealed.version)
            .detail(&detail.text());
        self.inner.record(entry).await
    }

    /// Notes that a program of others was given a user name and a password, made of this version.
    pub async fn note_handed_out(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        sealed: SealedVersion,
        to: &HandedOutTo<'_>,
    ) -> Result<(), VaultError> {
        let detail = VendDetail {
            lease: String::new(),
            worker: String::new(),
            container: String::new(),
            repository: to.asked.to_owned(),
            rung: to.given.rung.clone(),
            not_after: to.given.not_after,
            recipient: Some(to.recipient.to_owned()),
        };
        let entry = Entry::new(AuditAction::HandOut, to.recipient)
            .of(workspace, name.as_str())
            .version(sealed.secret_id, sealed.version)
            .detail(&detail.text());
        self.inner.record(entry).await
    }
}

impl VendDetail {
    fn text(&self) -> String {
        serde_json::to_string(self).expect("texts serialise")
    }
}

/// How a stamp stands to the last one.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Next,
    /// The answer to it was lost.
    Repeated,
    Copied,
}

fn judge(renewals: i64, nonce: Option<&[u8]>, stamp: &Stamp) -> Judged {
    let last = renewals.unsigned_abs();
    if Some(stamp.number) == last.checked_add(1) {
        Judged::Next
    } else if stamp.number == last && nonce == Some(stamp.nonce.as_slice()) {
        Judged::Repeated
    } else {
        Judged::Copied
    }
}

pub(super) async fn renew_within(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    lease: LeaseId,
    renewal: &Renewal,
) -> Result<Left, VaultError> {
    let held = held(transaction, lease).await?;
    if judge(held.renewals, held.nonce.as_deref(), &renewal.stamp) == Judged::Copied {
        return Err(VaultError::LeaseCopied { lease });
    }
    let sealed = SealedVersion {
        secret_id: held.sealed.secret_id,
        version: renewal.version,
    };
    let known_end = check_leasable(transaction, sealed).await?;
    let is_moved = sealed != held.sealed;
    write(vault, transaction, lease, renewal, (is_moved, known_end)).await?;
    Ok(left(&held, lease, sealed, renewal.given.as_ref()))
}

/// What was given before is of no account once something else is, or the version is another.
async fn write(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    lease: LeaseId,
    renewal: &Renewal,
    (is_moved, credential_end): (bool, Option<i64>),
) -> Result<(), VaultError> {
    let now = vault.clock.now_ms();
    let (rung, given_end): (Option<String>, Option<i64>) = match &renewal.given {
        Some(given) => {
            let end = renewal.until.map(Timestamp::as_millisecond);
            (Some(given.rung.clone()), end)
        }
        None if is_moved => (None, None),
        None => query("SELECT rung, not_after FROM lease WHERE lease_id = $1")
            .bind(lease.to_string())
            .fetch_one(&mut *transaction)
            .await
            .doing("reading what a lease holds")?,
    };
    let known_end = [given_end, credential_end].into_iter().flatten().min();
    query(
        "UPDATE lease SET version = $1, expires_at = $2, renewals = $3, nonce = $4, rung = $5,
                          not_after = $6
         WHERE lease_id = $7",
    )
    .bind(renewal.version)
    .bind(expiry(now, known_end))
    .bind(i64::try_from(renewal.stamp.number).unwrap_or(i64::MAX))
    .bind(renewal.stamp.nonce.as_slice())
    .bind(rung)
    .bind(given_end)
    .bind(lease.to_string())
    .execute(transaction)
    .await
    .doing("renewing a lease")?;
    Ok(())
}

/// A plain renewal has no row: it happens every few minutes and gives nothing new.
fn left(held: &Held, lease: LeaseId, sealed: SealedVersion, given: Option<&Given>) -> Left {
    let mut entries = Vec::new();
    if sealed != held.sealed {
        let entry = held.entry(AuditAction::LeaseMove, lease);
        entries.push(entry.version(sealed.secret_id, sealed.version));
    }
    if let Some(given) = given {
        let detail = VendDetail {
            lease: lease.to_string(),
            worker: held.worker.clone(),
            container: held.container.clone(),
            repository: held.repository.clone(),
            rung: given.rung.clone(),
            not_after: given.not_after,
            recipient: None,
        };
        let entry = held.entry(AuditAction::Vend, lease);
        let entry = entry.version(sealed.secret_id, sealed.version);
        entries.push(entry.detail(&detail.text()));
    }
    Left {
        entries,
        retiring: (sealed != held.sealed).then_some(sealed.secret_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_the_next_a_lost_one_again_or_somebody_elses() {
        let stamp = |number, byte| Stamp {
            number,
            nonce: [byte; NONCE_BYTES],
        };
        let last = [7; NONCE_BYTES];
        for (renewals, nonce, stamp, judged) in [
            (0, None, stamp(1, 1), Judged::Next),
            (0, None, stamp(0, 1), Judged::Copied),
            (0, None, stamp(2, 1), Judged::Copied),
            (5, Some(last), stamp(6, 1), Judged::Next),
            (5, Some(last), stamp(5, 7), Judged::Repeated),
            (5, Some(last), stamp(5, 8), Judged::Copied),
            (5, Some(last), stamp(4, 7), Judged::Copied),
            (5, Some(last), stamp(u64::MAX, 7), Judged::Copied),
        ] {
            let nonce = nonce.as_ref().map(<[u8; NONCE_BYTES]>::as_slice);
            assert_eq!(judge(renewals, nonce, &stamp), judged, "{stamp:?}");
        }
    }
}
