//! The simulated registry as a test sees it: its options, its switches, its counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::answer;
use crate::authority::Authority;
use crate::azure::AzureExchange;
use crate::counters::{HostCounter, KnownSecrets};
use crate::faults::Faults;
use crate::gate::Gate;
use crate::host::{Handler, Host, Reserved};
use crate::image::Image;
use crate::storage::Signatures;
use crate::store::Store;
use crate::tokens::Tokens;
use crate::{realm, registry, storage};

/// A reply that states its life, with the other field that may hold a token empty.
const TOKEN_REPLY: &str =
    r#"{"token":"TOKEN","access_token":"","expires_in":LIFE,"issued_at":"NOW"}"#;

/// How a simulated registry wants to be logged in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Everybody may pull.
    Nobody,
    /// User name and password.
    Basic,
    /// A token of a token service.
    Bearer(Realm),
    /// A token that anybody gets, as for public images.
    PublicBearer,
    /// User name and password; a wrong one is answered 403 without a challenge, as ECR does for one
    /// that has expired.
    EcrLike,
}

/// Where the token service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Realm {
    /// On the registry's own host and port.
    SameHost,
    /// On the registry's host name, at another port.
    OtherPort,
    /// On another host name (`localhost` for `127.0.0.1`), at another port.
    OtherName,
    /// Whatever this says.
    Url(String),
}

/// How a simulated registry is set up.
#[derive(Debug, Clone)]
pub struct Options {
    pub login: Login,
    pub username: String,
    pub password: String,
    /// How long tokens live.
    pub token_life: Duration,
    /// The reply with a token, in which `TOKEN`, its `LIFE` in seconds and the time `NOW` are put.
    pub token_reply: &'static str,
    /// A token that has ended is answered 400 without a challenge, as ECR Public does.
    pub is_400_for_expired: bool,
    /// Tokens are JSON web tokens, which say themselves when they end.
    pub token_says_its_end: bool,
    /// Blobs are on another host, behind signed URLs.
    pub redirect_blobs: bool,
    /// How long a signed URL says that it lives.
    pub location_life: Duration,
    /// TLS on all hosts, with certificates of this authority.
    pub tls: Option<Authority>,
    /// What the registry is called in URLs: `127.0.0.1` or `localhost`.
    pub host_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            login: Login::Nobody,
            username: "puller".to_owned(),
            password: "correct-horse-battery".to_owned(),
            token_life: Duration::from_mins(5),
            token_reply: TOKEN_REPLY,
            is_400_for_expired: false,
            token_says_its_end: false,
            redirect_blobs: false,
            location_life: Duration::from_mins(5),
            tls: None,
            host_name: "127.0.0.1".to_owned(),
        }
    }
}

/// Everything that the hosts of one simulated registry share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) realm_url: String,
    /// Where the token service is, on the registry's own host too.
    pub(crate) token_path: String,
    pub(crate) storage_url: String,
    pub(crate) secrets: KnownSecrets,
    pub(crate) store: Mutex<Store>,
    pub(crate) tokens: Mutex<Tokens>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) signatures: Mutex<Signatures>,
    /// While closed, token requests wait.
    pub(crate) token_gate: Gate,
    pub(crate) token_requests: HostCounter,
    /// What a registry of Azure exchanges.
    pub(crate) exchange: Mutex<Option<AzureExchange>>,
    /// Bytes of blobs that went out, from the registry and from the storage.
    pub(crate) blob_bytes: Arc<AtomicU64>,
}

/// A registry in this process. Dropping it ends it.
pub struct RegistrySim {
    shared: Arc<Shared>,
    registry: Host,
    realm: Host,
    storage: Host,
    stranger: Host,
}

impl RegistrySim {
    /// A registry that everybody may pull from.
    pub async fn anonymous() -> Self {
        Self::start(Options::default()).await
    }

    pub async fn with_login(login: Login) -> Self {
        Self::start(Options {
            login,
            ..Options::default()
        })
        .await
    }

    pub async fn start(options: Options) -> Self {
        let tls = options.tls.as_ref();
        let registry = Reserved::new(&options.host_name, tls).await;
        let other = if options.host_name == "localhost" {
            "127.0.0.1"
        } else {
            "localhost"
        };
        let realm_name = match &options.login {
            Login::Bearer(Realm::OtherName) => other,
            _ => &options.host_name,
        };
        let realm = Reserved::new(realm_name, tls).await;
        let storage = Reserved::new(&options.host_name, tls).await;
        let stranger = Reserved::new(other, tls).await;
        let url = |host: &Reserved| format!("{}://{}", host.scheme(), host.authority());
        let realm_url = match &options.login {
            Login::Bearer(Realm::Url(text)) => text.clone(),
            Login::Bearer(Realm::OtherPort | Realm::OtherName) => format!("{}/token", url(&realm)),
            _ => format!("{}/token", url(&registry)),
        };
        let secrets = KnownSecrets::default();
        secrets.add(&options.password);
        let mut tokens = Tokens::default();
        tokens.set_account(&options.username, &options.password);
        let shared = Arc::new(Shared {
            token_path: path_of(&realm_url),
            realm_url,
            storage_url: url(&storage),
            secrets: secrets.clone(),
            store: Mutex::default(),
            tokens: Mutex::new(tokens),
            faults: Mutex::default(),
            signatures: Mutex::default(),
            token_gate: Gate::default(),
            token_requests: HostCounter::new(),
            exchange: Mutex::default(),
            blob_bytes: Arc::default(),
            options,
        });
        Self {
            registry: registry.serve(&secrets, registry::handler(&shared)),
            realm: realm.serve(&secrets, realm::handler(&shared)),
            storage: storage.serve(&secrets, storage::handler(&shared)),
            stranger: stranger.serve(&secrets, stranger_handler(&shared)),
            shared,
        }
    }

    /// `host:port` of the registry, as it stands in an image name.
    pub fn host(&self) -> &str {
        &self.registry.authority
    }

    /// `host:port` of the token service, when it is a host of its own.
    pub fn realm_host(&self) -> &str {
        &self.realm.authority
    }

    /// The base URL of a host that has nothing to do with the registry and asks everybody for a
    /// user name and password.
    pub fn stranger_url(&self) -> String {
        format!("{}://{}", self.stranger.scheme, self.stranger.authority)
    }

    /// Changes what goes wrong.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = lock(&self.shared.faults);
        change(&mut faults);
        self.registry.set_outage(faults.outage);
        self.realm.set_outage(faults.outage);
        self.storage.set_outage(faults.outage);
    }

    pub fn push(&self, repository: &str, tag: &str, image: &Image) {
        lock(&self.shared.store).put_image(repository, tag, image);
    }

    /// Pushes images for several `os/architecture`s under one index, whose digest is returned.
    pub fn push_index(&self, repository: &str, tag: &str, images: &[(&str, &Image)]) -> String {
        let mut store = lock(&self.shared.store);
        let entries: Vec<_> = images
            .iter()
            .map(|(platform, image)| {
                store.put_blobs(repository, image);
                store.put_manifest(
                    repository,
                    &image.digest,
                    &image.media_type,
                    &image.manifest,
                );
                let (os, architecture) = platform.split_once('/').expect("os/architecture");
                json!({ "mediaType": image.media_type, "digest": image.digest,
                        "size": image.manifest.len(),
                        "platform": { "os": os, "architecture": architecture } })
            })
            .collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
        store.put_manifest(repository, tag, media_type, index.to_string().as_bytes())
    }

    /// Stores any bytes as a manifest and returns their digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> String {
        lock(&self.shared.store).put_manifest(repository, tag, media_type, bytes)
    }

    /// Stores any bytes as a blob, under a digest that need not be theirs.
    pub fn put_blob(&self, repository: &str, digest: &str, bytes: impl Into<Bytes>) {
        lock(&self.shared.store).put_blob(repository, digest, bytes.into());
    }

    pub fn remove_blob(&self, repository: &str, digest: &str) {
        lock(&self.shared.store).remove_blob(repository, digest);
    }

    /// Changes the password. Tokens that were given out live on.
    pub fn set_password(&self, password: &str) {
        self.shared.secrets.add(password);
        lock(&self.shared.tokens).set_account(&self.shared.options.username, password);
    }

    /// From now on this user may log in too.
    pub fn add_account(&self, username: &str, password: &str) {
        self.shared.secrets.add(password);
        lock(&self.shared.tokens).set_account(username, password);
    }

    /// From now on tokens of a directory of Azure are exchanged like this.
    pub fn set_exchange(&self, exchange: AzureExchange) {
        *lock(&self.shared.exchange) = Some(exchange);
    }

    /// Every token given out so far is expired from now on.
    pub fn expire_tokens(&self) {
        lock(&self.shared.tokens).expire_all();
    }

    /// Every signed URL given out so far is expired from now on.
    pub fn expire_locations(&self) {
        lock(&self.shared.signatures).expire_all();
    }

    /// Token requests wait from now on, until the gate is opened.
    pub fn close_token_gate(&self) {
        self.shared.token_gate.close();
    }

    pub fn open_token_gate(&self) {
        self.shared.token_gate.open();
    }

    /// Bytes of blobs that went out so far, from whichever host.
    pub fn blob_bytes(&self) -> u64 {
        self.shared.blob_bytes.load(Ordering::SeqCst)
    }

    /// Requests for a token, on whichever host.
    pub fn token_requests(&self) -> &HostCounter {
        &self.shared.token_requests
    }

    /// What arrived at the registry, its token service at the same address included.
    pub fn registry(&self) -> &HostCounter {
        &self.registry.counter
    }

    /// What arrived at the token service's own host.
    pub fn realm(&self) -> &HostCounter {
        &self.realm.counter
    }

    /// What arrived at the host of the signed URLs.
    pub fn storage(&self) -> &HostCounter {
        &self.storage.counter
    }

    /// What arrived at the host that has nothing to do with the registry.
    pub fn stranger(&self) -> &HostCounter {
        &self.stranger.counter
    }

    /// The CA certificate to trust, when the registry has TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.shared.options.tls.as_ref().map(Authority::pem)
    }
}

impl std::fmt::Debug for RegistrySim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RegistrySim")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

fn path_of(url: &str) -> String {
    let url = url::Url::parse(url).expect("a token service has a URL");
    url.path().to_owned()
}

/// Asks for a login, as a trap would.
fn stranger_handler(shared: &Arc<Shared>) -> Handler {
    let shared = Arc::clone(shared);
    Arc::new(move |_| {
        let target = lock(&shared.faults).stranger_redirects_to.clone();
        Box::pin(async move {
            if let Some(target) = target {
                let redirect = answer::reply(307, "text/plain", Bytes::new());
                return answer::with_header(redirect, "location", &target);
            }
            let refused = answer::error_reply(401, "UNAUTHORIZED", "log in here");
            answer::with_header(refused, "www-authenticate", "Basic realm=\"trap\"")
        })
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
