//! The keeper's errors as they cross: each arrives as the error that it was, with its hint.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::HexPath;
use crate::error::VaultError;

/// What a file of a root key can be refused for.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum WireFailure {
    Missing {
        path: HexPath,
        key_id: String,
    },
    Wrong {
        path: HexPath,
        found: String,
        expected: String,
    },
    Unsafe {
        path: HexPath,
        problem: String,
        fix: String,
    },
    Malformed {
        path: HexPath,
        problem: String,
    },
    NotGiven {
        path: HexPath,
    },
    NotOurs {
        path: HexPath,
    },
    Exists {
        path: HexPath,
    },
    Io {
        subject: String,
        /// The system's own number, from which its words and kind follow.
        number: Option<i32>,
        words: String,
    },
}

impl WireFailure {
    pub(crate) fn io(subject: &str, source: &io::Error) -> Self {
        Self::Io {
            subject: subject.to_owned(),
            number: source.raw_os_error(),
            words: source.to_string(),
        }
    }

    fn of(error: &VaultError) -> Option<Self> {
        let hex = |path: &Path| HexPath::absolute(path).ok();
        Some(match error {
            VaultError::RootKeyMissing { path, key_id } => Self::Missing {
                path: hex(path)?,
                key_id: key_id.clone(),
            },
            VaultError::RootKeyWrong {
                path,
                found,
                expected,
            } => Self::Wrong {
                path: hex(path)?,
                found: found.clone(),
                expected: expected.clone(),
            },
            VaultError::RootKeyUnsafe { path, problem, fix } => Self::Unsafe {
                path: hex(path)?,
                problem: problem.clone(),
                fix: fix.clone(),
            },
            VaultError::RootKeyMalformed { path, problem } => Self::Malformed {
                path: hex(path)?,
                problem: problem.clone(),
            },
            VaultError::RootKeyNotGiven { path } => Self::NotGiven { path: hex(path)? },
            VaultError::RootKeyNotOurs { path } => Self::NotOurs { path: hex(path)? },
            VaultError::Exists { path } => Self::Exists { path: hex(path)? },
            VaultError::Io { subject, source } => Self::io(subject, source),
            _ => return None,
        })
    }
}

impl From<VaultError> for WireFailure {
    fn from(error: VaultError) -> Self {
        // A file of a key has no other errors than those above; one that is new still has words.
        Self::of(&error).unwrap_or_else(|| Self::io("root key", &io::Error::other(error)))
    }
}

impl From<WireFailure> for VaultError {
    fn from(failure: WireFailure) -> Self {
        let own = |path: HexPath| -> PathBuf { path.path().to_owned() };
        match failure {
            WireFailure::Missing { path, key_id } => Self::RootKeyMissing {
                path: own(path),
                key_id,
            },
            WireFailure::Wrong {
                path,
                found,
                expected,
            } => Self::RootKeyWrong {
                path: own(path),
                found,
                expected,
            },
            WireFailure::Unsafe { path, problem, fix } => Self::RootKeyUnsafe {
                path: own(path),
                problem,
                fix,
            },
            WireFailure::Malformed { path, problem } => Self::RootKeyMalformed {
                path: own(path),
                problem,
            },
            WireFailure::NotGiven { path } => Self::RootKeyNotGiven { path: own(path) },
            WireFailure::NotOurs { path } => Self::RootKeyNotOurs { path: own(path) },
            WireFailure::Exists { path } => Self::Exists { path: own(path) },
            WireFailure::Io {
                subject,
                number,
                words,
            } => Self::Io {
                subject,
                source: number
                    .map_or_else(|| io::Error::other(words), io::Error::from_raw_os_error),
            },
        }
    }
}
