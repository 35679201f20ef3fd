//! An installation in a folder, logged in to a simulated registry.

use std::path::Path;

use broker::{Broker, BrokerPaths, CredentialChoice, Lease, LoginRequest, RegistrySettings};
use credential::auth::{AuthRequest, AuthSource};
use credential::{Credential, RegistryScope, SecretString};
use dial::{DialPolicy, Dialer};
use ids::{WorkspaceId, WorkspaceName};
use reference::Reference;
use registry_sim::{Login, Options, Realm, RegistrySim};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use vault::{KeeperProgram, KeySource, RootKey, VaultPlace};

use crate::Outcome;

/// This program's word for the process that keeps the root key.
pub(crate) const KEEP: &str = "keep";

#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    host: String,
}

impl Stage {
    pub(crate) async fn new(folder: &Path, host: &str) -> Outcome<Self> {
        let paths = BrokerPaths {
            vault: place(folder)?,
            state: database::DatabaseAddress::File(folder.join("data/state.db")),
        };
        let broker = Broker::open(paths, Dialer::new(DialPolicy::default())).await?;
        let host = host.to_owned();
        Ok(Self { broker, host })
    }

    /// A workspace with a credential for the registry.
    pub(crate) async fn workspace(&self, number: usize) -> Outcome<WorkspaceId> {
        let name = WorkspaceName::parse(&format!("team-{number}"))?;
        let workspace = self.broker.workspace(&name).await?;
        let Options {
            username, password, ..
        } = Options::default();
        let request = LoginRequest {
            scope: self.scope()?,
            credential: Credential::basic(username, SecretString::from(password)),
            settings: RegistrySettings::default(),
        };
        self.broker.login(workspace, request).await?;
        Ok(workspace)
    }

    pub(crate) fn scope(&self) -> Outcome<RegistryScope> {
        Ok(RegistryScope::parse(&self.host)?)
    }

    pub(crate) async fn lease(&self, workspace: WorkspaceId, app: usize) -> Outcome<Lease> {
        let image = Reference::parse(&format!("{}/acme/app-{app}:latest", self.host))?;
        let lease = self.broker.lease(workspace, &image, CredentialChoice::Auto);
        Ok(lease.await?)
    }

    /// What one start of one image needs: a lease, auth to read with, and the lease's end.
    pub(crate) async fn vend(&self, workspace: WorkspaceId, app: usize) -> Outcome<()> {
        let lease = self.lease(workspace, app).await?;
        ask(&lease).await?;
        lease.end().await?;
        Ok(())
    }
}

pub(crate) async fn ask(lease: &Lease) -> Outcome<()> {
    let request = AuthRequest {
        registry: lease.image().registry(),
        repository: lease.image().repository(),
        rejected: None,
    };
    lease.auth(request).await?;
    Ok(())
}

/// A registry with a token service, on loopback.
pub(crate) async fn registry() -> RegistrySim {
    RegistrySim::with_login(Login::Bearer(Realm::SameHost)).await
}

/// A vault whose root key is in a file and kept by a process of its own, as an installation has it.
pub(crate) fn place(folder: &Path) -> Outcome<VaultPlace> {
    let keeper = KeeperProgram {
        program: std::env::current_exe()?,
        arguments: vec![KEEP.into()],
    };
    let source = KeySource::File(folder.join("etc/root.key"));
    Ok(VaultPlace {
        data: folder.join("data"),
        server: None,
        root_key: RootKey::kept_by(keeper, &source),
    })
}

/// Workspaces' keys that are not under the root key that counts.
pub(crate) async fn keys_left(folder: &Path) -> Outcome<i64> {
    let file = folder.join("data/vault.db");
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = options.connect().await?;
    let left = "SELECT count(*) FROM workspace_key, vault \
                WHERE workspace_key.root_key_id <> vault.root_key_id";
    Ok(sqlx::query_scalar(left).fetch_one(&mut connection).await?)
}
