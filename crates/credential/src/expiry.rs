//! When a pasted secret says that it dies. Decodes bounded pieces defensively, verifies nothing:
//! a wrong claim makes us renew or warn at the wrong time, no more.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Number;
use zeroize::Zeroizing;

/// Longest secret that is looked into. ECR passwords are near 2.5 KiB, registry JWTs below 8 KiB.
const SECRET_LIMIT: usize = 16 * 1024;

#[derive(Deserialize)]
struct JwtClaims {
    exp: Option<Number>,
}

/// What is inside the password that `aws ecr get-login-password` prints.
#[derive(Deserialize)]
struct EcrPassword {
    #[serde(rename = "datakey")]
    _data_key: serde::de::IgnoredAny,
    expiration: Number,
}

/// When a secret itself says that it dies. Verified by nobody.
pub fn of_secret(secret: &SecretString) -> Option<Timestamp> {
    let text = secret.expose_secret().trim();
    if text.len() > SECRET_LIMIT {
        return None;
    }
    of_jwt(text).or_else(|| of_ecr_password(text))
}

fn of_jwt(text: &str) -> Option<Timestamp> {
    let mut parts = text.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || header.is_empty() || signature.is_empty() {
        return None;
    }
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    timestamp(&serde_json::from_slice::<JwtClaims>(&payload).ok()?.exp?)
}

fn of_ecr_password(text: &str) -> Option<Timestamp> {
    let decoded = Zeroizing::new(STANDARD.decode(text).ok()?);
    timestamp(
        &serde_json::from_slice::<EcrPassword>(&decoded)
            .ok()?
            .expiration,
    )
}

/// Seconds since the epoch, whole or with a fraction that is dropped: dying early is safe.
fn timestamp(seconds: &Number) -> Option<Timestamp> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates; jiff checks the range"
    )]
    let whole = seconds
        .as_i64()
        .or_else(|| seconds.as_f64().map(|seconds| seconds as i64))?;
    Timestamp::from_second(whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!(
            "eyJhbGciOiJFUzI1NiJ9.{}.c2ln",
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    #[test]
    fn secrets_that_show_their_end() {
        let end = Some(1_700_000_000);
        let ecr = |json: &str| STANDARD.encode(json);
        let table = [
            (jwt(r#"{"exp":1700000000}"#), end),
            (jwt(r#"{"sub":"x","exp":1700000000.9}"#), end),
            (format!("{}\n", jwt(r#"{"exp":1700000000}"#)), end),
            (
                ecr(r#"{"payload":"p","datakey":"d","version":"2","expiration":1700000000}"#),
                end,
            ),
            (jwt(r#"{"exp":"1700000000"}"#), None),
            (jwt(r#"{"exp":1e300}"#), None),
            (jwt(r#"{"exp":-1e300}"#), None),
            (jwt(r#"{"exp":18446744073709551615}"#), None),
            (jwt("{}"), None),
            (jwt("[]"), None),
            (jwt("not json"), None),
            (format!("{}.more", jwt(r#"{"exp":1700000000}"#)), None),
            ("a.b.c".to_owned(), None),
            ("..".to_owned(), None),
            (String::new(), None),
            (ecr(r#"{"expiration":1700000000}"#), None),
            (ecr(r#"{"datakey":"d"}"#), None),
            (
                jwt(&format!(
                    r#"{{"exp":1700000000,"x":"{}"}}"#,
                    "y".repeat(SECRET_LIMIT)
                )),
                None,
            ),
            ("ghp_0123456789".to_owned(), None),
        ];
        for (text, expected) in table {
            let found = of_secret(&SecretString::from(text.clone()));
            assert_eq!(found.map(Timestamp::as_second), expected, "{text:.80}");
        }
    }
}
