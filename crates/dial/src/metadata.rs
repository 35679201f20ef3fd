//! The metadata service of a virtual machine, which tells it who it is. The one way there.
//!
//! The addresses of such services are forbidden to everything else that is dialled, since whoever
//! reaches one can be the machine. A client of this connects to its one address and to nothing
//! else: no name is resolved, no proxy is used, no redirect followed, and no word of a user's or of
//! a reply is part of where it goes. It is asked of for what an operator grants by name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use url::Url;

use crate::allow::AllowRule;
use crate::client::{Dialer, HttpClient};
use crate::error::DialError;
use crate::limits::Limits;
use crate::policy::{AddressPolicy, DialPolicy};
use crate::proxy::ProxySettings;
use crate::request::Request;
use crate::response::Response;
use crate::tls::TlsProfile;

/// They are on the machine or beside it, and answer in milliseconds; where there is none, nobody
/// answers at all, and somebody waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Amazon's, Google's and Azure's are at one address.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Asks the metadata service.
#[derive(Clone)]
pub struct MetadataClient {
    http: HttpClient,
    base: Url,
}

impl Dialer {
    /// The client of the metadata service. The policies of operator and users say nothing of it.
    pub fn metadata(&self) -> Result<MetadataClient, DialError> {
        let base = match self.metadata_at() {
            Some(elsewhere) => elsewhere.clone(),
            None => Url::parse(&format!("http://{ADDRESS}/")).expect("an address makes a URL"),
        };
        let address: IpAddr = base
            .host_str()
            .and_then(|host| host.parse().ok())
            .expect("a metadata service is at an address");
        let policy = DialPolicy {
            allow: vec![AllowRule::of_address(address)],
            users_may_name_private: false,
            proxies: ProxySettings::none(),
            limits: Limits {
                connect: PATIENCE,
                head: PATIENCE,
                silence: PATIENCE,
                idle: PATIENCE,
                bounded_body: PATIENCE,
            },
        };
        let tls = TlsProfile {
            plain_http: true,
            ..TlsProfile::default()
        };
        let alone = Self::knowing(policy, Arc::new(|_| Some(Vec::new())));
        let http = alone.client(&tls, &AddressPolicy::default())?;
        Ok(MetadataClient { http, base })
    }
}

impl MetadataClient {
    /// A request for this path there. What is in it that a path may not have is escaped.
    pub fn request(&self, method: Method, path: &str) -> Request {
        let mut url = self.base.clone();
        url.set_path(path);
        Request::new(method, url)
    }

    /// Sends what was made for it.
    pub async fn send(&self, request: Request) -> Result<Response, DialError> {
        if request.url.origin() != self.base.origin() {
            return Err(DialError::Protocol {
                host: "metadata service".to_owned(),
                message: "the request is for another host".to_owned(),
            });
        }
        self.http.send(request).await
    }
}

impl fmt::Debug for MetadataClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MetadataClient")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_metadata_client_goes_to_its_address_and_nowhere_else() {
        let dialer = Dialer::new(DialPolicy::default());
        let client = dialer.metadata().expect("a client");
        for path in [
            "//evil.example/x",
            "http://evil.example/",
            "/../@evil",
            "\\\\evil",
        ] {
            let request = client.request(Method::GET, path);
            assert_eq!(request.url.host_str(), Some("169.254.169.254"), "{path}");
        }
        for elsewhere in ["http://8.8.8.8/", "http://127.0.0.1/", "http://localhost/"] {
            let request = Request::get(Url::parse(elsewhere).expect("url"));
            let error = client.send(request).await.expect_err(elsewhere);
            assert!(error.to_string().contains("another host"), "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_else_gets_there() {
        let dialer = Dialer::new(DialPolicy::default());
        drop(dialer.metadata());
        let profile = TlsProfile {
            plain_http: true,
            ..TlsProfile::default()
        };
        for host in ["169.254.169.254", "169.254.170.2", "169.254.170.23"] {
            let reach = AddressPolicy::for_host(host).configured_by_user();
            let client = dialer.client(&profile, &reach).expect("a client");
            let url = Url::parse(&format!("http://{host}/latest/")).expect("url");
            let error = client.send(Request::get(url)).await.expect_err(host);
            assert!(matches!(error, DialError::Denied { .. }), "{error}");
        }
    }
}
