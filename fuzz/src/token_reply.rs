//! A token service's answer: a token that fits a header, for a life that has an end.

use credential::ExposeSecret;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use token_exchange::fuzzing::read_reply;

/// As the reader has them.
const TOKEN_MAX_BYTES: usize = 32 * 1024;
const LIFE_MAX: SignedDuration = SignedDuration::from_hours(24);
const LIFE_DEFAULT: SignedDuration = SignedDuration::from_mins(1);

/// 2026-01-01, in seconds.
const SENT: i64 = 1_767_225_600;

/// The input is the body.
pub fn check(bytes: &[u8]) {
    let ends = [Timestamp::MIN, Timestamp::MAX];
    let now = Timestamp::from_second(SENT).expect("a time of this century");
    for sent in ends {
        // At the ends of time there is no room for a life; nothing may overflow.
        let _ = read_reply(bytes, sent);
    }
    let Some((token, not_after)) = read_reply(bytes, now) else {
        return;
    };
    let token = token.expose_secret();
    assert!(!token.is_empty() && token.len() <= TOKEN_MAX_BYTES);
    assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
    let life = not_after.duration_since(now);
    assert!(life.is_positive() && life <= LIFE_MAX, "a life of {life:?}");
    let body: Value = serde_json::from_slice(bytes).expect("it was read before");
    let given = |name: &str| body[name].as_str() == Some(token);
    assert!(
        given("token") || given("access_token"),
        "a token out of nothing"
    );
    check_alone(token, now);
}

/// The same token without anything else is read, and lives as the specification says.
fn check_alone(token: &str, now: Timestamp) {
    for name in ["token", "access_token"] {
        let body = json!({ name: token }).to_string();
        let (alone, not_after) = read_reply(body.as_bytes(), now).expect("a token");
        assert_eq!(alone.expose_secret(), token);
        assert_eq!(not_after.duration_since(now), LIFE_DEFAULT);
    }
}
