//! What can go wrong in the store, by what the caller would do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use database::{BackupProblem, DatabaseError, Failure};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("no image {image}")]
    NoImage { image: String },
    #[error("{what} is {length} bytes long and may be {limit}")]
    TooLong {
        what: &'static str,
        length: usize,
        limit: usize,
    },
    /// A row does not say what this program writes: another program or a disk changed it.
    #[error("control store has a row of {table} that does not read: {problem}")]
    Damaged {
        table: &'static str,
        problem: String,
    },
    #[error("{path} already exists")]
    Exists { path: PathBuf },
    #[error("database {database} has a state already")]
    NotEmpty { database: String },
    #[error("backup {path} {problem}")]
    BadBackup {
        path: PathBuf,
        problem: BackupProblem,
    },
    /// A row of a backup is none that this program writes.
    #[error("backup {path} is damaged")]
    BadRow {
        path: PathBuf,
        source: DatabaseError,
    },
    #[error("{subject} is in use by another process for too long")]
    Busy { subject: String },
    #[error("{subject} cannot be used")]
    Io { subject: String, source: io::Error },
    #[error("control store failed while {doing}")]
    Database {
        doing: &'static str,
        source: DatabaseError,
    },
    /// Shared by all whose changes it was.
    #[error("control store could not commit")]
    Commit { source: Arc<DatabaseError> },
    #[error("control store is closed")]
    Closed,
    #[error("control store cannot be brought up to date")]
    Migration { source: DatabaseError },
}

impl StoreError {
    /// One word for machines: what sort of answer this is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoImage { .. } => "not_found",
            Self::TooLong { .. } | Self::Exists { .. } | Self::NotEmpty { .. } => "bad_input",
            Self::Damaged { .. } | Self::BadBackup { .. } | Self::BadRow { .. } => "damaged",
            Self::Busy { .. } => "busy",
            error if error.failure() == Some(Failure::Unreachable) => "unreachable",
            error if error.failure() == Some(Failure::Busy) => "busy",
            Self::Io { .. }
            | Self::Database { .. }
            | Self::Commit { .. }
            | Self::Closed
            | Self::Migration { .. } => "storage",
        }
    }

    /// Whether the same may work later: a disk that is full, a file that is in use.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. } | Self::Io { .. } | Self::Database { .. } | Self::Commit { .. }
        )
    }

    /// What the database said, where it was the database.
    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Database { source, .. } | Self::Migration { source } => Some(source.failure()),
            Self::Commit { source } => Some(source.failure()),
            _ => None,
        }
    }

    /// Whether there was no room for it.
    pub fn is_disk_full(&self) -> bool {
        self.failure() == Some(Failure::DiskFull)
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } => Some("move state.db away; it is made anew from registries"),
            Self::Exists { .. } => Some(
                "choose another path, or move the file away, with what a backup that was cut short \
                 left beside it under the same name and .partial",
            ),
            Self::NotEmpty { .. } => Some("--replace removes what it has"),
            Self::BadBackup {
                problem: BackupProblem::Newer,
                ..
            } => Some("use the holdfast version that wrote it, or a newer one"),
            Self::Busy { .. } => Some("look for a holdfast process that hangs"),
            Self::Migration { .. } => {
                Some("use the holdfast version that wrote this data directory")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run as root, or name another place with --data-dir")
            }
            error => match error.failure()? {
                Failure::DiskFull => Some("make room on the disk of the database"),
                Failure::Unreachable => Some("see whether the database server runs"),
                Failure::Refused => Some("look at the user, its password and its rights there"),
                _ => None,
            },
        }
    }
}

/// Says what was being done when the database failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, DatabaseError> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}

/// Of opening it.
impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy { subject } => Self::Busy { subject },
            DatabaseError::Io { subject, source } => Self::Io { subject, source },
            source @ DatabaseError::Migration { .. } => Self::Migration { source },
            source => Self::Database {
                doing: "opening it",
                source,
            },
        }
    }
}
