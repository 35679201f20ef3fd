//! Where a database is, as an operator writes it.
//!
//! A password is never part of it, since it would stand in a list of processes, a log or a file
//! that others read: it is given beside.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::error::DatabaseError;
use crate::postgres;

const DEFAULT_PORT: u16 = 5432;
/// Longest name of a user or a database: PostgreSQL cuts longer ones, and then it is another.
const NAME_LIMIT: usize = 63;
/// Longest name in DNS.
const HOST_LIMIT: usize = 253;
/// Longest directory of a socket: the kernel takes no longer address than 107 bytes, of which
/// `/.s.PGSQL.65535` is a part.
const DIRECTORY_LIMIT: usize = 92;

/// Where a database is.
#[derive(Debug, Clone)]
pub enum DatabaseAddress {
    /// An SQLite file.
    File(PathBuf),
    Server(Server),
}

/// A database on a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Server {
    pub(crate) user: String,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) tls: Tls,
    /// A file of certificates that are believed besides those that everybody believes.
    pub(crate) authority: Option<PathBuf>,
    pub(crate) password: Option<SecretString>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    /// Of a Unix socket.
    Directory(PathBuf),
}

/// How a connection over a network is kept from others. Modes that give up encryption when
/// somebody in between asks for that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Disabled,
    /// Encrypted, towards whoever answers.
    Unverified,
    /// Towards any host with a certificate of the authority.
    Authority,
    /// Towards this host.
    Full,
}

/// Why a text names no database. It repeats nothing of the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAddressError {
    #[error("database address does not begin with postgres://")]
    Scheme,
    #[error("database address holds a password")]
    Password,
    #[error("database address has no user, as in postgres://USER@HOST/NAME")]
    User,
    #[error("database address has no host, nor a directory of its socket as ?host=/DIRECTORY")]
    Host,
    #[error("database address has a port that is none")]
    Port,
    #[error("database address has no name of a database, as in postgres://USER@HOST/NAME")]
    Name,
    #[error(
        "database address has an sslmode that is not disable, require, verify-ca or verify-full"
    )]
    Tls,
    #[error("database address has a setting that is not host, sslmode or sslrootcert")]
    Setting,
    #[error("database address has a sign that does not belong there")]
    Sign,
}

impl ParseAddressError {
    /// What a person can do about it.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::Password => Some("write the password into a file, and name that"),
            Self::Tls => Some("leave it out for verify-full, which checks whom it speaks to"),
            _ => None,
        }
    }
}

impl DatabaseAddress {
    /// Whether this looks like the address of a server, and not like a path.
    pub fn is_address(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }
}

impl Server {
    /// Parses `postgres://USER@HOST:PORT/NAME?sslmode=…&sslrootcert=FILE`, or
    /// `postgres://USER@/NAME?host=/DIRECTORY` for a Unix socket.
    pub fn parse(text: &str) -> Result<Self, ParseAddressError> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or(ParseAddressError::Scheme)?;
        let (rest, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').ok_or(ParseAddressError::Name)?;
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(ParseAddressError::Password);
        }
        let settings = Settings::parse(settings)?;
        let (host, port) = match &settings.directory {
            Some(directory) => (Host::Directory(directory.clone()), port_alone(host)?),
            None => host_and_port(host)?,
        };
        Ok(Self {
            user: named(user, ParseAddressError::User)?,
            port,
            database: named(name, ParseAddressError::Name)?,
            tls: settings.tls.unwrap_or_else(|| default_tls(&host)),
            authority: settings.authority,
            host,
            password: None,
        })
    }

    /// Whether the server is there, and lets this user into this database; answers its version.
    pub async fn look(&self) -> Result<String, DatabaseError> {
        postgres::version(self).await
    }

    /// The password, for a server that asks.
    pub fn with_password(mut self, password: SecretString) -> Self {
        self.password = Some(password);
        self
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, port, name) = (&self.user, self.port, &self.database);
        match &self.host {
            Host::Name(host) if host.contains(':') => {
                write!(formatter, "postgres://{user}@[{host}]:{port}/{name}")
            }
            Host::Name(host) => write!(formatter, "postgres://{user}@{host}:{port}/{name}"),
            Host::Directory(directory) => {
                let directory = directory.display();
                write!(
                    formatter,
                    "postgres://{user}@:{port}/{name}?host={directory}"
                )
            }
        }
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Server(server) => server.fmt(formatter),
        }
    }
}

/// What stands after the question mark.
#[derive(Default)]
struct Settings {
    directory: Option<PathBuf>,
    tls: Option<Tls>,
    authority: Option<PathBuf>,
}

impl Settings {
    fn parse(text: &str) -> Result<Self, ParseAddressError> {
        let mut settings = Self::default();
        for setting in text.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let value = decoded(value)?;
            match name {
                "host" => {
                    if !value.starts_with('/') || value.len() > DIRECTORY_LIMIT {
                        return Err(ParseAddressError::Host);
                    }
                    settings.directory = Some(value.into());
                }
                "sslmode" => settings.tls = Some(tls(&value)?),
                "sslrootcert" => settings.authority = Some(value.into()),
                "password" => return Err(ParseAddressError::Password),
                _ => return Err(ParseAddressError::Setting),
            }
        }
        Ok(settings)
    }
}

fn tls(name: &str) -> Result<Tls, ParseAddressError> {
    match name {
        "disable" => Ok(Tls::Disabled),
        "require" => Ok(Tls::Unverified),
        "verify-ca" => Ok(Tls::Authority),
        "verify-full" => Ok(Tls::Full),
        _ => Err(ParseAddressError::Tls),
    }
}

/// What never leaves this machine needs no TLS.
fn default_tls(host: &Host) -> Tls {
    let is_here = match host {
        Host::Directory(_) => true,
        Host::Name(name) => {
            name == "localhost"
                || name
                    .parse()
                    .is_ok_and(|it: std::net::IpAddr| it.is_loopback())
        }
    };
    if is_here { Tls::Disabled } else { Tls::Full }
}

fn host_and_port(text: &str) -> Result<(Host, u16), ParseAddressError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(ParseAddressError::Host)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || host.len() > HOST_LIMIT || !host.bytes().all(is_host) {
        return Err(ParseAddressError::Host);
    }
    Ok((Host::Name(host.to_owned()), port_alone(port)?))
}

/// Of `:PORT`, or nothing.
fn port_alone(text: &str) -> Result<u16, ParseAddressError> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let port = text.strip_prefix(':').ok_or(ParseAddressError::Host)?;
    match port.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(ParseAddressError::Port),
    }
}

/// The name of a user or a database.
fn named(text: &str, error: ParseAddressError) -> Result<String, ParseAddressError> {
    let name = decoded(text)?;
    if name.is_empty() || name.len() > NAME_LIMIT {
        return Err(error);
    }
    Ok(name)
}

/// A part of an address, with what stands in it as `%XX`.
fn decoded(text: &str) -> Result<String, ParseAddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ParseAddressError::Sign);
        };
        bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
    }
    let text = String::from_utf8(bytes).map_err(|_| ParseAddressError::Sign)?;
    if text.chars().any(char::is_control) {
        return Err(ParseAddressError::Sign);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_are_read() {
        for (text, shown, tls) in [
            (
                "postgres://a@db.example/n",
                "postgres://a@db.example:5432/n",
                Tls::Full,
            ),
            (
                "postgresql://a@db.example:6/n",
                "postgres://a@db.example:6/n",
                Tls::Full,
            ),
            (
                "postgres://a@localhost/n",
                "postgres://a@localhost:5432/n",
                Tls::Disabled,
            ),
            (
                "postgres://a@127.0.0.9/n",
                "postgres://a@127.0.0.9:5432/n",
                Tls::Disabled,
            ),
            (
                "postgres://a@[::1]:7/n",
                "postgres://a@[::1]:7/n",
                Tls::Disabled,
            ),
            (
                "postgres://a%40b@h/n?sslmode=verify-ca",
                "postgres://a@b@h:5432/n",
                Tls::Authority,
            ),
            (
                "postgres://a@h/n?sslmode=require",
                "postgres://a@h:5432/n",
                Tls::Unverified,
            ),
            (
                "postgres://a@/n?host=/run/pg",
                "postgres://a@:5432/n?host=/run/pg",
                Tls::Disabled,
            ),
            (
                "postgres://a@:6/n?host=/run/pg",
                "postgres://a@:6/n?host=/run/pg",
                Tls::Disabled,
            ),
        ] {
            let server = Server::parse(text).unwrap();
            assert_eq!(
                (server.to_string().as_str(), server.tls),
                (shown, tls),
                "{text}"
            );
        }
        let server = Server::parse("postgres://a@h/n?sslmode=verify-full&sslrootcert=/c").unwrap();
        assert_eq!(server.authority, Some("/c".into()));
    }

    #[test]
    fn what_names_no_database_is_refused() {
        use ParseAddressError as Error;
        let long = format!("postgres://{}@h/n", "a".repeat(64));
        for (text, error) in [
            ("mysql://a@h/n", Error::Scheme),
            ("postgres://a:secret@h/n", Error::Password),
            ("postgres://a:@h/n", Error::Password),
            ("postgres://a@h/n?password=secret", Error::Password),
            ("postgres://h/n", Error::User),
            ("postgres://@h/n", Error::User),
            (long.as_str(), Error::User),
            ("postgres://a@/n", Error::Host),
            ("postgres://a@h h/n", Error::Host),
            ("postgres://a@[::1/n", Error::Host),
            ("postgres://a@h/n?host=run", Error::Host),
            ("postgres://a@h:0/n", Error::Port),
            ("postgres://a@h:65536/n", Error::Port),
            ("postgres://a@h:/n", Error::Port),
            ("postgres://a@h", Error::Name),
            ("postgres://a@h/", Error::Name),
            ("postgres://a@h/n?sslmode=prefer", Error::Tls),
            ("postgres://a@h/n?options=-c", Error::Setting),
            ("postgres://a@h/n%0", Error::Sign),
            ("postgres://a@h/n%00", Error::Sign),
            ("postgres://a@h/n%ff", Error::Sign),
        ] {
            assert_eq!(Server::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let server = Server::parse("postgres://a@h/n").unwrap();
        let server = server.with_password("hunter2".to_owned().into());
        let shown = format!("{server} {server:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
