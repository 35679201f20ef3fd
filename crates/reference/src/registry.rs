//! The registry part of a name: a host and perhaps a port.
//!
//! Invariant: lower-case, validated, and Docker Hub's names folded into `docker.io`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::error::ParseReferenceError;

/// What Docker Hub's API answers to.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ENDPOINT: &str = "registry-1.docker.io";
const DOCKER_HUB_FAMILY: [&str; 3] = [DOCKER_HUB, "index.docker.io", DOCKER_HUB_ENDPOINT];

/// A DNS name's limit.
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// The port that https implies; naming it changes nothing.
const HTTPS_PORT: u16 = 443;

/// A registry host with an optional port. Equality ignores a port of 443.
#[derive(Clone)]
pub struct Registry {
    text: String,
    host: String,
    port: Option<u16>,
}

impl Registry {
    /// Reads `host`, `host:port` or `[ipv6]:port`.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        let (host, port) = split_port(text)?;
        let host = parse_host(host)?;
        let port = port.map(parse_port).transpose()?;
        if DOCKER_HUB_FAMILY.contains(&host.as_str()) && port.is_none_or(|p| p == HTTPS_PORT) {
            return Ok(Self::docker_hub());
        }
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let text = port.map_or(shown.clone(), |port| format!("{shown}:{port}"));
        Ok(Self { text, host, port })
    }

    pub fn docker_hub() -> Self {
        let host = DOCKER_HUB.to_owned();
        Self {
            text: host.clone(),
            host,
            port: None,
        }
    }

    /// `host[:port]`, as shown and stored.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host alone; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that was typed.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    pub fn is_docker_hub(&self) -> bool {
        self.host == DOCKER_HUB
    }

    /// True for `localhost`, names below it, and loopback addresses.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// The `host[:port]` to dial.
    pub fn endpoint(&self) -> String {
        if self.is_docker_hub() {
            DOCKER_HUB_ENDPOINT.to_owned()
        } else {
            self.text.clone()
        }
    }

    fn identity(&self) -> (&str, u16) {
        (&self.host, self.port.unwrap_or(HTTPS_PORT))
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), ParseReferenceError> {
    if text.is_empty() || text.starts_with(':') {
        return Err(ParseReferenceError::EmptyHost);
    }
    if !text.starts_with('[') {
        return Ok(text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))));
    }
    let host_error = || ParseReferenceError::Host {
        host: text.to_owned(),
    };
    let end = text.find(']').ok_or_else(host_error)?;
    let (host, rest) = text.split_at(end + 1);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(host_error()),
    }
}

fn parse_port(text: &str) -> Result<u16, ParseReferenceError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port != 0)
        .ok_or_else(|| ParseReferenceError::Port {
            port: text.to_owned(),
        })
}

/// The host in lower case; an IPv6 address in its shortest form.
fn parse_host(text: &str) -> Result<String, ParseReferenceError> {
    let error = || ParseReferenceError::Host {
        host: text.to_owned(),
    };
    if let Some(address) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address: Ipv6Addr = address.parse().map_err(|_| error())?;
        return Ok(address.to_string());
    }
    if text.len() > HOST_MAX || !text.split('.').all(is_label) {
        return Err(error());
    }
    Ok(text.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= LABEL_MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

impl FromStr for Registry {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Registry {}

impl PartialOrd for Registry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Registry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for Registry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}
