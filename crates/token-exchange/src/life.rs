//! How long something that was minted is handed out, and from when on it is renewed.
//!
//! ```text
//! since                       renew from            reserve      end
//!   ├── handed out ──────────────┼── and renewed ──────┼─ waited for ┤
//! ```

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;

/// A token is renewed this long before its end, or a tenth of its life where that is more, and up
/// to half of that earlier: tokens that were minted together are not renewed together.
const LEAST_MARGIN: Duration = Duration::from_secs(5);

/// What has no longer to live may end before the request that carries it arrives: who asks waits
/// for its renewal. Of a very short life it is a quarter.
const RESERVE: Duration = Duration::from_secs(2);

/// A refusal that does not say that the token is at fault renews nothing younger than this: else
/// each read of a repository that is simply forbidden would mint one. One that says so is believed
/// once in this time.
const LEAST_AGE_TO_RENEW: Duration = Duration::from_secs(10);

/// A clock that shows so much less than before was set back: what it said of times to come is then
/// worth nothing. Less may be two callers who looked at it in another order.
const SET_BACK: Duration = Duration::from_mins(1);

/// The life of something minted.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    /// Which minting this was.
    pub(crate) serial: u64,
    since: Timestamp,
    pub(crate) end: Option<Timestamp>,
    /// Whether minting it anew gives another one. A password stays the same password.
    pub(crate) is_renewable: bool,
    /// How much earlier than it must it is renewed: from 0 up to 1.
    chance: f64,
}

/// Something that has a life.
pub(crate) trait Perishable {
    fn life(&self) -> &Life;

    /// Whether it is held until its end, and not made anew whenever it is wanted.
    fn is_kept(&self) -> bool {
        true
    }
}

impl Life {
    pub(crate) fn new(
        serial: u64,
        since: Timestamp,
        end: Option<Timestamp>,
        is_renewable: bool,
    ) -> Self {
        Self {
            serial,
            since,
            end,
            is_renewable,
            chance: chance(),
        }
    }

    /// The same life, of what was made of this at another minting.
    pub(crate) fn passed_on(&self, serial: u64) -> Self {
        Self {
            serial,
            ..self.clone()
        }
    }

    /// Whether it can be handed out without renewing it first.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        let Some(end) = self.renewable_end() else {
            return true;
        };
        if was_set_back(self.since, now) {
            return false;
        }
        let life = self.length(end);
        let margin = (life / 10).max(LEAST_MARGIN).min(life / 2);
        let margin = margin.mul_f64(1.0 + self.chance / 2.0);
        now.checked_add(margin).is_ok_and(|then| then < end)
    }

    /// Whether it lives for long enough to be used, though it is to be renewed.
    pub(crate) fn has_reserve(&self, now: Timestamp) -> bool {
        self.reserve_from()
            .is_none_or(|from| now < from && !was_set_back(self.since, now))
    }

    /// From when on who asks waits for its renewal.
    pub(crate) fn reserve_from(&self) -> Option<Timestamp> {
        let end = self.renewable_end()?;
        let reserve = RESERVE.min(self.length(end) / 4);
        end.checked_sub(reserve).ok()
    }

    /// Whether it was worth minting after that one: its end moved on with the time, and not by the
    /// second or so that clocks differ. What hangs on a session ends with that, minted when it may.
    pub(crate) fn gains_on(&self, before: &Self) -> bool {
        let (Some(end), Some(end_before)) = (self.end, before.end) else {
            return true;
        };
        end.duration_since(end_before) * 2 >= self.since.duration_since(before.since)
    }

    /// Whether the registry would still take it.
    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        self.end.is_none_or(|end| now < end)
    }

    /// Whether another one may be taken where this one was refused without saying why.
    pub(crate) fn may_help(&self, now: Timestamp) -> bool {
        self.is_renewable && !is_recent(self.since, now)
    }

    fn length(&self, end: Timestamp) -> Duration {
        Duration::try_from(end.duration_since(self.since)).unwrap_or_default()
    }

    fn renewable_end(&self) -> Option<Timestamp> {
        self.end.filter(|_| self.is_renewable)
    }
}

/// Whether this was so short a while ago that what was minted then is young. Not by a clock that
/// was set back, which would have it young for hours.
pub(crate) fn is_recent(then: Timestamp, now: Timestamp) -> bool {
    let age = Duration::try_from(now.duration_since(then)).unwrap_or_default();
    age < LEAST_AGE_TO_RENEW && !was_set_back(then, now)
}

/// Whether the clock was set back since it showed this.
pub(crate) fn was_set_back(since: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(since.duration_since(now)).is_ok_and(|back| back > SET_BACK)
}

/// From 0 up to 1. Nothing secret hangs on it.
fn chance() -> f64 {
    let hash = RandomState::new().hash_one(());
    f64::from((hash >> 32) as u32) / f64::from(u32::MAX)
}
