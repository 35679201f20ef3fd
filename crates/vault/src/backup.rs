//! Copies of the whole database, taken while it is in use, and put back.
//!
//! A backup is sealed like its original and does not contain the root key: it opens only beside
//! the key that it names. Restoring never overwrites a vault, and puts in place what it has looked
//! at: the copy that it made, whose audit chain is whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::audit::{self, AuditAction, AuditKey, Entry};
use crate::database::{OpeningLock, sibling, sync_parent};
use crate::error::{Doing, VaultError};
use crate::keys::KeyId;
use crate::root_key::HoldsRootKey;
use crate::vault::{Vault, VaultPlace, VaultRow, key_id_of, unwrap_audit};

/// What was written, and what must be kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    pub path: PathBuf,
    pub bytes: u64,
    /// The root key that the backup needs, which is not in it.
    pub root_key_id: String,
}

impl Vault {
    /// Writes a copy of the vault to a file that does not exist yet.
    pub async fn backup(&self, path: &Path, actor: &str) -> Result<BackupReport, VaultError> {
        let vault = &*self.inner;
        let text = path
            .to_str()
            .ok_or_else(|| bad(path, "has a name that is not UTF-8"))?;
        // Not while a rotation is under way: the copy would need two root keys.
        let _lock = OpeningLock::take(&vault.place.database).await?;
        let entry = Entry::new(AuditAction::Backup, actor).detail(text);
        vault.record(entry).await?;
        // Made first, so that it is never readable by others, not even while it is written.
        let file = new_private(path)?;
        let written = sqlx::query("VACUUM INTO $1")
            .bind(text)
            .execute(vault.database.writer())
            .await
            .doing("writing a backup");
        let report = match written {
            Ok(_) => finish(path, &file).await,
            Err(error) => Err(error),
        };
        if report.is_err() {
            let _already_gone = std::fs::remove_file(path);
        }
        report
    }

    /// Puts a backup where no vault is, and opens it. The root key must be there already, and the
    /// backup's audit chain be whole.
    pub async fn restore(
        backup: &Path,
        place: VaultPlace,
        actor: &str,
    ) -> Result<Self, VaultError> {
        place.root_key.holder.prepare();
        let lock = OpeningLock::take(&place.database).await?;
        refuse_existing(&place.database)?;
        let copied = Copied::of(backup, &place.database)?;
        copied.verify(backup, &*place.root_key.holder).await?;
        copied.put_in_place(&place.database)?;
        drop(lock);
        let vault = Self::open(place).await?;
        let detail = backup.display().to_string();
        let entry = Entry::new(AuditAction::Restore, actor).detail(&detail);
        vault.inner.record(entry).await?;
        Ok(vault)
    }
}

async fn finish(path: &Path, file: &File) -> Result<BackupReport, VaultError> {
    let root_key_id = inspect(path).await?;
    let synced = file.sync_all().and_then(|()| sync_parent(path));
    let metadata = synced.and_then(|()| file.metadata());
    Ok(BackupReport {
        path: path.to_owned(),
        bytes: metadata.map_err(|source| failed(path, source))?.len(),
        root_key_id: key_id_of(&root_key_id)?.to_string(),
    })
}

/// Checks that a file is a whole vault. Answers the id of the root key that it needs.
async fn inspect(path: &Path) -> Result<Vec<u8>, VaultError> {
    inspect_as(path, path).await
}

/// The same of a file that is told of by the name of another one.
async fn inspect_as(path: &Path, named: &Path) -> Result<Vec<u8>, VaultError> {
    let opened = open_unchanged(path).await;
    let mut connection = opened.map_err(|_| bad(named, "is not a vault"))?;
    let result = inspect_open(named, &mut connection).await;
    let _closed = connection.close().await;
    result
}

async fn open_unchanged(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging();
    options.connect().await
}

async fn inspect_open(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Vec<u8>, VaultError> {
    let answer: Result<String, _> = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut *connection)
        .await;
    if answer.is_ok_and(|answer| answer == "ok") {
        sqlx::query_scalar("SELECT root_key_id FROM vault")
            .fetch_one(connection)
            .await
            .map_err(|_| bad(path, "is not a vault"))
    } else {
        Err(bad(path, "is damaged"))
    }
}

fn refuse_existing(database: &Path) -> Result<(), VaultError> {
    for path in [database.to_owned(), sibling(database, "-wal")] {
        if path.exists() {
            return Err(VaultError::Exists { path });
        }
    }
    Ok(())
}

/// A copy of a backup beside the database, which goes when it is not put in the database's place.
struct Copied {
    temporary: PathBuf,
}

impl Copied {
    fn of(backup: &Path, database: &Path) -> Result<Self, VaultError> {
        let temporary = sibling(database, ".restoring");
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(database, error));
            }
            _ => {}
        }
        let mut from = File::open(backup).map_err(|source| failed(backup, source))?;
        let copied = Self { temporary };
        let to = private_options().open(&copied.temporary);
        to.and_then(|mut to| {
            io::copy(&mut from, &mut to)?;
            to.sync_all()
        })
        .map_err(|source| failed(database, source))?;
        Ok(copied)
    }

    /// Looks at the copy, and speaks of the backup.
    async fn verify(&self, backup: &Path, root_key: &dyn HoldsRootKey) -> Result<(), VaultError> {
        let root = key_id_of(&inspect_as(&self.temporary, backup).await?)?;
        root_key.require(root).await?;
        let mut connection = open_unchanged(&self.temporary)
            .await
            .map_err(|_| bad(backup, "is not a vault"))?;
        let verified = verify_copy(&mut connection, backup, (root, root_key)).await;
        let _closed = connection.close().await;
        match verified {
            Err(VaultError::AuditDamaged { problem }) => {
                Err(bad(backup, &format!("has an audit log that {problem}")))
            }
            verified => verified,
        }
    }

    /// The vault is there whole or not at all.
    fn put_in_place(self, database: &Path) -> Result<(), VaultError> {
        let renamed = std::fs::rename(&self.temporary, database);
        let put = renamed.and_then(|()| sync_parent(database));
        put.map_err(|source| failed(database, source))
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // One that was put in place has this name no more.
        let _gone = std::fs::remove_file(&self.temporary);
    }
}

async fn verify_copy(
    connection: &mut SqliteConnection,
    backup: &Path,
    (root_key_id, root_key): (KeyId, &dyn HoldsRootKey),
) -> Result<(), VaultError> {
    let row: (Vec<u8>, Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT vault_id, audit_key_id, audit_key FROM vault")
            .fetch_one(&mut *connection)
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
    audit::verify_chain(connection, &key, None).await.map(drop)
}

fn new_private(path: &Path) -> Result<File, VaultError> {
    private_options()
        .open(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => VaultError::Exists {
                path: path.to_owned(),
            },
            _ => failed(path, source),
        })
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

fn failed(path: &Path, source: io::Error) -> VaultError {
    VaultError::Io {
        subject: path.display().to_string(),
        source,
    }
}

fn bad(path: &Path, problem: &str) -> VaultError {
    VaultError::BadBackup {
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}
