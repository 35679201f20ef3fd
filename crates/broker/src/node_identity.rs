//! Identities of the machine that an operator grants: by name, to workspaces by name, for scopes.
//!
//! A credential that is one says its name and nothing else. What the name means, and for whom it
//! counts, stands in the configuration of whoever runs the machine, and is looked up each time that
//! something is minted: without it nothing is asked of the machine's metadata service, whatever is
//! stored. The machine's identity goes out the usual way alone: with settings of a user's for the
//! registry, it would go where the operator never meant it to.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use control_store::{ControlStore, RegistrySettings};
use credential::auth::AuthError;
use credential::{Fields, RegistryScope};
use ids::{WorkspaceId, WorkspaceName};
use token_exchange::NodeIdentity;
use vault::{AuditAction, Noted, Vault};

use crate::broker::{Broker, Inner};
use crate::error::BrokerError;
use crate::login::{LoginRequest, auth_error};

/// Who the audit log says it was that asked.
const ACTOR: &str = "node identity";

/// What an operator grants under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGrant {
    pub identity: NodeIdentity,
    pub workspaces: Vec<WorkspaceName>,
    /// Registries, or repositories below a path of one.
    pub scopes: Vec<RegistryScope>,
}

/// The grants of this process, and who is asked whether one counts.
#[derive(Clone)]
pub(crate) struct NodeIdentities {
    vault: Vault,
    store: Arc<dyn ControlStore>,
    grants: Arc<OnceLock<HashMap<String, NodeGrant>>>,
}

/// Who wants one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanting<'a> {
    pub(crate) workspace: WorkspaceId,
    pub(crate) scope: &'a RegistryScope,
    pub(crate) settings: &'a RegistrySettings,
}

impl Broker {
    /// Grants these from now on, by name. Whoever was told of none grants none.
    pub fn granting_node_identities(self, grants: HashMap<String, NodeGrant>) -> Self {
        // Said once, where the broker is opened; a second word changes nothing.
        let _ = self.inner.nodes.grants.set(grants);
        self
    }
}

impl Inner {
    /// Whether a login may name the machine's identity that it names, before anybody is asked.
    pub(crate) async fn check_node_identity(
        &self,
        workspace: WorkspaceId,
        request: &LoginRequest,
    ) -> Result<(), BrokerError> {
        let Fields::Node(node) = request.credential.fields() else {
            return Ok(());
        };
        let wanting = Wanting {
            workspace,
            scope: &request.scope,
            settings: &request.settings,
        };
        let granted = self.nodes.granted(&node.name, wanting).await;
        let granted = granted.map_err(|source| auth_error(&request.scope, source))?;
        if granted.kind() == node.kind {
            return Ok(());
        }
        let message = format!("node identity {} is of {}", node.name, granted.kind());
        Err(auth_error(&request.scope, AuthError::Refused { message }))
    }
}

impl NodeGrant {
    fn is_for(&self, workspace: &WorkspaceName, scope: &RegistryScope) -> bool {
        let path = scope.path().unwrap_or_default();
        let is_within = |granted: &RegistryScope| granted.covers(scope.registry(), path);
        self.workspaces.contains(workspace) && self.scopes.iter().any(is_within)
    }
}

impl NodeIdentities {
    pub(crate) fn new(vault: Vault, store: Arc<dyn ControlStore>) -> Self {
        Self {
            vault,
            store,
            grants: Arc::default(),
        }
    }

    /// The identity of this name, where it is granted to who wants it. A refusal is on record, and
    /// says the same whether there is no such name or it is another's.
    pub(crate) async fn granted(
        &self,
        name: &str,
        wanting: Wanting<'_>,
    ) -> Result<NodeIdentity, AuthError> {
        let refusal = match self.find(name, wanting).await? {
            Some(_) if *wanting.settings != RegistrySettings::default() => format!(
                "node identity {name} is for registries that are reached the usual way: without \
                 --ca-file, --plain-http and --token-service"
            ),
            Some(identity) => return Ok(identity),
            None => format!(
                "node identity {name} is not granted to this workspace for {}; who runs this \
                 machine grants it under [node_identity.{name}] in the configuration",
                wanting.scope
            ),
        };
        self.note_refusal(name, wanting).await?;
        Err(AuthError::Refused { message: refusal })
    }

    async fn find(
        &self,
        name: &str,
        wanting: Wanting<'_>,
    ) -> Result<Option<NodeIdentity>, AuthError> {
        let Some(grant) = self.grants.get().and_then(|grants| grants.get(name)) else {
            return Ok(None);
        };
        let all = self.store.workspaces().await;
        let all = all.map_err(|error| internal(&error))?;
        let own = all.into_iter().find(|own| own.id == wanting.workspace);
        let is_granted = own.is_some_and(|own| grant.is_for(&own.name, wanting.scope));
        Ok(is_granted.then(|| grant.identity.clone()))
    }

    async fn note_refusal(&self, name: &str, wanting: Wanting<'_>) -> Result<(), AuthError> {
        let scope = wanting.scope.to_string();
        let about = Noted {
            workspace: Some(wanting.workspace),
            subject: name,
            detail: &scope,
        };
        let noted = self.vault.note(AuditAction::Deny, ACTOR, about).await;
        noted.map_err(|error| internal(&error))
    }
}

impl fmt::Debug for NodeIdentities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NodeIdentities")
            .field("grants", &self.grants.get())
            .finish_non_exhaustive()
    }
}

fn internal(error: &dyn std::error::Error) -> AuthError {
    AuthError::Internal {
        message: format!("node identity: {error}"),
    }
}

#[cfg(test)]
mod tests {
    //! What is granted and what is not, without a machine that has any identity.

    use credential::{Keyless, from_keyless};
    use dial::{DialPolicy, Dialer};
    use registry_sim::MetadataApi;
    use tempfile::TempDir;
    use vault::{RootKey, VaultPlace};

    use super::*;
    use crate::broker::BrokerPaths;

    const REGISTRY: &str = "eu-docker.pkg.dev";

    struct Stage {
        broker: Broker,
        metadata: MetadataApi,
        _directory: TempDir,
    }

    impl Stage {
        /// On a machine of Google's, where nothing else is reached.
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let metadata = MetadataApi::start(("id", "secret", "session")).await;
            let url = metadata.url().parse().unwrap();
            let paths = BrokerPaths {
                vault: VaultPlace {
                    data: directory.path().join("data"),
                    server: None,
                    root_key: root_key(&directory.path().join("etc/root.key")),
                },
                state: database::DatabaseAddress::File(directory.path().join("data/state.db")),
            };
            let dialer = Dialer::with_metadata_at(DialPolicy::default(), url);
            Self {
                broker: Broker::open(paths, dialer).await.unwrap(),
                metadata,
                _directory: directory,
            }
        }

        async fn workspace(&self, name: &str) -> WorkspaceId {
            let name = WorkspaceName::parse(name).unwrap();
            self.broker.workspace(&name).await.unwrap()
        }

        async fn granted(&self, workspace: &str, scope: &str) -> Result<NodeIdentity, AuthError> {
            let workspace = self.workspace(workspace).await;
            let wanting = Wanting {
                workspace,
                scope: &RegistryScope::parse(scope).unwrap(),
                settings: &RegistrySettings::default(),
            };
            self.broker.inner.nodes.granted("puller", wanting).await
        }

        async fn denials(&self) -> usize {
            let rows = self.broker.vault().audit_tail(100).await.unwrap();
            let is_denial = |row: &&vault::AuditRow| row.action == "deny" && row.actor == ACTOR;
            rows.iter().filter(is_denial).count()
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what keeps the key is not tested here"
    )]
    fn root_key(file: &std::path::Path) -> RootKey {
        RootKey::in_this_process(file)
    }

    fn grant() -> NodeGrant {
        NodeGrant {
            identity: NodeIdentity::Google {
                service_account: None,
            },
            workspaces: vec![WorkspaceName::parse("ours").unwrap()],
            scopes: vec![RegistryScope::parse(&format!("{REGISTRY}/acme")).unwrap()],
        }
    }

    #[tokio::test]
    async fn a_node_identity_is_granted_to_whom_and_where_it_was_said() {
        let stage = Stage::new().await;
        let within = format!("{REGISTRY}/acme/app");
        let before = stage.granted("ours", &within).await.unwrap_err();
        let granting = stage.broker.clone();
        drop(granting.granting_node_identities([("puller".to_owned(), grant())].into()));
        for scope in [&within, &format!("{REGISTRY}/acme")] {
            assert_eq!(
                stage.granted("ours", scope).await.unwrap(),
                grant().identity
            );
        }
        let mut told = vec![before.to_string()];
        for (workspace, scope) in [
            ("theirs", within.clone()),
            ("ours", REGISTRY.to_owned()),
            ("ours", format!("{REGISTRY}/acme-evil/app")),
            ("ours", "gcr.io/acme/app".to_owned()),
            ("ours", format!("{REGISTRY}:8443/acme/app")),
        ] {
            let error = stage.granted(workspace, &scope).await.unwrap_err();
            told.push(error.to_string().replace(&scope, &within));
        }
        // Nobody learns whether there is such a name.
        told.dedup();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(stage.denials().await, 6);
        assert_eq!(stage.metadata.counter().read().requests, 0);
    }

    #[tokio::test]
    async fn a_login_that_names_what_is_not_granted_is_refused_before_anybody_is_asked() {
        let stage = Stage::new().await;
        let granting = stage.broker.clone();
        drop(granting.granting_node_identities([("puller".to_owned(), grant())].into()));
        let ours = stage.workspace("ours").await;
        let scope = RegistryScope::parse(&format!("{REGISTRY}/acme/app")).unwrap();
        let credential = |name| from_keyless(scope.registry(), Keyless::Node { name });
        let plain = RegistrySettings {
            plain_http: true,
            ..RegistrySettings::default()
        };
        let elsewhere = RegistrySettings {
            token_service: Some("evil.example".to_owned()),
            ..RegistrySettings::default()
        };
        for (name, settings, told) in [
            ("other", RegistrySettings::default(), "not granted"),
            ("puller", plain, "the usual way"),
            ("puller", elsewhere, "the usual way"),
        ] {
            let request = LoginRequest {
                scope: scope.clone(),
                credential: credential(name).unwrap().credential,
                settings,
            };
            let error = stage.broker.login(ours, request).await.unwrap_err();
            let told_all = crate::error::chain(&error);
            assert!(told_all.contains(told), "{told_all}");
        }
        assert_eq!(stage.denials().await, 3);
        assert_eq!(stage.metadata.counter().read().requests, 0);
        assert_eq!(stage.broker.list(ours).await.unwrap(), []);
    }
}
