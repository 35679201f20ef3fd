//! How long to wait between attempts, and when to stop. Pure but for the clock of tokio, which
//! tests can turn by hand.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use crate::blob::BlobError;

/// First pause after a failure that may be a hiccup: about one round trip across the world.
const TRANSIENT_FIRST: Duration = Duration::from_millis(100);
/// Longest pause then: a registry that comes back is noticed within two seconds.
const TRANSIENT_MOST: Duration = Duration::from_secs(2);
/// First pause after a refusal. Refused attempts count against the account at some registries.
const DENIED_FIRST: Duration = Duration::from_secs(1);
/// Longest pause then: a new login is noticed within five seconds.
const DENIED_MOST: Duration = Duration::from_secs(5);

/// The waiting that one fetch may do.
#[derive(Debug)]
pub(crate) struct Patience {
    deadline: Instant,
    attempts: u32,
    random: RandomState,
}

impl Patience {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            attempts: 0,
            random: RandomState::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long to wait before trying again after `error`, or nothing when that is pointless or
    /// the deadline has come. The last attempt happens at the deadline, not before it.
    pub(crate) fn pause(&mut self, error: &BlobError) -> Option<Duration> {
        let (first, most, at_least) = match error {
            BlobError::Transient { retry_after, .. } => (
                TRANSIENT_FIRST,
                TRANSIENT_MOST,
                retry_after.unwrap_or_default(),
            ),
            BlobError::Denied { .. } | BlobError::Missing { .. } => {
                (DENIED_FIRST, DENIED_MOST, Duration::ZERO)
            }
            BlobError::Final { .. } => return None,
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let doubled = first.saturating_mul(1 << self.attempts.min(16)).min(most);
        self.attempts += 1;
        Some(self.jitter(doubled).max(at_least).min(left))
    }

    /// Between a half and the whole of `pause`, so that many waiters do not come back at once.
    fn jitter(&self, pause: Duration) -> Duration {
        let random = self.random.hash_one(self.attempts) % 512;
        let share = 512 + u32::try_from(random).unwrap_or(0);
        pause * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient(seconds: Option<u64>) -> BlobError {
        let retry_after = seconds.map(Duration::from_secs);
        BlobError::Transient {
            message: "gone".to_owned(),
            retry_after,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_stop_at_the_deadline() {
        let deadline = Instant::now() + Duration::from_mins(2);
        let mut patience = Patience::until(deadline);
        let mut pauses = Vec::new();
        while let Some(pause) = patience.pause(&transient(None)) {
            pauses.push(pause);
            tokio::time::advance(pause).await;
        }
        assert!(pauses[0] <= TRANSIENT_FIRST && pauses[0] >= TRANSIENT_FIRST / 2);
        assert!(pauses.iter().all(|pause| *pause <= TRANSIENT_MOST));
        assert!(
            pauses.len() >= 60,
            "{} attempts in two minutes",
            pauses.len()
        );
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_follows_what_failed() {
        let denied = BlobError::Denied {
            message: "no".to_owned(),
        };
        let last = BlobError::Final {
            message: "never".to_owned(),
        };
        let seconds = Duration::from_secs;
        let cases = [
            (transient(Some(7)), Some((seconds(7), seconds(7)))),
            (transient(Some(3600)), Some((seconds(120), seconds(120)))),
            (denied, Some((DENIED_FIRST / 2, DENIED_FIRST))),
            (last, None),
        ];
        for (error, expected) in cases {
            let mut patience = Patience::until(Instant::now() + seconds(120));
            let pause = patience.pause(&error);
            match (pause, expected) {
                (Some(pause), Some((least, most))) => {
                    assert!(pause >= least && pause <= most, "{error:?}: {pause:?}");
                }
                (pause, expected) => assert_eq!(pause.is_some(), expected.is_some(), "{error:?}"),
            }
        }
    }
}
