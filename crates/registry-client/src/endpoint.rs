//! Where a registry is dialled, and how it wants to be spoken to.

use std::fmt;

use dial::{AddressPolicy, DialError, Dialer, HttpClient, TlsProfile};
use reference::{Digest, Registry};
use sha2::{Digest as _, Sha256};

/// Characters of a CA bundle's hash that tell it from others.
const CA_NAME_CHARS: usize = 32;

/// A registry and what the user said about reaching it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub registry: Registry,
    /// The user said that it speaks plain http. Loopback registries are also tried without this.
    pub plain_http: bool,
    /// A CA of its own, which covers its token service too.
    pub ca_pem: Option<Vec<u8>>,
}

impl Endpoint {
    /// A registry about which the user said nothing more.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            plain_http: false,
            ca_pem: None,
        }
    }

    /// The name of what is read from `repository` here, for those who keep it. A registry that is
    /// trusted in another way is another one: whoever could stand in for it with a CA of their own
    /// gets nothing that the real one gave.
    pub fn origin(&self, repository: &str) -> String {
        let place = format!("{}/{repository}", self.registry.canonical());
        match &self.ca_pem {
            _ if self.plain_http => format!("{place} over plain http"),
            Some(pem) => {
                let digest = Digest::sha256(Sha256::digest(pem).into());
                format!("{place} with CA {}", &digest.hex()[..CA_NAME_CHARS])
            }
            None => place,
        }
    }

    /// The HTTP client for this registry, its token service and its blob storage.
    pub fn http_client(&self, dialer: &Dialer) -> Result<HttpClient, DialError> {
        let tls = TlsProfile {
            extra_ca_pem: self.ca_pem.iter().cloned().collect(),
            plain_http: self.plain_http,
        };
        let mut addresses = AddressPolicy::for_host(self.registry.host());
        if self.plain_http || self.ca_pem.is_some() {
            addresses = addresses.configured_by_user();
        }
        dialer.client(&tls, &addresses)
    }

    /// Whether both schemes may be tried: a loopback registry about which nothing was said.
    pub(crate) fn scheme_is_open(&self) -> bool {
        self.registry.is_loopback() && !self.plain_http && self.ca_pem.is_none()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Endpoint")
            .field("registry", &self.registry)
            .field("plain_http", &self.plain_http)
            .field("own_ca", &self.ca_pem.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_is_trusted_otherwise_is_another_origin() {
        let plain = Endpoint::new(Registry::parse("registry.example").expect("a registry"));
        let own_ca = |pem: &[u8]| Endpoint {
            ca_pem: Some(pem.to_vec()),
            ..plain.clone()
        };
        let unencrypted = Endpoint {
            plain_http: true,
            ..plain.clone()
        };
        assert_eq!(plain.origin("acme/fn"), "registry.example/acme/fn");
        let (one, another) = (own_ca(b"one"), own_ca(b"another"));
        let endpoints = [plain, one, another, unencrypted];
        let origins = endpoints.map(|endpoint| endpoint.origin("acme/fn"));
        let distinct = std::collections::BTreeSet::from(origins.clone());
        assert_eq!(distinct.len(), origins.len(), "{origins:?}");
    }
}
