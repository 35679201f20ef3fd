//! A new secret for a credential that is there already: same scope, same kind, same settings.
//!
//! It is tried with every repository that is read with the old one before it takes its place, so
//! that what would break is known before it does. The repositories are asked about one after
//! another, and none any more once the credential itself is refused: registries lock accounts.

use std::collections::BTreeMap;

use control_store::GrantProof;
use credential::auth::AuthError;
use credential::{
    AzureFields, AzureSecret, Credential, Fields, GcpFields, RegistryScope, SecretString,
};
use ids::WorkspaceId;
use reference::Reference;
use vault::SealedVersion;

use crate::binding::Bound;
use crate::broker::Broker;
use crate::error::{BrokerError, auth_kind};
use crate::explain::choose;
use crate::login::{LoginReport, LoginRequest, Proven, no_credential, proven};

/// What stands in the audit log where a version is opened for this.
const PURPOSE: &str = "rotate";

/// A repository that is read with the credential, and what the new one would do there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Registry and repository.
    pub repository: String,
    /// One of the images of it that are in use.
    pub image: String,
    /// One word and a sentence; nothing where the new credential reads it.
    pub breaks: Option<(&'static str, String)>,
}

/// A credential that its registry takes, and that was tried wherever the old one is in use.
#[derive(Debug)]
pub struct Rotation {
    broker: Broker,
    workspace: WorkspaceId,
    request: LoginRequest,
    /// The version that it is to take the place of.
    replaces: SealedVersion,
    trials: Vec<Trial>,
}

impl Broker {
    /// Tries a new password or token. User name and settings stay as they are, unless another user
    /// name is given.
    pub async fn try_rotation(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        username: Option<String>,
        secret: SecretString,
    ) -> Result<Rotation, BrokerError> {
        let (replaces, bound) = self.opened(workspace, scope, None).await?;
        let credential = renewed(&bound.credential, username, secret);
        let credential = credential.ok_or_else(|| BrokerError::NotAPassword {
            scope: scope.clone(),
        })?;
        let bound = Bound {
            credential,
            settings: bound.settings,
        };
        self.try_bound(workspace, scope, replaces, bound).await
    }

    /// Tries the version before the current one, which is there as long as something reads with it.
    pub async fn try_undo(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
    ) -> Result<Rotation, BrokerError> {
        let history = self.history(workspace, scope).await?;
        let current = history.iter().find(|row| row.current);
        let current = current.ok_or_else(|| BrokerError::NoCredential {
            scope: scope.clone(),
        })?;
        let gone = || BrokerError::NothingBefore {
            scope: scope.clone(),
        };
        let is_there = |version: u32| {
            let row = history.iter().find(|row| {
                row.version == version && row.removed_at.is_none() && row.retired_at.is_none()
            });
            row.is_some()
        };
        let version = current.version;
        let before = version.checked_sub(1).filter(|version| is_there(*version));
        let opened = self.opened(workspace, scope, Some(before.ok_or_else(gone)?));
        let (before, bound) = match opened.await {
            Err(BrokerError::Vault(vault::VaultError::Retired { .. })) => return Err(gone()),
            opened => opened?,
        };
        let replaces = SealedVersion { version, ..before };
        self.try_bound(workspace, scope, replaces, bound).await
    }

    async fn opened(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        version: Option<u32>,
    ) -> Result<(SealedVersion, Bound), BrokerError> {
        let vault = &self.inner.vault;
        let opened = vault
            .open_secret(workspace, &scope.secret_name(), version, PURPOSE)
            .await
            .map_err(|error| no_credential(scope, error))?;
        let sealed = SealedVersion {
            secret_id: opened.secret_id,
            version: opened.version,
        };
        let bound = Bound::from_opened(opened);
        let bound = bound.map_err(|source| BrokerError::Unreadable {
            scope: scope.clone(),
            source: Box::new(source),
        })?;
        Ok((sealed, bound))
    }

    async fn try_bound(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        replaces: SealedVersion,
        bound: Bound,
    ) -> Result<Rotation, BrokerError> {
        let request = LoginRequest {
            scope: scope.clone(),
            credential: bound.credential,
            settings: bound.settings,
        };
        // What the registry refuses altogether is tried nowhere.
        self.inner
            .prove(workspace, &request, request.scope.path())
            .await?;
        let mut trials = Vec::new();
        let mut is_refused = None;
        for (repository, image) in self.in_use(workspace, scope).await? {
            let breaks = match is_refused.clone() {
                Some(refusal) => Some(refusal),
                None => self.trial(workspace, &request, &image).await,
            };
            if let Some((kind @ ("bad_credential" | "rate_limited"), message)) = &breaks
                && is_refused.is_none()
            {
                is_refused = Some((*kind, format!("not asked, after: {message}")));
            }
            trials.push(Trial {
                repository,
                image: image.canonical(),
                breaks,
            });
        }
        Ok(Rotation {
            broker: self.clone(),
            workspace,
            request,
            replaces,
            trials,
        })
    }

    /// What would break of this image's repository.
    async fn trial(
        &self,
        workspace: WorkspaceId,
        request: &LoginRequest,
        image: &Reference,
    ) -> Option<(&'static str, String)> {
        let repository = Some(image.repository());
        let proof = self.inner.prove(workspace, request, repository).await;
        match proof.as_ref().map(proven) {
            Ok(Proven::Repository) => None,
            Ok(Proven::Ping) => {
                let message = "the registry shows it no such repository".to_owned();
                Some(("no_permission", message))
            }
            Err(BrokerError::Auth { source, .. }) => Some(refusal(source)),
            Err(error) => Some((error.kind(), error.to_string())),
        }
    }

    /// The repositories that are read with the credential of this scope, each by one of its images:
    /// of those on record and those that somebody reads now.
    async fn in_use(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
    ) -> Result<BTreeMap<String, Reference>, BrokerError> {
        let broker = &self.inner;
        let rows = broker.credentials(workspace).await?;
        let is_own = |image: &Reference| {
            let chosen = choose(&rows, image);
            chosen.is_some_and(|row| row.scope == *scope)
        };
        let mut images = Vec::new();
        for image in broker.store.images(workspace).await? {
            let grant = broker
                .store
                .grant(workspace, &image.id, &image.origin)
                .await?;
            let is_public = grant.is_some_and(|grant| grant.proof == GrantProof::Anonymous);
            images.extend((!is_public).then_some(image.canonical));
        }
        for lease in broker.vault.live_leases(workspace).await? {
            images.push(lease.image);
        }
        let images = images
            .iter()
            .filter_map(|image| Reference::parse(image).ok());
        let own = images.filter(is_own);
        let by_repository = own.map(|image| {
            let repository = format!("{}/{}", image.registry(), image.repository());
            (repository, image)
        });
        Ok(by_repository.collect())
    }
}

impl Rotation {
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// Seals it as the next version, if nothing breaks.
    pub async fn commit(self) -> Result<LoginReport, BrokerError> {
        let breaks = self.trials.iter().filter(|trial| trial.breaks.is_some());
        let count = breaks.clone().count();
        if let Some(first) = breaks.clone().next() {
            return Err(BrokerError::WouldBreak {
                scope: self.request.scope.clone(),
                count,
                first: first.repository.clone(),
            });
        }
        self.commit_all_the_same().await
    }

    /// Seals it as the next version, whatever breaks. What was tried is not what is replaced where
    /// somebody else has given another one meanwhile.
    pub async fn commit_all_the_same(self) -> Result<LoginReport, BrokerError> {
        let broker = &self.broker;
        let logging_in = broker.login_after(self.workspace, self.request, self.replaces);
        logging_in.await
    }
}

fn refusal(error: &AuthError) -> (&'static str, String) {
    (auth_kind(error), error.to_string())
}

/// The same credential with another secret; nothing for kinds that need more than one text.
fn renewed(old: &Credential, username: Option<String>, secret: SecretString) -> Option<Credential> {
    let fields = match (old.fields(), username) {
        (Fields::Basic { username: old, .. }, username) => Fields::Basic {
            username: username.unwrap_or_else(|| old.clone()),
            password: secret,
        },
        (Fields::Token { username: old, .. }, username) => Fields::Token {
            username: username.or_else(|| old.clone()),
            token: secret,
        },
        _ if old.is_keyless() => return None,
        (Fields::Gcp(old), None) => Fields::Gcp(renewed_gcp(old, secret)?),
        (Fields::Azure(old), username) => Fields::Azure(AzureFields {
            client_id: username.unwrap_or_else(|| old.client_id.clone()),
            secret: match old.secret {
                AzureSecret::ClientSecret(_) => AzureSecret::ClientSecret(secret),
                AzureSecret::FederatedToken(_) => AzureSecret::FederatedToken(secret),
                AzureSecret::Keyless => return None,
            },
            tenant_id: old.tenant_id.clone(),
        }),
        (
            Fields::Public
            | Fields::Aws(_)
            | Fields::AwsKeyless(_)
            | Fields::Gcp(_)
            | Fields::Node(_),
            _,
        ) => return None,
    };
    Some(Credential::new(fields))
}

fn renewed_gcp(old: &GcpFields, secret: SecretString) -> Option<GcpFields> {
    Some(match old {
        GcpFields::AccessToken { project_id, .. } => GcpFields::AccessToken {
            token: secret,
            project_id: project_id.clone(),
        },
        GcpFields::ServiceAccount { project_id, .. } => GcpFields::ServiceAccount {
            json: secret,
            project_id: project_id.clone(),
        },
        GcpFields::Federated {
            federation,
            project_id,
            ..
        } => GcpFields::Federated {
            federation: federation.clone(),
            subject_token: secret,
            project_id: project_id.clone(),
        },
        GcpFields::Keyless { .. } => return None,
    })
}
