//! A new secret for a credential that is there already: same scope, same kind, same settings.

use credential::{
    AzureFields, AzureSecret, Credential, Fields, GcpFields, RegistryScope, SecretString,
};
use ids::WorkspaceId;

use crate::binding::Bound;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::login::{LoginReport, LoginRequest, no_credential};

impl Broker {
    /// Checks a new password or token with the registry and seals it as the next version. User
    /// name and settings stay as they are, unless another user name is given.
    pub async fn rotate(
        &self,
        workspace: WorkspaceId,
        scope: &RegistryScope,
        username: Option<String>,
        secret: SecretString,
    ) -> Result<LoginReport, BrokerError> {
        let vault = &self.inner.vault;
        let opened = vault
            .open_secret(workspace, &scope.secret_name(), None, "rotate")
            .await
            .map_err(|error| no_credential(scope, error))?;
        let bound = Bound::from_opened(opened);
        let bound = bound.map_err(|source| BrokerError::Unreadable {
            scope: scope.clone(),
            source: Box::new(source),
        })?;
        let credential = renewed(&bound.credential, username, secret);
        let credential = credential.ok_or_else(|| BrokerError::NotAPassword {
            scope: scope.clone(),
        })?;
        let request = LoginRequest {
            scope: scope.clone(),
            credential,
            settings: bound.settings,
        };
        self.login(workspace, request).await
    }
}

/// The same credential with another secret; nothing for kinds that need more than one text.
fn renewed(old: &Credential, username: Option<String>, secret: SecretString) -> Option<Credential> {
    let fields = match (old.fields(), username) {
        (Fields::Basic { username: old, .. }, username) => Fields::Basic {
            username: username.unwrap_or_else(|| old.clone()),
            password: secret,
        },
        (Fields::Token { username: old, .. }, username) => Fields::Token {
            username: username.or_else(|| old.clone()),
            token: secret,
        },
        _ if old.is_keyless() => return None,
        (Fields::Gcp(old), None) => Fields::Gcp(renewed_gcp(old, secret)?),
        (Fields::Azure(old), username) => Fields::Azure(AzureFields {
            client_id: username.unwrap_or_else(|| old.client_id.clone()),
            secret: match old.secret {
                AzureSecret::ClientSecret(_) => AzureSecret::ClientSecret(secret),
                AzureSecret::FederatedToken(_) => AzureSecret::FederatedToken(secret),
                AzureSecret::Keyless => return None,
            },
            tenant_id: old.tenant_id.clone(),
        }),
        (Fields::Public | Fields::Aws(_) | Fields::AwsKeyless(_) | Fields::Gcp(_), _) => {
            return None;
        }
    };
    Some(Credential::new(fields))
}

fn renewed_gcp(old: &GcpFields, secret: SecretString) -> Option<GcpFields> {
    Some(match old {
        GcpFields::AccessToken { project_id, .. } => GcpFields::AccessToken {
            token: secret,
            project_id: project_id.clone(),
        },
        GcpFields::ServiceAccount { project_id, .. } => GcpFields::ServiceAccount {
            json: secret,
            project_id: project_id.clone(),
        },
        GcpFields::Federated {
            federation,
            project_id,
            ..
        } => GcpFields::Federated {
            federation: federation.clone(),
            subject_token: secret,
            project_id: project_id.clone(),
        },
        GcpFields::Keyless { .. } => return None,
    })
}
