//! Credentials for programs of others: docker, podman and the kubelet log in by themselves, and ask
//! for a user name and a password.
//!
//! None is handed out unless somebody shares its scope with that recipient, and each time it is,
//! the audit log has a row first. What was minted goes where there is such a thing; otherwise it is
//! the stored password, which its recipient then has for good. A share is of one secret: it ends
//! with it, and new versions keep it.

use std::collections::BTreeSet;
use std::fmt;

use control_store::{Recipient, Share};
use credential::auth::AuthError;
use credential::{Credential, RegistryScope, SecretString, most_specific, token_username};
use ids::WorkspaceId;
use jiff::Timestamp;
use reference::Registry;
use token_exchange::{Identity, Rung, UserPassword};
use vault::{AuditAction, Given, HandedOutTo, Noted};

use crate::binding::Bound;
use crate::broker::{Broker, Holders, Inner, endpoint, identity_key_of};
use crate::error::BrokerError;
use crate::login::{CredentialRow, auth_error, no_credential};

/// What a recipient asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A registry: there is one credential for all of it.
    Registry(Registry),
    /// One repository.
    Repository {
        registry: Registry,
        repository: String,
    },
}

/// What a recipient is given.
#[derive(Clone)]
pub struct HandedOut {
    pub scope: RegistryScope,
    pub version: u32,
    pub username: String,
    pub password: SecretString,
    /// When it ends, where that is known.
    pub not_after: Option<Timestamp>,
    /// Whether it was minted; what was not is what is stored.
    pub is_minted: bool,
}

impl fmt::Debug for HandedOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HandedOut")
            .field("scope", &self.scope)
            .field("version", &self.version)
            .field("not_after", &self.not_after)
            .field("is_minted", &self.is_minted)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(registry) => write!(formatter, "{registry}"),
            Self::Repository {
                registry,
                repository,
            } => write!(formatter, "{registry}/{repository}"),
        }
    }
}

impl Broker {
    /// Has a credential handed out to this recipient from now on. Tries it first: what cannot be
    /// handed out is not shared.
    pub async fn share(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        recipient: Recipient,
        actor: &str,
    ) -> Result<HandedOut, BrokerError> {
        let broker = &*self.inner;
        let rows = broker.credentials(workspace).await?;
        let row = rows.iter().find(|row| row.scope == *scope);
        let row = row.ok_or_else(|| BrokerError::NoCredential {
            scope: scope.clone(),
        })?;
        let purpose = format!("share with {}", recipient.as_str());
        let handed_out = broker.give(workspace, row, recipient, &purpose).await?;
        broker
            .note_share(AuditAction::Share, workspace, row, recipient, actor)
            .await?;
        let share = Share {
            scope: scope.to_string(),
            recipient,
            secret_id: row.secret_id,
        };
        broker.store.put_share(workspace, &share).await?;
        Ok(handed_out)
    }

    /// Ends a share; answers whether there was one.
    pub async fn unshare(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        recipient: Recipient,
        actor: &str,
    ) -> Result<bool, BrokerError> {
        let broker = &*self.inner;
        let shared = self.shared(workspace).await?;
        let meant = shared
            .iter()
            .find(|(row, to)| row.scope == *scope && *to == recipient);
        if let Some((row, _)) = meant {
            broker
                .note_share(AuditAction::Unshare, workspace, row, recipient, actor)
                .await?;
        }
        let text = scope.to_string();
        let removed = broker.store.remove_share(workspace, &text, recipient);
        Ok(removed.await? && meant.is_some())
    }

    /// The credentials that are shared, and with whom.
    pub async fn shared(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Vec<(CredentialRow, Recipient)>, BrokerError> {
        let rows = self.inner.credentials(workspace).await?;
        self.inner.shared(workspace, &rows).await
    }

    /// The registries that a recipient is given a credential for, and its user name there.
    pub async fn handed_out_to(
        &self,
        workspace: WorkspaceId,
        recipient: Recipient,
    ) -> Result<Vec<(Registry, String)>, BrokerError> {
        let broker = &*self.inner;
        let shared = self.shared(workspace).await?;
        let to_this = shared.iter().filter(|(_, to)| *to == recipient);
        let shared: Vec<&CredentialRow> = to_this.map(|(row, _)| row).collect();
        let registries: BTreeSet<&Registry> =
            shared.iter().map(|row| row.scope.registry()).collect();
        let mut listed = Vec::new();
        for registry in registries {
            // Of several, none is given.
            let asked = Asked::Registry(registry.clone());
            let Ok(Some(row)) = choose(&shared, &asked, recipient) else {
                continue;
            };
            let purpose = format!("list for {}", recipient.as_str());
            let bound = broker.open_row(workspace, row, &purpose).await?;
            listed.push((registry.clone(), username(&bound.credential, registry)));
        }
        Ok(listed)
    }

    /// A user name and a password for what a recipient asks for.
    pub async fn hand_out(
        &self,
        workspace: WorkspaceId,
        asked: &Asked,
        recipient: Recipient,
    ) -> Result<HandedOut, BrokerError> {
        let broker = &*self.inner;
        let rows = broker.credentials(workspace).await?;
        let shared = broker.shared(workspace, &rows).await?;
        let to_this = shared.iter().filter(|(_, to)| *to == recipient);
        let shared: Vec<&CredentialRow> = to_this.map(|(row, _)| row).collect();
        let purpose = format!("hand out to {} for {asked}", recipient.as_str());
        let chosen = choose(&shared, asked, recipient)
            .and_then(|row| row.ok_or_else(|| not_shared(&rows, asked, recipient)));
        let row = match chosen {
            Ok(row) => row,
            Err(error) => return Err(broker.refused(workspace, asked, &purpose, error).await),
        };
        let given = broker.give(workspace, row, recipient, &purpose).await?;
        broker
            .note_handed_out(workspace, row, &given, (asked, recipient))
            .await?;
        Ok(given)
    }
}

impl Inner {
    async fn shared(
        &self,
        workspace: WorkspaceId,
        rows: &[CredentialRow],
    ) -> Result<Vec<(CredentialRow, Recipient)>, BrokerError> {
        let shares = self.store.shares(workspace).await?;
        let of = |share: Share| {
            let meant = rows.iter().find(|row| {
                row.secret_id == share.secret_id && row.scope.to_string() == share.scope
            });
            Some((meant?.clone(), share.recipient))
        };
        Ok(shares.into_iter().filter_map(of).collect())
    }

    async fn give(
        &self,
        workspace: WorkspaceId,
        row: &CredentialRow,
        recipient: Recipient,
        purpose: &str,
    ) -> Result<HandedOut, BrokerError> {
        let scope = &row.scope;
        let bound = self.open_row(workspace, row, purpose).await?;
        let endpoint = endpoint(scope.registry(), &bound.settings);
        let identity = Identity {
            key: identity_key_of(workspace, row.sealed(), Holders::by(&bound.settings)),
            token_service: bound.settings.token_service.clone(),
            credential: self.identity(workspace, scope, bound),
        };
        let asked = self.exchange.user_password(endpoint, identity);
        let given = asked.await.map_err(|error| auth_error(scope, error))?;
        if recipient == Recipient::Kubelet && given.is_identity_token() {
            let message = "the kubelet takes passwords, and no identity tokens".to_owned();
            return Err(auth_error(scope, AuthError::Refused { message }));
        }
        Ok(handed_out(row, given))
    }

    async fn open_row(
        &self,
        workspace: WorkspaceId,
        row: &CredentialRow,
        purpose: &str,
    ) -> Result<Bound, BrokerError> {
        let scope = &row.scope;
        let opened = self
            .vault
            .open_secret(workspace, &scope.secret_name(), Some(row.version), purpose)
            .await
            .map_err(|error| no_credential(scope, error))?;
        // Removed and given anew in between: that one is not shared.
        if opened.secret_id != row.secret_id {
            let scope = scope.clone();
            return Err(BrokerError::NoCredential { scope });
        }
        let bound = Bound::from_opened(opened);
        bound.map_err(|source| BrokerError::Unreadable {
            scope: scope.clone(),
            source: Box::new(source),
        })
    }

    async fn note_share(
        &self,
        action: AuditAction,
        workspace: WorkspaceId,
        row: &CredentialRow,
        recipient: Recipient,
        actor: &str,
    ) -> Result<(), BrokerError> {
        let about = Noted {
            workspace: Some(workspace),
            subject: &row.secret_name,
            detail: recipient.as_str(),
        };
        Ok(self.vault.note(action, actor, about).await?)
    }
}

impl Inner {
    /// Has it on record before anybody has it.
    async fn note_handed_out(
        &self,
        workspace: WorkspaceId,
        row: &CredentialRow,
        given: &HandedOut,
        (asked, recipient): (&Asked, Recipient),
    ) -> Result<(), BrokerError> {
        let rung = if given.is_minted {
            Rung::MintedPassword
        } else {
            Rung::Basic
        };
        let to = HandedOutTo {
            recipient: recipient.as_str(),
            asked: &asked.to_string(),
            given: &Given {
                rung: rung.as_str().to_owned(),
                not_after: given.not_after,
            },
        };
        let name = row.scope.secret_name();
        let noted = self
            .vault
            .note_handed_out(workspace, &name, row.sealed(), &to);
        Ok(noted.await?)
    }

    /// Has a refusal on record, and answers with it. Where there is no credential nobody is
    /// refused: programs ask about every registry that they come by.
    async fn refused(
        &self,
        workspace: WorkspaceId,
        asked: &Asked,
        purpose: &str,
        error: BrokerError,
    ) -> BrokerError {
        if matches!(error, BrokerError::NoCredential { .. }) {
            return error;
        }
        let about = Noted {
            workspace: Some(workspace),
            subject: &asked.to_string(),
            detail: &error.to_string(),
        };
        match self.vault.note(AuditAction::Deny, purpose, about).await {
            Ok(()) => error,
            Err(unwritten) => unwritten.into(),
        }
    }
}

fn handed_out(row: &CredentialRow, given: UserPassword) -> HandedOut {
    HandedOut {
        scope: row.scope.clone(),
        version: row.version,
        username: given.username,
        password: given.password,
        not_after: given.not_after,
        is_minted: given.is_minted,
    }
}

/// The user name that would be handed out. What is minted goes under the one of its service.
fn username(credential: &Credential, registry: &Registry) -> String {
    let traded = credential.is_traded().then(|| token_username(registry, ""));
    let of_service = traded.flatten();
    let stored = || credential.basic_parts().map(|(username, _)| username);
    of_service.or_else(stored).unwrap_or_default().to_owned()
}

/// The nearest that covers a repository. For a registry the one of all of it, or else the only one
/// that is shared: who asks by host cannot say which of several is meant.
fn choose<'a>(
    shared: &[&'a CredentialRow],
    asked: &Asked,
    recipient: Recipient,
) -> Result<Option<&'a CredentialRow>, BrokerError> {
    let of = |scope: &RegistryScope| shared.iter().find(|row| row.scope == *scope).copied();
    let registry = match asked {
        Asked::Repository {
            registry,
            repository,
        } => {
            let scopes = shared.iter().map(|row| &row.scope);
            return Ok(most_specific(scopes, registry, repository).and_then(of));
        }
        Asked::Registry(registry) => registry,
    };
    if let Some(row) = of(&RegistryScope::of_registry(registry.clone())) {
        return Ok(Some(row));
    }
    let here = shared.iter().filter(|row| row.scope.registry() == registry);
    match here.collect::<Vec<_>>().as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        _ => Err(BrokerError::SeveralShared {
            registry: registry.clone(),
            recipient: recipient.as_str(),
        }),
    }
}

/// Says what could be shared.
fn not_shared(rows: &[CredentialRow], asked: &Asked, recipient: Recipient) -> BrokerError {
    let (registry, path) = match asked {
        Asked::Registry(registry) => (registry, None),
        Asked::Repository {
            registry,
            repository,
        } => (registry, Some(repository.as_str())),
    };
    let covers = |row: &&CredentialRow| match path {
        Some(path) => row.scope.covers(registry, path),
        None => row.scope.registry() == registry,
    };
    match rows.iter().find(covers) {
        Some(row) => BrokerError::NotShared {
            scope: row.scope.clone(),
            recipient: recipient.as_str(),
        },
        None => BrokerError::NoCredential {
            scope: RegistryScope::of_registry(registry.clone()),
        },
    }
}
