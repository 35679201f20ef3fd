//! The two documents by which verifiers find an issuer's keys (OIDC discovery 1.0).

use std::time::Duration;

use serde_json::{Value, json};

use crate::issuer_url::IssuerUrl;

/// Below the issuer's URL, as the standard has it.
pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
/// Below the issuer's URL, as the other document says.
pub const KEYS_PATH: &str = "/.well-known/jwks.json";

/// For how long caches may keep either.
pub const MAX_AGE: Duration = Duration::from_mins(5);

/// What an issuer says of itself: the least that the standard and all clouds ask for. There is
/// nobody to log in, so that it has no endpoint for that.
pub fn configuration(issuer: &IssuerUrl) -> Value {
    json!({
        "issuer": issuer.as_str(),
        "jwks_uri": issuer.join(KEYS_PATH),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"],
    })
}
