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
    /// Nothing: who has the credential reads in its place, for as long as its lease lasts.
    ReadThrough,
    /// The token that was given at login, as it is.
    GivenToken,
    /// A short-lived user name and password, minted from the credential: everything that the
    /// identity may do, for some hours.
    MintedPassword,
    /// User name and password: everything the identity may do.
    Basic,
}

impl Rung {
    /// From the least to the most.
    pub const ALL: [Self; 8] = [
        Self::Anonymous,
        Self::SignedLocation,
        Self::RepositoryBearer,
        Self::RepositoryPassword,
        Self::ReadThrough,
        Self::GivenToken,
        Self::MintedPassword,
        Self::Basic,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::SignedLocation => "signed location",
            Self::RepositoryBearer => "repository bearer",
            Self::RepositoryPassword => "repository password",
            Self::ReadThrough => "read through the broker",
            Self::GivenToken => "given token (whole identity)",
            Self::MintedPassword => "minted password (whole identity, for hours)",
            Self::Basic => "basic (whole identity)",
        }
    }
}

impl Rung {
    /// Whether it is everything that the identity may do, of which a worker has nothing unasked.
    pub const fn is_whole_identity(self) -> bool {
        match self {
            Self::Anonymous
            | Self::SignedLocation
            | Self::RepositoryBearer
            | Self::RepositoryPassword
            | Self::ReadThrough => false,
            Self::GivenToken | Self::MintedPassword | Self::Basic => true,
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
