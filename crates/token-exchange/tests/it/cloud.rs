//! A registry of a cloud, reached under its real name like the services that know its credentials,
//! and an exchange that reaches all of them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use credential::Credential;
use credential::auth::{AuthError, AuthSource, RegistryAuth, Rejection};
use dial::{DialPolicy, Dialer, ProxySettings, Url};
use registry_client::Endpoint;
use registry_sim::{Authority, Login, MetadataApi, Options, Realm, RegistrySim, Switchboard};
use serde_json::json;
use token_exchange::{Clock, Identity, Proof, TokenExchange};
use tracing::subscriber::DefaultGuard;

use crate::support::{HandClock, REPOSITORY, ask, endpoint, identity, image, pull_with, registry};

pub(crate) struct CloudRegistry {
    pub(crate) host: &'static str,
    pub(crate) sim: RegistrySim,
    pub(crate) exchange: TokenExchange,
    pub(crate) endpoint: Endpoint,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) dialer: Dialer,
    /// Held as long as the registry is to be reached.
    pub(crate) switchboard: Switchboard,
}

impl CloudRegistry {
    /// `lines` are the services' names and where they are.
    pub(crate) async fn start(
        host: &'static str,
        authority: Authority,
        lines: &[(&str, &str)],
        options: Options,
    ) -> Self {
        Self::dialled(host, authority, lines, options, Dialer::new).await
    }

    /// The same on a machine that has a metadata service.
    pub(crate) async fn on_machine(
        host: &'static str,
        authority: Authority,
        lines: &[(&str, &str)],
        options: Options,
        metadata: &MetadataApi,
    ) -> Self {
        let url: Url = metadata.url().parse().expect("a URL");
        let dialer = |policy| Dialer::with_metadata_at(policy, url);
        Self::dialled(host, authority, lines, options, dialer).await
    }

    async fn dialled(
        host: &'static str,
        authority: Authority,
        lines: &[(&str, &str)],
        options: Options,
        dialer: impl FnOnce(DialPolicy) -> Dialer,
    ) -> Self {
        let ca_pem = authority.pem().as_bytes().to_vec();
        let tls = Some(authority);
        let (name, realm_name) = (dialled_name(host), realm_name(&options.login));
        let sim = RegistrySim::start(Options { tls, ..options }).await;
        sim.push(REPOSITORY, "latest", &image());
        let mut lines = lines.to_vec();
        lines.push((&name, sim.host()));
        let elsewhere = realm_name.as_deref().filter(|realm| *realm != name);
        lines.extend(elsewhere.map(|realm| (realm, sim.realm_host())));
        let switchboard = Switchboard::start(&lines).await;
        let proxies = ProxySettings {
            https: switchboard.url(),
            ..ProxySettings::none()
        };
        let dialer = dialer(DialPolicy {
            proxies,
            ..DialPolicy::default()
        });
        let clock = HandClock::new();
        let as_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let clouds = Some(ca_pem.clone());
        Self {
            host,
            exchange: TokenExchange::trusting_for_clouds(dialer.clone(), as_clock, clouds),
            endpoint: Endpoint {
                ca_pem: Some(ca_pem),
                ..endpoint(host)
            },
            sim,
            clock,
            dialer,
            switchboard,
        }
    }

    pub(crate) fn source(&self, credential: Credential) -> Arc<dyn AuthSource> {
        self.source_of(identity(credential))
    }

    pub(crate) fn source_of(&self, identity: Identity) -> Arc<dyn AuthSource> {
        self.exchange.source(self.endpoint.clone(), identity)
    }

    pub(crate) async fn ask(&self, source: &dyn AuthSource) -> Result<RegistryAuth, AuthError> {
        ask(source, self.host, None).await
    }

    pub(crate) async fn pull(&self, credential: Credential) {
        let source = self.source(credential);
        let pulled = pull_with(&self.dialer, self.endpoint.clone(), source).await;
        pulled.expect("a pull");
    }

    /// What one who has never asked before is told.
    pub(crate) async fn error(&self, credential: Credential) -> AuthError {
        self.exchange.forget(&identity(Credential::public()).key);
        let source = self.source(credential);
        let answer = ask(source.as_ref(), self.host, None).await;
        answer.expect_err("a refusal")
    }

    pub(crate) async fn check(&self, credential: Credential) -> Result<Proof, AuthError> {
        let (endpoint, identity) = (self.endpoint.clone(), identity(credential));
        self.exchange
            .check(endpoint, identity, Some(REPOSITORY))
            .await
    }
}

/// The name of the host that a registry of this name is asked at.
pub(crate) fn dialled_name(host: &str) -> String {
    registry(host).endpoint()
}

/// The name of the host of a token service that is at some URL.
fn realm_name(login: &Login) -> Option<String> {
    let Login::Bearer(Realm::Url(url)) = login else {
        return None;
    };
    let url: Url = url.parse().expect("a URL");
    url.host_str().map(str::to_owned)
}

/// What is read of these keys for a registry.
pub(crate) fn detect(host: &str, keys: &[(&str, &str)]) -> Credential {
    let keys = keys.iter();
    let keys = keys.map(|(name, value)| ((*name).to_owned(), json!(value)));
    let detected = credential::detect(&registry(host), &keys.collect());
    detected.expect("a credential").credential
}

/// What the registry says of something that has died.
pub(crate) fn expired(auth: &RegistryAuth) -> Rejection {
    Rejection {
        serial: auth.serial,
        status: 401,
        challenges: Vec::new(),
        says_expired: false,
        is_hearsay: false,
    }
}

/// How long this is handed out.
pub(crate) fn left(auth: &RegistryAuth, clock: &HandClock) -> Duration {
    let left = auth.not_after.expect("an end").duration_since(clock.now());
    Duration::try_from(left).expect("an end that is to come")
}

/// The sort of an error, in one word.
pub(crate) fn kind(error: &AuthError) -> &'static str {
    match error {
        AuthError::BadCredential { .. } => "bad",
        AuthError::NoPermission { .. } => "permission",
        AuthError::RateLimited { .. } => "limited",
        AuthError::Unreachable { .. } => "unreachable",
        AuthError::Refused { .. } => "refused",
        _ => "another",
    }
}

/// Everything that is logged while it lives, from the most talkative level on.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Log {
    pub(crate) fn start() -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer(Arc::clone(&text));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            text,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(crate) fn text(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
