//! The vault's row of a lease, as its holder writes it.
//!
//! Each write is a renewal with the next number. The bytes of one that is under way stay the same
//! until it is known to have been written: whoever gives up waiting for it does not become a copy
//! of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use ids::LeaseId;
use jiff::Timestamp;
use token_exchange::Rung;
use vault::{Given, LEASE_TIME, LeaseRequest, Renewal, Stamp, Vault, VaultError};

/// Locations are found one by one for the layers of an image. What is noted of their ends is
/// rounded up to this, so that those of one moment are one row.
const LOCATIONS_TOGETHER: i64 = 60;

/// What a reader is about to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gift {
    pub(super) rung: Rung,
    pub(super) not_after: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Row {
    id: Option<LeaseId>,
    version: u32,
    /// Of the next renewal.
    stamp: Stamp,
    since: Timestamp,
    renew_at: Timestamp,
    /// What is on record as given of this version, and until when it counts.
    noted: BTreeMap<&'static str, Option<Timestamp>>,
}

impl Row {
    /// One that is not begun yet.
    pub(super) fn of_version(version: u32) -> Self {
        Self {
            id: None,
            version,
            stamp: Stamp::fresh(1),
            since: Timestamp::MIN,
            renew_at: Timestamp::MIN,
            noted: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self) -> Option<LeaseId> {
        self.id
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// It has ended.
    pub(super) fn take(&mut self) -> Option<LeaseId> {
        let id = self.id.take();
        *self = Self::of_version(self.version);
        id
    }

    /// Has a live row on this version that says what is given: begun, moved or renewed as needed.
    pub(super) async fn write(
        &mut self,
        vault: &Vault,
        request: LeaseRequest<'_>,
        gift: Option<Gift>,
        now: Timestamp,
    ) -> Result<(), VaultError> {
        let version = request.sealed.version;
        let id = match self.id {
            Some(_) if !self.needs(version, gift, now) => return Ok(()),
            Some(id) => id,
            None => {
                let id = vault.begin_lease(request).await?;
                *self = Self::of_version(version);
                self.id = Some(id);
                self.has_been_written(now, None);
                if gift.is_none() {
                    return Ok(());
                }
                id
            }
        };
        let renewal = Renewal {
            stamp: self.stamp,
            version,
            until: gift.and_then(|gift| gift.not_after),
            given: gift.map(Gift::given),
        };
        vault.renew_lease(id, renewal).await?;
        if version != self.version {
            self.noted.clear();
            self.version = version;
        }
        if let Some(gift) = gift {
            self.noted.insert(gift.rung.as_str(), gift.noted_end());
        }
        self.stamp = Stamp::fresh(self.stamp.number + 1);
        self.has_been_written(now, gift.and_then(|gift| gift.not_after));
        Ok(())
    }

    fn needs(&self, version: u32, gift: Option<Gift>, now: Timestamp) -> bool {
        // A clock that was set back knows nothing of when to renew.
        let is_due = now < self.since || self.renew_at <= now;
        let is_noted = gift.is_none_or(|gift| {
            let noted = self.noted.get(gift.rung.as_str());
            noted.is_some_and(|noted| *noted == gift.noted_end())
        });
        is_due || version != self.version || !is_noted
    }

    /// Renewed after a third of its time, so that one failure does not lose it; what ends sooner is
    /// renewed by what is given next.
    fn has_been_written(&mut self, now: Timestamp, until: Option<Timestamp>) {
        let third = later(now, LEASE_TIME / 3);
        self.since = now;
        self.renew_at = until.map_or(third, |until| {
            let is_short = until < later(now, LEASE_TIME);
            if is_short { until } else { third }
        });
    }
}

impl Gift {
    /// That bytes are read for it. It is on record in stretches of the time of a lease, so that a
    /// long read is few rows, and none ends before the lease does.
    pub(super) fn read_through(now: Timestamp) -> Self {
        let whole = i64::try_from(LEASE_TIME.as_secs()).expect("a lease is minutes");
        let end = (now.as_second().div_euclid(whole) + 2).saturating_mul(whole);
        Self {
            rung: Rung::ReadThrough,
            not_after: Timestamp::from_second(end).ok(),
        }
    }

    fn given(self) -> Given {
        Given {
            rung: self.rung.as_str().to_owned(),
            not_after: self.noted_end(),
        }
    }

    fn noted_end(self) -> Option<Timestamp> {
        let end = self.not_after?;
        if self.rung != Rung::SignedLocation {
            return Some(end);
        }
        let whole = end.as_second().div_euclid(LOCATIONS_TOGETHER) + 1;
        Timestamp::from_second(whole.saturating_mul(LOCATIONS_TOGETHER)).ok()
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_040 + seconds).unwrap()
    }

    #[test]
    fn rows_are_written_when_something_is_new_or_due() {
        let token = |end| Gift {
            rung: Rung::RepositoryBearer,
            not_after: Some(at(end)),
        };
        let location = |end| Gift {
            rung: Rung::SignedLocation,
            not_after: Some(at(end)),
        };
        let mut row = Row::of_version(1);
        row.has_been_written(at(0), None);
        for gift in [token(300), location(130)] {
            row.noted.insert(gift.rung.as_str(), gift.noted_end());
        }
        for (what, version, gift, now, is_needed) in [
            ("nothing new", 1, None, 299, false),
            ("a third is over", 1, None, 300, true),
            ("the clock was set back", 1, None, -1, true),
            ("another version", 2, None, 0, true),
            ("the same token", 1, Some(token(300)), 0, false),
            ("another token", 1, Some(token(301)), 0, true),
            (
                "a location of the same minute",
                1,
                Some(location(175)),
                0,
                false,
            ),
            ("a later location", 1, Some(location(185)), 0, true),
        ] {
            assert_eq!(row.needs(version, gift, at(now)), is_needed, "{what}");
        }
        let through = Gift::read_through(at(0));
        assert_eq!(through, Gift::read_through(at(50)), "of one stretch");
        let end = through.not_after.expect("an end");
        assert!(at(0) + LEASE_TIME <= end && end <= at(0) + 2 * LEASE_TIME);
        row.has_been_written(at(0), Some(at(60)));
        assert!(!row.needs(1, None, at(59)) && row.needs(1, None, at(60)));
        row.has_been_written(at(0), Some(at(86_400)));
        assert!(row.needs(1, None, at(300)));
    }
}
