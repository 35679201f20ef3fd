//! The shared cache: layers in a bucket, sealed, from which workers read what their leases are for.
//!
//! ```text
//!   an image is built or started ──▶ what is missing of it is read from its registry, sealed and
//!                                    written, beside everything else       (`filling`)
//!   a mount asks for a layer ──────▶ it is there? ──▶ a URL for this object and a few minutes,
//!                                                     and the layer's key, by its lease
//! ```
//!
//! Invariants: the bucket's keys stay in this process; nobody else writes, and what is written was
//! the layer by its digest; a layer is told of to who has a lease that reads its origin, with a row
//! in the audit log before. Whatever fails here costs a reader what it saves.

mod filling;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_api::{AwsError, ObjectKey};
use broker::{Broker, BrokerError};
use credential::auth::SharedLayer;
use dial::{AddressPolicy, DialError, Dialer, HttpClient, TlsProfile};
use ids::WorkspaceId;
use jiff::Timestamp;
use reference::Digest;
use registry_client::RegistryError;
use shared_cache::{CacheSecret, WrongSize, sealed_size};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::lock::lock;
use crate::problem::Problem;

pub use aws_api::{Bucket, BucketError, Keys, Style};

/// How long a URL counts: a credential that is removed is read with for no longer than this, and a
/// mount asks a dozen times an hour.
const URL_LIFE: Duration = Duration::from_mins(5);
/// How long a mount is kept waiting for whether its layer is there.
const FIND_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an object that was found is taken to be there. One that is gone costs its readers a
/// request.
const THERE_FOR: Duration = Duration::from_mins(10);
/// How long one that was not is not looked for again. What this process writes it knows at once.
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// Objects whose whereabouts are remembered.
const KNOWN_LIMIT: usize = 16 << 10;
/// How often what goes wrong is told.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Where layers are shared.
#[derive(Debug, Clone)]
pub struct SharedCacheSettings {
    pub bucket: Bucket,
    /// In front of the names of all objects.
    pub prefix: Option<String>,
    pub keys: Arc<dyn BucketKeys>,
    /// The store speaks plain http.
    pub plain_http: bool,
    /// The store's own CA.
    pub ca_pem: Option<Vec<u8>>,
}

/// What the bucket is asked with.
pub trait BucketKeys: Debug + Send + Sync {
    /// Read anew each time, since others may have taken their place. May wait for a disk.
    fn keys(&self) -> Result<Keys, String>;
}

/// Whether this can stand in front of the names of objects.
pub fn check_prefix(prefix: &str) -> Result<(), BucketError> {
    ObjectKey::parse(prefix).map(drop)
}

/// A layer of an origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerAt<'a> {
    pub(crate) origin: &'a str,
    pub(crate) digest: &'a Digest,
    pub(crate) size_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct SharedCache {
    settings: SharedCacheSettings,
    secret: OnceCell<CacheSecret>,
    known: Mutex<HashMap<ObjectName, Known>>,
    /// Until when an image is not looked at again.
    images: Mutex<HashMap<(WorkspaceId, Digest), Instant>>,
    turns: Semaphore,
    told: Mutex<Option<Instant>>,
}

type ObjectName = String;

#[derive(Debug, Clone, Copy)]
struct Known {
    is_there: bool,
    until: Instant,
}

/// Why a layer is not shared, for the log.
#[derive(Debug, thiserror::Error)]
enum SharedCacheError {
    #[error("the bucket's keys: {0}")]
    Keys(String),
    #[error(transparent)]
    Bucket(#[from] AwsError),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Size(#[from] WrongSize),
    #[error("{}", .0.message)]
    Problem(Problem),
    #[error("the names of objects would be none")]
    Name(#[from] BucketError),
}

/// An object that is a layer.
struct Object {
    name: ObjectName,
    key: ObjectKey,
    /// Bytes that it has when it is whole.
    sealed_bytes: u64,
}

impl Gateway {
    /// Where the layer lies, if it does. Whoever is told has to be allowed to read it.
    pub(crate) async fn find_shared(&self, layer: LayerAt<'_>) -> Option<SharedLayer> {
        let cache = self.shared_cache()?;
        let finding = cache.find(self, layer);
        let found = match tokio::time::timeout(FIND_TIMEOUT, finding).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                cache.tell(&error);
                None
            }
            Err(_) => None,
        };
        self.metrics().shared_cache_asked(found.is_some());
        found
    }
}

impl SharedCache {
    pub(crate) fn new(settings: SharedCacheSettings) -> Self {
        Self {
            settings,
            secret: OnceCell::new(),
            known: Mutex::default(),
            images: Mutex::default(),
            turns: Semaphore::new(filling::AT_ONCE),
            told: Mutex::default(),
        }
    }

    async fn find(
        &self,
        gateway: &Gateway,
        layer: LayerAt<'_>,
    ) -> Result<Option<SharedLayer>, SharedCacheError> {
        let secret = self.secret(gateway.broker()).await?;
        let Some(object) = self.object(secret, layer)? else {
            return Ok(None);
        };
        let (http, keys) = (self.http(gateway.dialer())?, self.keys().await?);
        let is_there = if let Some(is_there) = self.known(&object) {
            is_there
        } else {
            // Until it has answered: who comes meanwhile is not to wait as well.
            self.note(&object, false);
            self.look(&http, &keys, &object).await?
        };
        if !is_there {
            return Ok(None);
        }
        let now = Timestamp::now();
        let bucket = &self.settings.bucket;
        Ok(Some(SharedLayer {
            url: bucket.presign_get(&keys, &object.key, (now, URL_LIFE))?,
            key: secret
                .layer_key(layer.origin, layer.digest.as_str())
                .to_text(),
            not_after: now.checked_add(URL_LIFE).unwrap_or(Timestamp::MAX),
            plain_http: self.settings.plain_http,
            ca_pem: self.settings.ca_pem.clone(),
        }))
    }

    /// Whether it was there when last it was looked.
    fn known(&self, object: &Object) -> Option<bool> {
        let known = lock(&self.known).get(&object.name).copied();
        let known = known.filter(|known| Instant::now() < known.until);
        known.map(|known| known.is_there)
    }

    async fn look(
        &self,
        http: &HttpClient,
        keys: &Keys,
        object: &Object,
    ) -> Result<bool, SharedCacheError> {
        let way = (http, &Timestamp::now as _);
        let length = self.settings.bucket.head(way, keys, &object.key).await?;
        let is_there = length == Some(object.sealed_bytes);
        self.note(object, is_there);
        Ok(is_there)
    }

    fn note(&self, object: &Object, is_there: bool) {
        let now = Instant::now();
        let life = if is_there { THERE_FOR } else { ABSENT_FOR };
        let until = now + life;
        let mut known = lock(&self.known);
        if known.len() >= KNOWN_LIMIT {
            known.retain(|_, known| now < known.until);
        }
        if known.len() >= KNOWN_LIMIT {
            known.clear();
        }
        known.insert(object.name.clone(), Known { is_there, until });
    }

    /// Opened once: each opening is a row in the audit log.
    async fn secret(&self, broker: &Broker) -> Result<&CacheSecret, SharedCacheError> {
        let open = || broker.shared_cache_secret();
        Ok(self.secret.get_or_try_init(open).await?)
    }

    /// Nothing for a layer that is too large for an object.
    fn object(
        &self,
        secret: &CacheSecret,
        layer: LayerAt<'_>,
    ) -> Result<Option<Object>, SharedCacheError> {
        let sealed = sealed_size(layer.size_bytes);
        let Some(sealed_bytes) = sealed.filter(|bytes| *bytes <= filling::OBJECT_MAX_BYTES) else {
            return Ok(None);
        };
        let name = secret.name(layer.origin, layer.digest.as_str());
        let key = match &self.settings.prefix {
            Some(prefix) => ObjectKey::parse(&format!("{prefix}/{name}"))?,
            None => ObjectKey::parse(&name)?,
        };
        Ok(Some(Object {
            name,
            key,
            sealed_bytes,
        }))
    }

    fn http(&self, dialer: &Dialer) -> Result<HttpClient, DialError> {
        let settings = &self.settings;
        let tls = TlsProfile {
            extra_ca_pem: settings.ca_pem.iter().cloned().collect(),
            plain_http: settings.plain_http,
        };
        // The operator has named it.
        let addresses = AddressPolicy::for_host(settings.bucket.bare_host());
        dialer.client(&tls, &addresses.configured_by_user())
    }

    async fn keys(&self) -> Result<Keys, SharedCacheError> {
        let keys = Arc::clone(&self.settings.keys);
        let read = tokio::task::spawn_blocking(move || keys.keys()).await;
        let read = read.unwrap_or_else(|_| Err("they cannot be read".to_owned()));
        read.map_err(SharedCacheError::Keys)
    }

    /// A store that is away is away for every layer.
    fn tell(&self, error: &SharedCacheError) {
        let mut told = lock(&self.told);
        if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            tracing::warn!(%error, "the shared cache does not work; registries are read instead");
            *told = Some(Instant::now());
        }
    }
}
