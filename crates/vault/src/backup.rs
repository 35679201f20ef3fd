//! Copies of the whole database, taken while it is in use, and put back.
//!
//! A backup is sealed like its original and does not contain the root key: it opens only beside
//! the key that it names. Restoring never overwrites a vault.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::audit::{AuditAction, Entry};
use crate::database::{OpeningLock, sibling, sync_parent};
use crate::error::{Doing, VaultError};
use crate::vault::{Vault, VaultPlace, key_id_of};

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
        let written = sqlx::query("VACUUM INTO ?1")
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

    /// Puts a backup where no vault is, and opens it. The root key must be there already.
    pub async fn restore(
        backup: &Path,
        place: VaultPlace,
        actor: &str,
    ) -> Result<Self, VaultError> {
        place.root_key.holder.prepare();
        let lock = OpeningLock::take(&place.database).await?;
        refuse_existing(&place.database)?;
        let root = key_id_of(&inspect(backup).await?)?;
        place.root_key.holder.require(root).await?;
        copy(backup, &place.database)?;
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
    // Only a missing file is told apart here; SQLite says the rest.
    File::open(path).map_err(|source| failed(path, source))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging();
    let opened = options.connect().await;
    let mut connection = opened.map_err(|_| bad(path, "is not a vault"))?;
    let result = inspect_open(path, &mut connection).await;
    let _closed = connection.close().await;
    result
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

/// Copies to a temporary file, syncs and links it: the vault is there whole or not at all.
fn copy(backup: &Path, database: &Path) -> Result<(), VaultError> {
    let temporary = sibling(database, ".restoring");
    let copied = (|| {
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut from = File::open(backup)?;
        let mut to = private_options().open(&temporary)?;
        io::copy(&mut from, &mut to)?;
        to.sync_all()?;
        std::fs::rename(&temporary, database)?;
        sync_parent(database)
    })();
    copied.map_err(|source| failed(database, source))
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
