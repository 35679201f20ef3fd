//! Secrets and their versions: sealing, opening, removing.
//!
//! A version is current, or superseded and still leased, or retired: its bytes are erased and its
//! history stays. Every way of damaging a row that this crate can see is refused by name before
//! any plaintext leaves; opening writes its audit row first.

mod opening;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use credential::SecretName;
use database::{Transaction, query};
use ids::{SecretId, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};

use crate::audit::{AuditAction, Entry, SecretHead, bounded};
use crate::error::{Damage, Doing, VaultError};
use crate::leases;
use crate::seal::{self, Context, Fresh};
use crate::vault::{Inner, Vault};
use opening::open_version;

pub use opening::OpenedSecret;

/// Largest secret. A service account's key has about 2.4 KB and a CA bundle rarely 64 KB; both
/// fit with room.
const PLAINTEXT_LIMIT: usize = 256 * 1024;
/// Longest kind.
const KIND_LIMIT: usize = 64;
/// Longest scope: a host and a path, each at its own limit.
const SCOPE_LIMIT: usize = 1024;

/// What is to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct NewSecret<'a> {
    pub name: &'a SecretName,
    pub kind: &'a str,
    pub scope: &'a str,
    pub plaintext: &'a SecretString,
    /// What is no secret and stands beside, as it is. It is bound in: changed, it opens nothing.
    pub in_clear: Option<&'a str>,
}

/// What was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedVersion {
    pub secret_id: SecretId,
    pub version: u32,
}

/// What became of a secret that was to be sealed if it is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is sealed, as the next version.
    New(SealedVersion),
    /// The current version is exactly this.
    Same(SealedVersion),
}

impl Put {
    /// The version that is current now.
    pub fn sealed(self) -> SealedVersion {
        match self {
            Self::New(sealed) | Self::Same(sealed) => sealed,
        }
    }
}

/// What becomes of containers that run with a secret that was removed. None of them is given
/// anything more in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterRemoval {
    /// They run on with what they have.
    #[default]
    Continue,
    /// They finish what they do and get nothing new.
    Drain,
    /// They are stopped.
    Kill,
}

impl AfterRemoval {
    pub const ALL: [Self; 3] = [Self::Continue, Self::Drain, Self::Kill];

    /// One word for people and machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Drain => "drain",
            Self::Kill => "kill",
        }
    }

    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// A secret's row as it is found by name.
#[derive(Debug, Clone)]
struct Found {
    secret_id: SecretId,
    current_version: i64,
    head_mac: Vec<u8>,
    audited_version: i64,
}

impl Vault {
    /// Seals a new version, the first or the next of its name. Older versions without a lease
    /// retire in the same transaction.
    pub async fn put(
        &self,
        workspace: WorkspaceId,
        secret: NewSecret<'_>,
        actor: &str,
    ) -> Result<SealedVersion, VaultError> {
        check_lengths(&secret)?;
        let vault = &*self.inner;
        vault.prepare_key_or_new(workspace).await?;
        let transaction = vault.begin().await?;
        put_and_commit(vault, transaction, workspace, secret, actor).await
    }

    /// Seals a new version unless the current one is exactly this. To tell whoever has a value that
    /// it is the same gives nothing away, so that the audit log has a row for what changes alone.
    pub async fn put_if_changed(
        &self,
        workspace: WorkspaceId,
        secret: NewSecret<'_>,
        actor: &str,
    ) -> Result<Put, VaultError> {
        check_lengths(&secret)?;
        let vault = &*self.inner;
        vault.prepare_key_or_new(workspace).await?;
        let mut transaction = vault.begin().await?;
        if let Some(same) = find_same(vault, &mut transaction, workspace, secret).await? {
            return Ok(Put::Same(same));
        }
        let sealed = put_and_commit(vault, transaction, workspace, secret, actor).await?;
        Ok(Put::New(sealed))
    }

    /// Seals the version that follows this one, or the first where it follows none. Nothing where
    /// another process was first: what it sealed counts. A first version is refused where the
    /// audit log knows one that nobody removed: its row was changed.
    pub async fn put_after(
        &self,
        workspace: WorkspaceId,
        after: Option<SealedVersion>,
        secret: NewSecret<'_>,
        actor: &str,
    ) -> Result<Option<SealedVersion>, VaultError> {
        check_lengths(&secret)?;
        let vault = &*self.inner;
        vault.prepare_key_or_new(workspace).await?;
        let mut transaction = vault.begin().await?;
        let name = secret.name.as_str();
        let found = find(&mut transaction, workspace, name).await?;
        let current = found.map(|found| (found.secret_id, found.current_version));
        if current != after.map(|after| (after.secret_id, i64::from(after.version))) {
            return Ok(None);
        }
        if after.is_none() {
            check_never_sealed(&mut transaction, workspace, name).await?;
        }
        let sealed = put_and_commit(vault, transaction, workspace, secret, actor).await?;
        Ok(Some(sealed))
    }

    /// The current version of a live secret: one indexed read, for callers that ask often.
    pub async fn current_version(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
    ) -> Result<Option<SealedVersion>, VaultError> {
        let row: Option<(String, i64)> = query(
            "SELECT secret_id, current_version FROM secret
             WHERE workspace = $1 AND name = $2 AND removed_at IS NULL",
        )
        .bind(workspace.to_string())
        .bind(name.as_str())
        .fetch_optional(&self.inner.database)
        .await
        .doing("reading the current version")?;
        row.map(|(secret_id, version)| {
            Ok(SealedVersion {
                secret_id: parse_secret_id(&secret_id)?,
                version: parse_version(name.as_str(), version)?,
            })
        })
        .transpose()
    }

    /// Removes a secret at once: the bytes of every version are erased and every lease ends.
    /// Works on damaged secrets too, so that a new one can take their place.
    pub async fn remove(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        actor: &str,
    ) -> Result<SealedVersion, VaultError> {
        self.remove_and(workspace, name, actor, AfterRemoval::Continue)
            .await
    }

    /// The same, and says what becomes of containers that run with it.
    pub async fn remove_and(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        actor: &str,
        then: AfterRemoval,
    ) -> Result<SealedVersion, VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.begin().await?;
        let removed = remove_within(vault, &mut transaction, workspace, name.as_str()).await?;
        query("UPDATE secret SET after_removal = $1 WHERE secret_id = $2")
            .bind(then.as_str())
            .bind(removed.secret_id.to_string())
            .execute(&mut transaction)
            .await
            .doing("noting what follows a removal")?;
        let entry = Entry::new(AuditAction::Remove, actor)
            .of(workspace, name.as_str())
            .version(removed.secret_id, removed.version)
            .detail(then.as_str());
        vault.audit(&mut transaction, &[entry]).await?;
        transaction.commit().await.doing("committing a removal")?;
        vault.clear_erased().await;
        Ok(removed)
    }

    /// The removed secrets whose containers are not to run on, and what becomes of these.
    pub async fn called_off(&self) -> Result<Vec<(SecretId, AfterRemoval)>, VaultError> {
        let rows: Vec<(String, String)> = query(
            "SELECT secret_id, after_removal FROM secret
             WHERE after_removal IN ('drain', 'kill') AND removed_at IS NOT NULL",
        )
        .fetch_all(&self.inner.database)
        .await
        .doing("looking for removed secrets")?;
        let rows = rows.into_iter().filter_map(|(id, then)| {
            let then = AfterRemoval::from_name(&then)?;
            Some(parse_secret_id(&id).map(|id| (id, then)))
        });
        rows.collect()
    }
}

/// Removes a secret in the caller's transaction.
pub(crate) async fn remove_within(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    name: &str,
) -> Result<SealedVersion, VaultError> {
    let found = find(transaction, workspace, name).await?;
    let found = found.ok_or_else(|| VaultError::NotFound {
        name: name.to_owned(),
    })?;
    let now = vault.clock.now_ms();
    erase(vault, transaction, workspace, name, &found, now).await?;
    Ok(SealedVersion {
        secret_id: found.secret_id,
        version: u32::try_from(found.current_version).unwrap_or(u32::MAX),
    })
}

/// The names of a workspace's live secrets.
pub(crate) async fn live_within(
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
) -> Result<Vec<String>, VaultError> {
    let rows: Vec<(String,)> =
        query("SELECT name FROM secret WHERE workspace = $1 AND removed_at IS NULL ORDER BY name")
            .bind(workspace.to_string())
            .fetch_all(transaction)
            .await
            .doing("listing the secrets of a workspace")?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// The current version, when it is exactly this. One that is damaged is not: another may take its
/// place.
async fn find_same(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    secret: NewSecret<'_>,
) -> Result<Option<SealedVersion>, VaultError> {
    let name = secret.name.as_str();
    let Some(found) = find(transaction, workspace, name).await? else {
        return Ok(None);
    };
    let version = check_rollback(name, &found)?;
    check_head(vault, workspace, name, &found)?;
    match open_version(vault, transaction, workspace, name, &found, version).await {
        Ok(opened) if is_same(&opened, secret) => Ok(Some(SealedVersion {
            secret_id: found.secret_id,
            version,
        })),
        Ok(_) | Err(VaultError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The values are compared in a time that does not tell where they differ.
fn is_same(opened: &OpenedSecret, secret: NewSecret<'_>) -> bool {
    let (current, new) = (&opened.plaintext, secret.plaintext);
    let (current, new) = (current.expose_secret(), new.expose_secret());
    opened.kind == secret.kind
        && opened.scope == secret.scope
        && opened.in_clear.as_deref() == secret.in_clear
        && verify_slices_are_equal(current.as_bytes(), new.as_bytes()).is_ok()
}

async fn put_and_commit(
    vault: &Inner,
    mut transaction: Transaction<'_>,
    workspace: WorkspaceId,
    secret: NewSecret<'_>,
    actor: &str,
) -> Result<SealedVersion, VaultError> {
    let sealed = put_within(vault, &mut transaction, workspace, secret, actor).await?;
    transaction
        .commit()
        .await
        .doing("committing a sealed version")?;
    if sealed.version > 1 {
        vault.clear_erased().await;
    }
    Ok(sealed)
}

async fn put_within(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    secret: NewSecret<'_>,
    actor: &str,
) -> Result<SealedVersion, VaultError> {
    let name = secret.name.as_str();
    let key = vault.workspace_key_or_new(transaction, workspace).await?;
    let found = find(transaction, workspace, name).await?;
    let sealed = match &found {
        None => SealedVersion {
            secret_id: SecretId::new(),
            version: 1,
        },
        Some(found) => {
            let current = check_rollback(name, found)?;
            check_head(vault, workspace, name, found)?;
            SealedVersion {
                secret_id: found.secret_id,
                version: current
                    .checked_add(1)
                    .ok_or_else(|| damaged(name, current, Damage::Head))?,
            }
        }
    };
    let context = Context {
        vault_id: &vault.vault_id,
        workspace,
        secret_id: sealed.secret_id,
        version: sealed.version,
        name,
        kind: secret.kind,
        scope: secret.scope,
        in_clear: secret.in_clear,
    };
    let plaintext = secret.plaintext.expose_secret().as_bytes();
    let bytes = seal::seal(&key, &context, &Fresh::random(), plaintext);
    write_head(vault, transaction, &context).await?;
    write_version(vault, transaction, &context, &bytes, actor).await?;
    let entry = Entry::new(AuditAction::Seal, actor)
        .of(workspace, name)
        .version(sealed.secret_id, sealed.version)
        .detail(secret.kind);
    vault.audit(transaction, &[entry]).await?;
    leases::sweep_within(vault, transaction, Some(sealed.secret_id)).await?;
    leases::retire_within(vault, transaction, Some(sealed.secret_id)).await?;
    Ok(sealed)
}

async fn write_head(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    context: &Context<'_>,
) -> Result<(), VaultError> {
    let (workspace, secret_id) = (context.workspace.to_string(), context.secret_id.to_string());
    let head = SecretHead {
        workspace: &workspace,
        secret_id: &secret_id,
        name: context.name,
        current_version: i64::from(context.version),
        removed: false,
    };
    query(
        "INSERT INTO secret (secret_id, workspace, name, current_version, head_mac, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (secret_id) DO UPDATE
         SET current_version = excluded.current_version, head_mac = excluded.head_mac",
    )
    .bind(&secret_id)
    .bind(&workspace)
    .bind(context.name)
    .bind(context.version)
    .bind(vault.audit_key.secret_head(&head))
    .bind(vault.clock.now_ms())
    .execute(transaction)
    .await
    .doing("writing a secret's head")?;
    Ok(())
}

async fn write_version(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    context: &Context<'_>,
    sealed: &[u8],
    actor: &str,
) -> Result<(), VaultError> {
    query(
        "INSERT INTO secret_version (secret_id, version, kind, scope, sealed, actor, created_at,
                                     in_clear)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(context.secret_id.to_string())
    .bind(context.version)
    .bind(context.kind)
    .bind(context.scope)
    .bind(sealed)
    .bind(bounded(actor))
    .bind(vault.clock.now_ms())
    .bind(context.in_clear)
    .execute(transaction)
    .await
    .doing("writing a sealed version")?;
    Ok(())
}

async fn find(
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    name: &str,
) -> Result<Option<Found>, VaultError> {
    let row: Option<(String, i64, Vec<u8>, Option<i64>)> = query(
        "SELECT secret_id, current_version, head_mac,
                (SELECT max(version) FROM audit
                 WHERE action = 'seal' AND audit.secret_id = secret.secret_id)
         FROM secret WHERE workspace = $1 AND name = $2 AND removed_at IS NULL",
    )
    .bind(workspace.to_string())
    .bind(name)
    .fetch_optional(transaction)
    .await
    .doing("finding a secret")?;
    let Some((secret_id, current_version, head_mac, audited_version)) = row else {
        return Ok(None);
    };
    Ok(Some(Found {
        secret_id: parse_secret_id(&secret_id)?,
        current_version,
        head_mac,
        audited_version: audited_version.unwrap_or(0),
    }))
}

async fn check_never_sealed(
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    name: &str,
) -> Result<(), VaultError> {
    let last: Option<(String, i64)> = query(
        "SELECT action, version FROM audit WHERE workspace = $1 AND subject = $2
         AND action IN ('seal', 'remove') ORDER BY sequence DESC LIMIT 1",
    )
    .bind(workspace.to_string())
    .bind(name)
    .fetch_optional(transaction)
    .await
    .doing("looking for what was sealed before")?;
    if let Some((_, version)) = last.filter(|(action, _)| action == "seal") {
        return Err(damaged(name, parse_version(name, version)?, Damage::Head));
    }
    Ok(())
}

/// The current version, when the audit log agrees that it is the last that was sealed.
fn check_rollback(name: &str, found: &Found) -> Result<u32, VaultError> {
    let current = parse_version(name, found.current_version)?;
    match found.audited_version.cmp(&found.current_version) {
        std::cmp::Ordering::Greater => Err(damaged(name, current, Damage::RolledBack)),
        std::cmp::Ordering::Less => Err(damaged(name, current, Damage::Head)),
        std::cmp::Ordering::Equal => Ok(current),
    }
}

fn check_head(
    vault: &Inner,
    workspace: WorkspaceId,
    name: &str,
    found: &Found,
) -> Result<(), VaultError> {
    let head = SecretHead {
        workspace: &workspace.to_string(),
        secret_id: &found.secret_id.to_string(),
        name,
        current_version: found.current_version,
        removed: false,
    };
    if vault.audit_key.secret_head_matches(&head, &found.head_mac) {
        return Ok(());
    }
    let version = parse_version(name, found.current_version)?;
    Err(damaged(name, version, Damage::Head))
}

async fn erase(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    name: &str,
    found: &Found,
    now: i64,
) -> Result<(), VaultError> {
    let secret_id = found.secret_id.to_string();
    let head = SecretHead {
        workspace: &workspace.to_string(),
        secret_id: &secret_id,
        name,
        current_version: found.current_version,
        removed: true,
    };
    query("UPDATE secret SET removed_at = $1, head_mac = $2 WHERE secret_id = $3")
        .bind(now)
        .bind(vault.audit_key.secret_head(&head))
        .bind(&secret_id)
        .execute(&mut *transaction)
        .await
        .doing("removing a secret")?;
    query(
        "UPDATE secret_version SET sealed = NULL, in_clear = NULL,
                retired_at = coalesce(retired_at, $1)
         WHERE secret_id = $2",
    )
    .bind(now)
    .bind(&secret_id)
    .execute(&mut *transaction)
    .await
    .doing("erasing a secret")?;
    leases::end_all_within(transaction, found.secret_id, now).await
}

fn check_lengths(secret: &NewSecret<'_>) -> Result<(), VaultError> {
    let lengths = [
        (
            "secret",
            secret.plaintext.expose_secret().len(),
            PLAINTEXT_LIMIT,
        ),
        (
            "text beside the secret",
            secret.in_clear.map_or(0, str::len),
            PLAINTEXT_LIMIT,
        ),
        ("kind of the secret", secret.kind.len(), KIND_LIMIT),
        ("scope of the secret", secret.scope.len(), SCOPE_LIMIT),
    ];
    for (what, length, limit) in lengths {
        if length > limit {
            return Err(VaultError::TooLong {
                what,
                length,
                limit,
            });
        }
    }
    Ok(())
}

pub(crate) fn damaged(name: &str, version: u32, damage: Damage) -> VaultError {
    VaultError::Damaged {
        name: name.to_owned(),
        version,
        damage,
    }
}

fn not_found(name: &SecretName) -> VaultError {
    VaultError::NotFound {
        name: name.as_str().to_owned(),
    }
}

pub(crate) fn parse_version(name: &str, version: i64) -> Result<u32, VaultError> {
    u32::try_from(version).map_err(|_| damaged(name, u32::MAX, Damage::Head))
}

pub(crate) fn parse_secret_id(text: &str) -> Result<SecretId, VaultError> {
    text.parse().map_err(|_| VaultError::AuditDamaged {
        problem: "stands beside a secret whose id the vault did not write".to_owned(),
    })
}
