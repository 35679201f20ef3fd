//! The URL that an issuer is known by. Clouds compare it byte by byte, so that it has one form.

use std::fmt;

use url::{Host, Url};

/// AWS's own limit, and the least of the three clouds'.
const LENGTH_LIMIT: usize = 255;

/// Who issues: `https`, a name, and perhaps a path. Has no slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerUrl(String);

/// Why a text is no URL of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIssuerUrlError {
    #[error("is no URL")]
    NotUrl,
    #[error("is longer than {LENGTH_LIMIT} bytes")]
    TooLong,
    #[error("does not begin with https://, and clouds believe no other issuer")]
    NotHttps,
    #[error("has a port, a user name, a query or a fragment, and clouds take none")]
    HasMore,
    #[error("names no host of the public internet, where clouds look for its keys")]
    NotPublicName,
    #[error("is written in another form than clouds compare; write {canonical}")]
    NotCanonical { canonical: String },
}

impl IssuerUrl {
    pub fn parse(text: &str) -> Result<Self, ParseIssuerUrlError> {
        if text.len() > LENGTH_LIMIT {
            return Err(ParseIssuerUrlError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| ParseIssuerUrlError::NotUrl)?;
        if url.scheme() != "https" {
            return Err(ParseIssuerUrlError::NotHttps);
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        let has_more = url.port().is_some() || url.query().is_some() || url.fragment().is_some();
        if has_user || has_more {
            return Err(ParseIssuerUrlError::HasMore);
        }
        match url.host() {
            Some(Host::Domain(name)) if is_full_name(name) => {}
            _ => return Err(ParseIssuerUrlError::NotPublicName),
        }
        let canonical = url.as_str().trim_end_matches('/');
        if text == canonical {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseIssuerUrlError::NotCanonical {
            canonical: canonical.to_owned(),
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without `https://`: how AWS names a provider.
    pub fn without_scheme(&self) -> &str {
        self.0.strip_prefix("https://").unwrap_or(&self.0)
    }

    /// What is found below it, at this path.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// With a dot inside it and none at its end.
fn is_full_name(name: &str) -> bool {
    name.split('.').count() > 1 && name.split('.').all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_one_form_are_taken() {
        for text in [
            "https://holdfast.acme.example",
            "https://acme.example/holdfast",
            "https://acme.example/a/b-c_d",
        ] {
            assert_eq!(IssuerUrl::parse(text).unwrap().as_str(), text);
        }
        let url = IssuerUrl::parse("https://acme.example/holdfast").unwrap();
        assert_eq!(url.without_scheme(), "acme.example/holdfast");
        assert_eq!(url.join("/x"), "https://acme.example/holdfast/x");
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        use ParseIssuerUrlError::{HasMore, NotHttps, NotPublicName, NotUrl, TooLong};
        for (text, expected) in [
            ("", NotUrl),
            ("acme.example", NotUrl),
            ("http://acme.example", NotHttps),
            ("https://acme.example:8443", HasMore),
            ("https://user@acme.example", HasMore),
            ("https://acme.example?a=b", HasMore),
            ("https://acme.example#a", HasMore),
            ("https://localhost", NotPublicName),
            ("https://acme.example.", NotPublicName),
            ("https://10.0.0.1", NotPublicName),
            ("https://0x7f000001", NotPublicName),
            ("https://[::1]", NotPublicName),
            (&format!("https://a.b/{}", "c".repeat(255)), TooLong),
        ] {
            assert_eq!(IssuerUrl::parse(text), Err(expected), "{text}");
        }
        for (text, canonical) in [
            ("https://acme.example/", "https://acme.example"),
            ("https://ACME.example", "https://acme.example"),
            ("https://acme.example/a/", "https://acme.example/a"),
            ("https://acme.example/a/../b", "https://acme.example/b"),
            ("https://acme.example:443", "https://acme.example"),
            ("https://acme.example/a b", "https://acme.example/a%20b"),
        ] {
            let error = IssuerUrl::parse(text).unwrap_err();
            let canonical = canonical.to_owned();
            let expected = ParseIssuerUrlError::NotCanonical { canonical };
            assert_eq!(error, expected, "{text}");
        }
    }
}
