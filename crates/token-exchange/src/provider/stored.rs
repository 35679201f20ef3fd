//! What was stored is what is shown: nothing, a user name and password, a token.

use credential::{Credential, CredentialKind};
use jiff::Timestamp;

use super::{PresentFuture, Presented, Provider};
use crate::asker::Pass;
use crate::clouds::Clouds;

/// The user name that stands for "the password is an identity token", with docker and its clients.
pub(crate) const IDENTITY_TOKEN_USER: &str = "<token>";

/// A credential that registries and token services take as it is.
pub(super) struct Stored {
    pass: Pass,
    not_after: Option<Timestamp>,
}

impl Stored {
    /// Nothing for a credential that nobody but its own cloud takes.
    pub(super) fn new(credential: &Credential) -> Option<Self> {
        Some(Self {
            pass: pass_of(credential)?,
            not_after: credential.not_after(),
        })
    }
}

impl Provider for Stored {
    fn present<'a>(&'a self, _clouds: &'a Clouds) -> PresentFuture<'a> {
        let presented = Presented {
            pass: self.pass.clone(),
            not_after: self.not_after,
            is_renewable: false,
        };
        Box::pin(async move { Ok(presented) })
    }
}

fn pass_of(credential: &Credential) -> Option<Pass> {
    if credential.kind() == CredentialKind::Public {
        return Some(Pass::Nothing);
    }
    if let Some(token) = credential.bearer() {
        return Some(Pass::Bearer(token.clone()));
    }
    let (username, password) = credential.basic_parts()?;
    let password = password.clone();
    Some(match username {
        IDENTITY_TOKEN_USER => Pass::IdentityToken(password),
        _ => Pass::Password {
            username: username.to_owned(),
            password,
        },
    })
}
