//! What the tests share: a clock that is turned by hand, identities, a small image.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use credential::Credential;
use credential::auth::{AuthError, AuthRequest, AuthScheme, AuthSource, RegistryAuth, Rejection};
use dial::{DialPolicy, Dialer};
use jiff::Timestamp;
use reference::{Registry, Selector};
use registry_client::{Endpoint, Platform, RegistryClient, RegistryError, RetryPolicy};
use registry_sim::{Entry, Image, ImageBuilder, Layer, RegistrySim};
use token_exchange::{Clock, Identity, SystemClock, TokenExchange};

pub(crate) const REPOSITORY: &str = "acme/app";
pub(crate) const USERNAME: &str = "puller";
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// Stands still until it is turned.
#[derive(Debug)]
pub(crate) struct HandClock(Mutex<Timestamp>);

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Timestamp::now())))
    }

    pub(crate) fn turn(&self, by: Duration) {
        let mut now = self.0.lock().expect("a lock");
        *now = now.checked_add(by).expect("a time that exists");
    }

    pub(crate) fn turn_back(&self, by: Duration) {
        let mut now = self.0.lock().expect("a lock");
        *now = now.checked_sub(by).expect("a time that exists");
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("a lock")
    }
}

pub(crate) fn dialer() -> Dialer {
    Dialer::new(DialPolicy::default())
}

pub(crate) fn exchange() -> TokenExchange {
    TokenExchange::new(dialer(), Arc::new(SystemClock))
}

pub(crate) fn registry(host: &str) -> Registry {
    Registry::parse(host).expect("a registry")
}

pub(crate) fn endpoint(host: &str) -> Endpoint {
    Endpoint::new(registry(host))
}

pub(crate) fn identity(credential: Credential) -> Identity {
    Identity {
        key: "ws-1/secret-1/v1".to_owned(),
        credential: Arc::new(credential),
        token_service: None,
    }
}

pub(crate) fn basic(password: &str) -> Identity {
    identity(Credential::basic(
        USERNAME.to_owned(),
        password.to_owned().into(),
    ))
}

pub(crate) fn image() -> Image {
    ImageBuilder::new()
        .layer(Layer::gzip(&[Entry::file("etc/motd", "hello\n")]))
        .build()
}

pub(crate) async fn ask(
    source: &dyn AuthSource,
    host: &str,
    rejected: Option<Rejection>,
) -> Result<RegistryAuth, AuthError> {
    let registry = registry(host);
    source
        .auth(AuthRequest {
            registry: &registry,
            repository: REPOSITORY,
            rejected,
        })
        .await
}

pub(crate) async fn pull(host: &str, source: Arc<dyn AuthSource>) -> Result<(), RegistryError> {
    pull_from(endpoint(host), source).await
}

pub(crate) async fn pull_from(
    endpoint: Endpoint,
    source: Arc<dyn AuthSource>,
) -> Result<(), RegistryError> {
    pull_with(&dialer(), endpoint, source).await
}

pub(crate) async fn pull_with(
    dialer: &Dialer,
    endpoint: Endpoint,
    source: Arc<dyn AuthSource>,
) -> Result<(), RegistryError> {
    let quick = RetryPolicy {
        attempts: 4,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        budget: Duration::from_mins(1),
        resume: Duration::ZERO,
    };
    let client = RegistryClient::with_retry(dialer, endpoint, source, quick)?;
    let latest = Selector::Tag("latest".to_owned());
    let platform = Platform::new("linux", "amd64", None);
    let pinned = client.manifest(REPOSITORY, &latest, &platform).await?;
    client
        .blob_bytes(REPOSITORY, &pinned.layers[0], 4096)
        .await
        .map(|_| ())
}

pub(crate) fn is_bearer(auth: &RegistryAuth) -> bool {
    matches!(auth.scheme, AuthScheme::Bearer(_))
}

/// A refusal of this auth as the registry would word it.
pub(crate) fn refusal(sim: &RegistrySim, auth: &RegistryAuth, error: &str) -> Rejection {
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"sim\",scope=\"repository:{REPOSITORY}:pull\",\
         error=\"{error}\"",
        sim.host()
    );
    Rejection {
        serial: auth.serial,
        status: 401,
        challenges: vec![challenge],
        says_expired: false,
        is_hearsay: false,
    }
}
