//! Doors to private readers, for the repository's fuzz targets alone: no part of the interface.
//!
//! Each is the call that an exchange itself makes, with nothing added.

use credential::SecretString;
use dial::Url;
use jiff::Timestamp;
use registry_client::{Challenge, Endpoint};

use crate::demand::{self, Demand};
use crate::{realm, reply};

/// Reads a token service's answer: the token and its end.
pub fn read_reply(body: &[u8], sent: Timestamp) -> Option<(SecretString, Timestamp)> {
    let answered = None;
    reply::read(body, reply::Times { sent, answered }).map(|token| (token.secret, token.not_after))
}

/// Realm and scope of the token service that a 401 with these challenges asks for.
pub fn token_demand(challenges: &[Challenge]) -> Option<(String, Option<String>)> {
    match demand::read(401, challenges)? {
        Demand::Token(token) => Some((token.realm, token.scope)),
        Demand::Nothing | Demand::Basic => None,
    }
}

/// Where a credential for this registry may go when the registry names `realm`.
pub fn judge_realm(endpoint: &Endpoint, realm: &str, allowed: Option<&str>) -> Option<Url> {
    let base = Url::parse(&format!("https://{}/", endpoint.registry.endpoint())).ok()?;
    realm::judge(endpoint, &base, realm, allowed).ok()
}
