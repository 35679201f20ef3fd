//! Copies of the whole database, taken while it is in use, and put back.
//!
//! A backup is one SQLite file, wherever the vault is, so that it can go from a file to a server
//! and back. It is sealed like its original and does not contain the root key: it opens only beside
//! the key that it names. Restoring never overwrites a vault, and puts in place what it has looked
//! at: the copy that it made, whose audit chain is whole.

mod copied;
mod rows;
mod tables;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use database::Database;

use crate::audit::{AuditAction, Entry};
use crate::error::{Doing, VaultError};
use crate::place::{OpeningLock, VaultPlace, sibling, sync_parent};
use crate::vault::{Vault, count_rows, key_id_of};
use copied::{Copied, Workplace, inspect};

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
        let _lock = vault.place.lock().await?;
        let entry = Entry::new(AuditAction::Backup, actor).detail(text);
        vault.record(entry).await?;
        // Made first, so that it is never readable by others, not even while it is written.
        let file = new_private(path)?;
        let report = match write(&vault.database, &vault.place, path).await {
            Ok(()) => finish(path, &file).await,
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
        let lock = place.lock().await?;
        let server = match place.server {
            Some(_) => Some(empty_server(&lock, &place).await?),
            None => None,
        };
        if server.is_none() {
            refuse_existing(&place.file())?;
        }
        let copied = Copied::of(backup, &place)?;
        copied.verify(backup, &*place.root_key.holder).await?;
        match server {
            Some(server) => copied.put_on(&server).await?,
            None => copied.put_in_place(&place.file())?,
        }
        drop(lock);
        let vault = Self::open(place).await?;
        let detail = backup.display().to_string();
        let entry = Entry::new(AuditAction::Restore, actor).detail(&detail);
        vault.inner.record(entry).await?;
        Ok(vault)
    }
}

/// Of rows on a server a file is made first, which is then written as any other: without the log
/// and the lock that it has while it is made.
async fn write(database: &Database, place: &VaultPlace, path: &Path) -> Result<(), VaultError> {
    if database.is_file() {
        return database.copy_to(path).await.doing("writing a backup");
    }
    let workplace = Workplace::new(place)?;
    let made = workplace.open().await?;
    rows::copy(database, &made).await?;
    let written = made.copy_to(path).await.doing("writing a backup");
    made.close().await;
    written
}

async fn finish(path: &Path, file: &File) -> Result<BackupReport, VaultError> {
    let root_key_id = inspect(path, path).await?;
    let synced = file.sync_all().and_then(|()| sync_parent(path));
    let metadata = synced.and_then(|()| file.metadata());
    Ok(BackupReport {
        path: path.to_owned(),
        bytes: metadata.map_err(|source| failed(path, source))?.len(),
        root_key_id: key_id_of(&root_key_id)?.to_string(),
    })
}

fn refuse_existing(database: &Path) -> Result<(), VaultError> {
    for path in [database.to_owned(), sibling(database, "-wal")] {
        if path.exists() {
            return Err(VaultError::Exists { path });
        }
    }
    Ok(())
}

/// The database on a server, when there is no vault in it.
async fn empty_server(lock: &OpeningLock, place: &VaultPlace) -> Result<Database, VaultError> {
    let server = lock.open().await?;
    if count_rows(&server).await? == 0 {
        return Ok(server);
    }
    Err(VaultError::NotEmpty {
        database: place.subject(),
    })
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
