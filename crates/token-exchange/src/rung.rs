//! The vending ladder: how much of a credential is in what is handed out. Lower is less.

use std::fmt;

/// What somebody holds who has an auth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rung {
    /// Nothing.
    Anonymous,
    /// Signed URLs of the storage behind the registry, each for one blob and some minutes.
    SignedLocation,
    /// A short token for pulling one repository, minted from the credential.
    RepositoryBearer,
    /// A short-lived user name and password for pulling one repository, minted from a role.
    RepositoryPassword,
    /// The token that was given at login, as it is.
    GivenToken,
    /// A short-lived user name and password, minted from the credential: everything that the
    /// identity may do, for some hours.
    MintedPassword,
    /// User name and password: everything the identity may do.
    Basic,
}

impl Rung {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::SignedLocation => "signed location",
            Self::RepositoryBearer => "repository bearer",
            Self::RepositoryPassword => "repository password",
            Self::GivenToken => "given token (whole identity)",
            Self::MintedPassword => "minted password (whole identity, for hours)",
            Self::Basic => "basic (whole identity)",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
