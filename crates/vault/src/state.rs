//! What the last check of a version found. Shown to people; nothing is decided by it.

use database::query;
use jiff::Timestamp;

use crate::error::{Doing, VaultError};
use crate::secrets::SealedVersion;
use crate::vault::Vault;

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

    pub(crate) fn read(text: &str) -> Self {
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

impl Vault {
    /// Notes what a check of a version found.
    pub async fn set_state(
        &self,
        sealed: SealedVersion,
        state: &CheckedState,
    ) -> Result<(), VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.begin().await?;
        query(
            "UPDATE secret_version SET state = $1, proven = $2, rung = $3, realm = $4,
                    checked_at = $5, not_after = $6
             WHERE secret_id = $7 AND version = $8",
        )
        .bind(state.state.as_str())
        .bind(state.proven.as_deref())
        .bind(state.rung.as_deref())
        .bind(state.realm.as_deref())
        .bind(vault.clock.now_ms())
        .bind(state.not_after.map(Timestamp::as_millisecond))
        .bind(sealed.secret_id.to_string())
        .bind(sealed.version)
        .execute(&mut transaction)
        .await
        .doing("noting a check")?;
        transaction.commit().await.doing("committing a check")
    }

    /// Notes that a version was refused; what was proven of it before stays.
    pub async fn set_refusal(
        &self,
        sealed: SealedVersion,
        state: SecretState,
    ) -> Result<(), VaultError> {
        let vault = &*self.inner;
        let mut transaction = vault.begin().await?;
        query(
            "UPDATE secret_version SET state = $1, checked_at = $2
             WHERE secret_id = $3 AND version = $4",
        )
        .bind(state.as_str())
        .bind(vault.clock.now_ms())
        .bind(sealed.secret_id.to_string())
        .bind(sealed.version)
        .execute(&mut transaction)
        .await
        .doing("noting a refusal")?;
        transaction.commit().await.doing("committing a refusal")
    }
}
