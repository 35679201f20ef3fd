//! One minting at a time, whose result everybody who asked gets.
//!
//! The minting is a task of its own: callers wait for it and may go away, the first of them too,
//! without taking it down. What it brings is kept here until it nears its end; from some time
//! before that it is renewed, while those who ask are given what is held.
//!
//! ```text
//! since                       renew from            reserve      end
//!   ├── handed out ──────────────┼── and renewed ──────┼─ waited for ┤
//! ```

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credential::auth::{AuthError, AuthScheme, RegistryAuth};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;

/// A token is renewed this long before its end, or a tenth of its life where that is more, and up
/// to half of that earlier: tokens that were minted together are not renewed together.
const LEAST_MARGIN: Duration = Duration::from_secs(5);

/// What has no longer to live may end before the request that carries it arrives: who asks waits
/// for its renewal. Of a very short life it is a quarter.
const RESERVE: Duration = Duration::from_secs(2);

/// How long a refusal stands before the same question is asked again. Accounts get locked by
/// programs that try a wrong password over and over.
const REFUSAL_LIFE: Duration = Duration::from_secs(10);

/// How long a "slow down" without a time stands.
const DEFAULT_RATE_LIMIT: Duration = Duration::from_secs(5);

/// Longest time for which a "slow down" is obeyed unasked.
const MAX_RATE_LIMIT: Duration = Duration::from_mins(15);

/// A clock that shows so much less than before was set back: what it said of times to come is then
/// worth nothing. Less may be two callers who looked at it in another order.
const SET_BACK: Duration = Duration::from_mins(1);

/// After an early renewal has failed, what is held is used for so long before the next one.
const RENEWAL_PAUSE: Duration = Duration::from_secs(2);

/// What a minting brings.
#[derive(Debug, Clone)]
pub(crate) struct Minted {
    pub(crate) auth: RegistryAuth,
    /// When it was minted, to know what part of its life is left.
    pub(crate) since: Timestamp,
    /// The scope that was asked for, for a token.
    pub(crate) scope: Option<String>,
    /// How much earlier than it must it is renewed: from 0 up to 1.
    pub(crate) chance: f64,
}

pub(crate) type Outcome = Result<Minted, AuthError>;

/// The place of one (identity, host, repository).
#[derive(Default)]
pub(crate) struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    held: Option<Minted>,
    refusal: Option<Refusal>,
    /// No early renewal before this.
    renew_from: Option<Timestamp>,
    flight: Option<watch::Receiver<Option<Outcome>>>,
}

/// A refusal and until when it stands.
#[derive(Clone)]
pub(crate) struct Refusal {
    error: AuthError,
    since: Timestamp,
    until: Timestamp,
}

/// What a caller can be content with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// Something that need not be renewed yet.
    Fresh,
    /// Something else than what the registry has refused.
    OtherThan(u64),
}

/// What is held for who asks.
#[derive(Debug)]
pub(crate) enum Held {
    /// Good for now.
    Fresh(Minted),
    /// Good for now, and to be renewed meanwhile.
    Due(Minted),
    /// Nothing, or something at its end.
    Nothing,
}

enum Boarding {
    Held(Minted),
    Flight(watch::Receiver<Option<Outcome>>),
}

impl Wanted {
    fn is_met_by(self, held: &Minted, now: Timestamp) -> bool {
        match self {
            Self::Fresh => held.is_fresh(now),
            Self::OtherThan(serial) => held.auth.serial != serial && held.is_alive(now),
        }
    }
}

impl Slot {
    pub(crate) fn held(&self, now: Timestamp) -> Held {
        let state = self.lock();
        let Some(held) = &state.held else {
            return Held::Nothing;
        };
        let is_pausing = state.renew_from.is_some_and(|from| now < from);
        if held.is_fresh(now) || (is_pausing && held.is_alive(now)) {
            return Held::Fresh(held.clone());
        }
        if held.has_reserve(now) {
            return Held::Due(held.clone());
        }
        Held::Nothing
    }

    /// What is held, however near its end.
    pub(crate) fn last(&self) -> Option<Minted> {
        self.lock().held.clone()
    }

    /// The refusal that still stands.
    pub(crate) fn refusal(&self, now: Timestamp) -> Option<AuthError> {
        self.lock()
            .refusal
            .as_ref()
            .and_then(|refusal| refusal.standing(now))
    }

    /// Lets go of what the registry refused. Something newer stays.
    pub(crate) fn drop_refused(&self, serial: u64) {
        let mut state = self.lock();
        if state
            .held
            .as_ref()
            .is_some_and(|held| held.auth.serial == serial)
        {
            state.held = None;
        }
    }

    /// What is wanted, when it is here by now; else the outcome of the minting under way, or of the
    /// one that this begins.
    pub(crate) async fn join<F>(
        self: &Arc<Self>,
        clock: Arc<dyn Clock>,
        wanted: Wanted,
        mint: F,
    ) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut flight = match self.board(clock, wanted, mint) {
            Boarding::Held(minted) => return Ok(minted),
            Boarding::Flight(flight) => flight,
        };
        match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("waited for an outcome"),
            Err(_) => Err(AuthError::Internal {
                message: "the minting was ended".to_owned(),
            }),
        }
    }

    /// Begins a minting for which nobody waits, unless one is under way.
    pub(crate) fn renew<F>(self: &Arc<Self>, clock: Arc<dyn Clock>, mint: F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        drop(self.board(clock, Wanted::Fresh, mint));
    }

    fn board<F>(self: &Arc<Self>, clock: Arc<dyn Clock>, wanted: Wanted, mint: F) -> Boarding
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let now = clock.now();
        let mut state = self.lock();
        if let Some(held) = state
            .held
            .as_ref()
            .filter(|held| wanted.is_met_by(held, now))
        {
            return Boarding::Held(held.clone());
        }
        // A flight whose task died left no outcome and can bring none.
        if let Some(flight) = state
            .flight
            .as_ref()
            .filter(|flight| flight.has_changed().is_ok())
        {
            return Boarding::Flight(flight.clone());
        }
        let (sender, receiver) = watch::channel(None);
        state.flight = Some(receiver.clone());
        let slot = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = mint.await;
            // It may have taken long: what is said of the time to come counts from here.
            slot.land(clock.now(), &outcome);
            sender.send_replace(Some(outcome));
        });
        Boarding::Flight(receiver)
    }

    fn land(&self, now: Timestamp, outcome: &Outcome) {
        let mut state = self.lock();
        state.flight = None;
        match outcome {
            Ok(minted) => {
                state.held = Some(minted.clone());
                state.refusal = None;
                state.renew_from = None;
            }
            Err(error) => {
                state.refusal = Refusal::new(error, now);
                // A refusal is an answer, which those who ask next are told.
                let pause = error.is_transient().then_some(RENEWAL_PAUSE);
                state.renew_from = pause.and_then(|pause| now.checked_add(pause).ok());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Slot")
    }
}

fn was_set_back(since: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(since.duration_since(now)).is_ok_and(|back| back > SET_BACK)
}

impl Minted {
    /// Whether it can be handed out without renewing it first.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let Some(end) = self.renewable_end() else {
            return true;
        };
        if was_set_back(self.since, now) {
            return false;
        }
        let life = self.life(end);
        let margin = (life / 10).max(LEAST_MARGIN).min(life / 2);
        let margin = margin.mul_f64(1.0 + self.chance / 2.0);
        now.checked_add(margin).is_ok_and(|then| then < end)
    }

    /// Whether it lives for long enough to be used, though it is to be renewed.
    fn has_reserve(&self, now: Timestamp) -> bool {
        let Some(end) = self.renewable_end() else {
            return true;
        };
        let reserve = RESERVE.min(self.life(end) / 4);
        !was_set_back(self.since, now) && now.checked_add(reserve).is_ok_and(|then| then < end)
    }

    fn life(&self, end: Timestamp) -> Duration {
        Duration::try_from(end.duration_since(self.since)).unwrap_or_default()
    }

    /// Whether the registry would still take it.
    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        self.auth.not_after.is_none_or(|end| now < end)
    }

    /// Minting a password anew gives the same password: only tokens of a service are renewed.
    fn renewable_end(&self) -> Option<Timestamp> {
        match self.auth.scheme {
            AuthScheme::Bearer(_) if self.scope.is_some() => self.auth.not_after,
            _ => None,
        }
    }
}

impl Refusal {
    /// A refusal that stands for a while; `None` for an error that says nothing about next time.
    pub(crate) fn new(error: &AuthError, now: Timestamp) -> Option<Self> {
        let life = match error {
            AuthError::BadCredential { .. } | AuthError::NoPermission { .. } => REFUSAL_LIFE,
            AuthError::RateLimited { retry_after, .. } => retry_after
                .unwrap_or(DEFAULT_RATE_LIMIT)
                .min(MAX_RATE_LIMIT),
            _ => return None,
        };
        Some(Self {
            error: error.clone(),
            since: now,
            until: now.checked_add(life).ok()?,
        })
    }

    /// The error, with what is left of a stated wait.
    pub(crate) fn standing(&self, now: Timestamp) -> Option<AuthError> {
        let left = Duration::try_from(self.until.duration_since(now)).ok()?;
        if left.is_zero() || was_set_back(self.since, now) {
            return None;
        }
        Some(match self.error.clone() {
            AuthError::RateLimited { message, .. } => AuthError::RateLimited {
                retry_after: Some(left),
                message,
            },
            other => other,
        })
    }
}
