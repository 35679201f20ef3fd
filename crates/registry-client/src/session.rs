//! What is sent as `Authorization`, when it is asked for anew, and what is read without it.
//!
//! A short memory in front of the [`AuthSource`]: a mount asks for thousands of ranges, and its
//! source may be a socket away. It is kept short because rotation and revocation arrive through it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use credential::auth::{
    AuthError, AuthRequest, AuthSource, LocationRequest, Pieces, ReadError, ReadFrom, ReadRequest,
    RegistryAuth, Rejection,
};
use jiff::Timestamp;
use reference::{Digest, Registry};

/// How long an answer is used before the source is asked again, though it be valid for longer.
const HOLD: Duration = Duration::from_secs(10);

/// Repositories remembered. A client reads one image, hence one repository, in practice.
const MAX_REPOSITORIES: usize = 64;

type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;

pub(crate) struct Session {
    registry: Registry,
    source: Arc<dyn AuthSource>,
    slots: Mutex<HashMap<String, Slot>>,
}

struct Held {
    auth: RegistryAuth,
    since: Instant,
}

impl Session {
    pub(crate) fn new(registry: Registry, source: Arc<dyn AuthSource>) -> Self {
        Self {
            registry,
            source,
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// What to send now.
    pub(crate) async fn current(&self, repository: &str) -> Result<RegistryAuth, AuthError> {
        let slot = self.slot(repository);
        let mut held = slot.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.is_usable()) {
            return Ok(held.auth.clone());
        }
        let auth = self.ask(repository, None).await?;
        *held = Some(Held::new(&auth));
        Ok(auth)
    }

    /// What to send after a refusal. When somebody else has renewed meanwhile, that.
    pub(crate) async fn renewed(
        &self,
        repository: &str,
        rejection: Rejection,
    ) -> Result<RegistryAuth, AuthError> {
        let slot = self.slot(repository);
        let mut held = slot.lock().await;
        if let Some(held) = held.as_ref()
            && held.auth.serial != rejection.serial
            && held.is_usable()
        {
            return Ok(held.auth.clone());
        }
        *held = None;
        let auth = self.ask(repository, Some(rejection)).await?;
        *held = Some(Held::new(&auth));
        Ok(auth)
    }

    /// Where the source says that a blob is to be read.
    pub(crate) async fn location(
        &self,
        repository: &str,
        digest: &Digest,
        refused: Option<u64>,
    ) -> Result<ReadFrom, AuthError> {
        let request = LocationRequest {
            registry: &self.registry,
            repository,
            digest,
            refused,
        };
        self.source.location(request).await
    }

    /// A stretch of a blob through the source.
    pub(crate) async fn read(
        &self,
        repository: &str,
        digest: &Digest,
        size_bytes: u64,
        range: Range<u64>,
    ) -> Result<Pieces, ReadError> {
        let request = ReadRequest {
            registry: &self.registry,
            repository,
            digest,
            size_bytes,
            range,
        };
        self.source.read(request).await
    }

    async fn ask(
        &self,
        repository: &str,
        rejected: Option<Rejection>,
    ) -> Result<RegistryAuth, AuthError> {
        self.source
            .auth(AuthRequest {
                registry: &self.registry,
                repository,
                rejected,
            })
            .await
    }

    fn slot(&self, repository: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_REPOSITORIES && !slots.contains_key(repository) {
            slots.clear();
        }
        Arc::clone(slots.entry(repository.to_owned()).or_default())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Held {
    fn new(auth: &RegistryAuth) -> Self {
        Self {
            auth: auth.clone(),
            since: Instant::now(),
        }
    }

    fn is_usable(&self) -> bool {
        self.since.elapsed() < HOLD
            && self
                .auth
                .not_after
                .is_none_or(|not_after| Timestamp::now() < not_after)
    }
}
