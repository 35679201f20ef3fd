//! What can go wrong in the vault, by what the caller would do about it.
//!
//! Messages name the secret, the version or the file; never a value.

use std::fmt;
use std::io;
use std::path::PathBuf;

use database::{DatabaseError, Failure};
use ids::LeaseId;

use crate::root_key::KeyServiceError;

/// How a sealed row is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The sealed bytes of another secret or version stand here.
    Swapped,
    /// Workspace, name, kind or scope are not those that were sealed.
    Renamed,
    /// The sealed bytes are cut short or padded.
    Truncated,
    /// Sealed under a key that is not this workspace's.
    WrongKey,
    /// The sealed bytes or their header were changed.
    Altered,
    /// The audit log knows a later version than the current one.
    RolledBack,
    /// The row that says which version is current was changed.
    Head,
    /// The sealed bytes are gone although the version was never retired.
    Missing,
}

impl Damage {
    /// One word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Swapped => "swapped",
            Self::Renamed => "renamed",
            Self::Truncated => "truncated",
            Self::WrongKey => "wrong_key",
            Self::Altered => "altered",
            Self::RolledBack => "rolled_back",
            Self::Head => "head",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Swapped => "holds the sealed bytes of another secret or version",
            Self::Renamed => "does not have the workspace, name, kind and scope it was sealed with",
            Self::Truncated => "is not as long as it was when sealed",
            Self::WrongKey => "is sealed under a key that is not its workspace's",
            Self::Altered => "was changed after it was sealed",
            Self::RolledBack => "is older than the version that the audit log saw last",
            Self::Head => "has a head that the vault did not write",
            Self::Missing => "has lost its sealed bytes",
        })
    }
}

/// Why the vault did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    #[error("no secret {name:?} in this workspace")]
    NotFound { name: String },
    #[error("secret {name:?} has no version {version}")]
    NoVersion { name: String, version: u32 },
    #[error("version {version} of secret {name:?} has retired and its bytes are erased")]
    Retired { name: String, version: u32 },
    #[error("version {version} of secret {name:?} {damage}")]
    Damaged {
        name: String,
        version: u32,
        damage: Damage,
    },
    #[error("audit log of the vault {problem}")]
    AuditDamaged { problem: String },
    #[error("key of workspace {workspace} does not open under the root key")]
    WorkspaceKeyDamaged { workspace: String },
    #[error("vault database {database} {problem}")]
    NotAVault { database: String, problem: String },
    #[error("root key {path} is missing, and the vault was sealed under root key {key_id}")]
    RootKeyMissing { path: PathBuf, key_id: String },
    #[error("root key {path} is {found}, and the vault was sealed under root key {expected}")]
    RootKeyWrong {
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("root key {path} {problem}")]
    RootKeyUnsafe {
        path: PathBuf,
        problem: String,
        fix: String,
    },
    #[error("root key {path} {problem}")]
    RootKeyMalformed { path: PathBuf, problem: String },
    #[error("root key {path} was not given to this process")]
    RootKeyNotGiven { path: PathBuf },
    #[error("root key {path} was given to holdfast, which does not replace it")]
    RootKeyNotOurs { path: PathBuf },
    #[error("root key {path} is the one that the vault is sealed under already")]
    RootKeySame { path: PathBuf },
    #[error("root key {key} cannot be used")]
    KeyService {
        key: String,
        source: KeyServiceError,
    },
    #[error("key keeper {program} cannot be started")]
    KeeperNotStarted { program: PathBuf, source: io::Error },
    #[error("key keeper {problem}")]
    KeeperLost { problem: String },
    #[error("{what} is {length} bytes long and may be {limit}")]
    TooLong {
        what: &'static str,
        length: usize,
        limit: usize,
    },
    #[error("lease {lease} has ended")]
    LeaseEnded { lease: LeaseId },
    /// Somebody else has renewed it too.
    #[error("lease {lease} was renewed by another holder")]
    LeaseCopied { lease: LeaseId },
    #[error("{path} already exists")]
    Exists { path: PathBuf },
    #[error("vault is in {file}, and database {database} has none")]
    InFile { file: PathBuf, database: String },
    #[error("vault database {database} has a vault already")]
    NotEmpty { database: String },
    #[error("backup {path} {problem}")]
    BadBackup { path: PathBuf, problem: String },
    #[error("another process has rotated the root key of the vault meanwhile")]
    Overtaken,
    #[error("{subject} is in use by another process for too long")]
    Busy { subject: String },
    #[error("{subject} cannot be used")]
    Io { subject: String, source: io::Error },
    #[error("vault database failed while {doing}")]
    Database {
        doing: &'static str,
        source: DatabaseError,
    },
}

impl VaultError {
    /// One word for machines: what sort of answer this is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::NoVersion { .. } => "not_found",
            Self::Retired { .. } | Self::LeaseEnded { .. } | Self::LeaseCopied { .. } => "ended",
            Self::Damaged { .. }
            | Self::AuditDamaged { .. }
            | Self::WorkspaceKeyDamaged { .. }
            | Self::NotAVault { .. }
            | Self::BadBackup { .. } => "damaged",
            Self::RootKeyMissing { .. }
            | Self::RootKeyWrong { .. }
            | Self::RootKeyUnsafe { .. }
            | Self::RootKeyMalformed { .. }
            | Self::RootKeyNotGiven { .. }
            | Self::RootKeyNotOurs { .. }
            | Self::RootKeySame { .. } => "root_key",
            Self::KeyService { source, .. } if source.is_transient() => "unreachable",
            Self::KeyService { .. } => "key_service",
            Self::KeeperNotStarted { .. } | Self::KeeperLost { .. } => "keeper",
            Self::TooLong { .. }
            | Self::InFile { .. }
            | Self::Exists { .. }
            | Self::NotEmpty { .. } => "bad_input",
            Self::Busy { .. } | Self::Overtaken => "busy",
            Self::Database { .. } => match self.failure() {
                Some(Failure::Busy) => "busy",
                Some(Failure::Unreachable) => "unreachable",
                _ => "storage",
            },
            Self::Io { .. } => "storage",
        }
    }

    /// What the database's error comes to, where it is one.
    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Database { source, .. } => Some(source.failure()),
            _ => None,
        }
    }

    /// Whether there was no room for it.
    pub fn is_disk_full(&self) -> bool {
        self.failure() == Some(Failure::DiskFull)
    }

    /// Whether the server of the database was not to be reached.
    pub fn is_database_away(&self) -> bool {
        self.failure() == Some(Failure::Unreachable)
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::RootKeyUnsafe { fix, .. } => return Some(format!("run `{fix}`")),
            Self::RootKeyMissing { .. } | Self::RootKeyWrong { .. } => {
                "put the key back from where it is kept; without it the sealed secrets are lost, \
                 and only moving the vault's database away starts afresh"
            }
            Self::RootKeyMalformed { .. } => "put the key file back from where it is kept",
            Self::RootKeyNotGiven { .. } => {
                "a credential is there for a service alone: name it in the unit with \
                 `LoadCredentialEncrypted=`, or give the open file that was configured; a first \
                 key is made in a file"
            }
            Self::RootKeyNotOurs { .. } => {
                "name the source of the new key: `holdfast vault rotate-key --to FILE`; then give \
                 the new key in place of the old one"
            }
            Self::RootKeySame { .. } => {
                "name another key with `holdfast vault rotate-key --to`; of a key in transit, make \
                 a newer version of it first"
            }
            Self::KeyService { source, .. } => source.hint(),
            Self::KeeperNotStarted { .. } => {
                "put the holdfast program back where it was, or make room for one more process"
            }
            Self::KeeperLost { .. } => {
                "run the command again; if it happens again, see whether the root key's file can \
                 be read, and with `journalctl -k` whether the machine is short of memory"
            }
            Self::Damaged { .. } => {
                "restore a backup, or remove this secret and give the credential again; \
                 `holdfast vault verify` lists all damage"
            }
            Self::AuditDamaged { .. } | Self::WorkspaceKeyDamaged { .. } => {
                "someone changed the vault's database; `holdfast vault verify` lists all damage, \
                 and `holdfast vault restore` brings a backup back"
            }
            Self::InFile { .. } => {
                "move it: `holdfast vault backup` while no database is configured, and then \
                 `holdfast vault restore`; or move the file away, to begin with nothing sealed"
            }
            Self::NotEmpty { .. } => "name a database that has none",
            Self::Exists { .. } => {
                "choose another path, or move the file away, with what a backup that was cut short \
                 left beside it under the same name and .partial"
            }
            Self::Overtaken => {
                "the lock of the database server was lost with its connection; run the command \
                 again if the root key is still to be replaced"
            }
            Self::Busy { .. } => "look for a holdfast process that hangs",
            Self::Database {
                source: DatabaseError::Migration { .. },
                ..
            } => "use the holdfast version that wrote this data directory",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root, or name other places with --data-dir and --root-key"
            }
            error if error.is_database_away() => {
                "see whether the database server runs and can be reached from here"
            }
            error if error.failure() == Some(Failure::Refused) => {
                "look at the user, its password and its rights on the database server"
            }
            error if error.is_disk_full() => "make room on the disk of the data directory",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Says what was being done when the database failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, VaultError>;
}

impl<T> Doing<T> for Result<T, DatabaseError> {
    fn doing(self, doing: &'static str) -> Result<T, VaultError> {
        self.map_err(|source| match source {
            DatabaseError::Busy { subject } => VaultError::Busy { subject },
            DatabaseError::Io { subject, source } => VaultError::Io { subject, source },
            source => VaultError::Database { doing, source },
        })
    }
}
