//! Copies that are looked at before they are put in place, and where they are made.

use std::path::{Path, PathBuf};

use database::{Database, Readers, Transaction, Workplace, query};

use super::{bad, copy_rows, failed};
use crate::audit::{self, AuditKey};
use crate::error::VaultError;
use crate::keys::KeyId;
use crate::place::{FILE, OpeningLock, VaultPlace, sync_parent};
use crate::root_key::HoldsRootKey;
use crate::vault::{VaultRow, key_id_of, unwrap_audit};

/// The directory beside the vault in which a copy is made. Only under the opening lock.
pub(super) fn workplace(place: &VaultPlace) -> Result<Workplace, VaultError> {
    Workplace::beside(&place.file()).map_err(|source| failed(&place.file(), source))
}

/// The vault in it, which is made where there is none.
pub(super) async fn open_in(workplace: &Workplace) -> Result<Database, VaultError> {
    let lock = OpeningLock::take(workplace.directory(), None).await?;
    lock.open().await
}

/// A copy of a backup.
pub(super) struct Copied {
    workplace: Workplace,
    file: PathBuf,
}

impl Copied {
    pub(super) fn of(backup: &Path, place: &VaultPlace) -> Result<Self, VaultError> {
        let workplace = workplace(place)?;
        let copied = workplace.take_copy(backup, FILE);
        let file = copied.map_err(|source| failed(backup, source))?;
        Ok(Self { workplace, file })
    }

    /// Looks at the copy, and speaks of the backup.
    pub(super) async fn verify(
        &self,
        backup: &Path,
        root_key: &dyn HoldsRootKey,
    ) -> Result<(), VaultError> {
        let root = key_id_of(&inspect(&self.file, backup).await?)?;
        root_key.require(root).await?;
        let copy = Readers::of_unchanged(&self.file);
        let verified = match copy.snapshot().await {
            Ok(mut transaction) => verify_copy(&mut transaction, backup, (root, root_key)).await,
            Err(_) => Err(bad(backup, "is not a vault")),
        };
        copy.close().await;
        match verified {
            Err(VaultError::AuditDamaged { problem }) => {
                Err(bad(backup, &format!("has an audit log that {problem}")))
            }
            verified => verified,
        }
    }

    /// The vault is there whole or not at all.
    pub(super) fn put_in_place(self, database: &Path) -> Result<(), VaultError> {
        let renamed = std::fs::rename(&self.file, database);
        let put = renamed.and_then(|()| sync_parent(database));
        put.map_err(|source| failed(database, source))
    }

    /// The same, of its rows.
    pub(super) async fn put_on(self, server: &Database) -> Result<(), VaultError> {
        let copy = open_in(&self.workplace).await?;
        let put = copy_rows(&copy, server).await;
        copy.close().await;
        server.close().await;
        put
    }
}

/// Checks that a file is a whole vault, and speaks of it by the name of the backup. Answers the id
/// of the root key that it needs.
pub(super) async fn inspect(path: &Path, backup: &Path) -> Result<Vec<u8>, VaultError> {
    let file = Readers::of_unchanged(path);
    let inspected = inspect_open(&file, backup).await;
    file.close().await;
    inspected
}

async fn inspect_open(file: &Readers, backup: &Path) -> Result<Vec<u8>, VaultError> {
    let checked = query("PRAGMA integrity_check(1)").fetch_one(file).await;
    let (answer,): (String,) = checked.map_err(|_| bad(backup, "is not a vault"))?;
    if answer != "ok" {
        return Err(bad(backup, "is damaged"));
    }
    let read = query("SELECT root_key_id FROM vault").fetch_one(file).await;
    let (root_key_id,): (Vec<u8>,) = read.map_err(|_| bad(backup, "is not a vault"))?;
    Ok(root_key_id)
}

async fn verify_copy(
    transaction: &mut Transaction<'_>,
    backup: &Path,
    (root_key_id, root_key): (KeyId, &dyn HoldsRootKey),
) -> Result<(), VaultError> {
    let row: (Vec<u8>, Vec<u8>, Vec<u8>) =
        query("SELECT vault_id, audit_key_id, audit_key FROM vault")
            .fetch_one(&mut *transaction)
            .await
            .map_err(|_| bad(backup, "is not a vault"))?;
    let row = VaultRow {
        vault_id: row.0,
        root_key_id,
        next_root_key_id: None,
        audit_key_id: key_id_of(&row.1)?,
        audit_key: row.2,
    };
    let key = AuditKey::new(&row.vault_id, unwrap_audit(root_key, &row).await?);
    audit::verify_chain(transaction, &key, None).await.map(drop)
}
