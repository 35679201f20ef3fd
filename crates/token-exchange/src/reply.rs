//! What a token service answers with. Its text is read for the token and shown to nobody.

use std::time::Duration;

use credential::SecretString;
use jiff::Timestamp;
use serde_json::Value;

/// Life of a token whose reply does not say, by the specification.
const DEFAULT_LIFE: Duration = Duration::from_mins(1);

/// Longest life believed. Longer ones are re-checked daily.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// Longest token. It must fit into a header, and real ones are below 8 KiB.
const MAX_TOKEN_BYTES: usize = 32 * 1024;

/// A token and its end.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) secret: SecretString,
    pub(crate) not_after: Timestamp,
}

/// When a reply came about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// By our clock, when its request was sent.
    pub(crate) sent: Timestamp,
    /// By the service's clock, when it was answered, where it says so.
    pub(crate) answered: Option<Timestamp>,
}

/// Reads a reply; `None` when there is no usable token in it.
pub(crate) fn read(body: &[u8], times: Times) -> Option<Token> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| reply.get(name)?.as_str().filter(|text| !text.is_empty());
    let token = text("access_token").or_else(|| text("token"))?;
    let secret = usable(token)?;
    let issued_at = text("issued_at").and_then(|text| text.parse().ok());
    let not_after = match reply.get("expires_in") {
        None | Some(Value::Null) => stated_end(&secret, times),
        Some(_) => None,
    };
    let not_after =
        not_after.unwrap_or_else(|| end(life(reply.get("expires_in")), issued_at, times));
    Some(Token { secret, not_after })
}

/// The end that a token itself states, as Azure's do. Verified by nobody here; one that is wrong
/// has the token renewed at the wrong time, within a day.
pub(crate) fn stated_end(secret: &SecretString, times: Times) -> Option<Timestamp> {
    end_at(credential::stated_end(secret)?, times)
}

/// A token of visible ASCII, as a header can carry it without being split or folded.
pub(crate) fn usable(token: &str) -> Option<SecretString> {
    let is_graphic = token.bytes().all(|byte| byte.is_ascii_graphic());
    let is_usable = !token.is_empty() && token.len() <= MAX_TOKEN_BYTES && is_graphic;
    is_usable.then(|| SecretString::from(token.to_owned()))
}

/// The end by our clock of what ends then by theirs. `None` for what has ended.
pub(crate) fn end_at(theirs: Timestamp, times: Times) -> Option<Timestamp> {
    let now = times.answered.unwrap_or(times.sent);
    let left = Duration::try_from(theirs.duration_since(now)).ok()?;
    let left = Some(left.min(MAX_LIFE)).filter(|left| !left.is_zero())?;
    times.sent.checked_add(left).ok()
}

/// Numbers come as numbers, as texts and with a fraction. Zero and less say nothing; a fraction of
/// a second is one.
fn life(stated: Option<&Value>) -> Duration {
    let seconds = match stated {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    seconds
        .filter(|seconds| *seconds > 0.0)
        .map_or(DEFAULT_LIFE, |seconds| {
            Duration::from_secs_f64(seconds.clamp(1.0, MAX_LIFE.as_secs_f64()))
        })
}

/// Counted from the sending, so that a slow reply shortens it and a foreign clock does not matter.
/// Services hand out tokens from their own cache, and `issued_at` says of what age: by their clock,
/// if they tell what that shows; else by ours. Where no life would be left, the clocks differ, and
/// a refusal will tell.
fn end(life: Duration, issued_at: Option<Timestamp>, times: Times) -> Timestamp {
    let now = times.answered.unwrap_or(times.sent);
    let age =
        issued_at.and_then(|issued_at| Duration::try_from(now.duration_since(issued_at)).ok());
    let left = age.and_then(|age| life.checked_sub(age));
    let left = left.filter(|left| !left.is_zero()).unwrap_or(life);
    times.sent.checked_add(left).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use credential::ExposeSecret;
    use proptest::prelude::*;

    fn sent() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("time")
    }

    fn times() -> Times {
        Times {
            sent: sent(),
            answered: None,
        }
    }

    fn check(body: &str) -> Option<(String, i64)> {
        let token = read(body.as_bytes(), times())?;
        let life = token.not_after.duration_since(sent()).as_secs();
        Some((token.secret.expose_secret().to_owned(), life))
    }

    #[test]
    fn replies_are_read() {
        let cases: [(&str, Option<(&str, i64)>); 20] = [
            (r#"{"token":"a"}"#, Some(("a", 60))),
            (r#"{"access_token":"a"}"#, Some(("a", 60))),
            (r#"{"token":"","access_token":"b"}"#, Some(("b", 60))),
            (r#"{"token":"a","access_token":""}"#, Some(("a", 60))),
            (r#"{"token":"a","access_token":"b"}"#, Some(("b", 60))),
            (r#"{"token":"a","expires_in":2}"#, Some(("a", 2))),
            (r#"{"token":"a","expires_in":"300"}"#, Some(("a", 300))),
            (r#"{"token":"a","expires_in":0}"#, Some(("a", 60))),
            (r#"{"token":"a","expires_in":-5}"#, Some(("a", 60))),
            (r#"{"token":"a","expires_in":null}"#, Some(("a", 60))),
            (r#"{"token":"a","expires_in":1e300}"#, Some(("a", 86400))),
            (
                r#"{"token":"a","expires_in":300,"issued_at":"2025-12-31T23:58:00Z"}"#,
                Some(("a", 180)),
            ),
            (
                r#"{"token":"a","expires_in":300,"issued_at":"2026-01-01T01:00:00Z"}"#,
                Some(("a", 300)),
            ),
            (
                r#"{"token":"a","expires_in":300,"issued_at":"2020-01-01T00:00:00Z"}"#,
                Some(("a", 300)),
            ),
            (
                r#"{"token":"a","issued_at":"0001-01-01T00:00:00Z"}"#,
                Some(("a", 60)),
            ),
            (r#"{"token":"a b"}"#, None),
            (r#"{"token":"a\nb"}"#, None),
            (r#"{"token":7}"#, None),
            ("[]", None),
            ("<html>", None),
        ];
        for (body, expected) in cases {
            let expected = expected.map(|(token, life)| (token.to_owned(), life));
            assert_eq!(check(body), expected, "{body}");
        }
    }

    #[test]
    fn a_token_that_states_its_end_is_believed_for_a_day() {
        let at = |seconds: i64| {
            let claims = format!(r#"{{"exp":{}}}"#, sent().as_second() + seconds);
            format!(
                "eyJhbGciOiJSUzI1NiJ9.{}.c2ln",
                BASE64_URL_SAFE_NO_PAD.encode(claims)
            )
        };
        let cases = [
            (at(4500), "", 4500),
            (at(1), "", 1),
            (at(4500), r#","expires_in":null"#, 4500),
            // What the reply says counts for more.
            (at(4500), r#","expires_in":300"#, 300),
            (at(0), "", 60),
            (at(-5), "", 60),
            (at(10_000_000), "", 86_400),
        ];
        for (token, more, life) in cases {
            let body = format!(r#"{{"access_token":"{token}"{more}}}"#);
            assert_eq!(check(&body), Some((token.clone(), life)), "{more} {life}");
        }
        // A service whose clock is five minutes ahead of ours.
        let times = Times {
            sent: sent(),
            answered: Some("2026-01-01T00:05:00Z".parse().expect("time")),
        };
        let body = format!(r#"{{"access_token":"{}"}}"#, at(4800));
        let token = read(body.as_bytes(), times).expect("token");
        assert_eq!(token.not_after.duration_since(sent()).as_secs(), 4500);
    }

    #[test]
    fn a_clock_that_goes_wrong_leaves_a_token_its_life() {
        let at = |text: &str| text.parse::<Timestamp>().expect("time");
        // What the service's clock shows, and what it says of the token's beginning; the life left.
        for (answered, issued_at, left) in [
            ("2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z", 300),
            ("2025-12-31T23:55:00Z", "2025-12-31T23:55:00Z", 300),
            ("2025-12-31T23:55:01Z", "2025-12-31T23:55:00Z", 299),
            ("2026-01-01T00:05:00Z", "2026-01-01T00:03:00Z", 180),
            ("2026-01-01T00:05:00Z", "2026-01-01T00:06:00Z", 300),
            ("2026-01-01T00:05:00Z", "2026-01-01T00:00:00Z", 300),
        ] {
            let reply = serde_json::json!({
                "token": "t", "expires_in": 300, "issued_at": issued_at,
            });
            let times = Times {
                sent: sent(),
                answered: Some(at(answered)),
            };
            let token = read(reply.to_string().as_bytes(), times).expect("token");
            let life = token.not_after.duration_since(sent()).as_secs();
            assert_eq!(life, left, "{answered} {issued_at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            let _ = read(&body, times());
        }

        #[test]
        fn any_life_is_bounded(life: f64) {
            let body = serde_json::json!({ "token": "t", "expires_in": life }).to_string();
            let token = read(body.as_bytes(), times()).expect("token");
            prop_assert!(token.not_after > sent());
        }
    }
}
