//! Where a vault is, and the lock under which it is made, opened, rotated and replaced.
//!
//! ```text
//!   <data>/vault.db         the vault, where it is a file
//!   <data>/vault.db.lock    the lock of this machine, which the keeper shares while it changes
//!                           files of keys
//!   a server's own lock     where the vault is there: the same between machines
//! ```
//!
//! On a server a lock goes with its connection, so that one may be lost that nobody gave back: what
//! must not be done twice is written under a condition that the one who was first has changed.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use database::{
    Database, DatabaseAddress, Durability, FileLock, Migration, Opening, Rules, Server,
};

use crate::error::{Doing, VaultError};
use crate::process::Machines;
use crate::root_key::RootKey;

/// The name of the file in the data directory.
pub(crate) const FILE: &str = "vault.db";
const SCHEMA: &str = "holdfast_vault";

const MIGRATIONS: &[Migration] = &[
    Migration::new(1, "vault", include_str!("../migrations/0001_vault.sql")),
    Migration::new(
        2,
        "rotation",
        include_str!("../migrations/0002_rotation.sql"),
    ),
    Migration::new(
        3,
        "in_clear",
        include_str!("../migrations/0003_in_clear.sql"),
    ),
    Migration::new(4, "leases", include_str!("../migrations/0004_leases.sql")),
];

/// An opened secret has its audit row on disk before the caller has it.
pub(crate) const RULES: Rules = Rules {
    schema: SCHEMA,
    migrations: MIGRATIONS,
    durability: Durability::Disk,
    overwrites_deleted: true,
};

/// Where a vault is.
#[derive(Debug, Clone)]
pub struct VaultPlace {
    /// A directory of this machine, which has the lock, and the vault where no server has it.
    pub data: PathBuf,
    pub server: Option<Server>,
    pub root_key: RootKey,
}

impl VaultPlace {
    pub(crate) fn file(&self) -> PathBuf {
        self.data.join(FILE)
    }

    /// Whose processes may open it.
    pub(crate) fn machines(&self) -> Machines {
        match self.server {
            Some(_) => Machines::Many,
            None => Machines::One,
        }
    }

    /// What the database is called in messages.
    pub(crate) fn subject(&self) -> String {
        address(&self.data, self.server.as_ref()).to_string()
    }

    /// Waits for other processes that open the same vault.
    pub(crate) async fn lock(&self) -> Result<OpeningLock, VaultError> {
        OpeningLock::take(&self.data, self.server.as_ref()).await
    }
}

fn address(data: &Path, server: Option<&Server>) -> DatabaseAddress {
    match server {
        Some(server) => DatabaseAddress::Server(server.clone()),
        None => DatabaseAddress::File(data.join(FILE)),
    }
}

/// Held while a vault is being made, opened, rotated or replaced. What a server holds goes first.
#[derive(Debug)]
pub(crate) struct OpeningLock {
    opening: Opening,
    beside: Option<FileLock>,
    data: PathBuf,
}

impl OpeningLock {
    pub(crate) async fn take(data: &Path, server: Option<&Server>) -> Result<Self, VaultError> {
        let beside = match server {
            Some(_) => Some(
                FileLock::take(&data.join(FILE))
                    .await
                    .doing("waiting to open")?,
            ),
            None => None,
        };
        let opening = Opening::take(&address(data, server), SCHEMA).await;
        Ok(Self {
            opening: opening.doing("waiting to open")?,
            beside,
            data: data.to_owned(),
        })
    }

    /// Opens the database, makes it when it is not there, and brings its tables up to date.
    pub(crate) async fn open(&self) -> Result<Database, VaultError> {
        Database::open(&self.opening, &RULES)
            .await
            .doing("opening the vault")
    }

    /// The directory of the vault.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The locked file. Whoever is given it too holds the lock of this machine until both have
    /// closed it.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        let lock = self.beside.as_ref().or(self.opening.file_lock());
        lock.expect("a vault that is no file has a lock beside")
            .file()
    }
}

/// The path with something appended to its file name.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
