//! The short-lived thing that is sent to a registry, and the seam it comes through.
//!
//! A client asks an [`AuthSource`] at the moment of use and says when the registry refused what
//! it got. What stands behind the source (a vault, a socket to a broker, nothing) is not its
//! business. Nothing here can be serialised or displayed.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use reference::{Digest, Registry};
use secrecy::SecretString;

/// What goes into the `Authorization` header.
#[derive(Clone)]
pub enum AuthScheme {
    /// No header at all.
    Anonymous,
    Basic {
        username: String,
        password: SecretString,
    },
    Bearer(SecretString),
}

impl fmt::Debug for AuthScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(redacted)",
            Self::Bearer(_) => "Bearer(redacted)",
        })
    }
}

/// What is sent to a registry, and until when it can be.
#[derive(Clone, Debug)]
pub struct RegistryAuth {
    pub scheme: AuthScheme,
    /// When the registry stops taking it, where that is known.
    pub not_after: Option<Timestamp>,
    /// Which minting this is: a refusal names it, so that many refusals renew once.
    pub serial: u64,
}

impl RegistryAuth {
    pub fn anonymous() -> Self {
        Self {
            scheme: AuthScheme::Anonymous,
            not_after: None,
            serial: 0,
        }
    }
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct AuthRequest<'a> {
    pub registry: &'a Registry,
    pub repository: &'a str,
    /// Set when the registry has just refused what the source gave before.
    pub rejected: Option<Rejection>,
}

/// The registry's refusal of an earlier answer.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The `serial` of the refused auth.
    pub serial: u64,
    pub status: u16,
    /// `WWW-Authenticate` values as received, bounded in number and length.
    pub challenges: Vec<String>,
    /// The registry said in words that what was sent has expired.
    pub says_expired: bool,
    /// Another process says so, which reads what strangers wrote: its serial and status count, and
    /// what it says of the registry's demands is asked of the registry.
    pub is_hearsay: bool,
}

impl Rejection {
    /// Whether it says that what was sent is at fault, and not what was asked for.
    pub fn is_about_auth(&self) -> bool {
        self.status == 401 || self.says_expired
    }
}

/// The answer of an [`AuthSource`], to be awaited.
pub type AuthFuture<'a> =
    Pin<Box<dyn Future<Output = Result<RegistryAuth, AuthError>> + Send + 'a>>;

/// What a client asks for that reads one blob.
#[derive(Clone, Debug)]
pub struct LocationRequest<'a> {
    pub registry: &'a Registry,
    pub repository: &'a str,
    pub digest: &'a Digest,
    /// The `serial` of a location at which the blob could not be read.
    pub refused: Option<u64>,
}

/// Where a blob can be read with no auth at all, for a while: a signed URL of the storage behind a
/// registry. Whoever has it reads this one blob, so it is not shown.
#[derive(Clone, Debug)]
pub struct BlobLocation {
    pub url: SecretString,
    /// Until when it is to be used.
    pub not_after: Timestamp,
    /// Which finding this is.
    pub serial: u64,
}

/// What a client asks for that would rather read a layer at the installation's shared cache.
#[derive(Clone, Debug)]
pub struct SharedRequest<'a> {
    pub registry: &'a Registry,
    pub repository: &'a str,
    pub digest: &'a Digest,
}

/// A layer in the shared cache, for a while. Whoever has it reads this one layer, so it is not
/// shown.
#[derive(Clone, Debug)]
pub struct SharedLayer {
    pub url: SecretString,
    /// What opens it, as text.
    pub key: SecretString,
    /// Until when the URL is to be used.
    pub not_after: Timestamp,
    /// The operator said that the store speaks plain http.
    pub plain_http: bool,
    /// The store's own CA.
    pub ca_pem: Option<Vec<u8>>,
}

/// Where a layer lies in the shared cache, if it does, to be awaited.
pub type SharedFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Option<SharedLayer>, AuthError>> + Send + 'a>>;

/// Where a client is to read a blob.
#[derive(Clone, Debug)]
pub enum ReadFrom {
    /// At the storage behind the registry, with no auth.
    Location(BlobLocation),
    /// At the registry, with what the source gives.
    Registry,
    /// Through the source, which reads with what it does not give.
    Source,
}

/// The answer to where a blob is to be read, to be awaited.
pub type LocationFuture<'a> =
    Pin<Box<dyn Future<Output = Result<ReadFrom, AuthError>> + Send + 'a>>;

/// Most bytes that a source is asked for at once: a client has several such reads under way, so
/// that longer ones would not be faster, and what is lost by giving one up stays little.
pub const MAX_READ_BYTES: u64 = 4 * 1024 * 1024;

/// A stretch of a blob that a source is asked to read.
#[derive(Clone, Debug)]
pub struct ReadRequest<'a> {
    pub registry: &'a Registry,
    pub repository: &'a str,
    pub digest: &'a Digest,
    /// Of the whole blob.
    pub size_bytes: u64,
    /// No longer than [`MAX_READ_BYTES`].
    pub range: Range<u64>,
}

impl ReadRequest<'_> {
    /// How many bytes are asked for, if they are some, within the blob, and not too many.
    pub fn length(&self) -> Option<u64> {
        let length = self.range.end.checked_sub(self.range.start)?;
        let is_within = self.range.end <= self.size_bytes;
        (is_within && (1..=MAX_READ_BYTES).contains(&length)).then_some(length)
    }
}

/// The bytes of a stretch as they come, not verified. Who reads them counts them.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, ReadError>> + Send>>;

/// The answer of a source that reads itself, to be awaited.
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<Pieces, ReadError>> + Send + 'a>>;

/// Why a source does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("the registry has no such blob")]
    NotFound,
    /// The registry has other bytes.
    #[error("{message}")]
    Corrupt { message: String },
}

/// Where a registry client gets what it reads with.
pub trait AuthSource: fmt::Debug + Send + Sync {
    /// The auth to use now for this registry and repository.
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a>;

    /// Where to read a blob instead of sending an auth. A source that knows no such place has
    /// its clients ask the registry.
    fn location<'a>(&'a self, _request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(async { Ok(ReadFrom::Registry) })
    }

    /// Where the layer lies in a cache that workers share. Most sources know of none.
    fn shared<'a>(&'a self, _request: SharedRequest<'a>) -> SharedFuture<'a> {
        Box::pin(async { Ok(None) })
    }

    /// Reads in place of a client that was sent to the source.
    fn read<'a>(&'a self, _request: ReadRequest<'a>) -> ReadFuture<'a> {
        Box::pin(async {
            let message = "nothing is read through this source".to_owned();
            Err(AuthError::Refused { message }.into())
        })
    }
}

/// A source that never sends anything.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

impl AuthSource for Anonymous {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async move {
            if request.rejected.is_none() {
                return Ok(RegistryAuth::anonymous());
            }
            let registry = request.registry;
            Err(AuthError::BadCredential {
                message: format!("{registry} wants a credential and none is given"),
            })
        })
    }
}

/// Why there is no auth. Messages never hold a secret or the body of a token service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The registry or token service refused the credential itself.
    #[error("{message}")]
    BadCredential { message: String },
    /// The credential is good and may not do this.
    #[error("{message}")]
    NoPermission { message: String },
    #[error("{message}")]
    RateLimited {
        retry_after: Option<Duration>,
        message: String,
    },
    #[error("{message}")]
    Unreachable { message: String },
    #[error("{message}")]
    Tls { message: String },
    /// The credential was removed; waiting will not bring it back.
    #[error("{message}")]
    Revoked { message: String },
    /// Our own policy: a realm that the credential is not bound to, a kind not supported.
    #[error("{message}")]
    Refused { message: String },
    #[error("{message}")]
    Internal { message: String },
}

impl AuthError {
    /// True when the same question may be answered differently in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unreachable { .. })
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::BadCredential { .. } => Some("run `holdfast login` with a valid credential"),
            Self::NoPermission { .. } => {
                Some("ask the owner of the repository for pull permission")
            }
            Self::RateLimited { .. } => Some("wait, or log in to be counted separately"),
            Self::Unreachable { .. } => Some("check the registry's name, the network and proxies"),
            Self::Tls { .. } => Some("give the registry's certificate authority by --ca-file"),
            Self::Revoked { .. } => Some("run `holdfast login` again"),
            Self::Refused { .. } | Self::Internal { .. } => None,
        }
    }
}
