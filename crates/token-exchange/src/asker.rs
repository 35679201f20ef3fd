//! Who asks a registry, in the words that registries and their token services know.

use std::fmt;
use std::sync::Arc;

use credential::SecretString;
use jiff::Timestamp;

use crate::life::{Life, Perishable};
use crate::provider::Role;

/// What is shown at a registry's door, or at its token service.
#[derive(Clone)]
pub(crate) enum Pass {
    Nothing,
    Password {
        username: String,
        password: SecretString,
    },
    /// Is exchanged at a token service, and means nothing to a registry.
    IdentityToken(SecretString),
    /// Is sent as it is.
    Bearer(SecretString),
    /// Gives a password for each repository, and is not sent itself.
    Role(Arc<Role>),
}

/// A pass, and how long it holds.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) pass: Pass,
    pub(crate) life: Life,
    /// When it can ask no more, whatever a cloud gives it: the credential itself says so.
    pub(crate) last_end: Option<Timestamp>,
}

impl Perishable for Asker {
    fn life(&self) -> &Life {
        &self.life
    }

    /// What is sealed is opened for each minting, and in memory for no longer than that.
    fn is_kept(&self) -> bool {
        self.life.is_renewable
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Password { .. } => "Password(redacted)",
            Self::IdentityToken(_) => "IdentityToken(redacted)",
            Self::Bearer(_) => "Bearer(redacted)",
            Self::Role(_) => "Role(redacted)",
        })
    }
}
