//! Where a registry is dialled, and how it wants to be spoken to.

use std::fmt;

use dial::{AddressPolicy, DialError, Dialer, HttpClient, TlsProfile};
use reference::Registry;

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
