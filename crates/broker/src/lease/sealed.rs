//! One version of a sealed credential, opened when something is minted from it. One without a
//! secret has a token made then, which says whose it is.
//!
//! Every reader of the same version has the same tokens, and whoever comes first has it opened for
//! all.

use control_store::RegistrySettings;
use credential::auth::AuthError;
use credential::{Credential, RegistryScope, SecretName};
use identity_issuer::external_id;
use ids::WorkspaceId;
use token_exchange::{NodeFuture, OpenFuture, OpensCredential, TokenFuture};
use vault::{SealedVersion, Vault};

use crate::binding::Bound;
use crate::error::{revoked, vault_auth_error};
use crate::issuer::Issuer;
use crate::node_identity::{NodeIdentities, Wanting};

#[derive(Debug)]
pub(super) struct SealedCredential {
    pub(super) vault: Vault,
    pub(super) issuer: Issuer,
    pub(super) nodes: NodeIdentities,
    pub(super) workspace: WorkspaceId,
    pub(super) scope: RegistryScope,
    pub(super) name: SecretName,
    pub(super) sealed: SealedVersion,
    /// What the registry is spoken to with, which must be what it was sealed for.
    pub(super) settings: RegistrySettings,
}

impl OpensCredential for SealedCredential {
    fn open(&self) -> OpenFuture<'_> {
        Box::pin(self.open())
    }

    fn identity_token<'a>(&'a self, audience: &'a str) -> TokenFuture<'a> {
        Box::pin(self.issuer.identity_token(self.workspace, audience))
    }

    fn external_id(&self) -> Option<String> {
        Some(external_id(self.workspace))
    }

    fn node_identity<'a>(&'a self, name: &'a str) -> NodeFuture<'a> {
        let wanting = Wanting {
            workspace: self.workspace,
            scope: &self.scope,
            settings: &self.settings,
        };
        Box::pin(self.nodes.granted(name, wanting))
    }
}

impl SealedCredential {
    async fn open(&self) -> Result<Credential, AuthError> {
        let purpose = format!("mint for {}", self.scope.registry());
        let version = Some(self.sealed.version);
        let opened = self
            .vault
            .open_secret(self.workspace, &self.name, version, &purpose)
            .await
            .map_err(|error| vault_auth_error(&self.scope, &error))?;
        if opened.secret_id != self.sealed.secret_id {
            return Err(revoked(&self.scope));
        }
        let bound = Bound::from_opened(opened);
        let bound = bound.map_err(|error| AuthError::Internal {
            message: error.to_string(),
        })?;
        if bound.settings != self.settings {
            return Err(AuthError::Refused {
                message: "it was sealed for other settings of the registry than those that this \
                          start began with; start again, or log in again"
                    .to_owned(),
            });
        }
        tracing::debug!(scope = %self.scope, version = self.sealed.version, "opened");
        Ok(bound.credential)
    }
}
