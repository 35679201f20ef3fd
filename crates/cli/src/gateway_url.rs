//! A gateway's URL in one form, so that two can be compared, and what may be sent there.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::failure::{Failure, Result};

/// A URL of http or https without a user, a query, or a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayUrl(Url);

impl GatewayUrl {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        // The text is not repeated: what is before an `@` may be a password.
        let url = Url::parse(text.trim())
            .map_err(|error| Failure::invalid(format!("the gateway is no URL: {error}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::invalid("the gateway's URL has a user in it").hint("give a token"));
        }
        if !matches!(url.scheme(), "http" | "https") {
            let message = "the gateway is no http:// or https:// URL";
            return Err(Failure::invalid(message));
        }
        if url.query().is_some() || url.fragment().is_some() {
            let message = "the gateway's URL has a query or a fragment";
            return Err(Failure::invalid(message));
        }
        let mut url = url;
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// What is below it.
    pub(crate) fn join(&self, path: &str) -> Url {
        let whole = format!("{self}{path}");
        Url::parse(&whole).expect("paths are our own")
    }

    /// On the way everyone reads what is sent.
    pub(crate) fn is_clear(&self) -> bool {
        self.0.scheme() == "http"
    }

    pub(crate) fn is_on_this_machine(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost"
            || host.ends_with(".localhost")
            || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_form() {
        for (given, expected) in [
            ("HTTP://LocalHost:80/", "http://localhost"),
            ("https://a:443/b//", "https://a/b"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            (" http://127.0.0.1:7230\n", "http://127.0.0.1:7230"),
        ] {
            let url = GatewayUrl::parse(given).expect(given);
            assert_eq!(url.to_string(), expected);
            let below = url.join("/v1/tasks?limit=1");
            assert_eq!(below.as_str(), format!("{expected}/v1/tasks?limit=1"));
        }
        for wrong in [
            "",
            "a",
            "ftp://a",
            "http://",
            "http://a:x",
            "http://[",
            "http://a?b",
            "http://a#b",
            "127.0.0.1:7230",
        ] {
            assert!(GatewayUrl::parse(wrong).is_err(), "{wrong}");
        }
        for with_user in [
            "https://user:hunter2@a",
            "https://user:hunter2@a:x",
            "https://hunter2@a",
        ] {
            let refusal = format!("{:?}", GatewayUrl::parse(with_user).unwrap_err());
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (url, is_here) in [
            ("http://127.0.0.1:7230", true),
            ("http://localhost:7230", true),
            ("http://a.localhost", true),
            ("http://[::1]:7230", true),
            ("http://gateway.example", false),
            ("http://10.0.0.1:7230", false),
            ("http://127.0.0.1.example", false),
            ("http://localhost.example", false),
        ] {
            let found = GatewayUrl::parse(url).expect(url).is_on_this_machine();
            assert_eq!(found, is_here, "{url}");
        }
    }
}
