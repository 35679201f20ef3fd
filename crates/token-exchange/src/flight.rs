//! One minting at a time, whose result everybody who asked gets.
//!
//! The minting is a task of its own: callers wait for it and may go away, the first of them too,
//! without taking it down. What it brings is kept here until it nears its end; from some time
//! before that it is renewed, while those who ask are given what is held.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credential::auth::AuthError;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::life::{Perishable, was_set_back};

/// How long a refusal stands before the same question is asked again. Accounts get locked by
/// programs that try a wrong password over and over.
const REFUSAL_LIFE: Duration = Duration::from_secs(10);

/// How long a "slow down" without a time stands.
const DEFAULT_RATE_LIMIT: Duration = Duration::from_secs(5);

/// Longest time for which a "slow down" is obeyed unasked.
const MAX_RATE_LIMIT: Duration = Duration::from_mins(15);

/// After an early renewal has failed, what is held is used for so long before the next one.
const RENEWAL_PAUSE: Duration = Duration::from_secs(2);

pub(crate) type Outcome<T> = Result<T, AuthError>;

/// The place of what is minted for one purpose, and of what is known about minting it.
pub(crate) struct Slot<T>(Mutex<State<T>>);

struct State<T> {
    held: Option<T>,
    refusal: Option<Refusal>,
    /// No early renewal before this.
    renew_from: Option<Timestamp>,
    flight: Option<Flight<T>>,
}

type Flight<T> = watch::Receiver<Option<Outcome<T>>>;

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
enum Held<T> {
    /// Good for now.
    Fresh(T),
    /// Good for now, and to be renewed meanwhile.
    Due(T),
    /// Nothing, or something at its end.
    Nothing,
}

enum Boarding<T> {
    Held(T),
    Flight(Flight<T>),
}

impl Wanted {
    fn is_met_by(self, held: &impl Perishable, now: Timestamp) -> bool {
        let life = held.life();
        match self {
            Self::Fresh => life.is_fresh(now),
            Self::OtherThan(serial) => life.serial != serial && life.is_alive(now),
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            held: None,
            refusal: None,
            renew_from: None,
            flight: None,
        }))
    }
}

impl<T: Perishable + Clone + Send + Sync + 'static> Slot<T> {
    /// What is held, renewed while it is handed out; else the outcome of a minting, unless the
    /// like was refused a moment ago, here or as the caller knows.
    pub(crate) async fn current<F>(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        refusal: Option<AuthError>,
        mint: F,
    ) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        let now = clock.now();
        let refusal = refusal.or_else(|| self.refusal(now));
        match self.held(now) {
            Held::Fresh(held) => return Ok(held),
            Held::Due(held) if refusal.is_none() => {
                drop(self.board(clock, Wanted::Fresh, mint));
                return Ok(held);
            }
            Held::Due(_) | Held::Nothing => {}
        }
        let outcome = match refusal {
            Some(error) => Err(error),
            None => self.join(clock, Wanted::Fresh, mint).await,
        };
        match (outcome, self.last()) {
            // Renewal was early: while it fails for the moment, what is held still works.
            (Err(error), Some(held)) if !is_answer(&error) && held.life().is_alive(clock.now()) => {
                tracing::debug!(%error, "renewal failed, the old token is still good");
                Ok(held)
            }
            (outcome, _) => outcome,
        }
    }

    fn held(&self, now: Timestamp) -> Held<T> {
        let state = self.lock();
        let Some(held) = &state.held else {
            return Held::Nothing;
        };
        let life = held.life();
        let is_pausing = state.renew_from.is_some_and(|from| now < from);
        if life.is_fresh(now) || (is_pausing && life.is_alive(now)) {
            return Held::Fresh(held.clone());
        }
        if life.has_reserve(now) {
            return Held::Due(held.clone());
        }
        Held::Nothing
    }

    /// What is held, however near its end.
    pub(crate) fn last(&self) -> Option<T> {
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
            .is_some_and(|held| held.life().serial == serial)
        {
            state.held = None;
        }
    }

    /// What is wanted, when it is here by now; else the outcome of the minting under way, or of the
    /// one that this begins.
    pub(crate) async fn join<F>(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        wanted: Wanted,
        mint: F,
    ) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
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

    fn board<F>(self: &Arc<Self>, clock: &Arc<dyn Clock>, wanted: Wanted, mint: F) -> Boarding<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        let now = clock.now();
        let mut state = self.lock();
        if let Some(held) = state
            .held
            .as_ref()
            .filter(|held| wanted.is_met_by(*held, now))
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
        let (slot, clock) = (Arc::clone(self), Arc::clone(clock));
        tokio::spawn(async move {
            let outcome = mint.await;
            // It may have taken long: what is said of the time to come counts from here.
            slot.land(clock.now(), &outcome);
            sender.send_replace(Some(outcome));
        });
        Boarding::Flight(receiver)
    }

    fn land(&self, now: Timestamp, outcome: &Outcome<T>) {
        let mut state = self.lock();
        state.flight = None;
        match outcome {
            Ok(minted) => {
                let life = minted.life();
                let before = state.held.as_ref().map(Perishable::life);
                // What gained nothing would gain nothing a moment later either.
                let gained = before.is_none_or(|before| life.gains_on(before));
                state.renew_from = if gained { None } else { life.reserve_from() };
                state.held = minted.is_kept().then(|| minted.clone());
                state.refusal = None;
            }
            Err(error) => {
                state.refusal = Refusal::new(error, now);
                // An answer is what those who ask next are told.
                let pause = (!is_answer(error)).then_some(RENEWAL_PAUSE);
                state.renew_from = pause.and_then(|pause| now.checked_add(pause).ok());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Slot")
    }
}

/// Whether somebody has judged the credential: what was minted from it before is then no longer
/// to be given out. Any other error is one of the minting.
fn is_answer(error: &AuthError) -> bool {
    matches!(
        error,
        AuthError::BadCredential { .. } | AuthError::NoPermission { .. }
    )
}

impl Refusal {
    /// A refusal that stands for a while; `None` for an error that says nothing about next time.
    pub(crate) fn new(error: &AuthError, now: Timestamp) -> Option<Self> {
        let life = match error {
            AuthError::BadCredential { .. }
            | AuthError::NoPermission { .. }
            | AuthError::Refused { .. } => REFUSAL_LIFE,
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;
    use crate::life::Life;

    #[derive(Debug, Default)]
    struct Seconds(AtomicI64);

    impl Clock for Seconds {
        fn now(&self) -> Timestamp {
            let seconds = self.0.load(Ordering::Relaxed);
            Timestamp::from_second(1_700_000_000 + seconds).unwrap()
        }
    }

    impl Perishable for Life {
        fn life(&self) -> &Life {
            self
        }
    }

    /// How often something is minted that is asked for every second of an hour.
    async fn mintings(end: impl Fn(Timestamp) -> Timestamp + Copy + Send + 'static) -> u64 {
        let seconds = Arc::new(Seconds::default());
        let clock = Arc::clone(&seconds) as Arc<dyn Clock>;
        let (slot, minted) = (Arc::new(Slot::default()), Arc::new(AtomicU64::new(1)));
        for _ in 0..3600 {
            let (now, minted) = (clock.now(), Arc::clone(&minted));
            let mint = async move {
                let serial = minted.fetch_add(1, Ordering::Relaxed);
                Ok(Life::new(serial, now, Some(end(now)), true))
            };
            let held = slot.current(&clock, None, mint).await.unwrap();
            assert!(held.is_alive(now));
            tokio::task::yield_now().await;
            seconds.0.fetch_add(1, Ordering::Relaxed);
        }
        minted.load(Ordering::Relaxed) - 1
    }

    #[tokio::test]
    async fn what_ends_with_a_session_is_not_minted_ever_more_often() {
        let later = |time: Timestamp, seconds| time + Duration::from_secs(seconds);
        let session = later(Seconds::default().now(), 3600);
        assert_eq!(mintings(move |_now| session).await, 3);
        // As clocks differ by a second.
        let differing = move |now: Timestamp| later(session, u64::from(now.as_second() % 2 == 1));
        assert!(mintings(differing).await <= 4);
        let short = mintings(move |now| later(now, 10)).await;
        assert!((3600 / 10..=3600 / 2).contains(&short), "{short}");
    }
}
