//! The one way out: every connection that Holdfast makes for a user goes through here.
//!
//! Owns the HTTP client, the TLS profile of a registry, the policy on *resolved* addresses,
//! proxies, and the limits on time, headers and bodies. Invariants: a redirect is never followed
//! (it is a reply like another, and the caller decides); an address is judged after resolution and
//! exactly the judged address is connected to; plain http leaves this process only where the user
//! said so or towards a loopback address; no error or `Debug` text shows a query string, where
//! signed URLs keep their signatures; metadata services of clouds are reached by a client of their
//! own and by nothing else. Deliberately knows no credentials and no registries' ways.

mod address;
mod allow;
mod client;
mod error;
mod limits;
mod metadata;
mod policy;
mod proxy;
mod quote;
mod request;
mod resolver;
mod response;
mod tls;

pub use address::{AddressClass, Reach, classify};
pub use allow::{AllowRule, ParseAllowRuleError};
pub use client::{Dialer, HttpClient};
pub use error::DialError;
pub use limits::Limits;
pub use metadata::MetadataClient;
pub use policy::{AddressPolicy, DialPolicy};
pub use proxy::ProxySettings;
pub use quote::quoted;
pub use request::Request;
pub use response::{BodyStream, Response};
pub use tls::TlsProfile;

pub use reqwest::header;
pub use reqwest::{Method, StatusCode};
pub use url::Url;

/// A form of `application/x-www-form-urlencoded`, to be filled in.
pub fn form() -> url::form_urlencoded::Serializer<'static, String> {
    url::form_urlencoded::Serializer::new(String::new())
}
