//! What can go wrong on the way out, sorted by what the caller would do about it.

use std::error::Error;
use std::net::IpAddr;

use crate::quote::quoted;

/// Longest piece of a library's own text in an error of ours.
const MAX_DETAIL_CHARACTERS: usize = 200;

/// Why a request got no reply, or a reply no end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address policy says no. Asking again will not help.
    #[error("connecting to {host} is not allowed: {address} is {reason}")]
    Denied {
        host: String,
        address: IpAddr,
        reason: &'static str,
    },
    /// The URL is plain http, and nobody said that it may be.
    #[error("plain http to {host} is not allowed")]
    PlainHttp { host: String },
    /// The other side's certificate or handshake is not acceptable.
    #[error("secure connection to {host} failed: {message}")]
    Tls { host: String, message: String },
    /// The other side does not speak TLS at all.
    #[error("{host} does not speak TLS")]
    NotTls { host: String },
    /// No connection, or no reply in time. May pass.
    #[error("cannot reach {host}: {message}")]
    Unreachable { host: String, message: String },
    /// The connection broke after the reply had begun. May pass.
    #[error("reply of {host} was cut off: {message}")]
    Interrupted { host: String, message: String },
    /// The reply is not the protocol that was spoken.
    #[error("reply of {host} is not usable: {message}")]
    Protocol { host: String, message: String },
    /// The reply is longer than the caller can take.
    #[error("reply of {host} is longer than {limit_bytes} bytes")]
    TooLarge { host: String, limit_bytes: usize },
    /// A certificate or a proxy setting that was given cannot be used.
    #[error("{subject} cannot be used: {message}")]
    Configuration { subject: String, message: String },
}

impl DialError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Interrupted { .. })
    }

    /// What the user or operator can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { host, .. } => Some(format!(
                "if {host} is meant to be on a private network, add it to `allow` under [dial] in \
                 the configuration, or log in to the registry with --ca-file or --plain-http"
            )),
            Self::PlainHttp { .. } | Self::NotTls { .. } => {
                Some("log in with --plain-http if this registry really has no TLS".to_owned())
            }
            Self::Tls { .. } => Some(
                "if the registry has a CA of its own, log in with --ca-file; if this machine has \
                 no system roots, install the package ca-certificates"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Sorts an error of the HTTP library. `started` says whether the reply's head had come.
    pub(crate) fn from_http(host: &str, error: &reqwest::Error, started: bool) -> Self {
        if let Some(denied) = find::<DialError>(error) {
            return denied.clone();
        }
        let host = host.to_owned();
        if let Some(tls) = find::<rustls::Error>(error) {
            if !started && matches!(tls, rustls::Error::InvalidMessage(_)) {
                return Self::NotTls { host };
            }
            return Self::Tls {
                host,
                message: quoted(tls.to_string().as_bytes(), 200),
            };
        }
        let message = innermost(error);
        if started {
            Self::Interrupted { host, message }
        } else if error.is_builder() || error.is_decode() {
            Self::Protocol { host, message }
        } else {
            Self::Unreachable { host, message }
        }
    }
}

/// The first error of this type in the chain. An `io::Error` hides what it wraps from `source`.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        next = inner(current);
    }
    None
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// The last cause says most ("connection refused") and, unlike the first, never holds the URL.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut current: &(dyn Error + 'static) = error;
    while let Some(next) = inner(current) {
        current = next;
    }
    if current.is::<reqwest::Error>() {
        return "the request failed".to_owned();
    }
    quoted(current.to_string().as_bytes(), MAX_DETAIL_CHARACTERS)
}
