//! Providers: each makes of one sort of credential what a registry and its token service take.
//!
//! What a registry then demands of it, and the token that it gets for it, is the same for all and
//! stands in `mint`.

mod azure;
mod ecr;
mod google;
mod oauth;
mod stored;

use std::pin::Pin;

use credential::auth::AuthError;
use credential::{Credential, CredentialKind, Service};
use jiff::Timestamp;
use reference::Registry;

use crate::asker::Pass;
use crate::clouds::Clouds;
use crate::login::Login;

pub(crate) use ecr::Role;
pub(crate) use stored::IDENTITY_TOKEN_USER;

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
pub(crate) trait Provider: Send + Sync {
    fn present<'a>(&'a self, clouds: &'a Clouds) -> PresentFuture<'a>;
}

/// The provider for a login's credential at its registry.
pub(crate) fn of<'a>(
    credential: &'a Credential,
    login: &'a Login,
) -> Result<Box<dyn Provider + 'a>, AuthError> {
    let registry = &login.endpoint.registry;
    if credential.kind() == CredentialKind::Aws {
        let ecr = ecr::Ecr::new(credential, login).ok_or_else(|| not_ecr(registry))?;
        return Ok(Box::new(ecr));
    }
    if let Some(google) = google::Google::new(credential, login)? {
        return Ok(Box::new(google));
    }
    if let Some(azure) = azure::Azure::new(credential, login)? {
        return Ok(Box::new(azure));
    }
    let stored = stored::Stored::new(credential).ok_or_else(|| AuthError::Internal {
        message: format!("no provider for {} credentials", credential.kind()),
    })?;
    Ok(Box::new(stored))
}

/// Keys tell another registry nothing that it could use, and it gives nothing for them.
fn not_ecr(registry: &Registry) -> AuthError {
    let service = Service::of(registry).name();
    AuthError::Refused {
        message: format!("AWS keys are for registries of Amazon ECR, and {registry} is {service}"),
    }
}
