//! Whose credential it is, and who has it: it is opened when something is minted, not before.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use credential::auth::AuthError;
use credential::{Credential, SecretString};

use crate::node::NodeIdentity;

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

/// A token, to be awaited.
pub type TokenFuture<'a> =
    Pin<Box<dyn Future<Output = Result<SecretString, AuthError>> + Send + 'a>>;

/// An identity of this machine, to be awaited.
pub type NodeFuture<'a> =
    Pin<Box<dyn Future<Output = Result<NodeIdentity, AuthError>> + Send + 'a>>;

/// Who has an identity's credential. All who ask for the identity share what one opening brings.
pub trait OpensCredential: fmt::Debug + Send + Sync {
    fn open(&self) -> OpenFuture<'_>;

    /// A token of our own issuer, by which a credential without a secret shows this audience whose
    /// it is. Made for one request, and kept by nobody.
    fn identity_token<'a>(&'a self, _audience: &'a str) -> TokenFuture<'a> {
        let message = "there is no issuer for a credential without a secret".to_owned();
        Box::pin(async { Err(AuthError::Refused { message }) })
    }

    /// What whose credential it is shows to the owner of a role of AWS that is taken on with keys,
    /// where its user has given nothing to show. Nobody chooses it.
    fn external_id(&self) -> Option<String> {
        None
    }

    /// What an operator means by this name, where that is granted to whose credential it is, for
    /// where it is used.
    fn node_identity<'a>(&'a self, _name: &'a str) -> NodeFuture<'a> {
        let message = "no identity of this machine is granted".to_owned();
        Box::pin(async { Err(AuthError::Refused { message }) })
    }
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
