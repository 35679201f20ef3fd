//! What the last check of a version found. Shown to people; nothing is decided by it.

use jiff::Timestamp;

use crate::clock::timestamp;

/// The answer of the last check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretState {
    Unknown,
    Ok,
    BadCredential,
    NoPermission,
    RateLimited,
    Unreachable,
    TlsError,
    Refused,
}

const STATES: &[(SecretState, &str)] = &[
    (SecretState::Unknown, "unknown"),
    (SecretState::Ok, "ok"),
    (SecretState::BadCredential, "bad_credential"),
    (SecretState::NoPermission, "no_permission"),
    (SecretState::RateLimited, "rate_limited"),
    (SecretState::Unreachable, "unreachable"),
    (SecretState::TlsError, "tls_error"),
    (SecretState::Refused, "refused"),
];

impl SecretState {
    pub fn as_str(self) -> &'static str {
        STATES
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("unknown", |(_, text)| text)
    }

    fn read(text: &str) -> Self {
        STATES
            .iter()
            .find(|(_, name)| *name == text)
            .map_or(Self::Unknown, |(state, _)| *state)
    }
}

/// What a check found, to be noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedState {
    pub state: SecretState,
    /// What was proven, such as `ping` or `repository`.
    pub proven: Option<String>,
    /// The rung of the vending ladder that the check used.
    pub rung: Option<String>,
    /// The token service that the credential went to.
    pub realm: Option<String>,
    /// When the credential itself ends, where that is known.
    pub not_after: Option<Timestamp>,
}

/// What is known of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionState {
    pub state: SecretState,
    pub proven: Option<String>,
    pub rung: Option<String>,
    pub realm: Option<String>,
    pub checked_at: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
}

/// The columns of a state, in this order wherever they are read.
pub(crate) type StoredState = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
);

impl VersionState {
    pub(crate) fn read(stored: StoredState) -> Self {
        let (state, proven, rung, realm, checked_at, not_after) = stored;
        Self {
            state: SecretState::read(&state),
            proven,
            rung,
            realm,
            checked_at: checked_at.map(timestamp),
            not_after: not_after.map(timestamp),
        }
    }
}
