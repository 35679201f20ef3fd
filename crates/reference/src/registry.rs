//! Registries: a host and perhaps a port. Compared lower-case, with `:443` as the default port, and
//! with Docker Hub's host names folded into one. Does not resolve or dial.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The name of Docker Hub in canonical form.
const DOCKER_HUB: &str = "docker.io";
/// Host names that mean Docker Hub. Its API answers on the last one only.
const DOCKER_HUB_FAMILY: [&str; 3] = [DOCKER_HUB, "index.docker.io", DOCKER_HUB_ENDPOINT];
const DOCKER_HUB_ENDPOINT: &str = "registry-1.docker.io";
/// The port a registry without one is identified with.
const DEFAULT_PORT: u16 = 443;
/// Longest host name and longest label that DNS can carry.
const HOST_LIMIT: usize = 253;
const LABEL_LIMIT: usize = 63;

/// Where repositories live: `host` or `host:port`.
///
/// `Eq`, `Ord` and `Hash` ignore a port of 443, so `a.io` and `a.io:443` are one registry.
#[derive(Clone)]
pub struct Registry {
    text: String,
    host: String,
    port: Option<u16>,
}

/// Why a text is not a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRegistryError {
    #[error("registry host is empty")]
    EmptyHost,
    #[error("registry host is longer than DNS allows")]
    HostTooLong,
    #[error("registry host has an empty label (a '.' at an end, or two in a row)")]
    EmptyLabel,
    #[error("a label of a registry host must start and end with a letter or digit")]
    LabelEdge,
    #[error("character {character:?} is not allowed in a registry host")]
    Character { character: char },
    #[error("registry host ends in a number but is not an IPv4 address")]
    NotIpv4,
    #[error("a label of a registry host begins with xn-- and encodes no name")]
    NotEncoded,
    #[error("registry host is not an IPv6 address in brackets")]
    NotIpv6,
    #[error("registry port must be a number from 1 to 65535")]
    Port,
}

impl Registry {
    /// Reads `host` or `host:port`, without a scheme or a path.
    pub fn parse(text: &str) -> Result<Self, ParseRegistryError> {
        let (host, port) = split_port(text)?;
        let port = port.map(parse_port).transpose()?;
        let host = match host.strip_prefix('[') {
            Some(rest) => parse_ipv6(rest)?,
            None => parse_host_name(host)?,
        };
        Ok(Self::new(host, port))
    }

    /// Docker Hub, the registry of names that give none.
    pub fn docker_hub() -> Self {
        Self::new(DOCKER_HUB.to_owned(), None)
    }

    fn new(host: String, port: Option<u16>) -> Self {
        let default_port = port.is_none_or(|port| port == DEFAULT_PORT);
        if default_port && DOCKER_HUB_FAMILY.contains(&host.as_str()) {
            let host = DOCKER_HUB.to_owned();
            return Self {
                text: host.clone(),
                host,
                port: None,
            };
        }
        Self {
            text: join(&host, port),
            host,
            port,
        }
    }

    /// `host` or `host:port`, lower-case, with the port as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host name or address, without brackets and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port as it was given; `Some(443)` and `None` are still equal registries.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    pub fn is_docker_hub(&self) -> bool {
        self.host == DOCKER_HUB && self.port.is_none()
    }

    /// Whether the host is this machine by its very name: `localhost` or a loopback address. What
    /// another name resolves to is not this crate's to know.
    pub fn is_loopback(&self) -> bool {
        let v4 = |text: &str| {
            text.parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback())
        };
        let v6 = |text: &str| {
            text.parse::<Ipv6Addr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
        };
        self.host == "localhost" || v4(&self.host) || v6(&self.host)
    }

    /// `host[:port]` to dial. Differs from [`Self::as_str`] for Docker Hub alone.
    pub fn endpoint(&self) -> String {
        let host = if self.is_docker_hub() {
            DOCKER_HUB_ENDPOINT
        } else {
            &self.host
        };
        join(host, self.port)
    }

    /// The form that stands in a canonical name: equal registries have equal ones, and in front of
    /// a path it is read as a registry again. That takes the default port away, except from a
    /// single label, which without it would be the first part of a path on Docker Hub.
    pub fn canonical(&self) -> String {
        match self.distinct_port() {
            None if !stands_alone(&self.host) => join(&self.host, Some(DEFAULT_PORT)),
            port => join(&self.host, port),
        }
    }

    fn distinct_port(&self) -> Option<u16> {
        self.port.filter(|port| *port != DEFAULT_PORT)
    }

    fn key(&self) -> (&str, Option<u16>) {
        (&self.host, self.distinct_port())
    }
}

/// Whether this lower-case host, in front of a path, is taken for a registry without a port.
fn stands_alone(host: &str) -> bool {
    host == "localhost" || host.contains(['.', ':'])
}

/// Whether the first part of a name with a `/` is a registry and not part of a path.
pub(crate) fn looks_like_registry(first: &str) -> bool {
    stands_alone(first) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn join(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// Splits `host:port`, leaving the brackets of an IPv6 address on the host.
fn split_port(text: &str) -> Result<(&str, Option<&str>), ParseRegistryError> {
    if !text.starts_with('[') {
        return Ok(match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        });
    }
    let end = text.find(']').ok_or(ParseRegistryError::NotIpv6)?;
    let (host, rest) = text.split_at(end + 1);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(ParseRegistryError::NotIpv6),
    }
}

fn parse_port(text: &str) -> Result<u16, ParseRegistryError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseRegistryError::Port);
    }
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or(ParseRegistryError::Port)
}

/// `rest` is what follows the opening bracket.
fn parse_ipv6(rest: &str) -> Result<String, ParseRegistryError> {
    let address = rest.strip_suffix(']').ok_or(ParseRegistryError::NotIpv6)?;
    let address: Ipv6Addr = address.parse().map_err(|_| ParseRegistryError::NotIpv6)?;
    Ok(address.to_string())
}

fn parse_host_name(host: &str) -> Result<String, ParseRegistryError> {
    if host.is_empty() {
        return Err(ParseRegistryError::EmptyHost);
    }
    host.split('.').try_for_each(check_label)?;
    if host.len() > HOST_LIMIT {
        return Err(ParseRegistryError::HostTooLong);
    }
    let host = host.to_ascii_lowercase();
    // URL libraries read `127.1`, `2130706433` and `0x7f000001` as IPv4 addresses; a name must
    // mean one thing.
    let last = host.rsplit('.').next().unwrap_or(&host);
    if is_number(last) && host.parse::<Ipv4Addr>().is_err() {
        return Err(ParseRegistryError::NotIpv4);
    }
    // They also decode labels that begin with `xn--`, and refuse what no name is encoded as.
    let encoded = idna::domain_to_ascii_cow(host.as_bytes(), idna::AsciiDenyList::URL);
    if encoded.ok().as_deref() != Some(host.as_str()) {
        return Err(ParseRegistryError::NotEncoded);
    }
    Ok(host)
}

fn check_label(label: &str) -> Result<(), ParseRegistryError> {
    if label.is_empty() {
        return Err(ParseRegistryError::EmptyLabel);
    }
    let allowed = |character: &char| character.is_ascii_alphanumeric() || *character == '-';
    if let Some(character) = label.chars().find(|character| !allowed(character)) {
        return Err(ParseRegistryError::Character { character });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(ParseRegistryError::LabelEdge);
    }
    if label.len() > LABEL_LIMIT {
        return Err(ParseRegistryError::HostTooLong);
    }
    Ok(())
}

/// A decimal or hexadecimal number, as URL libraries recognise one in the last label of a host.
fn is_number(label: &str) -> bool {
    let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(hexadecimal)
}

impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Registry {}

impl PartialOrd for Registry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Registry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Registry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Registry").field(&self.text).finish()
    }
}

impl FromStr for Registry {
    type Err = ParseRegistryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
