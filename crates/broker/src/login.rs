//! Giving a credential, taking it back, and what there is.

use std::time::Duration;

use control_store::{Recipient, RegistrySettings};
use credential::auth::AuthError;
use credential::{
    Credential, CredentialKind, ExposeSecret, RegistryScope, SecretName, SecretString,
};
use ids::{LeaseId, SecretId, WorkspaceId};
use jiff::Timestamp;
use token_exchange::{Identity, Proof};
use vault::{
    AfterRemoval, AuditAction, CheckedState, NewSecret, Noted, Put, SealedVersion, SecretState,
    VersionRow,
};

use crate::binding::Bound;
use crate::broker::{Broker, Inner, endpoint};
use crate::error::{BrokerError, about_absent_secret};

/// Who the audit log says it was, on one machine.
const ACTOR: &str = "login";

/// How PEM files start, after any comment.
const PEM_START: &[u8] = b"-----BEGIN ";

/// The states of a credential that the clock decides.
pub(crate) const EXPIRED: &str = "expired";
pub(crate) const EXPIRING: &str = "expiring";

/// For so long before its end a credential that works is said to end: over a night, somebody who
/// can give another one sees it.
const EXPIRING_BEFORE: Duration = Duration::from_hours(24);

/// Scopes that a hint names.
const SHOWN_SCOPES: usize = 3;

/// What is given.
#[derive(Debug, Clone)]
pub struct LoginRequest {
    pub scope: RegistryScope,
    pub credential: Credential,
    pub settings: RegistrySettings,
}

/// How far the registry's word goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proven {
    /// It took the credential at its door.
    Ping,
    /// It let the credential read the repository that the scope names.
    Repository,
}

impl Proven {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Repository => "repository",
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginReport {
    pub scope: RegistryScope,
    pub kind: CredentialKind,
    /// Whether it holds no secret.
    pub is_keyless: bool,
    pub secret_name: SecretName,
    pub version: u32,
    /// Whether the version was made just now.
    pub is_new: bool,
    pub proven: Proven,
    /// When the credential itself ends, where that is known.
    pub not_after: Option<Timestamp>,
    /// The token service that it went to.
    pub token_service: Option<String>,
    pub hints: Vec<String>,
}

/// A credential that a registry has taken.
struct Checked {
    name: SecretName,
    scope: RegistryScope,
    scope_text: String,
    bound: Bound,
    /// What is sealed, or stands in the clear where there is no secret in it.
    text: SecretString,
    nothing: SecretString,
    proof: Proof,
}

impl Checked {
    fn secret(&self) -> NewSecret<'_> {
        let is_keyless = self.bound.credential.is_keyless();
        NewSecret {
            name: &self.name,
            kind: self.bound.credential.kind().as_str(),
            scope: &self.scope_text,
            plaintext: if is_keyless {
                &self.nothing
            } else {
                &self.text
            },
            in_clear: is_keyless.then(|| self.text.expose_secret()),
        }
    }
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutReport {
    pub scope: RegistryScope,
    pub secret_name: SecretName,
    pub version: u32,
    /// Grants that the credential had proved and that ended with it.
    pub grants_revoked: u64,
    /// What becomes of containers that run with it.
    pub running: AfterRemoval,
}

/// A credential as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    pub scope: RegistryScope,
    pub kind: String,
    pub secret_name: String,
    pub version: u32,
    /// The last check's answer, or `expired` once the credential has said so itself.
    pub state: &'static str,
    pub proven: Option<String>,
    pub checked_at: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub secret_id: SecretId,
    pub(crate) rung: Option<String>,
    pub(crate) realm: Option<String>,
}

impl CredentialRow {
    pub(crate) fn sealed(&self) -> SealedVersion {
        SealedVersion {
            secret_id: self.secret_id,
            version: self.version,
        }
    }
}

impl Broker {
    /// Checks a credential against its registry and seals it as the next version of its scope.
    /// What the registry refuses, or cannot be asked about, is not stored.
    pub async fn login(
        &self,
        workspace: WorkspaceId,
        request: LoginRequest,
    ) -> Result<LoginReport, BrokerError> {
        let checked = self.inner.check_request(workspace, request).await?;
        let vault = &self.inner.vault;
        let put = vault.put(workspace, checked.secret(), ACTOR).await?;
        self.logged_in(workspace, checked, put).await
    }

    /// The same for what takes the place of this version; of another one it does not.
    pub(crate) async fn login_after(
        &self,
        workspace: WorkspaceId,
        request: LoginRequest,
        replaces: SealedVersion,
    ) -> Result<LoginReport, BrokerError> {
        let checked = self.inner.check_request(workspace, request).await?;
        let vault = &self.inner.vault;
        let put = vault.put_after(workspace, Some(replaces), checked.secret(), ACTOR);
        let put = put.await?.ok_or_else(|| BrokerError::ChangedMeanwhile {
            scope: checked.scope.clone(),
        })?;
        self.logged_in(workspace, checked, put).await
    }

    async fn logged_in(
        &self,
        workspace: WorkspaceId,
        checked: Checked,
        put: SealedVersion,
    ) -> Result<LoginReport, BrokerError> {
        let report = self.inner.note(workspace, checked, Put::New(put), ACTOR);
        let mut report = report.await?;
        let rows = self.inner.credentials(workspace).await?;
        report.hints.extend(nearer_hint(&report.scope, &rows));
        Ok(report)
    }

    /// The same for a credential that comes again with each use: one that its scope has already is
    /// checked, and makes no version.
    pub async fn login_with(
        &self,
        workspace: WorkspaceId,
        request: LoginRequest,
        actor: &str,
    ) -> Result<LoginReport, BrokerError> {
        let checked = self.inner.check_request(workspace, request).await?;
        let vault = &self.inner.vault;
        let put = vault.put_if_changed(workspace, checked.secret(), actor);
        let put = put.await?;
        self.inner.note(workspace, checked, put, actor).await
    }

    /// Removes a credential; what becomes of what runs with it is as its workspace has it.
    pub async fn logout(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
    ) -> Result<LogoutReport, BrokerError> {
        let running = self.after_removal(workspace).await?;
        self.logout_and(workspace, scope, running).await
    }

    /// Removes a credential, and says what becomes of the containers that run with it. Every lease
    /// on it ends with it and has no answer to its next question.
    pub async fn logout_and(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        running: AfterRemoval,
    ) -> Result<LogoutReport, BrokerError> {
        let broker = &*self.inner;
        let name = scope.secret_name();
        let removed = broker.vault.remove_and(workspace, &name, "logout", running);
        let removed = removed.await;
        let removed = removed.map_err(|error| no_credential(scope, error))?;
        broker.forget(workspace, removed);
        let grants_revoked = broker
            .store
            .revoke_grants_of(workspace, removed.secret_id)
            .await?;
        broker
            .store
            .remove_settings(workspace, &scope.to_string())
            .await?;
        for recipient in Recipient::ALL {
            let text = scope.to_string();
            broker
                .store
                .remove_share(workspace, &text, recipient)
                .await?;
        }
        Ok(LogoutReport {
            running,
            scope: scope.clone(),
            secret_name: name,
            version: removed.version,
            grants_revoked,
        })
    }

    /// The registry credentials of a workspace.
    pub async fn list(&self, workspace: WorkspaceId) -> Result<Vec<CredentialRow>, BrokerError> {
        self.inner.credentials(workspace).await
    }

    /// Every version that a scope ever had, newest first.
    pub async fn history(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
    ) -> Result<Vec<VersionRow>, BrokerError> {
        let name = scope.secret_name();
        let versions = self.inner.vault.history(workspace, &name).await?;
        if versions.is_empty() {
            return Err(BrokerError::NoCredential {
                scope: scope.clone(),
            });
        }
        Ok(versions)
    }
}

impl Inner {
    pub(crate) async fn credentials(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Vec<CredentialRow>, BrokerError> {
        let now = self.clock.now();
        let rows = self.vault.list(workspace).await?;
        let row = |row: vault::SecretRow| {
            let scope: RegistryScope = row.scope.parse().ok()?;
            // A secret that is not named after its scope is somebody's own, not a credential.
            if scope.secret_name().as_str() != row.name {
                return None;
            }
            let ends_within = |time| {
                let end = row.state.not_after;
                end.is_some_and(|end| now.checked_add(time).is_ok_and(|then| end <= then))
            };
            Some(CredentialRow {
                scope,
                kind: row.kind,
                secret_name: row.name,
                version: row.version,
                state: match row.state.state {
                    _ if ends_within(Duration::ZERO) => EXPIRED,
                    SecretState::Ok if ends_within(EXPIRING_BEFORE) => EXPIRING,
                    state => state.as_str(),
                },
                proven: row.state.proven,
                checked_at: row.state.checked_at,
                not_after: row.state.not_after,
                secret_id: row.secret_id,
                rung: row.state.rung,
                realm: row.state.realm,
            })
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    async fn check_request(
        &self,
        workspace: WorkspaceId,
        request: LoginRequest,
    ) -> Result<Checked, BrokerError> {
        let proof = self
            .prove(workspace, &request, request.scope.path())
            .await?;
        let LoginRequest {
            scope,
            credential,
            settings,
        } = request;
        let bound = Bound {
            credential,
            settings,
        };
        Ok(Checked {
            name: scope.secret_name(),
            scope_text: scope.to_string(),
            text: bound.to_sealed(),
            nothing: SecretString::default(),
            scope,
            bound,
            proof,
        })
    }

    /// Notes beside a version what was proven of it.
    async fn note(
        &self,
        workspace: WorkspaceId,
        checked: Checked,
        put: Put,
        actor: &str,
    ) -> Result<LoginReport, BrokerError> {
        let Checked {
            name,
            scope,
            scope_text,
            bound,
            proof,
            ..
        } = checked;
        let sealed = put.sealed();
        let state = checked_state(&proof);
        let lending = self.note_lending(workspace, &scope, &bound.settings, actor);
        let lending = lending.await?;
        self.store
            .put_settings(workspace, &scope_text, &bound.settings)
            .await?;
        self.vault.set_state(sealed, &state).await?;
        let mut hints = hints(&scope, &bound.settings, &proof);
        if lending == Some(AuditAction::Unlend) {
            hints.push(
                "workers may no longer be given it as it is, as they might until now; \
                 `--workers-may-hold-password` has to be said with each login"
                    .to_owned(),
            );
        }
        Ok(LoginReport {
            hints,
            scope,
            kind: bound.credential.kind(),
            is_keyless: bound.credential.is_keyless(),
            secret_name: name,
            version: sealed.version,
            is_new: matches!(put, Put::New(_)),
            proven: proven(&proof),
            not_after: proof.not_after,
            token_service: proof.token_service,
        })
    }

    /// Has on record, before it is so, that workers may hold a credential, or no longer.
    async fn note_lending(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        settings: &RegistrySettings,
        actor: &str,
    ) -> Result<Option<AuditAction>, BrokerError> {
        let before = self.settings_of(workspace, scope).await?;
        let action = match (
            before.workers_may_hold_password,
            settings.workers_may_hold_password,
        ) {
            (false, true) => AuditAction::Lend,
            (true, false) => AuditAction::Unlend,
            _ => return Ok(None),
        };
        let name = scope.secret_name();
        let about = Noted {
            workspace: Some(workspace),
            subject: name.as_str(),
            detail: &format!("workers and {scope}"),
        };
        self.vault.note(action, actor, about).await?;
        Ok(Some(action))
    }

    /// How far the registry lets a credential go that is not sealed.
    pub(crate) async fn prove(
        &self,
        workspace: WorkspaceId,
        request: &LoginRequest,
        repository: Option<&str>,
    ) -> Result<Proof, BrokerError> {
        check_request(request)?;
        self.check_node_identity(workspace, request).await?;
        let absent = request.credential.absent_secret();
        if let (Some(absent), false) = (absent, self.issuer.is_known()) {
            let scope = request.scope.clone();
            return Err(BrokerError::NoSecret { scope, absent });
        }
        let bound = Bound {
            credential: request.credential.clone(),
            settings: request.settings.clone(),
        };
        let identity = Identity {
            key: format!("login/{}", LeaseId::new()),
            credential: self.identity(workspace, &request.scope, bound),
            token_service: request.settings.token_service.clone(),
        };
        let endpoint = endpoint(request.scope.registry(), &request.settings);
        let proof = self.exchange.check(endpoint, identity, repository).await;
        proof.map_err(|source| auth_error(&request.scope, about_absent_secret(source, absent)))
    }
}

fn check_request(request: &LoginRequest) -> Result<(), BrokerError> {
    let scope = || request.scope.clone();
    if request.credential.kind() == CredentialKind::Public {
        return Err(BrokerError::NothingToSeal { scope: scope() });
    }
    let is_pem = |pem: &Vec<u8>| {
        let begins = pem
            .windows(PEM_START.len())
            .any(|window| window == PEM_START);
        begins && std::str::from_utf8(pem).is_ok()
    };
    if request
        .settings
        .ca_pem
        .as_ref()
        .is_some_and(|pem| !is_pem(pem))
    {
        return Err(BrokerError::BadCa { scope: scope() });
    }
    Ok(())
}

pub(crate) fn auth_error(scope: &RegistryScope, source: AuthError) -> BrokerError {
    BrokerError::Auth {
        scope: scope.clone(),
        source,
    }
}

pub(crate) fn no_credential(scope: &RegistryScope, error: vault::VaultError) -> BrokerError {
    match error {
        vault::VaultError::NotFound { .. } => BrokerError::NoCredential {
            scope: scope.clone(),
        },
        error => error.into(),
    }
}

pub(crate) fn proven(proof: &Proof) -> Proven {
    match proof.proven {
        token_exchange::Proven::Ping => Proven::Ping,
        token_exchange::Proven::Repository => Proven::Repository,
    }
}

pub(crate) fn checked_state(proof: &Proof) -> CheckedState {
    CheckedState {
        state: SecretState::Ok,
        proven: Some(proven(proof).as_str().to_owned()),
        rung: Some(proof.rung.as_str().to_owned()),
        realm: proof.token_service.clone(),
        not_after: proof.not_after,
    }
}

fn hints(scope: &RegistryScope, settings: &RegistrySettings, proof: &Proof) -> Vec<String> {
    let registry = scope.registry();
    let mut hints = Vec::new();
    if !proof.login_needed {
        hints.push(format!(
            "{registry} lets everyone in, so it has not said whether the credential is right"
        ));
    } else if let (Some(path), Proven::Ping) = (scope.path(), proven(proof)) {
        hints.push(format!(
            "{registry} took the credential and knows no repository {path}; \
             it is used for all repositories below that path"
        ));
    }
    if let Some(not_after) = proof.not_after {
        hints.push(format!(
            "the credential ends at {not_after} and cannot be renewed; log in again before then"
        ));
    }
    if settings.plain_http && !registry.is_loopback() {
        hints.push(format!(
            "the credential crosses the network to {registry} in the clear"
        ));
    }
    if settings.workers_may_hold_password && proof.rung.is_whole_identity() {
        hints.push(format!(
            "workers are given it as it is; `holdfast audit blast --credential {scope}` lists which"
        ));
    }
    hints
}

/// Whoever logs in anew because a pull was refused looks for the cause here.
fn nearer_hint(scope: &RegistryScope, rows: &[CredentialRow]) -> Option<String> {
    let nearer = rows.iter().map(|row| &row.scope).filter(|row| {
        let path = row.path().unwrap_or_default();
        *row != scope && scope.covers(row.registry(), path)
    });
    let nearer: Vec<String> = nearer.map(ToString::to_string).collect();
    let shown = nearer.get(..SHOWN_SCOPES).unwrap_or(&nearer).join(", ");
    let more = match nearer.len().saturating_sub(SHOWN_SCOPES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!nearer.is_empty()).then(|| {
        format!(
            "images of {shown}{more} are still read with the credential of that scope; \
             `holdfast logout` of it ends that"
        )
    })
}
