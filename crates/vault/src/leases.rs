//! Leases: who reads with which version, so that a superseded one retires with its last reader.
//!
//! A lease is of one workspace, image, repository, worker and container. It ends when its owner
//! ends it, when its time is up, when it is called off, or when its owner's process is gone (by
//! boot, pid namespace, number and start time). None of these needs the owner's help, so a killed
//! process holds nothing for longer than the next look. A lease does not decide who may read;
//! removing a secret ends all of them.

mod ending;
mod renewal;

use std::time::Duration;

use credential::SecretName;
use database::{Transaction, query};
use ids::{LeaseId, SecretId, WorkerId, WorkspaceId};
use jiff::Timestamp;

use crate::audit::{AuditAction, Entry};
use crate::clock::timestamp;
use crate::error::{Doing, VaultError};
use crate::group_commit::Change;
use crate::secrets::{SealedVersion, parse_secret_id, parse_version};
use crate::vault::{Inner, Vault};

pub(crate) use ending::{end_all_within, retire_within, sweep_within};
pub(crate) use renewal::VendDetail;
pub use renewal::{Given, HandedOutTo, Renewal, Stamp};

/// How long a lease lasts without being renewed, and no longer than what was given with it, where
/// that has a known end. Holders renew when they ask for an auth, and a token rarely lasts longer;
/// what lapses too early only costs a new lease at the next ask.
pub const LEASE_TIME: Duration = Duration::from_mins(15);

/// What a lease is asked for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRequest<'a> {
    pub workspace: WorkspaceId,
    pub sealed: SealedVersion,
    /// The image that is read, as the user named it.
    pub image: &'a str,
    /// Registry and repository, which alone are pulled from.
    pub repository: &'a str,
    pub reader: LeaseReader<'a>,
}

/// Whom something is given to.
#[derive(Debug, Clone, Copy)]
pub struct LeaseReader<'a> {
    /// Where the container is; none where that is the vault's own machine.
    pub worker: Option<WorkerId>,
    /// The container or command.
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
    /// Empty where it is for a command on the vault's own machine.
    pub worker: String,
    pub begun_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Why a lease is not begun anew by whoever held it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalledOff {
    /// Its worker was removed.
    Evicted,
    /// Two have renewed it.
    Copied,
}

impl CalledOff {
    fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Copied => "copied",
        }
    }

    fn from_reason(reason: &str) -> Option<Self> {
        [Self::Evicted, Self::Copied]
            .into_iter()
            .find(|known| known.as_str() == reason)
    }
}

/// What the vault says at each question to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The secret's current version; nothing where it was removed.
    pub current: Option<SealedVersion>,
    pub called_off: Option<CalledOff>,
}

type StoredLease = (
    String,
    String,
    String,
    i64,
    String,
    String,
    String,
    i64,
    i64,
);

impl Vault {
    /// Begins a lease on a version that has not retired.
    pub async fn begin_lease(&self, request: LeaseRequest<'_>) -> Result<LeaseId, VaultError> {
        let lease = LeaseId::new();
        let begin = LeaseChange::Begin(NewLease {
            lease,
            workspace: request.workspace,
            sealed: request.sealed,
            image: request.image.to_owned(),
            repository: request.repository.to_owned(),
            worker: request.reader.worker.map(|worker| worker.to_string()),
            container: request.reader.container.to_owned(),
        });
        self.inner.make(Change::Lease(begin)).await?;
        Ok(lease)
    }

    /// Ends a lease, which may retire its version. Ending it twice is fine.
    pub async fn end_lease(&self, lease: LeaseId) -> Result<(), VaultError> {
        let end = LeaseChange::End(lease);
        match self.inner.make(Change::Lease(end)).await {
            Err(VaultError::LeaseEnded { .. }) => Ok(()),
            ended => ended,
        }
    }

    /// The version that a reader is to use now, and whether its lease was called off: one indexed
    /// read, for holders that ask often.
    pub async fn standing(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        lease: Option<LeaseId>,
    ) -> Result<Standing, VaultError> {
        let row: (Option<String>, Option<i64>, Option<String>) = query(
            "SELECT secret_id, current_version, end_reason
             FROM (SELECT 1) AS always
             LEFT JOIN secret ON workspace = $1 AND name = $2 AND removed_at IS NULL
             LEFT JOIN (SELECT end_reason FROM lease WHERE lease_id = $3) AS asked ON TRUE",
        )
        .bind(workspace.to_string())
        .bind(name.as_str())
        .bind(lease.map(|lease| lease.to_string()))
        .fetch_one(&self.inner.database)
        .await
        .doing("reading how a lease stands")?;
        let current = match (row.0, row.1) {
            (Some(secret_id), Some(version)) => Some(SealedVersion {
                secret_id: parse_secret_id(&secret_id)?,
                version: parse_version(name.as_str(), version)?,
            }),
            _ => None,
        };
        let called_off = row.2.as_deref().and_then(CalledOff::from_reason);
        Ok(Standing {
            current,
            called_off,
        })
    }

    /// The live leases of a workspace, after those of gone processes have been ended.
    pub async fn live_leases(&self, workspace: WorkspaceId) -> Result<Vec<LeaseRow>, VaultError> {
        self.sweep_leases().await?;
        let rows: Vec<StoredLease> = query(
            "SELECT lease_id, workspace, secret_id, version, image, container, worker, begun_at,
                    expires_at
             FROM lease WHERE workspace = $1 AND ended_at IS NULL ORDER BY begun_at, lease_id",
        )
        .bind(workspace.to_string())
        .fetch_all(&self.inner.database)
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
                worker: row.6,
                begun_at: timestamp(row.7),
                expires_at: timestamp(row.8),
            })
        };
        rows.into_iter().map(row).collect()
    }
}

/// A change that many readers make at once, as they start and end together.
#[derive(Debug, Clone)]
pub(crate) enum LeaseChange {
    Begin(NewLease),
    Renew(LeaseId, Renewal),
    End(LeaseId),
}

#[derive(Debug, Clone)]
pub(crate) struct NewLease {
    lease: LeaseId,
    workspace: WorkspaceId,
    sealed: SealedVersion,
    image: String,
    repository: String,
    worker: Option<String>,
    container: String,
}

/// What a change leaves to do in its transaction.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) entries: Vec<Entry>,
    /// A secret whose versions may have lost their last lease.
    pub(crate) retiring: Option<SecretId>,
}

impl Left {
    pub(crate) fn of(entry: Entry) -> Self {
        Self {
            entries: vec![entry],
            retiring: None,
        }
    }
}

/// Makes a change within a transaction. The inner error is the change's own, and nothing was
/// written.
pub(crate) async fn make(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    change: LeaseChange,
) -> Result<Result<Left, VaultError>, VaultError> {
    let made = match change {
        LeaseChange::Begin(new) => begin_within(vault, transaction, &new).await,
        LeaseChange::Renew(lease, renewal) => {
            renewal::renew_within(vault, transaction, lease, &renewal).await
        }
        LeaseChange::End(lease) => ending::end_within(vault, transaction, lease).await,
    };
    match made {
        Err(
            error @ (VaultError::Retired { .. }
            | VaultError::NotFound { .. }
            | VaultError::LeaseEnded { .. }
            | VaultError::LeaseCopied { .. }),
        ) => Ok(Err(error)),
        made => made.map(Ok),
    }
}

/// A commit may land though who led it went away: then this is the second try of what is there.
async fn begin_within(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    new: &NewLease,
) -> Result<Left, VaultError> {
    let known_end = check_leasable(transaction, new.sealed).await?;
    let now = vault.clock.now_ms();
    query(
        "INSERT INTO lease (lease_id, workspace, secret_id, version, image, repository, worker,
                            container, owner, begun_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (lease_id) DO NOTHING",
    )
    .bind(new.lease.to_string())
    .bind(new.workspace.to_string())
    .bind(new.sealed.secret_id.to_string())
    .bind(new.sealed.version)
    .bind(&new.image)
    .bind(&new.repository)
    .bind(new.worker.as_deref().unwrap_or_default())
    .bind(&new.container)
    .bind(vault.process.as_str())
    .bind(now)
    .bind(expiry(now, known_end))
    .execute(transaction)
    .await
    .doing("beginning a lease")?;
    let entry = Entry::new(AuditAction::LeaseBegin, &new.container)
        .of(new.workspace, &new.image)
        .version(new.sealed.secret_id, new.sealed.version)
        .detail(&new.lease.to_string());
    Ok(Left::of(entry))
}

/// A live lease, as far as ending and renewing it need to know it.
struct Held {
    workspace: Option<WorkspaceId>,
    sealed: SealedVersion,
    image: String,
    repository: String,
    worker: String,
    container: String,
    renewals: i64,
    nonce: Option<Vec<u8>>,
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

type HeldRow = (
    String,
    String,
    i64,
    String,
    String,
    String,
    String,
    i64,
    Option<Vec<u8>>,
);

async fn held(transaction: &mut Transaction<'_>, lease: LeaseId) -> Result<Held, VaultError> {
    let row: Option<HeldRow> = query(
        "SELECT workspace, secret_id, version, image, repository, worker, container, renewals, nonce
         FROM lease WHERE lease_id = $1 AND ended_at IS NULL",
    )
    .bind(lease.to_string())
    .fetch_optional(transaction)
    .await
    .doing("finding a lease")?;
    let row = row.ok_or(VaultError::LeaseEnded { lease })?;
    Ok(Held {
        workspace: row.0.parse().ok(),
        sealed: SealedVersion {
            secret_id: parse_secret_id(&row.1)?,
            version: parse_version(&row.1, row.2)?,
        },
        image: row.3,
        repository: row.4,
        worker: row.5,
        container: row.6,
        renewals: row.7,
        nonce: row.8,
    })
}

/// A version can be leased until it has retired. Answers when the credential itself ends, where
/// that is known.
async fn check_leasable(
    transaction: &mut Transaction<'_>,
    sealed: SealedVersion,
) -> Result<Option<i64>, VaultError> {
    let row: Option<(String, bool, Option<i64>)> = query(
        "SELECT name, retired_at IS NULL AND removed_at IS NULL, not_after
         FROM secret JOIN secret_version USING (secret_id)
         WHERE secret_id = $1 AND version = $2",
    )
    .bind(sealed.secret_id.to_string())
    .bind(sealed.version)
    .fetch_optional(transaction)
    .await
    .doing("finding the version to lease")?;
    match row {
        Some((_, true, not_after)) => Ok(not_after),
        Some((name, false, _)) => Err(VaultError::Retired {
            name,
            version: sealed.version,
        }),
        None => Err(VaultError::NotFound {
            name: sealed.secret_id.to_string(),
        }),
    }
}

/// When a lease ends that is renewed now and holds what ends then.
fn expiry(now: i64, known_end: Option<i64>) -> i64 {
    let cap = now.saturating_add(lease_time_ms());
    known_end.map_or(cap, |end| end.clamp(now, cap))
}

fn lease_time_ms() -> i64 {
    i64::try_from(LEASE_TIME.as_millis()).expect("a lease is far shorter than i64")
}

fn parse_lease_id(text: &str) -> Result<LeaseId, VaultError> {
    text.parse().map_err(|_| VaultError::AuditDamaged {
        problem: "stands beside a lease whose id the vault did not write".to_owned(),
    })
}
