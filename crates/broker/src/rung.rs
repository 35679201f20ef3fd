//! The vending ladder: how much of a credential leaves the broker. Lower is less.

use std::fmt;

use credential::auth::{AuthScheme, RegistryAuth};
use credential::{Credential, CredentialKind};
use token_exchange::Proof;

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
    /// A short-lived user name and password, minted from the credential: everything that the
    /// identity may do, for some hours.
    MintedPassword,
    /// User name and password: everything the identity may do.
    Basic,
}

/// The rungs that a credential leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rungs {
    bearer: Rung,
    basic: Rung,
}

impl Rungs {
    pub(crate) fn of(credential: &Credential) -> Self {
        let is_given = credential.bearer().is_some();
        let is_minted = credential.kind() == CredentialKind::Aws;
        Self {
            bearer: if is_given {
                Rung::GivenToken
            } else {
                Rung::RepositoryBearer
            },
            basic: if is_minted {
                Rung::MintedPassword
            } else {
                Rung::Basic
            },
        }
    }

    /// What is held by whoever has this.
    pub(crate) fn held(self, auth: &RegistryAuth) -> Rung {
        match auth.scheme {
            AuthScheme::Anonymous => Rung::Anonymous,
            AuthScheme::Basic { .. } => self.basic,
            AuthScheme::Bearer(_) => self.bearer,
        }
    }

    /// What readers will hold, by what a check has shown.
    pub(crate) fn shown(self, proof: &Proof) -> Rung {
        match &proof.token_service {
            _ if !proof.login_needed => Rung::Anonymous,
            None if self.bearer != Rung::GivenToken => self.basic,
            _ => self.bearer,
        }
    }
}

impl Rung {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::RepositoryBearer => "repository bearer",
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
