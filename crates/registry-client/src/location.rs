//! Where blobs were redirected to, remembered until shortly before the signed URL dies.
//!
//! Registries in front of object stores answer each blob request with a redirect to a signed URL.
//! Reading a layer by ranges through the registry would double the requests, so the URL is used
//! again. It is a bearer secret of sorts: it is never shown, and never sent with a credential.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
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

/// Locations remembered: the layers of several images.
const MAX_LOCATIONS: usize = 1024;

type Key = (String, Digest);

#[derive(Default)]
pub(crate) struct Locations(Mutex<HashMap<Key, Location>>);

struct Location {
    url: Url,
    until: Instant,
}

impl Locations {
    pub(crate) fn get(&self, repository: &str, digest: &Digest) -> Option<Url> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.to_owned(), digest.clone());
        if known.get(&key)?.until <= Instant::now() {
            known.remove(&key);
            return None;
        }
        known.get(&key).map(|location| location.url.clone())
    }

    pub(crate) fn remember(&self, repository: &str, digest: &Digest, url: Url) {
        let now = Instant::now();
        let until = now + life(&url, Timestamp::now());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_LOCATIONS {
            known.retain(|_, location| location.until > now);
        }
        if known.len() < MAX_LOCATIONS {
            known.insert(
                (repository.to_owned(), digest.clone()),
                Location { url, until },
            );
        }
    }

    pub(crate) fn forget(&self, repository: &str, digest: &Digest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(repository.to_owned(), digest.clone()));
    }
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
    fn locations_are_forgotten() {
        let locations = Locations::default();
        let digest = Digest::sha256([1; 32]);
        let dead = Url::parse("https://s.example/?X-Amz-Expires=1").expect("url");
        locations.remember("r", &digest, dead);
        assert_eq!(locations.get("r", &digest), None);
        let alive = Url::parse("https://s.example/?X-Amz-Expires=100").expect("url");
        locations.remember("r", &digest, alive.clone());
        assert_eq!(locations.get("r", &digest), Some(alive));
        assert_eq!(locations.get("other", &digest), None);
        locations.forget("r", &digest);
        assert_eq!(locations.get("r", &digest), None);
    }
}
