//! Opening a version: its key, what it is bound to, and what the audit log says of it.

use std::fmt;
use std::sync::Arc;

use credential::SecretName;
use database::{Transaction, query};
use ids::{SecretId, WorkspaceId};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{Found, check_head, check_rollback, damaged, find, not_found};
use crate::audit::{AuditAction, Entry};
use crate::error::{Damage, Doing, VaultError};
use crate::keys::Key;
use crate::seal::{self, Context};
use crate::vault::{Inner, Vault};

/// A version's plaintext, for as long as it is needed.
pub struct OpenedSecret {
    pub secret_id: SecretId,
    pub version: u32,
    pub kind: String,
    pub scope: String,
    pub plaintext: SecretString,
    pub in_clear: Option<String>,
}

impl fmt::Debug for OpenedSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OpenedSecret")
            .field("secret_id", &self.secret_id)
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens a version, the current one unless told otherwise. `purpose` stands in the audit log,
    /// whose row is on disk before the plaintext is returned; a refusal is a row too.
    pub async fn open_secret(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        version: Option<u32>,
        purpose: &str,
    ) -> Result<OpenedSecret, VaultError> {
        let vault = &*self.inner;
        let opened = vault
            .beside_rotations(|| self.open_unrecorded(workspace, name, version))
            .await;
        match opened {
            Ok(opened) => {
                let entry = Entry::new(AuditAction::Open, purpose)
                    .of(workspace, name.as_str())
                    .version(opened.secret_id, opened.version);
                vault.record(entry).await?;
                Ok(opened)
            }
            // A log that cannot be written on hides the reason less than the reason itself.
            Err(error @ (VaultError::Database { .. } | VaultError::Io { .. })) => Err(error),
            // Nobody was refused, and an outage is not to fill the log.
            Err(VaultError::KeyService { key, source }) if source.is_transient() => {
                Err(VaultError::KeyService { key, source })
            }
            Err(error) => {
                let mut entry = Entry::new(AuditAction::Deny, purpose).of(workspace, name.as_str());
                entry = entry.detail(&error.to_string());
                let _unwritten = vault.record(entry).await;
                Err(error)
            }
        }
    }

    async fn open_unrecorded(
        &self,
        workspace: WorkspaceId,
        name: &SecretName,
        version: Option<u32>,
    ) -> Result<OpenedSecret, VaultError> {
        let vault = &*self.inner;
        vault.prepare_key(workspace).await?;
        let mut transaction = vault.snapshot().await?;
        let found = find(&mut transaction, workspace, name.as_str()).await?;
        let found = found.ok_or_else(|| not_found(name))?;
        let current = check_rollback(name.as_str(), &found)?;
        let wanted = version.unwrap_or(current);
        let opened = open_version(
            vault,
            &mut transaction,
            workspace,
            name.as_str(),
            &found,
            wanted,
        )
        .await?;
        check_head(vault, workspace, name.as_str(), &found)?;
        Ok(opened)
    }
}

pub(super) async fn open_version(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
    name: &str,
    found: &Found,
    version: u32,
) -> Result<OpenedSecret, VaultError> {
    type Row = (String, String, Option<Vec<u8>>, Option<i64>, Option<String>);
    let row: Option<Row> = query(
        "SELECT kind, scope, sealed, retired_at, in_clear FROM secret_version
         WHERE secret_id = $1 AND version = $2",
    )
    .bind(found.secret_id.to_string())
    .bind(version)
    .fetch_optional(&mut *transaction)
    .await
    .doing("reading a sealed version")?;
    let missing = || damaged(name, version, Damage::Missing);
    let (kind, scope, sealed, in_clear) = match row {
        Some((kind, scope, Some(sealed), _, in_clear)) => (kind, scope, sealed, in_clear),
        Some((_, _, None, Some(_), _)) if i64::from(version) < found.current_version => {
            return Err(VaultError::Retired {
                name: name.to_owned(),
                version,
            });
        }
        Some((_, _, None, _, _)) => return Err(missing()),
        None if i64::from(version) <= found.current_version && version > 0 => {
            return Err(missing());
        }
        None => {
            return Err(VaultError::NoVersion {
                name: name.to_owned(),
                version,
            });
        }
    };
    let context = Context {
        vault_id: &vault.vault_id,
        workspace,
        secret_id: found.secret_id,
        version,
        name,
        kind: &kind,
        scope: &scope,
        in_clear: in_clear.as_deref(),
    };
    let opened = open_sealed(vault, transaction, &context, &sealed).await?;
    let plaintext = opened
        .map_err(|damage| damaged(name, version, damage))
        .and_then(|bytes| {
            secret_string(&bytes).ok_or_else(|| damaged(name, version, Damage::Altered))
        })?;
    Ok(OpenedSecret {
        secret_id: found.secret_id,
        version,
        kind,
        scope,
        plaintext,
        in_clear,
    })
}

/// Opens with the key that is known, and with the stored one where another process has replaced it.
async fn open_sealed(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    context: &Context<'_>,
    sealed: &[u8],
) -> Result<Result<Zeroizing<Vec<u8>>, Damage>, VaultError> {
    let workspace = context.workspace;
    let key = some_key(vault, transaction, workspace).await?;
    let opened = seal::open(&key, context, sealed);
    if !matches!(opened, Err(Damage::WrongKey)) {
        return Ok(opened);
    }
    // Compared with what was used: of many that open at once, another may have asked already.
    let stored = vault.stored_key(transaction, workspace).await?;
    let stored = stored.ok_or_else(|| no_key(workspace))?;
    if stored.id() == key.id() {
        return Ok(opened);
    }
    Ok(seal::open(&stored, context, sealed))
}

/// The key of a workspace that has secrets, and so must have one.
async fn some_key(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    workspace: WorkspaceId,
) -> Result<Arc<Key>, VaultError> {
    let key = vault.workspace_key(transaction, workspace).await?;
    key.ok_or_else(|| no_key(workspace))
}

fn no_key(workspace: WorkspaceId) -> VaultError {
    VaultError::WorkspaceKeyDamaged {
        workspace: workspace.to_string(),
    }
}

/// Copies into a buffer of the exact size: one that is shrunk later would leave a copy behind.
fn secret_string(bytes: &Zeroizing<Vec<u8>>) -> Option<SecretString> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut exact = String::with_capacity(text.len());
    exact.push_str(text);
    Some(SecretString::from(exact))
}
