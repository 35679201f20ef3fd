//! When to try again, and when to stop.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::error::RegistryError;

/// How often and how long one operation is tried. Waiting longer than this is the caller's matter:
/// a read of a running container has its own, much later deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub attempts: u32,
    /// Pause before the second try; doubles from there.
    pub first_pause: Duration,
    /// No pause is longer, unless the registry itself asks for it.
    pub longest_pause: Duration,
    /// No pause begins that would end later than this after the first try.
    pub budget: Duration,
    /// The same for a blob that is read whole, from the last real progress on, however often it is
    /// not answered meanwhile; answers that break off are counted. It counts where it is more than
    /// `budget`.
    pub resume: Duration,
}

impl RetryPolicy {
    /// For whoever is asked by somebody that tries again.
    pub const ONCE: Self = Self {
        attempts: 1,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
        budget: Duration::ZERO,
        resume: Duration::ZERO,
    };
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: DEFAULT_ATTEMPTS,
            first_pause: DEFAULT_FIRST_PAUSE,
            longest_pause: DEFAULT_LONGEST_PAUSE,
            budget: DEFAULT_BUDGET,
            resume: DEFAULT_RESUME,
        }
    }
}

/// Enough for a restart of a registry behind a load balancer, few enough not to add to an outage.
const DEFAULT_ATTEMPTS: u32 = 6;

/// About the time in which a dropped connection or a full queue is over.
const DEFAULT_FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A person is waiting: no longer between two signs of life.
const DEFAULT_LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A link that is lost for half a minute is outlasted, and the try that finds it back. Later than
/// that a person wants to be told.
const DEFAULT_BUDGET: Duration = Duration::from_secs(45);

/// Whoever reads a whole blob has been given its manifest, and much of its bytes: the registry is
/// the right one and gives them, and beginning again costs more than waiting. As long as a read of
/// a running container waits.
const DEFAULT_RESUME: Duration = Duration::from_mins(2);

/// The tries of one operation.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    started: Instant,
    failed: u32,
    /// Of those, the ones that are held against the policy.
    counted: u32,
    /// Only time ends what is not answered.
    outlasts: bool,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            started: Instant::now(),
            failed: 0,
            counted: 0,
            outlasts: false,
        }
    }

    /// Of reading a whole blob.
    pub(crate) fn resuming(policy: RetryPolicy) -> Self {
        let budget = policy.budget.max(policy.resume);
        Self {
            outlasts: policy.resume > policy.budget,
            ..Self::new(RetryPolicy { budget, ..policy })
        }
    }

    /// Progress was made: start counting anew.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            outlasts: self.outlasts,
            ..Self::new(self.policy)
        };
    }

    /// What failed was an answer that broke off: whoever gives such is not away.
    pub(crate) fn broke_off(&mut self) {
        if self.outlasts {
            self.counted += 1;
        }
    }

    /// Waits before the next try, or gives the error back when there shall be none.
    pub(crate) async fn pause_after(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.failed += 1;
        if !self.outlasts {
            self.counted += 1;
        }
        if !error.is_transient() || self.counted >= self.policy.attempts {
            return Err(error);
        }
        let pause = pause(
            self.policy,
            self.failed,
            error.retry_after(),
            random_fraction(),
        );
        if self.started.elapsed() + pause > self.policy.budget {
            return Err(error);
        }
        tracing::debug!(%error, pause_ms = pause.as_millis(), "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// The pause after the n-th failure: doubling, half of it by chance so that a crowd spreads out, or
/// a little more than what the registry asked for.
fn pause(policy: RetryPolicy, failed: u32, asked: Option<Duration>, fraction: f64) -> Duration {
    if let Some(asked) = asked {
        return asked + policy.first_pause.mul_f64(fraction);
    }
    let doublings = failed.saturating_sub(1).min(16);
    let full = policy
        .first_pause
        .saturating_mul(1 << doublings)
        .min(policy.longest_pause);
    full.mul_f64(0.5 + fraction / 2.0)
}

/// A number in 0..1 that differs between processes and calls. Not for secrets.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_and_have_a_ceiling() {
        let policy = RetryPolicy::default();
        let low = |failed| pause(policy, failed, None, 0.0).as_millis();
        let high = |failed| pause(policy, failed, None, 1.0).as_millis();
        assert_eq!((low(1), high(1)), (100, 200));
        assert_eq!((low(2), high(2)), (200, 400));
        assert_eq!((low(40), high(40)), (2500, 5000));
        let asked = Some(Duration::from_secs(7));
        assert_eq!(pause(policy, 1, asked, 0.0), Duration::from_secs(7));
        assert_eq!(pause(policy, 1, asked, 1.0), Duration::from_millis(7200));
    }

    #[tokio::test]
    async fn only_transient_errors_within_the_budget_are_tried_again() {
        let transient = || RegistryError::Unreachable {
            registry: "r".to_owned(),
            message: "m".to_owned(),
        };
        let lasting = RegistryError::NotFound {
            subject: "s".to_owned(),
        };
        let quick = RetryPolicy {
            attempts: 3,
            first_pause: Duration::ZERO,
            longest_pause: Duration::ZERO,
            budget: Duration::from_mins(1),
            resume: Duration::ZERO,
        };
        let mut attempts = Attempts::new(quick);
        assert!(attempts.pause_after(lasting).await.is_err());
        let mut attempts = Attempts::new(quick);
        assert!(attempts.pause_after(transient()).await.is_ok());
        assert!(attempts.pause_after(transient()).await.is_ok());
        assert!(attempts.pause_after(transient()).await.is_err());
        let mut attempts = Attempts::resuming(RetryPolicy::ONCE);
        assert!(attempts.pause_after(transient()).await.is_err());
        let mut attempts = Attempts::resuming(RetryPolicy {
            resume: Duration::from_mins(2),
            ..quick
        });
        for _ in 0..10 {
            assert!(attempts.pause_after(transient()).await.is_ok());
        }
        for is_gone_on_with in [true, true, false] {
            attempts.broke_off();
            let paused = attempts.pause_after(transient()).await;
            assert_eq!(paused.is_ok(), is_gone_on_with);
        }
        let limited = RegistryError::RateLimited {
            registry: "r".to_owned(),
            retry_after: Some(Duration::from_secs(61)),
        };
        let mut attempts = Attempts::new(quick);
        assert!(attempts.pause_after(limited).await.is_err());
    }
}
