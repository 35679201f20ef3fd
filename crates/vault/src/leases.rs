//! Leases: who reads with which version, so that a superseded one retires with its last reader.
//!
//! A lease ends when its owner ends it, when its time is up, or when its owner's process is gone
//! (by boot, pid namespace, number and start time). None of the three needs the owner's help, so
//! a killed process holds nothing for longer than the next look. A lease does not decide who may
//! read; removing a secret ends all of them.

use std::time::Duration;

use ids::{LeaseId, SecretId, WorkspaceId};
use jiff::Timestamp;
use sqlx::SqliteConnection;

use crate::audit::{AuditAction, Entry};
use crate::clock::timestamp;
use crate::error::{Doing, VaultError};
use crate::group_commit::Change;
use crate::process::is_gone;
use crate::secrets::{SealedVersion, parse_secret_id, parse_version};
use crate::vault::{Inner, OURSELVES, Vault};

/// How long a lease lasts without being renewed. Holders renew when they ask for an auth, and a
/// token rarely lasts longer; what lapses too early only costs a new lease at the next ask.
pub const LEASE_TIME: Duration = Duration::from_mins(15);

/// What a lease is asked for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRequest<'a> {
    pub workspace: WorkspaceId,
    pub sealed: SealedVersion,
    /// The image that is read, as the user named it.
    pub image: &'a str,
    /// The container or command it is for.
    pub container: &'a str,
}

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    pub lease_id: LeaseId,
    pub workspace: String,
    pub secret_id: SecretId,
    pub version: u32,
    pub image: String,
    pub container: String,
    pub begun_at: Timestamp,
    pub expires_at: Timestamp,
}

type StoredLease = (String, String, String, i64, String, String, i64, i64);

impl Vault {
    /// Begins a lease on a version that has not retired.
    pub async fn begin_lease(&self, request: LeaseRequest<'_>) -> Result<LeaseId, VaultError> {
        let lease = LeaseId::new();
        let begin = LeaseChange::Begin(NewLease {
            lease,
            workspace: request.workspace,
            sealed: request.sealed,
            image: request.image.to_owned(),
            container: request.container.to_owned(),
        });
        self.inner.make(Change::Lease(begin)).await?;
        Ok(lease)
    }

    /// Extends a lease from now on. One that has ended stays ended.
    pub async fn renew_lease(&self, lease: LeaseId) -> Result<Timestamp, VaultError> {
        let vault = &*self.inner;
        let expires_at = expiry(vault.clock.now_ms());
        let mut transaction = vault.database.begin().await?;
        let renewed = sqlx::query(
            "UPDATE lease SET expires_at = ?1 WHERE lease_id = ?2 AND ended_at IS NULL",
        )
        .bind(expires_at)
        .bind(lease.to_string())
        .execute(&mut *transaction)
        .await
        .doing("renewing a lease")?;
        transaction.commit().await.doing("committing a renewal")?;
        match renewed.rows_affected() {
            0 => Err(VaultError::LeaseEnded { lease }),
            _ => Ok(timestamp(expires_at)),
        }
    }

    /// Moves a lease to another version of its secret, which may retire the one it leaves.
    pub async fn move_lease(&self, lease: LeaseId, version: u32) -> Result<(), VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.database.begin().await?;
        let held = held(&mut transaction, lease).await?;
        let sealed = SealedVersion {
            secret_id: held.sealed.secret_id,
            version,
        };
        check_leasable(&mut transaction, sealed).await?;
        sqlx::query("UPDATE lease SET version = ?1, expires_at = ?2 WHERE lease_id = ?3")
            .bind(version)
            .bind(expiry(vault.clock.now_ms()))
            .bind(lease.to_string())
            .execute(&mut *transaction)
            .await
            .doing("moving a lease")?;
        let entry = held.entry(AuditAction::LeaseMove, lease);
        let entry = entry.version(sealed.secret_id, version);
        vault.audit(&mut transaction, &[entry]).await?;
        let retired = retire_within(vault, &mut transaction, Some(sealed.secret_id)).await?;
        transaction.commit().await.doing("committing a move")?;
        vault.after_retiring(retired).await;
        Ok(())
    }

    /// Ends a lease, which may retire its version. Ending it twice is fine.
    pub async fn end_lease(&self, lease: LeaseId) -> Result<(), VaultError> {
        let end = LeaseChange::End(lease);
        match self.inner.make(Change::Lease(end)).await {
            Err(VaultError::LeaseEnded { .. }) => Ok(()),
            ended => ended,
        }
    }

    /// The live leases of a workspace, after those of gone processes have been ended.
    pub async fn live_leases(&self, workspace: WorkspaceId) -> Result<Vec<LeaseRow>, VaultError> {
        self.sweep_leases().await?;
        let rows: Vec<StoredLease> = sqlx::query_as(
            "SELECT lease_id, workspace, secret_id, version, image, container, begun_at, expires_at
             FROM lease WHERE workspace = ?1 AND ended_at IS NULL ORDER BY begun_at, lease_id",
        )
        .bind(workspace.to_string())
        .fetch_all(self.inner.database.reader())
        .await
        .doing("listing leases")?;
        let row = |row: StoredLease| {
            Ok(LeaseRow {
                lease_id: parse_lease_id(&row.0)?,
                workspace: row.1,
                secret_id: parse_secret_id(&row.2)?,
                version: parse_version(&row.2, row.3)?,
                image: row.4,
                container: row.5,
                begun_at: timestamp(row.6),
                expires_at: timestamp(row.7),
            })
        };
        rows.into_iter().map(row).collect()
    }

    /// Ends leases that are over, and retires what only they held. Answers how many ended.
    pub async fn sweep_leases(&self) -> Result<usize, VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.database.begin().await?;
        let ended = sweep_within(vault, &mut transaction, None).await?;
        let retired = retire_within(vault, &mut transaction, None).await?;
        transaction.commit().await.doing("committing a sweep")?;
        vault.after_retiring(retired).await;
        Ok(ended)
    }
}

/// A change that many readers make at once, as they start and end together.
#[derive(Debug, Clone)]
pub(crate) enum LeaseChange {
    Begin(NewLease),
    End(LeaseId),
}

#[derive(Debug, Clone)]
pub(crate) struct NewLease {
    lease: LeaseId,
    workspace: WorkspaceId,
    sealed: SealedVersion,
    image: String,
    container: String,
}

/// What a change leaves to do in its transaction.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) entry: Entry,
    /// A secret whose versions may have lost their last lease.
    pub(crate) retiring: Option<SecretId>,
}

impl Left {
    pub(crate) fn of(entry: Entry) -> Self {
        Self {
            entry,
            retiring: None,
        }
    }
}

/// Makes a change within a transaction. The inner error is the change's own, and nothing was
/// written.
pub(crate) async fn make(
    vault: &Inner,
    connection: &mut SqliteConnection,
    change: LeaseChange,
) -> Result<Result<Left, VaultError>, VaultError> {
    let made = match change {
        LeaseChange::Begin(new) => begin_within(vault, connection, &new).await,
        LeaseChange::End(lease) => end_within(vault, connection, lease).await,
    };
    match made {
        Err(
            error @ (VaultError::Retired { .. }
            | VaultError::NotFound { .. }
            | VaultError::LeaseEnded { .. }),
        ) => Ok(Err(error)),
        made => made.map(Ok),
    }
}

/// A commit may land though who led it went away: then this is the second try of what is there.
async fn begin_within(
    vault: &Inner,
    connection: &mut SqliteConnection,
    new: &NewLease,
) -> Result<Left, VaultError> {
    check_leasable(connection, new.sealed).await?;
    let now = vault.clock.now_ms();
    sqlx::query(
        "INSERT INTO lease (lease_id, workspace, secret_id, version, image, container, owner,
                            begun_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (lease_id) DO NOTHING",
    )
    .bind(new.lease.to_string())
    .bind(new.workspace.to_string())
    .bind(new.sealed.secret_id.to_string())
    .bind(new.sealed.version)
    .bind(&new.image)
    .bind(&new.container)
    .bind(vault.process.as_str())
    .bind(now)
    .bind(expiry(now))
    .execute(connection)
    .await
    .doing("beginning a lease")?;
    let entry = Entry::new(AuditAction::LeaseBegin, &new.container)
        .of(new.workspace, &new.image)
        .version(new.sealed.secret_id, new.sealed.version)
        .detail(&new.lease.to_string());
    Ok(Left::of(entry))
}

async fn end_within(
    vault: &Inner,
    connection: &mut SqliteConnection,
    lease: LeaseId,
) -> Result<Left, VaultError> {
    let held = held(connection, lease).await?;
    let now = vault.clock.now_ms();
    end(connection, &lease.to_string(), "ended", now).await?;
    Ok(Left {
        entry: held.entry(AuditAction::LeaseEnd, lease),
        retiring: Some(held.sealed.secret_id),
    })
}

/// A live lease, as far as ending and moving it need to know it.
struct Held {
    workspace: Option<WorkspaceId>,
    sealed: SealedVersion,
    image: String,
    container: String,
}

impl Held {
    fn entry(&self, action: AuditAction, lease: LeaseId) -> Entry {
        let entry = Entry::new(action, &self.container)
            .version(self.sealed.secret_id, self.sealed.version)
            .detail(&lease.to_string());
        match self.workspace {
            Some(workspace) => entry.of(workspace, &self.image),
            None => entry,
        }
    }
}

async fn held(connection: &mut SqliteConnection, lease: LeaseId) -> Result<Held, VaultError> {
    let row: Option<(String, String, i64, String, String)> = sqlx::query_as(
        "SELECT workspace, secret_id, version, image, container FROM lease
         WHERE lease_id = ?1 AND ended_at IS NULL",
    )
    .bind(lease.to_string())
    .fetch_optional(connection)
    .await
    .doing("finding a lease")?;
    let (workspace, secret_id, version, image, container) =
        row.ok_or(VaultError::LeaseEnded { lease })?;
    Ok(Held {
        workspace: workspace.parse().ok(),
        sealed: SealedVersion {
            secret_id: parse_secret_id(&secret_id)?,
            version: parse_version(&secret_id, version)?,
        },
        image,
        container,
    })
}

/// A version can be leased until it has retired.
async fn check_leasable(
    connection: &mut SqliteConnection,
    sealed: SealedVersion,
) -> Result<(), VaultError> {
    let row: Option<(String, bool)> = sqlx::query_as(
        "SELECT name, retired_at IS NULL AND removed_at IS NULL
         FROM secret JOIN secret_version USING (secret_id)
         WHERE secret_id = ?1 AND version = ?2",
    )
    .bind(sealed.secret_id.to_string())
    .bind(sealed.version)
    .fetch_optional(connection)
    .await
    .doing("finding the version to lease")?;
    match row {
        Some((_, true)) => Ok(()),
        Some((name, false)) => Err(VaultError::Retired {
            name,
            version: sealed.version,
        }),
        None => Err(VaultError::NotFound {
            name: sealed.secret_id.to_string(),
        }),
    }
}

/// Ends the leases whose time is up or whose owner is gone.
pub(crate) async fn sweep_within(
    vault: &Inner,
    connection: &mut SqliteConnection,
    secret_id: Option<SecretId>,
) -> Result<usize, VaultError> {
    let now = vault.clock.now_ms();
    let live: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT lease_id, owner, expires_at FROM lease
         WHERE ended_at IS NULL AND (?1 IS NULL OR secret_id = ?1)",
    )
    .bind(secret_id.map(|secret| secret.to_string()))
    .fetch_all(&mut *connection)
    .await
    .doing("looking for leases that are over")?;
    let mut entries = Vec::new();
    for (lease, owner, expires_at) in live {
        let reason = match () {
            () if expires_at <= now => "expired",
            () if is_gone(&owner, &vault.process) => "orphaned",
            () => continue,
        };
        end(connection, &lease, reason, now).await?;
        let entry = Entry::new(AuditAction::LeaseEnd, OURSELVES).detail(&lease);
        entries.push(Entry {
            subject: reason.to_owned(),
            ..entry
        });
    }
    if !entries.is_empty() {
        vault.audit(connection, &entries).await?;
    }
    Ok(entries.len())
}

/// Erases superseded versions that nobody leases. Their history stays.
pub(crate) async fn retire_within(
    vault: &Inner,
    connection: &mut SqliteConnection,
    secret_id: Option<SecretId>,
) -> Result<usize, VaultError> {
    let retired: Vec<(String, i64)> = sqlx::query_as(
        "UPDATE secret_version SET sealed = NULL, in_clear = NULL, retired_at = ?1
         WHERE retired_at IS NULL AND (?2 IS NULL OR secret_id = ?2)
           AND version < (SELECT current_version FROM secret
                          WHERE secret.secret_id = secret_version.secret_id)
           AND NOT EXISTS (SELECT 1 FROM lease
                           WHERE lease.secret_id = secret_version.secret_id
                             AND lease.version = secret_version.version AND ended_at IS NULL)
         RETURNING secret_id, version",
    )
    .bind(vault.clock.now_ms())
    .bind(secret_id.map(|secret| secret.to_string()))
    .fetch_all(&mut *connection)
    .await
    .doing("retiring versions")?;
    let mut entries = Vec::new();
    for (secret_id, version) in &retired {
        let version = parse_version(secret_id, *version)?;
        let entry = Entry::new(AuditAction::Retire, OURSELVES);
        entries.push(entry.version(parse_secret_id(secret_id)?, version));
    }
    if !entries.is_empty() {
        vault.audit(connection, &entries).await?;
    }
    Ok(entries.len())
}

/// Ends every lease of a secret that is being removed.
pub(crate) async fn end_all_within(
    connection: &mut SqliteConnection,
    secret_id: SecretId,
    now: i64,
) -> Result<(), VaultError> {
    sqlx::query(
        "UPDATE lease SET ended_at = ?1, end_reason = 'revoked'
         WHERE secret_id = ?2 AND ended_at IS NULL",
    )
    .bind(now)
    .bind(secret_id.to_string())
    .execute(connection)
    .await
    .doing("revoking leases")?;
    Ok(())
}

async fn end(
    connection: &mut SqliteConnection,
    lease: &str,
    reason: &str,
    now: i64,
) -> Result<(), VaultError> {
    sqlx::query("UPDATE lease SET ended_at = ?1, end_reason = ?2 WHERE lease_id = ?3")
        .bind(now)
        .bind(reason)
        .bind(lease)
        .execute(connection)
        .await
        .doing("ending a lease")?;
    Ok(())
}

fn expiry(now: i64) -> i64 {
    let time = i64::try_from(LEASE_TIME.as_millis()).expect("a lease is far shorter than i64");
    now.saturating_add(time)
}

fn parse_lease_id(text: &str) -> Result<LeaseId, VaultError> {
    text.parse().map_err(|_| VaultError::AuditDamaged {
        problem: "stands beside a lease whose id the vault did not write".to_owned(),
    })
}
