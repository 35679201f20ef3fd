//! Copies of the whole database, taken while it is in use, and put back.
//!
//! A backup is one SQLite file, wherever the vault is, so that it can go from a file to a server
//! and back. It is sealed like its original and does not contain the root key: it opens only beside
//! the key that it names. Restoring never overwrites a vault, and puts in place what it has looked
//! at: the copy that it made, whose audit chain is whole.

mod copied;

use std::io;
use std::path::{Path, PathBuf};

use database::{Database, Tables, write_new};

use crate::audit::{AuditAction, Entry};
use crate::error::{Doing, VaultError};
use crate::place::{OpeningLock, RULES, VaultPlace, sibling};
use crate::vault::{Vault, count_rows, key_id_of};
use copied::{Copied, inspect, open_in, workplace};

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
        let mut root_key_id = Vec::new();
        let bytes = write_new(
            path,
            |source| not_made(path, source),
            async |made| {
                write(&vault.database, &vault.place, made).await?;
                root_key_id = inspect(made, path).await?;
                Ok(())
            },
        );
        Ok(BackupReport {
            path: path.to_owned(),
            bytes: bytes.await?,
            root_key_id: key_id_of(&root_key_id)?.to_string(),
        })
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
    let workplace = workplace(place)?;
    let made = open_in(&workplace).await?;
    copy_rows(database, &made).await?;
    let written = made.copy_to(path).await.doing("writing a backup");
    made.close().await;
    written
}

/// All rows of one vault in a database that has none: one snapshot, in one transaction.
async fn copy_rows(from: &Database, to: &Database) -> Result<(), VaultError> {
    let tables = Tables::of(&RULES).await.doing("listing its tables")?;
    let mut source = from.snapshot().await.doing("beginning to copy")?;
    let mut target = to.begin().await.doing("beginning to write a copy")?;
    let copied = tables.copy(&mut source, &mut target).await;
    copied.doing("copying its rows")?;
    target.commit().await.doing("committing a copy")
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

fn not_made(path: &Path, source: io::Error) -> VaultError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => VaultError::Exists {
            path: path.to_owned(),
        },
        _ => failed(path, source),
    }
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
