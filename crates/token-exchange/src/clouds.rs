//! How the clouds' own services are reached.
//!
//! Their hosts come from tables and from what was matched out of a registry's name, never from a
//! credential or a reply. What the user said about reaching the registry (its CA, plain http, a
//! private address) is about the registry alone.

use std::fmt;
use std::sync::Arc;

use credential::auth::AuthError;
use dial::{AddressPolicy, Dialer, HttpClient, MetadataClient, Request, Response, TlsProfile};
use jiff::Timestamp;

use crate::clock::Clock;
use crate::wire;

/// The way to the clouds' services.
pub(crate) struct Clouds {
    dialer: Dialer,
    tls: TlsProfile,
    clock: Arc<dyn Clock>,
}

impl Clouds {
    /// `ca_pem` is trusted besides the system's authorities.
    pub(crate) fn new(dialer: Dialer, clock: Arc<dyn Clock>, ca_pem: Option<Vec<u8>>) -> Self {
        let tls = TlsProfile {
            extra_ca_pem: ca_pem.into_iter().collect(),
            plain_http: false,
        };
        Self { dialer, tls, clock }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn http(&self) -> Result<HttpClient, AuthError> {
        let http = self.dialer.client(&self.tls, &AddressPolicy::default());
        http.map_err(|error| wire::from_dial(&error))
    }

    /// The metadata service of this machine, for an identity that an operator has granted.
    pub(crate) fn metadata(&self) -> Result<MetadataClient, AuthError> {
        let client = self.dialer.metadata();
        client.map_err(|error| wire::from_dial(&error))
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Response, AuthError> {
        let sent = self.http()?.send(request).await;
        sent.map_err(|error| wire::from_dial(&error))
    }
}

impl fmt::Debug for Clouds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clouds")
    }
}
