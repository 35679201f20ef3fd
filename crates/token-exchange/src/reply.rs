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

/// Reads a reply to a request that was sent at `sent`; `None` when there is no usable token in it.
pub(crate) fn read(body: &[u8], sent: Timestamp) -> Option<Token> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| reply.get(name)?.as_str().filter(|text| !text.is_empty());
    let token = text("access_token")
        .or_else(|| text("token"))
        .filter(|token| is_token(token))?;
    let issued_at = text("issued_at").and_then(|text| text.parse().ok());
    Some(Token {
        secret: SecretString::from(token.to_owned()),
        not_after: end(life(reply.get("expires_in")), issued_at, sent),
    })
}

/// Visible ASCII, as a header can carry it without being split or folded.
fn is_token(token: &str) -> bool {
    token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic())
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
/// `issued_at` counts when it makes the life shorter and leaves some: services hand out tokens from
/// their own cache. When it leaves none, the clocks differ, and a refusal will tell.
fn end(life: Duration, issued_at: Option<Timestamp>, sent: Timestamp) -> Timestamp {
    let after = |from: Timestamp| from.checked_add(life).unwrap_or(Timestamp::MAX);
    match issued_at.map(after) {
        Some(stated) if stated > sent => stated.min(after(sent)),
        _ => after(sent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use credential::ExposeSecret;
    use proptest::prelude::*;

    fn sent() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("time")
    }

    fn check(body: &str) -> Option<(String, i64)> {
        let token = read(body.as_bytes(), sent())?;
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

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            let _ = read(&body, sent());
        }

        #[test]
        fn any_life_is_bounded(life: f64) {
            let body = serde_json::json!({ "token": "t", "expires_in": life }).to_string();
            let token = read(body.as_bytes(), sent()).expect("token");
            prop_assert!(token.not_after > sent());
        }
    }
}
