//! One identity at one registry: what the registry demands, and the tokens by repository.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use credential::auth::{Anonymous, AuthError, AuthSource};
use dial::{Dialer, HttpClient};
use jiff::Timestamp;
use registry_client::{Endpoint, RegistryClient, RetryPolicy};
use tokio::time::Instant;

use crate::asker::Asker;
use crate::demand::Demand;
use crate::flight::{Refusal, Slot};
use crate::identity::Identity;
use crate::life;
use crate::mint::Minted;

/// Repositories for which one identity holds tokens; a further one takes the place of another.
const MAX_SLOTS: usize = 1024;

/// The door's word stands for so long where another process doubts it, which may doubt for ever.
const DEMAND_STANDS: Duration = Duration::from_secs(10);

/// Everything known about one identity at one registry.
pub(crate) struct Login {
    pub(crate) endpoint: Endpoint,
    pub(crate) identity: Identity,
    dialer: Dialer,
    remembered: Mutex<Remembered>,
    /// For every repository the same.
    pub(crate) asker: Arc<Slot<Asker>>,
    slots: Mutex<HashMap<String, Arc<Slot<Minted>>>>,
    /// Whether a token service has taken the pass, and whose turn it is to find out.
    is_proven: AtomicBool,
    /// Whether it has refused the pass for whatever it may be.
    is_refuted: AtomicBool,
    proving: tokio::sync::Mutex<()>,
    blaming: tokio::sync::Mutex<()>,
    /// Who asks the registry for who holds no auth. It knows this login, and does not keep it.
    reader: OnceLock<RegistryClient>,
    /// The one that reads for others.
    reader_for_others: OnceLock<RegistryClient>,
}

struct Remembered {
    used: Instant,
    demand: Option<Demand>,
    /// When the door was asked for it last.
    asked: Option<Instant>,
    /// Which pass was refused last that was young, and when.
    believed: Option<(u64, Timestamp)>,
    /// The credential itself was refused: for whatever repository, it will be again.
    refusal: Option<Refusal>,
    door: Option<Door>,
}

/// The registry as this login speaks to it, before it has anything to send.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) http: HttpClient,
    pub(crate) registry: RegistryClient,
}

impl Login {
    pub(crate) fn new(dialer: Dialer, endpoint: Endpoint, identity: Identity) -> Self {
        let remembered = Remembered {
            used: Instant::now(),
            demand: None,
            asked: None,
            believed: None,
            refusal: None,
            door: None,
        };
        Self {
            endpoint,
            identity,
            dialer,
            remembered: Mutex::new(remembered),
            asker: Arc::default(),
            slots: Mutex::default(),
            is_proven: AtomicBool::new(false),
            is_refuted: AtomicBool::new(false),
            proving: tokio::sync::Mutex::default(),
            blaming: tokio::sync::Mutex::default(),
            reader: OnceLock::new(),
            reader_for_others: OnceLock::new(),
        }
    }

    /// The registry's door, opened once.
    pub(crate) fn door(&self) -> Result<Door, AuthError> {
        self.with(|remembered| {
            if let Some(door) = &remembered.door {
                return Ok(door.clone());
            }
            let door = Door::open(&self.dialer, &self.endpoint)?;
            remembered.door = Some(door.clone());
            Ok(door)
        })
    }

    /// A turn to show a pass to a token service. While none was ever taken one is shown at a time,
    /// and a refusal is everybody's: accounts are locked after a few wrong passwords.
    pub(crate) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.is_proven() {
            return None;
        }
        let turn = self.proving.lock().await;
        (!self.is_proven()).then_some(turn)
    }

    /// Whether a token service has taken the pass, or one before it, and refused none since.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Acquire)
    }

    pub(crate) fn is_taken(&self) {
        self.is_proven.store(true, Ordering::Release);
        self.is_refuted.store(false, Ordering::Release);
    }

    /// A turn to find out whether a refusal is one of the pass.
    pub(crate) async fn turn_to_blame(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.blaming.lock().await
    }

    /// What was taken before is so no longer: from here on one is shown at a time again.
    pub(crate) fn refute(&self) {
        self.is_proven.store(false, Ordering::Release);
        self.is_refuted.store(true, Ordering::Release);
    }

    pub(crate) fn is_refuted(&self) -> bool {
        self.is_refuted.load(Ordering::Acquire)
    }

    /// The client that reads with `auth`, made once.
    pub(crate) fn reader(
        &self,
        auth: impl AuthSource + 'static,
    ) -> Result<RegistryClient, AuthError> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader.clone());
        }
        let reader = RegistryClient::new(&self.dialer, self.endpoint.clone(), Arc::new(auth));
        let reader = reader.map_err(crate::mint::from_registry)?;
        Ok(self.reader.get_or_init(|| reader).clone())
    }

    /// The same for bytes of blobs. Who reads through us tries again on its own, from where it is;
    /// trying in both places multiplies.
    pub(crate) fn reader_for_others(
        &self,
        auth: impl AuthSource + 'static,
    ) -> Result<RegistryClient, AuthError> {
        if let Some(reader) = self.reader_for_others.get() {
            return Ok(reader.clone());
        }
        let endpoint = self.endpoint.clone();
        let (auth, once) = (Arc::new(auth), RetryPolicy::ONCE);
        let reader = RegistryClient::with_retry(&self.dialer, endpoint, auth, once);
        let reader = reader.map_err(crate::mint::from_registry)?;
        Ok(self.reader_for_others.get_or_init(|| reader).clone())
    }

    pub(crate) fn slot(&self, repository: &str) -> Arc<Slot<Minted>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_SLOTS && !slots.contains_key(repository) {
            // Whoever is being answered has its slot; the others' tokens and refusals stay.
            let other = slots.keys().next().cloned();
            other.and_then(|other| slots.remove(&other));
        }
        Arc::clone(slots.entry(repository.to_owned()).or_default())
    }

    pub(crate) fn demand(&self) -> Option<Demand> {
        self.with(|remembered| remembered.demand.clone())
    }

    pub(crate) fn remember_demand(&self, demand: &Demand) {
        self.with(|remembered| remembered.demand = Some(demand.clone()));
    }

    pub(crate) fn remember_door(&self, demand: &Demand) {
        self.remember_demand(demand);
        self.with(|remembered| remembered.asked = Some(Instant::now()));
    }

    /// The demand, where the door was asked a moment ago.
    pub(crate) fn standing_demand(&self) -> Option<Demand> {
        let is_recent = |asked: Instant| asked.elapsed() < DEMAND_STANDS;
        self.with(|remembered| {
            remembered
                .demand
                .clone()
                .filter(|_| remembered.asked.is_some_and(is_recent))
        })
    }

    pub(crate) fn refusal(&self, now: Timestamp) -> Option<AuthError> {
        self.with(|remembered| remembered.refusal.as_ref()?.standing(now))
    }

    /// A wrong password is wrong, and a limit on its account a limit, for every repository.
    pub(crate) fn remember_refusal(&self, error: &AuthError, now: Timestamp) {
        if matches!(
            error,
            AuthError::BadCredential { .. } | AuthError::RateLimited { .. }
        ) {
            self.with(|remembered| remembered.refusal = Refusal::new(error, now));
        }
    }

    /// Whether a plain refusal of a young pass is believed: of one, for all who say it, and of the
    /// next only when that was a while ago. A registry that refuses all there is gets no more.
    pub(crate) fn believes_refusal_of(&self, young: u64, now: Timestamp) -> bool {
        self.with(|remembered| {
            let before = remembered.believed.filter(|(pass, _)| *pass != young);
            let is_too_soon = before.is_some_and(|(_, then)| life::is_recent(then, now));
            if !is_too_soon {
                remembered.believed = Some((young, now));
            }
            !is_too_soon
        })
    }

    pub(crate) fn touch(&self) {
        self.with(|remembered| remembered.used = Instant::now());
    }

    pub(crate) fn used(&self) -> Instant {
        self.with(|remembered| remembered.used)
    }

    fn with<T>(&self, action: impl FnOnce(&mut Remembered) -> T) -> T {
        action(
            &mut self
                .remembered
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Door {
    pub(crate) fn open(dialer: &Dialer, endpoint: &Endpoint) -> Result<Self, AuthError> {
        let http = endpoint
            .http_client(dialer)
            .map_err(|error| crate::wire::from_dial(&error))?;
        // Who waits for auth tries again on its own; trying in both places multiplies.
        let once = RetryPolicy::ONCE;
        let registry =
            RegistryClient::with_retry(dialer, endpoint.clone(), Arc::new(Anonymous), once)
                .map_err(crate::mint::from_registry)?;
        Ok(Self { http, registry })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Login")
            .field("registry", &self.endpoint.registry)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
