//! What can go wrong with a registry, sorted by what the caller would do about it.

use std::time::Duration;

use credential::auth::AuthError;
use dial::DialError;

/// Why the registry did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no auth to send, or the registry refused it.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The registry does not have it, or does not say so to us.
    #[error("{subject} is not there")]
    NotFound { subject: String },
    /// The registry refuses this to whoever we are.
    #[error("{subject} is refused: {message}")]
    Denied {
        subject: String,
        status: u16,
        message: String,
    },
    /// The registry wants to be asked less.
    #[error("{registry} is limiting requests")]
    RateLimited {
        registry: String,
        retry_after: Option<Duration>,
    },
    /// No answer, a broken one, or one that says "later".
    #[error("cannot read from {registry}: {message}")]
    Unreachable { registry: String, message: String },
    /// No secure connection to the registry.
    #[error("secure connection failed: {message}")]
    Tls {
        registry: String,
        message: String,
        hint: Option<String>,
    },
    /// Our own policy on where connections may go, or a setting that cannot be used.
    #[error("{message}")]
    Refused {
        message: String,
        hint: Option<String>,
    },
    /// The bytes are not what their digest or manifest says.
    #[error("{subject} is corrupt: {message}")]
    Corrupt { subject: String, message: String },
    /// Well-formed, and not something Holdfast can use.
    #[error("{subject} is not supported: {message}")]
    Unsupported { subject: String, message: String },
    /// The registry does not speak the protocol.
    #[error("{registry} answered out of protocol: {message}")]
    Protocol { registry: String, message: String },
}

impl RegistryError {
    /// True when the same question may be answered differently in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Auth(error) => error.is_transient(),
            Self::RateLimited { .. } | Self::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// When the other side said that it wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. }
            | Self::Auth(AuthError::RateLimited { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Auth(error) => error.hint().map(str::to_owned),
            Self::NotFound { .. } => Some(
                "check the name and the tag; some registries also answer so when a login is missing"
                    .to_owned(),
            ),
            Self::Denied { .. } => Some(
                "the credential may lack pull permission for this repository; see \
                 `holdfast credentials explain`"
                    .to_owned(),
            ),
            Self::RateLimited { .. } => {
                Some("wait, or log in to be counted separately".to_owned())
            }
            Self::Unreachable { .. } => {
                Some("check the registry's name, the network and proxies".to_owned())
            }
            Self::Tls { hint, .. } | Self::Refused { hint, .. } => hint.clone(),
            Self::Corrupt { .. } => Some(
                "nothing of it was used; if it happens again, tell the registry's operator"
                    .to_owned(),
            ),
            Self::Unsupported { .. } | Self::Protocol { .. } => None,
        }
    }

    pub(crate) fn corrupt(subject: &str, message: &str) -> Self {
        Self::Corrupt {
            subject: subject.to_owned(),
            message: message.to_owned(),
        }
    }

    /// An error on the way, told as the registry's.
    pub(crate) fn from_dial(registry: &str, error: &DialError) -> Self {
        let registry = registry.to_owned();
        let hint = error.hint();
        match error {
            DialError::Denied { .. }
            | DialError::PlainHttp { .. }
            | DialError::Configuration { .. } => Self::Refused {
                message: error.to_string(),
                hint,
            },
            DialError::Tls { .. } | DialError::NotTls { .. } => Self::Tls {
                registry,
                message: error.to_string(),
                hint,
            },
            DialError::Unreachable { .. } | DialError::Interrupted { .. } => Self::Unreachable {
                registry,
                message: error.to_string(),
            },
            DialError::TooLarge { .. } | DialError::Protocol { .. } => Self::Protocol {
                registry,
                message: error.to_string(),
            },
        }
    }
}
