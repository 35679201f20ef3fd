//! How many pulls a registry still allows, where it says so. Docker Hub does with each manifest, to
//! whoever is counted: `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 5;w=21600`. Asking by
//! `HEAD` counts as no pull.

use std::fmt;
use std::time::Duration;

use dial::header::{HeaderMap, HeaderName};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const SOURCE: HeaderName = HeaderName::from_static("docker-ratelimit-source");

/// Who is counted is an address or the id of an account: 36 characters.
const MAX_SOURCE_BYTES: usize = 64;

/// Few are left when it is at most one in so many.
const FEW: u32 = 10;

/// Pulls that are left, as the registry counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullLimit {
    pub remaining: u32,
    pub limit: u32,
    /// For how long each pull counts.
    pub window: Option<Duration>,
    /// Who is counted, in the registry's words: an address, where it is nobody who logged in.
    pub source: Option<String>,
}

impl PullLimit {
    /// Nothing where the registry sets no limit, or does not say.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok();
        let (limit, window) = counted(text(LIMIT)?)?;
        let (remaining, _) = counted(text(REMAINING)?)?;
        let source = text(SOURCE).filter(|source| !source.is_empty());
        Some(Self {
            remaining,
            limit,
            window,
            source: source.map(|source| dial::quoted(source.as_bytes(), MAX_SOURCE_BYTES)),
        })
    }

    /// Whether it is time to tell somebody.
    pub fn is_few(&self) -> bool {
        self.remaining <= self.limit / FEW
    }
}

impl fmt::Display for PullLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            remaining,
            limit,
            window,
            source,
        } = self;
        write!(formatter, "{remaining} of {limit} pulls left")?;
        if let Some(window) = window {
            write!(
                formatter,
                " within {} minutes",
                window.as_secs().div_ceil(60)
            )?;
        }
        match source {
            Some(source) => write!(formatter, ", counted for {source}"),
            None => Ok(()),
        }
    }
}

/// A number, and the window of it in seconds.
fn counted(text: &str) -> Option<(u32, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w="));
    let window = window.and_then(|seconds| seconds.parse::<u32>().ok());
    let window = window.map(|seconds| Duration::from_secs(seconds.into()));
    Some((number, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(limit: &str, remaining: &str, source: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LIMIT, limit.parse().expect("a value"));
        headers.insert(REMAINING, remaining.parse().expect("a value"));
        if let Some(source) = source {
            headers.insert(SOURCE, source.parse().expect("a value"));
        }
        PullLimit::read(&headers).map(|limit| limit.to_string())
    }

    #[test]
    fn limits_are_read_as_docker_hub_writes_them() {
        let cases = [
            (
                ("100;w=21600", "5;w=21600", Some("192.0.2.7")),
                Some("5 of 100 pulls left within 360 minutes, counted for 192.0.2.7"),
            ),
            (("200", "0", None), Some("0 of 200 pulls left")),
            (
                ("200; w=90", "7", Some("")),
                Some("7 of 200 pulls left within 2 minutes"),
            ),
            (("100;w=-1", "5", None), Some("5 of 100 pulls left")),
            (("many", "5", None), None),
            (("100", "-5", None), None),
            (("99999999999", "5", None), None),
            (("", "", None), None),
        ];
        for ((limit, remaining, source), expected) in cases {
            let shown = shown(limit, remaining, source);
            assert_eq!(shown.as_deref(), expected, "{limit} {remaining}");
        }
        assert_eq!(PullLimit::read(&HeaderMap::new()), None);
    }

    #[test]
    fn the_last_tenth_is_few() {
        for (remaining, limit, few) in [
            (10, 100, true),
            (11, 100, false),
            (0, 5, true),
            (1, 5, false),
        ] {
            let limit = PullLimit {
                remaining,
                limit,
                window: None,
                source: None,
            };
            assert_eq!(limit.is_few(), few, "{limit}");
        }
    }
}
