//! The open broker: vault, control store and token exchange of one installation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use control_store::{ControlStore, RegistrySettings, SqlStore};
use credential::RegistryScope;
use database::DatabaseAddress;
use dial::Dialer;
use ids::{SecretId, WorkerId, WorkspaceId, WorkspaceName};
use reference::Registry;
use registry_client::Endpoint;
use token_exchange::{Clock, SystemClock, TokenExchange};
use vault::{AfterRemoval, SealedVersion, Vault, VaultPlace};

use crate::error::BrokerError;
use crate::issuer::Issuer;
use crate::node_identity::NodeIdentities;

/// Where an installation's databases are.
#[derive(Debug, Clone)]
pub struct BrokerPaths {
    pub vault: VaultPlace,
    /// The control store's.
    pub state: DatabaseAddress,
}

/// Policy over sealed credentials. Cheap to clone; clones share tokens.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) vault: Vault,
    pub(crate) store: Arc<dyn ControlStore>,
    pub(crate) exchange: TokenExchange,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) issuer: Issuer,
    pub(crate) nodes: NodeIdentities,
    pub(crate) lease_alarms: AtomicU64,
    pub(crate) read_through_bytes: Arc<AtomicU64>,
}

impl Broker {
    /// Opens an installation's databases, making them where there are none.
    pub async fn open(paths: BrokerPaths, dialer: Dialer) -> Result<Self, BrokerError> {
        Self::open_with(paths, dialer, Arc::new(SystemClock)).await
    }

    pub async fn open_with(
        paths: BrokerPaths,
        dialer: Dialer,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        let vault_clock = Arc::clone(&clock);
        let vault_clock = vault::Clock::new(move || vault_clock.now());
        let vault = Vault::open_with(paths.vault, vault_clock).await?;
        // Readers that were killed hold their version no longer than their lease.
        if let Err(error) = vault.sweep_leases().await {
            tracing::warn!(%error, "leases that are over could not be ended");
        }
        let store: Arc<dyn ControlStore> = Arc::new(SqlStore::open(&paths.state).await?);
        let exchange = TokenExchange::new(dialer, Arc::clone(&clock));
        let issuer = Issuer::new(vault.clone(), Arc::clone(&clock));
        let nodes = NodeIdentities::new(vault.clone(), Arc::clone(&store));
        Ok(Self {
            inner: Arc::new(Inner {
                vault,
                store,
                exchange,
                clock,
                issuer,
                nodes,
                lease_alarms: AtomicU64::new(0),
                read_through_bytes: Arc::default(),
            }),
        })
    }

    /// The workspace of this name, made when there is none. When the control store was lost and
    /// the vault knows exactly one workspace, the first name made is that one's again.
    pub async fn workspace(&self, name: &WorkspaceName) -> Result<WorkspaceId, BrokerError> {
        let known = self.inner.store.workspaces().await?;
        if let Some(workspace) = known.iter().find(|workspace| workspace.name == *name) {
            return Ok(workspace.id);
        }
        let sealed_for = self.inner.vault.workspaces().await?;
        let proposed = match (known.as_slice(), sealed_for.as_slice()) {
            ([], [only]) => *only,
            _ => WorkspaceId::new(),
        };
        let workspace = self.inner.store.ensure_workspace(name, proposed).await?;
        Ok(workspace.id)
    }

    /// The vault, for the commands that keep it in order.
    pub fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// The control store, for images and their grants.
    pub fn store(&self) -> &Arc<dyn ControlStore> {
        &self.inner.store
    }

    /// Removed credentials whose containers are not to run on.
    pub async fn called_off(&self) -> Result<Vec<(SecretId, AfterRemoval)>, BrokerError> {
        Ok(self.inner.vault.called_off().await?)
    }

    /// Ends all leases of a worker at once. Answers how many.
    pub async fn evict(&self, worker: WorkerId, actor: &str) -> Result<usize, BrokerError> {
        Ok(self.inner.vault.evict_leases(worker, actor).await?)
    }

    /// Leases so far that two have used.
    pub fn lease_alarms(&self) -> u64 {
        self.inner.lease_alarms.load(Ordering::Relaxed)
    }

    /// Bytes of images so far that were read for who is given nothing to read them with.
    pub fn read_through_bytes(&self) -> u64 {
        self.inner.read_through_bytes.load(Ordering::Relaxed)
    }

    /// Requests sent to token services so far.
    pub fn token_requests(&self) -> u64 {
        self.inner.exchange.token_requests()
    }
}

impl Inner {
    /// Forgets what was minted of a version.
    pub(crate) fn forget(&self, workspace: WorkspaceId, sealed: SealedVersion) {
        for holders in [Holders::Broker, Holders::Workers] {
            self.exchange
                .forget(&identity_key_of(workspace, sealed, holders));
        }
    }

    /// How a registry is spoken to within a scope.
    pub(crate) async fn settings_of(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
    ) -> Result<RegistrySettings, BrokerError> {
        let all = self.settings(workspace).await?;
        let own = all.into_iter().find(|(other, _)| other == scope);
        Ok(own.map(|(_, settings)| settings).unwrap_or_default())
    }

    /// All settings of a workspace whose scopes read. Others were not written by this program and
    /// say nothing about any registry.
    pub(crate) async fn settings(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Vec<(RegistryScope, RegistrySettings)>, BrokerError> {
        let all = self.store.settings(workspace).await?;
        let parsed = all
            .into_iter()
            .filter_map(|(scope, settings)| Some((scope.parse().ok()?, settings)));
        Ok(parsed.collect())
    }
}

pub(crate) fn endpoint(registry: &Registry, settings: &RegistrySettings) -> Endpoint {
    Endpoint {
        registry: registry.clone(),
        plain_http: settings.plain_http,
        ca_pem: settings.ca_pem.clone(),
    }
}

/// Who may be given what is minted of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holders {
    Broker,
    Workers,
}

impl Holders {
    pub(crate) fn by(settings: &RegistrySettings) -> Self {
        if settings.workers_may_hold_password {
            Self::Workers
        } else {
            Self::Broker
        }
    }
}

/// What tokens of a version are kept under: unique for workspace, secret and version, and for who
/// may hold them, so that one who says otherwise than was sealed finds none.
pub(crate) fn identity_key_of(
    workspace: WorkspaceId,
    sealed: SealedVersion,
    holders: Holders,
) -> String {
    let SealedVersion { secret_id, version } = sealed;
    match holders {
        Holders::Broker => format!("{workspace}/{secret_id}/{version}"),
        Holders::Workers => format!("{workspace}/{secret_id}/{version}/workers"),
    }
}
