//! JSON web tokens (RFC 7519), signed as RS256, and what stands in one of ours.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::issuer_url::IssuerUrl;
use crate::rsa_key::{NoKey, RsaKey};

/// How long a token counts after it was made. It is shown once, within the seconds of a minting;
/// the rest is for a clock of the cloud's that is ahead of ours.
pub const TOKEN_LIFE: Duration = Duration::from_mins(5);
/// For how long before it was made a token counts: for a clock of the cloud's that is behind ours.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// Of a token's own id.
const ID_BYTES: usize = 16;

/// A token with these claims, by this key, which verifiers know as `key_id`.
pub fn sign(key: &RsaKey, key_id: Option<&str>, claims: &Value) -> Result<SecretString, NoKey> {
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = key_id {
        header["kid"] = json!(id);
    }
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
    Ok(SecretString::from(format!("{signed}.{signature}")))
}

/// Says that its bearer is `subject`, to `audience` and to nobody else.
pub(crate) fn claims(issuer: &IssuerUrl, subject: &str, audience: &str, now: Timestamp) -> Value {
    let life = TOKEN_LIFE.as_secs().cast_signed();
    let since = now.as_second().saturating_sub(BACKDATED.as_secs());
    json!({
        "iss": issuer.as_str(),
        "sub": subject,
        "aud": audience,
        "iat": since,
        "nbf": since,
        "exp": now.as_second().saturating_add(life),
        "jti": token_id(),
    })
}

/// Nobody else's, and not to be guessed.
fn token_id() -> String {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
