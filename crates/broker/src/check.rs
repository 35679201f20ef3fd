//! Asking registries whether stored credentials still work.
//!
//! Each credential is asked about once, one after another. One that was refused a moment ago is
//! not tried again: registries lock accounts after a few wrong passwords.

use credential::RegistryScope;
use credential::auth::AuthError;
use ids::WorkspaceId;
use jiff::Timestamp;
use registry_client::PullLimit;
use std::time::Duration;
use token_exchange::Identity;
use vault::{SealedVersion, SecretState};

use crate::binding::Bound;
use crate::broker::{Broker, Holders, Inner, endpoint, identity_key_of};
use crate::error::{BrokerError, auth_kind};
use crate::login::{CredentialRow, Proven, checked_state, proven};

/// For how long a refusal answers in place of the registry.
const REFUSAL_STANDS: Duration = Duration::from_secs(30);

/// What to do about few pulls that are left.
const FEW_PULLS: &str = "wait, or log in with an account that is allowed more pulls";

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    pub scope: RegistryScope,
    pub version: u32,
    /// One word: `ok`, or what is wrong.
    pub state: &'static str,
    /// What is wrong, or how many pulls the registry still allows.
    pub message: Option<String>,
    pub hint: Option<String>,
    pub proven: Option<Proven>,
    pub not_after: Option<Timestamp>,
}

impl Broker {
    /// Checks one credential, or all of a workspace.
    pub async fn check(
        &self,
        workspace: WorkspaceId,
        scope: Option<&RegistryScope>,
    ) -> Result<Vec<CheckReport>, BrokerError> {
        let broker = &*self.inner;
        let mut rows = broker.credentials(workspace).await?;
        if let Some(scope) = scope {
            rows.retain(|row| row.scope == *scope);
            if rows.is_empty() {
                return Err(BrokerError::NoCredential {
                    scope: scope.clone(),
                });
            }
        }
        let mut reports = Vec::with_capacity(rows.len());
        for row in rows {
            reports.push(broker.check_one(workspace, row).await?);
        }
        Ok(reports)
    }
}

impl Inner {
    pub(crate) async fn check_one(
        &self,
        workspace: WorkspaceId,
        row: CredentialRow,
    ) -> Result<CheckReport, BrokerError> {
        if self.was_just_refused(&row) {
            let error = AuthError::BadCredential {
                message: format!("{} refused it a moment ago", row.scope.registry()),
            };
            return Ok(failed(row, &error));
        }
        let name = row.scope.secret_name();
        let opened = self
            .vault
            .open_secret(workspace, &name, Some(row.version), "check")
            .await?;
        let bound = Bound::from_opened(opened);
        let bound = match bound {
            Ok(bound) => bound,
            Err(error) => {
                let message = error.to_string();
                return Ok(failed(row, &AuthError::Internal { message }));
            }
        };
        let endpoint = endpoint(row.scope.registry(), &bound.settings);
        let identity = Identity {
            key: identity_key_of(workspace, row.sealed(), Holders::by(&bound.settings)),
            token_service: bound.settings.token_service.clone(),
            credential: self.identity(workspace, &row.scope, bound),
        };
        let proof = self
            .exchange
            .check(endpoint, identity, row.scope.path())
            .await;
        match proof {
            Ok(proof) => {
                let state = checked_state(&proof);
                self.vault.set_state(row.sealed(), &state).await?;
                let limit = proof.pull_limit.as_ref();
                let is_few = limit.is_some_and(PullLimit::is_few);
                Ok(CheckReport {
                    proven: Some(proven(&proof)),
                    not_after: proof.not_after,
                    message: limit.map(PullLimit::to_string),
                    hint: is_few.then(|| FEW_PULLS.to_owned()),
                    ..passed(row)
                })
            }
            Err(error) => {
                self.note_failure(workspace, row.sealed(), &error).await?;
                Ok(failed(row, &error))
            }
        }
    }

    fn was_just_refused(&self, row: &CredentialRow) -> bool {
        let now = self.clock.now();
        let recent = row.checked_at.is_some_and(|at| {
            Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < REFUSAL_STANDS)
        });
        recent && row.state == SecretState::BadCredential.as_str()
    }

    /// For `credentials list`; and what a refused credential proved before counts no longer while
    /// its registry is away.
    pub(crate) async fn note_failure(
        &self,
        workspace: WorkspaceId,
        sealed: SealedVersion,
        error: &AuthError,
    ) -> Result<(), BrokerError> {
        let Some(state) = state_of(error) else {
            return Ok(());
        };
        self.vault.set_refusal(sealed, state).await?;
        if state == SecretState::BadCredential {
            let (store, secret) = (&self.store, sealed.secret_id);
            store.note_refused_credential(workspace, secret).await?;
        }
        Ok(())
    }
}

/// What an error says about the credential; nothing, where it is about ourselves.
fn state_of(error: &AuthError) -> Option<SecretState> {
    match error {
        AuthError::BadCredential { .. } => Some(SecretState::BadCredential),
        AuthError::NoPermission { .. } => Some(SecretState::NoPermission),
        AuthError::RateLimited { .. } => Some(SecretState::RateLimited),
        AuthError::Unreachable { .. } => Some(SecretState::Unreachable),
        AuthError::Tls { .. } => Some(SecretState::TlsError),
        AuthError::Refused { .. } => Some(SecretState::Refused),
        _ => None,
    }
}

fn passed(row: CredentialRow) -> CheckReport {
    CheckReport {
        scope: row.scope,
        version: row.version,
        state: SecretState::Ok.as_str(),
        message: None,
        hint: None,
        proven: None,
        not_after: row.not_after,
    }
}

fn failed(row: CredentialRow, error: &AuthError) -> CheckReport {
    let state = state_of(error).map_or_else(|| auth_kind(error), SecretState::as_str);
    CheckReport {
        state,
        message: Some(error.to_string()),
        hint: error.hint().map(str::to_owned),
        ..passed(row)
    }
}
