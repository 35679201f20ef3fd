//! Providers: each makes of one sort of credential what a registry and its token service take.
//!
//! What a registry then demands of it, and the token that it gets for it, is the same for all and
//! stands in `mint`.

mod stored;

use std::fmt;
use std::pin::Pin;

use credential::CredentialKind;
use credential::auth::AuthError;
use jiff::Timestamp;

use crate::asker::Pass;
use crate::login::Login;

/// A pass as a provider has it, and until when it holds.
pub(crate) struct Presented {
    pub(crate) pass: Pass,
    pub(crate) not_after: Option<Timestamp>,
    /// Whether the provider, asked again, gives another one.
    pub(crate) is_renewable: bool,
}

pub(crate) type PresentFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Presented, AuthError>> + Send + 'a>>;

/// One way to a pass. Asked when there is none, or when the last one nears its end or was refused.
pub(crate) trait Provider: fmt::Debug + Send + Sync {
    fn present(&self) -> PresentFuture<'_>;
}

/// The provider for a login's credential at its registry.
pub(crate) fn of(login: &Login) -> Result<Box<dyn Provider + '_>, AuthError> {
    let credential = &login.identity.credential;
    if let Some(stored) = stored::Stored::new(credential) {
        return Ok(Box::new(stored));
    }
    Err(unsupported(credential.kind()))
}

/// Kinds that need a cloud's own service first are refused by name.
fn unsupported(kind: CredentialKind) -> AuthError {
    let instead = match kind {
        CredentialKind::Aws => {
            "; log in as AWS with the password that `aws ecr get-login-password` prints"
        }
        _ => "",
    };
    AuthError::Refused {
        message: format!("{kind} credentials are not supported yet{instead}"),
    }
}
