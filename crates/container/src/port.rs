//! A port of a container made reachable from outside: `[HOST_IP:][HOST_PORT:]PORT[/PROTOCOL]`.
//!
//! As in docker, a port without a host address listens on every address of the machine, and one
//! without a host port gets a free one. Ranges are refused by name.

use std::fmt;
use std::net::IpAddr;

/// What runs on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A byte stream.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortMap {
    /// Where to listen; every address when absent.
    pub host_address: Option<IpAddr>,
    /// 0 asks for a free one.
    pub host_port: u16,
    /// Never 0.
    pub container_port: u16,
    /// Stream or datagrams.
    pub protocol: Protocol,
}

/// Why a text is no published port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePortError {
    /// Not of the form.
    #[error("port `{0}` is not of the form [[HOST_IP:]HOST_PORT:]PORT[/tcp|udp]")]
    Form(String),
    /// A range.
    #[error("port `{0}` is a range, which is not supported: publish each port by itself")]
    Range(String),
}

impl PortMap {
    /// Reads what `-p` takes.
    pub fn parse(text: &str) -> Result<Self, ParsePortError> {
        let form = || ParsePortError::Form(text.to_owned());
        let (body, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((body, "tcp")) => (body, Protocol::Tcp),
            Some((body, "udp")) => (body, Protocol::Udp),
            Some(_) => return Err(form()),
        };
        let (outside, inside) = match body.rsplit_once(':') {
            None => (None, body),
            Some((outside, inside)) => (Some(outside), inside),
        };
        if inside.contains('-') {
            return Err(ParsePortError::Range(text.to_owned()));
        }
        let container_port = parse_number(inside)
            .filter(|port| *port != 0)
            .ok_or_else(form)?;
        let (host_address, host_port) = match outside {
            None => (None, 0),
            Some(outside) => parse_outside(outside).ok_or_else(form)?,
        };
        Ok(Self {
            host_address,
            host_port,
            container_port,
            protocol,
        })
    }
}

/// `HOST_PORT` or `HOST_IP:HOST_PORT`, the port possibly empty after an address.
fn parse_outside(text: &str) -> Option<(Option<IpAddr>, u16)> {
    let Some((address, port)) = text.rsplit_once(':') else {
        return Some((None, parse_number(text)?));
    };
    let address = match address.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    let port = if port.is_empty() {
        0
    } else {
        parse_number(port)?
    };
    Some((Some(address), port))
}

fn parse_number(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    text.parse().ok()
}

impl fmt::Display for PortMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            None => {}
        }
        write!(
            f,
            "{}:{}/{}",
            self.host_port, self.container_port, self.protocol
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let table: &[(&str, Option<&str>)] = &[
            ("80", Some("0:80/tcp")),
            ("8080:80", Some("8080:80/tcp")),
            ("8080:80/udp", Some("8080:80/udp")),
            ("127.0.0.1:8080:80", Some("127.0.0.1:8080:80/tcp")),
            ("127.0.0.1::80", Some("127.0.0.1:0:80/tcp")),
            ("[::1]:8080:80/tcp", Some("[::1]:8080:80/tcp")),
            ("0:80", Some("0:80/tcp")),
            ("::1:8080:80", None),
            ("80/sctp", None),
            ("0", None),
            ("8080:0", None),
            ("65536", None),
            ("8080:", None),
            (":80", None),
            ("localhost:8080:80", None),
            ("+1:80", None),
            ("8000-8010:80-90", None),
            ("", None),
        ];
        for (text, expected) in table {
            let shown = PortMap::parse(text).ok().map(|port| port.to_string());
            assert_eq!(shown.as_deref(), *expected, "{text:?}");
        }
        assert!(matches!(
            PortMap::parse("1-2:3-4"),
            Err(ParsePortError::Range(_))
        ));
    }
}
