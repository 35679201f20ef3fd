//! Whose credential it is, and who has it: it is opened when something is minted, not before.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use credential::Credential;
use credential::auth::AuthError;

/// Whose credential it is.
#[derive(Clone)]
pub struct Identity {
    /// Unique for workspace, secret and version. Never the secret.
    pub key: String,
    pub credential: Arc<dyn OpensCredential>,
    /// A token service on another host that the user allowed, as `host` or `host:port`.
    pub token_service: Option<String>,
}

/// The credential of an identity, to be awaited.
pub type OpenFuture<'a> = Pin<Box<dyn Future<Output = Result<Credential, AuthError>> + Send + 'a>>;

/// Who has an identity's credential. All who ask for the identity share what one opening brings.
pub trait OpensCredential: fmt::Debug + Send + Sync {
    fn open(&self) -> OpenFuture<'_>;
}

/// A credential that is open already.
impl OpensCredential for Credential {
    fn open(&self) -> OpenFuture<'_> {
        Box::pin(async { Ok(self.clone()) })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("key", &self.key)
            .field("credential", &self.credential)
            .field("token_service", &self.token_service)
            .finish()
    }
}
