//! How many pulls a registry still allows, where it says so. Docker Hub does with each manifest, to
//! whoever is counted: `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 5;w=21600`. Asking by
//! `HEAD` counts as no pull.

use std::fmt;
use std::time::{Duration, Instant};

use dial::header::{HeaderMap, HeaderName};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const SOURCE: HeaderName = HeaderName::from_static("docker-ratelimit-source");

/// Who is counted is an address or the id of an account: 36 characters.
const MAX_SOURCE_BYTES: usize = 64;

/// Few are left when it is at most one in so many.
const FEW: u32 = 10;

/// For how long a pull counts where it is not said. Docker Hub's window.
const USUAL_WINDOW: Duration = Duration::from_hours(6);

/// A shorter window would have the same thing told with every pull.
const LEAST_WINDOW: Duration = Duration::from_mins(1);

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
        let (limit, window) = counted(text(LIMIT)?).filter(|(limit, _)| *limit > 0)?;
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
        self.remaining <= self.limit.div_ceil(FEW)
    }
}

/// What was said last, and when somebody was told of it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) last: Option<PullLimit>,
    told: Option<Instant>,
}

impl Known {
    /// Whether it is time to tell somebody: when few are left, once in a window. What is left may
    /// go up and down meanwhile, as when several addresses are counted.
    pub(crate) fn note(&mut self, limit: PullLimit, now: Instant) -> bool {
        let window = limit.window.unwrap_or(USUAL_WINDOW).max(LEAST_WINDOW);
        let is_news = |told| now.saturating_duration_since(told) >= window;
        let is_time = limit.is_few() && self.told.is_none_or(is_news);
        if is_time {
            self.told = Some(now);
        }
        self.last = Some(limit);
        is_time
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
            (("0;w=21600", "0;w=21600", None), None),
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
    fn few_are_told_once_in_a_window() {
        let begun = Instant::now();
        let mut known = Known::default();
        let cases = [
            (50, 0, false),
            (5, 1, true),
            (50, 2, false),
            (5, 3, false),
            (0, 21_600, false),
            (0, 21_601, true),
            (4, 21_602, false),
        ];
        for (remaining, second, is_told) in cases {
            let limit = PullLimit {
                remaining,
                limit: 100,
                window: Some(USUAL_WINDOW),
                source: None,
            };
            let told = known.note(limit, begun + Duration::from_secs(second));
            assert_eq!(told, is_told, "{remaining} at {second}");
        }
    }

    #[test]
    fn the_last_tenth_is_few() {
        for (remaining, limit, few) in [
            (10, 100, true),
            (11, 100, false),
            (0, 5, true),
            (1, 5, true),
            (2, 5, false),
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
