//! Where blobs were redirected to, remembered until shortly before the signed URL dies.
//!
//! Registries in front of object stores answer each blob request with a redirect to a signed URL.
//! Reading a layer by ranges through the registry would double the requests, so the URL is used
//! again. It is a bearer secret of sorts: it is never shown, and never sent with a credential.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dial::Url;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use reference::Digest;

/// Life of a location that does not say how long it lives.
const DEFAULT_LIFE: Duration = Duration::from_secs(30);

/// Longest use of one location: a registry that revokes access is asked again after this.
const MAX_LIFE: Duration = Duration::from_mins(10);

/// Kept back from a stated life, for clocks that differ and requests under way.
const MARGIN: Duration = Duration::from_secs(5);

/// For so long a registry that sends blobs itself is not asked whether it still does, nor a source
/// that reads itself.
const NOWHERE_LIFE: Duration = Duration::from_mins(10);

/// A location that was found so lately is not looked for again, whoever says that it does not work.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// Locations remembered: the layers of several images.
const MAX_LOCATIONS: usize = 1024;

type Key = (String, Digest);

/// Whose turn it is to look for a location.
type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub(crate) struct Locations {
    known: Mutex<HashMap<Key, Known>>,
    turns: Mutex<HashMap<Key, Turn>>,
    serial: AtomicU64,
}

/// What is known of a blob's location.
#[derive(Clone)]
pub(crate) enum Known {
    At(Location),
    /// It did not work.
    Refused {
        serial: u64,
    },
    /// The registry sends the blob itself.
    Nowhere {
        until: Instant,
    },
    /// The source reads it.
    AtSource {
        until: Instant,
    },
}

#[derive(Clone)]
pub(crate) struct Location {
    pub(crate) url: Url,
    /// Its source's number for it, or our own.
    pub(crate) serial: u64,
    since: Instant,
    until: Instant,
}

impl Location {
    /// Whether it may be looked for anew, where it was said not to work.
    pub(crate) fn may_be_stale(&self) -> bool {
        self.since.elapsed() >= LEAST_AGE
    }

    pub(crate) fn life(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

impl Locations {
    /// What is still true of a blob.
    pub(crate) fn known(&self, repository: &str, digest: &Digest) -> Option<Known> {
        let known = lock(&self.known);
        let found = known.get(&(repository.to_owned(), digest.clone()))?;
        let now = Instant::now();
        let stands = match found {
            Known::At(location) => now < location.until,
            Known::Nowhere { until } | Known::AtSource { until } => now < *until,
            Known::Refused { .. } => true,
        };
        stands.then(|| found.clone())
    }

    /// Whether the registry sent the blob itself when that was looked at last, however long ago.
    pub(crate) fn was_nowhere(&self, repository: &str, digest: &Digest) -> bool {
        let known = lock(&self.known);
        let found = known.get(&(repository.to_owned(), digest.clone()));
        matches!(found, Some(Known::Nowhere { .. }))
    }

    /// Where a redirect led, for as long as its query says.
    pub(crate) fn found(&self, repository: &str, digest: &Digest, url: Url) -> Location {
        let life = life(&url, Timestamp::now());
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.given(repository, digest, url, serial, life)
    }

    /// What the source gave.
    pub(crate) fn given(
        &self,
        repository: &str,
        digest: &Digest,
        url: Url,
        serial: u64,
        life: Duration,
    ) -> Location {
        let since = Instant::now();
        let location = Location {
            url,
            serial,
            since,
            until: since + life.min(MAX_LIFE),
        };
        self.keep(repository, digest, Known::At(location.clone()));
        location
    }

    pub(crate) fn nowhere(&self, repository: &str, digest: &Digest) {
        let until = Instant::now() + NOWHERE_LIFE;
        self.keep(repository, digest, Known::Nowhere { until });
    }

    pub(crate) fn at_source(&self, repository: &str, digest: &Digest) {
        let until = Instant::now() + NOWHERE_LIFE;
        self.keep(repository, digest, Known::AtSource { until });
    }

    /// Whether the registry sends the blob itself is asked again; what was found meanwhile stays.
    pub(crate) fn forget(&self, repository: &str, digest: &Digest) {
        let key = (repository.to_owned(), digest.clone());
        let mut known = lock(&self.known);
        if matches!(known.get(&key), Some(Known::Nowhere { .. })) {
            known.remove(&key);
        }
    }

    /// The blob could not be read there. What was found meanwhile stays.
    pub(crate) fn refuse(&self, repository: &str, digest: &Digest, serial: u64) {
        let newer = match self.known(repository, digest) {
            Some(Known::At(location)) => location.serial != serial,
            _ => false,
        };
        if !newer {
            self.keep(repository, digest, Known::Refused { serial });
        }
    }

    /// What is read there cannot be believed.
    pub(crate) fn distrust(&self, repository: &str, digest: &Digest) {
        if let Some(Known::At(location)) = self.known(repository, digest) {
            self.refuse(repository, digest, location.serial);
        }
    }

    /// One looks for a blob's location at a time; the others find what it found.
    pub(crate) fn turn(&self, repository: &str, digest: &Digest) -> Turn {
        let mut turns = lock(&self.turns);
        if turns.len() >= MAX_LOCATIONS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        let turn = turns.entry((repository.to_owned(), digest.clone()));
        Arc::clone(turn.or_default())
    }

    fn keep(&self, repository: &str, digest: &Digest, found: Known) {
        let key = (repository.to_owned(), digest.clone());
        let mut known = lock(&self.known);
        if known.len() >= MAX_LOCATIONS && !known.contains_key(&key) {
            let now = Instant::now();
            known.retain(|_, other| matches!(other, Known::At(location) if now < location.until));
            // Any of them is found again by who wants it.
            let other = known.keys().next().cloned();
            if known.len() >= MAX_LOCATIONS
                && let Some(other) = other
            {
                known.remove(&other);
            }
        }
        known.insert(key, found);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Locations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Locations")
    }
}

/// How long a location may be used from `now` on, by what its query says.
fn life(url: &Url, now: Timestamp) -> Duration {
    let Some(end) = stated_end(url, now) else {
        return DEFAULT_LIFE;
    };
    let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
    left.saturating_sub(MARGIN).min(MAX_LIFE)
}

/// The end that the usual signatures state: S3 and GCS (V4), GCS and `CloudFront` (V2), Azure.
fn stated_end(url: &Url, now: Timestamp) -> Option<Timestamp> {
    let mut signed_at = None;
    let mut lasting = None;
    let mut end = None;
    for (name, value) in url.query_pairs() {
        match name.to_ascii_lowercase().as_str() {
            "x-amz-date" | "x-goog-date" => signed_at = compact_time(&value),
            "x-amz-expires" | "x-goog-expires" => lasting = value.parse::<u32>().ok(),
            "expires" => {
                end = value
                    .parse::<i64>()
                    .ok()
                    .and_then(|s| Timestamp::from_second(s).ok());
            }
            "se" => end = value.parse().ok(),
            _ => {}
        }
    }
    let Some(lasting) = lasting else { return end };
    let from = signed_at.unwrap_or(now).min(now);
    from.checked_add(Duration::from_secs(lasting.into())).ok()
}

fn compact_time(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_how_long_a_location_lives() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("time");
        let cases = [
            ("", 30),
            ("x=1", 30),
            ("X-Amz-Expires=65", 60),
            ("X-Amz-Date=20260101T000900Z&X-Amz-Expires=120", 55),
            ("X-Amz-Date=20260101T001100Z&X-Amz-Expires=120", 115),
            ("X-Amz-Date=junk&X-Amz-Expires=120", 115),
            ("X-Amz-Expires=999999", 600),
            ("X-Amz-Expires=3", 0),
            ("X-Amz-Expires=-3", 30),
            ("X-Goog-Date=20260101T001000Z&X-Goog-Expires=35", 30),
            ("Expires=1767226265", 60),
            ("Expires=1", 0),
            ("Expires=99999999999999999", 30),
            ("se=2026-01-01T00%3A11%3A05Z&sig=x", 60),
        ];
        for (query, seconds) in cases {
            let url = Url::parse(&format!("https://store.example/blob?{query}")).expect("url");
            assert_eq!(life(&url, now), Duration::from_secs(seconds), "{query}");
        }
    }

    #[test]
    fn locations_are_known_until_their_end_or_their_refusal() {
        let locations = Locations::default();
        let digest = Digest::sha256([1; 32]);
        let at = |repository| match locations.known(repository, &digest) {
            Some(Known::At(location)) => Some(location.url),
            _ => None,
        };
        let dead = Url::parse("https://s.example/?X-Amz-Expires=1").expect("url");
        locations.found("r", &digest, dead);
        assert_eq!(at("r"), None);
        let alive = Url::parse("https://s.example/?X-Amz-Expires=100").expect("url");
        let location = locations.found("r", &digest, alive.clone());
        assert!(location.life() > Duration::from_secs(90));
        assert_eq!(at("r"), Some(alive));
        assert_eq!(at("other"), None);
        locations.distrust("r", &digest);
        let known = locations.known("r", &digest);
        let expected = location.serial;
        assert!(matches!(known, Some(Known::Refused { serial }) if serial == expected));
        locations.nowhere("r", &digest);
        assert!(matches!(
            locations.known("r", &digest),
            Some(Known::Nowhere { .. })
        ));
    }
}
