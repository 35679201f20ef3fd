//! One process at a time opens a database: the switch to WAL, the migrations and the first rows
//! must not race.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::PgConnection;

use crate::address::DatabaseAddress;
use crate::error::DatabaseError;
use crate::postgres;

/// How long to wait while another process opens or migrates.
pub(crate) const OPENING_TIMEOUT: Duration = Duration::from_mins(1);

/// The right to open one database, held until this is dropped.
#[derive(Debug)]
pub struct Opening {
    address: DatabaseAddress,
    held: Held,
}

#[derive(Debug)]
enum Held {
    File(FileLock),
    /// An advisory lock goes with its connection.
    Server(#[expect(dead_code, reason = "held until it is dropped")] PgConnection),
}

impl Opening {
    /// Waits for other processes that open the same database; the schema is that of
    /// [`Rules`](crate::Rules).
    pub async fn take(address: &DatabaseAddress, schema: &str) -> Result<Self, DatabaseError> {
        let held = match address {
            DatabaseAddress::File(path) => Held::File(FileLock::take(path).await?),
            DatabaseAddress::Server(server) => {
                Held::Server(postgres::opening_lock(server, schema).await?)
            }
        };
        let address = address.clone();
        Ok(Self { address, held })
    }

    pub fn address(&self) -> &DatabaseAddress {
        &self.address
    }

    /// The lock on the file beside a database that is one.
    pub fn file_lock(&self) -> Option<&FileLock> {
        match &self.held {
            Held::File(lock) => Some(lock),
            Held::Server(_) => None,
        }
    }
}

/// Held while the files beside one path are being made, opened or replaced.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    file: File,
}

impl FileLock {
    /// Waits for other processes that hold the lock of this path, whose file has `.lock` appended.
    pub async fn take(path: &Path) -> Result<Self, DatabaseError> {
        let path = path.to_owned();
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let subject = lock.display().to_string();
        let locking = tokio::task::spawn_blocking(move || -> io::Result<Self> {
            make_parent(&lock)?;
            let file = private_file(&lock)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(Self { path, file })
        });
        match tokio::time::timeout(OPENING_TIMEOUT, locking).await {
            Ok(joined) => joined
                .expect("the locking task does not panic")
                .map_err(|source| DatabaseError::Io { subject, source }),
            Err(_elapsed) => Err(DatabaseError::Busy { subject }),
        }
    }

    /// What the lock is for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The locked file. Whoever is given it too holds the lock until both have closed it.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    parent.map_or(Ok(()), |parent| {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
    })
}

/// Opens or makes a file that only its owner can read; SQLite gives its log the same mode.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
