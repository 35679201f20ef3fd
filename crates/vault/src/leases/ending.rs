//! How leases end, and what retires with them.

use database::{Transaction, query};
use ids::{LeaseId, SecretId, WorkerId};

use super::{CalledOff, Left, held, lease_time_ms};
use crate::audit::{AuditAction, Entry};
use crate::error::{Doing, VaultError};
use crate::process::{Machines, is_gone};
use crate::secrets::{parse_secret_id, parse_version};
use crate::vault::{Inner, OURSELVES, Vault};

impl Vault {
    /// Ends leases that are over, and retires what only they held. Answers how many ended.
    pub async fn sweep_leases(&self) -> Result<usize, VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.begin().await?;
        let ended = sweep_within(vault, &mut transaction, None).await?;
        let retired = retire_within(vault, &mut transaction, None).await?;
        transaction.commit().await.doing("committing a sweep")?;
        vault.after_retiring(retired).await;
        Ok(ended)
    }

    /// Ends all leases of a worker at once; their holders get no others. Answers how many ended.
    pub async fn evict_leases(&self, worker: WorkerId, actor: &str) -> Result<usize, VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.begin().await?;
        let ended: Vec<(String,)> = query(
            "UPDATE lease SET ended_at = $1, end_reason = $2
             WHERE worker = $3 AND ended_at IS NULL RETURNING lease_id",
        )
        .bind(vault.clock.now_ms())
        .bind(CalledOff::Evicted.as_str())
        .bind(worker.to_string())
        .fetch_all(&mut transaction)
        .await
        .doing("ending the leases of a worker")?;
        let reason = CalledOff::Evicted.as_str();
        let entries: Vec<Entry> = ended
            .iter()
            .map(|(lease,)| {
                Entry::new(AuditAction::LeaseEnd, actor)
                    .about(reason)
                    .detail(lease)
            })
            .collect();
        if !entries.is_empty() {
            vault.audit(&mut transaction, &entries).await?;
        }
        let retired = retire_within(vault, &mut transaction, None).await?;
        transaction.commit().await.doing("committing an eviction")?;
        vault.after_retiring(retired).await;
        Ok(ended.len())
    }
}

pub(super) async fn end_within(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    lease: LeaseId,
) -> Result<Left, VaultError> {
    let held = held(transaction, lease).await?;
    let now = vault.clock.now_ms();
    end(transaction, &lease.to_string(), "ended", now).await?;
    Ok(Left {
        entries: vec![held.entry(AuditAction::LeaseEnd, lease)],
        retiring: Some(held.sealed.secret_id),
    })
}

/// By how much the clocks of machines that share a vault may differ.
const CLOCKS_APART_MS: i64 = 5 * 60 * 1000;

/// Ends the leases whose time is up or whose owner is gone. One that would last for longer than
/// any can was given its time by a clock that was set back since, or by one of another machine that
/// is far ahead.
pub(crate) async fn sweep_within(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    secret_id: Option<SecretId>,
) -> Result<usize, VaultError> {
    let now = vault.clock.now_ms();
    let live: Vec<(String, String, i64)> = query(
        "SELECT lease_id, owner, expires_at FROM lease
         WHERE ended_at IS NULL AND ($1 IS NULL OR secret_id = $1)",
    )
    .bind(secret_id.map(|secret| secret.to_string()))
    .fetch_all(&mut *transaction)
    .await
    .doing("looking for leases that are over")?;
    let apart = match vault.place.machines() {
        Machines::One => 0,
        Machines::Many => CLOCKS_APART_MS,
    };
    let longest = now.saturating_add(lease_time_ms() + apart);
    let mut entries = Vec::new();
    for (lease, owner, expires_at) in live {
        let reason = match () {
            () if expires_at <= now || longest < expires_at => "expired",
            () if is_gone(&owner, &vault.process) => "orphaned",
            () => continue,
        };
        end(transaction, &lease, reason, now).await?;
        let entry = Entry::new(AuditAction::LeaseEnd, OURSELVES).detail(&lease);
        entries.push(Entry {
            subject: reason.to_owned(),
            ..entry
        });
    }
    if !entries.is_empty() {
        vault.audit(transaction, &entries).await?;
    }
    Ok(entries.len())
}

/// Erases superseded versions that nobody leases. Their history stays.
pub(crate) async fn retire_within(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    secret_id: Option<SecretId>,
) -> Result<usize, VaultError> {
    let retired: Vec<(String, i64)> = query(
        "UPDATE secret_version SET sealed = NULL, in_clear = NULL, retired_at = $1
         WHERE retired_at IS NULL AND ($2 IS NULL OR secret_id = $2)
           AND version < (SELECT current_version FROM secret
                          WHERE secret.secret_id = secret_version.secret_id)
           AND NOT EXISTS (SELECT 1 FROM lease
                           WHERE lease.secret_id = secret_version.secret_id
                             AND lease.version = secret_version.version AND ended_at IS NULL)
         RETURNING secret_id, version",
    )
    .bind(vault.clock.now_ms())
    .bind(secret_id.map(|secret| secret.to_string()))
    .fetch_all(&mut *transaction)
    .await
    .doing("retiring versions")?;
    let mut entries = Vec::new();
    for (secret_id, version) in &retired {
        let version = parse_version(secret_id, *version)?;
        let entry = Entry::new(AuditAction::Retire, OURSELVES);
        entries.push(entry.version(parse_secret_id(secret_id)?, version));
    }
    if !entries.is_empty() {
        vault.audit(transaction, &entries).await?;
    }
    Ok(entries.len())
}

/// Ends every lease of a secret that is being removed.
pub(crate) async fn end_all_within(
    transaction: &mut Transaction<'_>,
    secret_id: SecretId,
    now: i64,
) -> Result<(), VaultError> {
    query(
        "UPDATE lease SET ended_at = $1, end_reason = 'revoked'
         WHERE secret_id = $2 AND ended_at IS NULL",
    )
    .bind(now)
    .bind(secret_id.to_string())
    .execute(transaction)
    .await
    .doing("revoking leases")?;
    Ok(())
}

pub(super) async fn end(
    transaction: &mut Transaction<'_>,
    lease: &str,
    reason: &str,
    now: i64,
) -> Result<(), VaultError> {
    query("UPDATE lease SET ended_at = $1, end_reason = $2 WHERE lease_id = $3")
        .bind(now)
        .bind(reason)
        .bind(lease)
        .execute(transaction)
        .await
        .doing("ending a lease")?;
    Ok(())
}
