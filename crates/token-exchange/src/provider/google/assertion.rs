//! The assertion by which a service account's key shows itself: a JSON web token of RS256.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use credential::auth::AuthError;
use credential::{ExposeSecret, SecretString, ServiceAccount};
use identity_issuer::RsaKey;
use jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use super::{READ_SCOPE, TOKEN_URL};

/// What Google takes at most, and what its own libraries ask for.
const LIFE_SECONDS: i64 = 3600;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// An assertion of this time that asks for a token that may read.
pub(super) fn sign(account: &ServiceAccount, now: Timestamp) -> Result<SecretString, AuthError> {
    let issued_at = now.as_second();
    let claims = json!({
        "iss": account.client_email,
        "scope": READ_SCOPE,
        "aud": TOKEN_URL,
        "iat": issued_at,
        "exp": issued_at.saturating_add(LIFE_SECONDS),
    });
    let der = der(account.private_key.expose_secret()).ok_or_else(no_key)?;
    let key = RsaKey::from_pkcs8(&der).map_err(|_| no_key())?;
    let signed = identity_issuer::sign(&key, account.private_key_id.as_deref(), &claims);
    signed.map_err(|_| no_key())
}

fn der(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = pem.split_once(PEM_BEGIN)?;
    let (body, _) = rest.split_once(PEM_END)?;
    let joined = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
    let decoded = BASE64_STANDARD.decode(joined.as_bytes());
    decoded.ok().map(Zeroizing::new)
}

fn no_key() -> AuthError {
    AuthError::Refused {
        message: "the private_key of the service account is no RSA key of 2048 bits or more, as \
                  PKCS#8 in PEM"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rsa_key_is_refused_and_not_repeated() {
        let pem = |body: &str| format!("{PEM_BEGIN}\n{body}\n{PEM_END}\n");
        // A P-256 key, as PKCS#8.
        let elliptic = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\
                        OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\
                        1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G";
        for text in [
            String::new(),
            "CANARY".to_owned(),
            pem(""),
            pem("CANARY"),
            pem("====CANARY"),
            pem(elliptic),
            format!("{PEM_END}{PEM_BEGIN}"),
            format!("{PEM_BEGIN}CANARY"),
        ] {
            let account = ServiceAccount {
                client_email: "a@b".to_owned(),
                private_key: SecretString::from(text.clone()),
                private_key_id: None,
                project_id: None,
            };
            let error = sign(&account, Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(matches!(error, AuthError::Refused { .. }), "{text}");
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{text}");
        }
    }
}
