//! What can go wrong with a database, by what the caller would do about it.

use std::error::Error as _;
use std::io;

use sqlx::error::{DatabaseError as Refusal, ErrorKind};

/// Why a database did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    #[error("{subject} is in use by another process for too long")]
    Busy { subject: String },
    #[error("{subject} cannot be used")]
    Io { subject: String, source: io::Error },
    /// Of the environment of this process, which the driver would obey.
    #[error("environment variable {name} is set, and a database is named by configuration alone")]
    Environment { name: &'static str },
    #[error("database {database} {problem}")]
    Unsuitable { database: String, problem: String },
    /// What the engine or the way to it said.
    #[error(transparent)]
    Engine { source: sqlx::Error },
    /// A row does not hold what was asked for.
    #[error("column {column} of a row {problem}")]
    Row { column: usize, problem: String },
    #[error("database has no such row")]
    NoRow,
    /// A row that is to be copied is longer than any that is written.
    #[error("row is {length} bytes long and may be {limit}")]
    RowTooLong { length: u64, limit: u64 },
    #[error("a row of table {table} cannot be copied")]
    Copying { table: String, source: Box<Self> },
    #[error("database cannot be brought up to date")]
    Migration { source: sqlx::migrate::MigrateError },
}

/// What an error comes to, for a caller that does something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// There is one of that key already.
    Unique,
    /// Somebody else holds what is needed for too long.
    Busy,
    DiskFull,
    /// The file is no database, or what stands in it does not read.
    Damaged,
    /// The server does not answer, or has hung up: what was asked may have been done.
    Unreachable,
    /// The server knows neither this user nor this database, or lets the user do nothing there.
    Refused,
    Other,
}

impl DatabaseError {
    pub fn failure(&self) -> Failure {
        match self {
            Self::Busy { .. } => Failure::Busy,
            Self::Row { .. } | Self::RowTooLong { .. } => Failure::Damaged,
            Self::Copying { source, .. } => source.failure(),
            Self::Engine { source } => failure_of(source),
            Self::Migration { source } => failure_within(source),
            Self::Io { .. } | Self::Environment { .. } | Self::Unsuitable { .. } | Self::NoRow => {
                Failure::Other
            }
        }
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(source: sqlx::Error) -> Self {
        match source {
            sqlx::Error::RowNotFound => Self::NoRow,
            source => Self::Engine { source },
        }
    }
}

fn failure_within(migration: &sqlx::migrate::MigrateError) -> Failure {
    let source = migration.source().and_then(|it| it.downcast_ref());
    source.map_or(Failure::Other, failure_of)
}

fn failure_of(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(refusal) => failure_of_refusal(&**refusal),
        sqlx::Error::PoolTimedOut => Failure::Busy,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => Failure::Unreachable,
        _ => Failure::Other,
    }
}

fn failure_of_refusal(refusal: &dyn Refusal) -> Failure {
    if matches!(refusal.kind(), ErrorKind::UniqueViolation) {
        return Failure::Unique;
    }
    let Some(code) = refusal.code() else {
        return Failure::Other;
    };
    if refusal
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some()
    {
        return failure_of_state(&code);
    }
    // The lowest byte of SQLite's extended codes is its primary one.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => Failure::Busy,
        Ok(11 | 26) => Failure::Damaged,
        Ok(13) => Failure::DiskFull,
        _ => Failure::Other,
    }
}

/// By the SQLSTATE that PostgreSQL gives.
fn failure_of_state(state: &str) -> Failure {
    match state {
        // lock_not_available, query_canceled (by its timeout), serialization_failure, deadlock.
        "55P03" | "57014" | "40001" | "40P01" => Failure::Busy,
        "53100" => Failure::DiskFull,
        // data_corrupted, index_corrupted.
        "XX001" | "XX002" => Failure::Damaged,
        // Full, a replica that only reads, or hung up on since a transaction did nothing.
        "53300" | "25006" | "25P03" => Failure::Unreachable,
        // invalid_catalog_name, insufficient_privilege.
        "3D000" | "42501" => Failure::Refused,
        state if state.starts_with("57P") || state.starts_with("08") => Failure::Unreachable,
        state if state.starts_with("28") => Failure::Refused,
        _ => Failure::Other,
    }
}
