//! The vending ladder: how much of a credential leaves the broker. Lower is less.

use std::fmt;

use credential::auth::{AuthScheme, RegistryAuth};

/// What a reader of an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rung {
    /// Nothing.
    Anonymous,
    /// A short token for pulling one repository, minted from the credential.
    RepositoryBearer,
    /// The token that was given at login, as it is.
    GivenToken,
    /// User name and password: everything the identity may do.
    Basic,
}

impl Rung {
    /// What is held, by what was minted. A token of a token service ends; one that was given at
    /// login is known to end only by its own word, which `given` says.
    pub(crate) fn of(auth: &RegistryAuth, given: bool) -> Self {
        match auth.scheme {
            AuthScheme::Anonymous => Self::Anonymous,
            AuthScheme::Basic { .. } => Self::Basic,
            AuthScheme::Bearer(_) if given => Self::GivenToken,
            AuthScheme::Bearer(_) => Self::RepositoryBearer,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::RepositoryBearer => "repository bearer",
            Self::GivenToken => "given token (whole identity)",
            Self::Basic => "basic (whole identity)",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
