//! Proxies: read once from an environment that is passed in, then plain data.
//!
//! A proxy resolves names itself, so the address policy cannot judge what it connects to. What
//! holds then: a literal address in the URL is judged; a name that resolves here is judged; a name
//! that does not is left to the proxy, which the operator chose and which has rules of its own. The
//! proxy's own address is not judged. Loopback hosts are never proxied. SOCKS is not supported.

use std::collections::BTreeSet;
use std::fmt;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use crate::error::DialError;
use crate::resolver::ProxyResolver;

/// Proxy settings with the meaning that curl gives to the variables of the same names.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ProxySettings {
    /// `HTTP_PROXY`: for plain http.
    pub http: String,
    /// `HTTPS_PROXY`: for https.
    pub https: String,
    /// `ALL_PROXY`: for both, where the others are absent.
    pub all: String,
    /// `NO_PROXY`: hosts and networks that are reached directly.
    pub no: String,
}

impl ProxySettings {
    /// No proxies.
    pub fn none() -> Self {
        Self::default()
    }

    /// From variables of this process, in both spellings, upper case first.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// From a source of variables.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |upper: &str| {
            variable(upper)
                .or_else(|| variable(&upper.to_ascii_lowercase()))
                .unwrap_or_default()
        };
        Self {
            http: either("HTTP_PROXY"),
            https: either("HTTPS_PROXY"),
            all: either("ALL_PROXY"),
            no: either("NO_PROXY"),
        }
    }

    pub(crate) fn matcher(&self) -> Matcher {
        Matcher::builder()
            .http(self.http.clone())
            .https(self.https.clone())
            .all(self.all.clone())
            .no(self.no.clone())
            .build()
    }
}

impl fmt::Debug for ProxySettings {
    /// A proxy's address may hold its password: only whether it is set is shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ProxySettings")
            .field("http", &!self.http.is_empty())
            .field("https", &!self.https.is_empty())
            .field("all", &!self.all.is_empty())
            .field("no", &self.no)
            .finish()
    }
}

/// Which proxy this URL goes through, if any.
pub(crate) fn intercept(matcher: &Matcher, url: &Url) -> Option<Intercept> {
    let host = url.host_str()?;
    if crate::address::is_loopback_host(host) {
        return None;
    }
    // Path and query play no part in the choice, and a signed query is nobody's business.
    let origin = format!("{}://{}/", url.scheme(), host);
    matcher.intercept(&origin.parse().ok()?)
}

/// A reqwest proxy for everything, and the resolver that knows nothing else.
pub(crate) fn through(intercept: &Intercept) -> Result<(reqwest::Proxy, ProxyResolver), DialError> {
    let uri = intercept.uri();
    let scheme = uri.scheme_str().unwrap_or("http");
    if !matches!(scheme, "http" | "https") {
        return Err(unusable(&format!(
            "proxies of kind {scheme} are not supported"
        )));
    }
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let mut proxy =
        reqwest::Proxy::all(uri.to_string()).map_err(|_| unusable("its address is malformed"))?;
    if let Some(value) = intercept.basic_auth() {
        let mut value = value.clone();
        value.set_sensitive(true);
        proxy = proxy.custom_http_auth(value);
    }
    Ok((
        proxy,
        ProxyResolver {
            hosts: BTreeSet::from([host]),
        },
    ))
}

fn unusable(message: &str) -> DialError {
    DialError::Configuration {
        subject: "proxy".to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_the_proxy() {
        let settings = ProxySettings::from_variables(|name| {
            let value = match name {
                "https_proxy" => "http://user:hunter2@proxy.corp:3128",
                "NO_PROXY" => "internal.example,10.0.0.0/8",
                _ => return None,
            };
            Some(value.to_owned())
        });
        assert!(!format!("{settings:?}").contains("hunter2"));
        let matcher = settings.matcher();
        let cases = [
            ("https://ghcr.io/v2/", true),
            ("http://ghcr.io/v2/", false),
            ("https://a.internal.example/", false),
            ("https://10.2.3.4/", false),
            ("https://127.0.0.1:5000/", false),
            ("https://[::1]:5000/", false),
            ("https://localhost/", false),
        ];
        for (url, proxied) in cases {
            let url = Url::parse(url).expect("url");
            assert_eq!(intercept(&matcher, &url).is_some(), proxied, "{url}");
        }
    }

    #[test]
    fn socks_is_refused_by_name() {
        let settings = ProxySettings {
            all: "socks5://p:1080".to_owned(),
            ..Default::default()
        };
        let url = Url::parse("https://ghcr.io/").expect("url");
        let intercept = intercept(&settings.matcher(), &url).expect("intercepted");
        let error = through(&intercept).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("socks5"), "{error}");
    }
}
