//! Copies of the whole store, taken while it is in use, and put in a database, on either engine.
//!
//! A backup is one SQLite file, wherever the store is, so that it can go from a file to a server
//! and back. Rows of it are read by what the migrations of this program say and written by the
//! rules of the tables that those make: a file of a stranger's brings no program with it.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use database::{
    BackupProblem, Database, DatabaseAddress, DatabaseError, Durability, Failure, FileLock,
    Opening, Rules, Tables, Transaction, Workplace, check_backup, write_new,
};

use crate::database::RULES;
use crate::error::{Doing, StoreError};

/// What a copy is called while it is made.
const FILE: &str = "state.db";

/// Where a store is, and where a copy of it is made.
#[derive(Debug, Clone)]
pub struct StorePlace {
    /// A directory of this machine, which is there.
    pub data: PathBuf,
    pub address: DatabaseAddress,
}

/// What a restore finds in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// A store that holds something is refused.
    Nothing,
    /// What it holds goes, when all of the backup is there.
    Whatever,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreBackup {
    pub path: PathBuf,
    pub bytes: u64,
}

/// Writes a copy of the store, as it is now, to a file that does not exist yet.
pub async fn back_up(place: &StorePlace, path: &Path) -> Result<StoreBackup, StoreError> {
    let opening = open_lock(place).await?;
    refuse_missing(place)?;
    let database = opening.open().await?;
    let beside = opening.release();
    let written = write_new(
        path,
        |source| not_made(path, source),
        async |made| match &beside {
            None => copy_file(&database, made).await,
            Some(lock) => copy_server(&database, lock, made).await,
        },
    );
    let written = written.await;
    database.close().await;
    Ok(StoreBackup {
        path: path.to_owned(),
        bytes: written?,
    })
}

/// Puts a backup in place of a store, whole or not at all; answers how many rows it has. No gateway
/// may serve the store meanwhile, which is for the caller to see to.
pub async fn restore(backup: &Path, place: &StorePlace, onto: Onto) -> Result<u64, StoreError> {
    let opening = open_lock(place).await?;
    refuse_log_alone(place)?;
    let workplace = workplace(opening.lock())?;
    let copied = workplace.take_copy(backup, FILE);
    let copied = copied.map_err(|source| unusable(backup, source))?;
    check_backup(&copied, &RULES)
        .await
        .map_err(|problem| bad(backup, problem))?;
    let source = open_copy(&copied, backup).await?;
    let target = opening.open().await?;
    let restored = put(backup, &source, &target, onto).await;
    source.close().await;
    target.close().await;
    restored.map_err(|error| match error {
        Putting::Occupied => StoreError::NotEmpty {
            database: place.address.to_string(),
        },
        Putting::Failed(error) => error,
    })
}

/// The right to open a store, and to make a copy of one beside it.
struct StoreOpening {
    opening: Opening,
    /// Of a store that is no file.
    beside: Option<FileLock>,
}

async fn open_lock(place: &StorePlace) -> Result<StoreOpening, StoreError> {
    let beside = match place.address {
        DatabaseAddress::File(_) => None,
        DatabaseAddress::Server(_) => Some(FileLock::take(&place.data.join(FILE)).await?),
    };
    let opening = Opening::take(&place.address, RULES.schema).await?;
    Ok(StoreOpening { opening, beside })
}

impl StoreOpening {
    /// What is committed is on disk: whoever moves a store takes the other one away.
    async fn open(&self) -> Result<Database, StoreError> {
        let rules = Rules {
            durability: Durability::Disk,
            ..RULES
        };
        Ok(Database::open(&self.opening, &rules).await?)
    }

    /// The lock of this machine.
    fn lock(&self) -> &FileLock {
        let lock = self.opening.file_lock().or(self.beside.as_ref());
        lock.expect("a store that is no file has a lock beside")
    }

    /// Lets others open the store, and keeps what only backups wait for.
    fn release(self) -> Option<FileLock> {
        self.beside
    }
}

fn workplace(lock: &FileLock) -> Result<Workplace, StoreError> {
    Workplace::beside(lock.path()).map_err(|source| unusable(lock.path(), source))
}

/// A question about what was never there makes nothing.
fn refuse_missing(place: &StorePlace) -> Result<(), StoreError> {
    let DatabaseAddress::File(path) = &place.address else {
        return Ok(());
    };
    let there = path.metadata().map(drop);
    there.map_err(|source| unusable(path, source))
}

/// What was not yet moved from a log into its file would come back in a new one of that name.
fn refuse_log_alone(place: &StorePlace) -> Result<(), StoreError> {
    let DatabaseAddress::File(path) = &place.address else {
        return Ok(());
    };
    let mut log = path.clone().into_os_string();
    log.push("-wal");
    let log = PathBuf::from(log);
    if path.exists() || !log.exists() {
        return Ok(());
    }
    Err(StoreError::Exists { path: log })
}

async fn copy_file(database: &Database, to: &Path) -> Result<(), StoreError> {
    database.copy_to(to).await.doing("writing a backup")
}

/// Of rows on a server a file is made first, which is then written as any other: without the log
/// and the lock that it has while it is made.
async fn copy_server(database: &Database, lock: &FileLock, to: &Path) -> Result<(), StoreError> {
    let workplace = workplace(lock)?;
    let made = open_file(&workplace.directory().join(FILE)).await?;
    let tables = Tables::of(&RULES).await?;
    let mut source = database.snapshot().await.doing("beginning to copy")?;
    let mut target = made.begin().await.doing("beginning to write a copy")?;
    let copied = tables.copy(&mut source, &mut target).await;
    copied.doing("copying its rows")?;
    target.commit().await.doing("committing a copy")?;
    let written = copy_file(&made, to).await;
    made.close().await;
    written
}

async fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    let address = DatabaseAddress::File(path.to_owned());
    let opening = Opening::take(&address, RULES.schema).await?;
    Database::open(&opening, &RULES).await
}

/// The copy of a backup, its tables brought up to date.
async fn open_copy(copied: &Path, backup: &Path) -> Result<Database, StoreError> {
    open_file(copied).await.map_err(|error| match error {
        DatabaseError::Migration { .. } => bad(backup, BackupProblem::Other),
        error => error.into(),
    })
}

/// Why a store was not put in place of another.
enum Putting {
    Occupied,
    Failed(StoreError),
}

impl From<StoreError> for Putting {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

async fn put(
    backup: &Path,
    source: &Database,
    target: &Database,
    onto: Onto,
) -> Result<u64, Putting> {
    let tables = Tables::of(&RULES).await.map_err(StoreError::from)?;
    let mut rows = source.snapshot().await.doing("beginning to copy")?;
    let mut transaction = target.begin().await.doing("waiting to write")?;
    make_room(&tables, &mut transaction, onto).await?;
    let copied = tables.copy(&mut rows, &mut transaction).await;
    let copied = copied.map_err(|error| not_copied(backup, error))?;
    transaction.commit().await.doing("committing a restore")?;
    Ok(copied)
}

async fn make_room(
    tables: &Tables,
    transaction: &mut Transaction<'_>,
    onto: Onto,
) -> Result<(), Putting> {
    if onto == Onto::Whatever {
        return Ok(tables.clear(transaction).await.doing("removing rows")?);
    }
    let are_empty = tables.are_empty(transaction).await;
    if are_empty.doing("looking for rows")? {
        return Ok(());
    }
    Err(Putting::Occupied)
}

/// What the tables do not take is the backup's fault, unless it is the machine's or the server's.
fn not_copied(backup: &Path, error: DatabaseError) -> StoreError {
    match error.failure() {
        Failure::Damaged | Failure::Unique | Failure::Other => StoreError::BadRow {
            path: backup.to_owned(),
            source: error,
        },
        _ => StoreError::Database {
            doing: "copying its rows",
            source: error,
        },
    }
}

fn not_made(path: &Path, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Exists {
            path: path.to_owned(),
        },
        _ => unusable(path, source),
    }
}

fn bad(backup: &Path, problem: BackupProblem) -> StoreError {
    StoreError::BadBackup {
        path: backup.to_owned(),
        problem,
    }
}

fn unusable(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        subject: path.display().to_string(),
        source,
    }
}
