//! A broker in a temporary directory, a clock that is turned by hand, and questions to a lease.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::{
    Broker, BrokerError, BrokerPaths, CredentialChoice, Lease, LoginReport, LoginRequest,
};
use control_store::RegistrySettings;
use credential::auth::{AuthError, AuthRequest, AuthSource, RegistryAuth, Rejection};
use credential::{Credential, RegistryScope, SecretString};
use dial::{DialPolicy, Dialer};
use ids::{WorkspaceId, WorkspaceName};
use jiff::Timestamp;
use reference::Reference;
use registry_sim::{Entry, Image, ImageBuilder, Layer, Login, Options, RegistrySim};
use tempfile::TempDir;
use token_exchange::Clock;
use vault::{RootKey, VaultPlace};

pub(crate) const REPOSITORY: &str = "acme/app";
pub(crate) const USERNAME: &str = "puller";
pub(crate) const PASSWORD: &str = "correct-horse-battery";

pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) broker: Broker,
    pub(crate) workspace: WorkspaceId,
    pub(crate) clock: Arc<HandClock>,
}

/// Stands still until it is turned.
#[derive(Debug)]
pub(crate) struct HandClock(Mutex<Timestamp>);

impl HandClock {
    pub(crate) fn turn(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(by).unwrap();
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock(Mutex::new(Timestamp::now())));
        let broker = open(directory.path(), Arc::clone(&clock)).await;
        let workspace = broker.workspace(&WorkspaceName::default()).await.unwrap();
        Self {
            directory,
            broker,
            workspace,
            clock,
        }
    }

    /// The same files, as another process would have them.
    pub(crate) async fn again(&self) -> Broker {
        open(self.directory.path(), Arc::clone(&self.clock)).await
    }

    pub(crate) async fn login(
        &self,
        scope: &str,
        password: &str,
    ) -> Result<LoginReport, BrokerError> {
        self.broker
            .login(self.workspace, request(scope, password))
            .await
    }

    pub(crate) async fn lease(&self, image: &Reference) -> Lease {
        self.broker
            .lease(self.workspace, image, CredentialChoice::Auto)
            .await
            .unwrap()
    }

    /// How many rows of this action the audit log has.
    pub(crate) async fn audited(&self, action: &str) -> usize {
        let rows = self.broker.vault().audit_tail(100_000).await.unwrap();
        rows.iter().filter(|row| row.action == action).count()
    }
}

pub(crate) async fn open(directory: &Path, clock: Arc<HandClock>) -> Broker {
    let dialer = Dialer::new(DialPolicy::default());
    Broker::open_with(paths(directory), dialer, clock)
        .await
        .unwrap()
}

pub(crate) fn paths(directory: &Path) -> BrokerPaths {
    BrokerPaths {
        vault: VaultPlace {
            data: directory.join("data"),
            server: None,
            root_key: root_key(&directory.join("etc/root.key")),
        },
        state: database::DatabaseAddress::File(directory.join("data/state.db")),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what keeps the key is not tested here"
)]
fn root_key(file: &Path) -> RootKey {
    RootKey::in_this_process(file)
}

pub(crate) fn scope(text: &str) -> RegistryScope {
    RegistryScope::parse(text).unwrap()
}

pub(crate) fn basic(password: &str) -> Credential {
    Credential::basic(USERNAME.to_owned(), SecretString::from(password.to_owned()))
}

/// Of a workspace whose workers may hold the password: its leases give all that there is.
pub(crate) fn request(scope_text: &str, password: &str) -> LoginRequest {
    LoginRequest {
        settings: RegistrySettings {
            workers_may_hold_password: true,
            ..RegistrySettings::default()
        },
        ..keeping_request(scope_text, password)
    }
}

/// Of one whose workers may not.
pub(crate) fn keeping_request(scope_text: &str, password: &str) -> LoginRequest {
    LoginRequest {
        scope: scope(scope_text),
        credential: basic(password),
        settings: RegistrySettings::default(),
    }
}

pub(crate) fn image_at(host: &str) -> Reference {
    Reference::parse(&format!("{host}/{REPOSITORY}:latest")).unwrap()
}

pub(crate) fn image() -> Image {
    ImageBuilder::new()
        .layer(Layer::gzip(&[Entry::file("etc/motd", "hello\n")]))
        .build()
}

/// A registry with one image.
pub(crate) async fn sim(login: Login) -> RegistrySim {
    sim_with(Options {
        login,
        ..Options::default()
    })
    .await
}

pub(crate) async fn sim_with(options: Options) -> RegistrySim {
    let sim = RegistrySim::start(options).await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

pub(crate) async fn ask(lease: &Lease) -> Result<RegistryAuth, AuthError> {
    ask_after(lease, None).await
}

pub(crate) async fn ask_after(
    lease: &Lease,
    rejected: Option<Rejection>,
) -> Result<RegistryAuth, AuthError> {
    let request = AuthRequest {
        registry: lease.image().registry(),
        repository: lease.image().repository(),
        rejected,
    };
    lease.auth(request).await
}

/// A registry's bare refusal of this auth.
pub(crate) fn refusal(auth: &RegistryAuth, challenge: &str) -> Rejection {
    Rejection {
        serial: auth.serial,
        status: 401,
        challenges: vec![challenge.to_owned()],
        says_expired: false,
        is_hearsay: false,
    }
}

pub(crate) const BASIC: &str = "Basic realm=\"sim\"";
