//! What can go wrong in the store, by what the caller would do about it.

use std::io;
use std::sync::Arc;

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
    #[error("{subject} is in use by another process for too long")]
    Busy { subject: String },
    #[error("{subject} cannot be used")]
    Io { subject: String, source: io::Error },
    #[error("control store failed while {doing}")]
    Database {
        doing: &'static str,
        source: sqlx::Error,
    },
    /// Shared by all whose changes it was.
    #[error("control store could not commit")]
    Commit { source: Arc<sqlx::Error> },
    #[error("control store is closed")]
    Closed,
    #[error("control store cannot be brought up to date")]
    Migration { source: sqlx::migrate::MigrateError },
}

impl StoreError {
    /// One word for machines: what sort of answer this is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoImage { .. } => "not_found",
            Self::TooLong { .. } => "bad_input",
            Self::Damaged { .. } => "damaged",
            Self::Busy { .. } => "busy",
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

    /// Whether there was no room for it. SQLite's own code for that is `SQLITE_FULL`.
    pub fn is_disk_full(&self) -> bool {
        let source = match self {
            Self::Database { source, .. } => source,
            Self::Commit { source } => source,
            _ => return false,
        };
        let code = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| code == "13")
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } => Some("move state.db away; it is made anew from registries"),
            Self::Busy { .. } => Some("look for a holdfast process that hangs"),
            Self::Migration { .. } => {
                Some("use the holdfast version that wrote this data directory")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run as root, or name another place with --data-dir")
            }
            error if error.is_disk_full() => Some("make room on the disk of the data directory"),
            _ => None,
        }
    }
}

/// Says what was being done when the database failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}
