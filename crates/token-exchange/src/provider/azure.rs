//! Azure Container Registry: a service principal's secret, or the token of an issuer that it
//! trusts, another's or our own, or what the machine itself is, becomes the token that its
//! registries take at their token service.
//!
//! Two steps: the directory of the registry's own cloud gives an access token for registries, and
//! the registry exchanges that for a refresh token of its own, of which it makes tokens for a
//! repository. The directory comes from a table by the registry's name, and what shows who the
//! principal is goes there alone.

mod directory;

use std::time::Duration;

use credential::auth::AuthError;
use credential::{
    AzureFields, AzureSecret, Credential, CredentialKind, ExposeSecret, Fields, SecretString,
    Service, hosts,
};
use dial::Url;
use jiff::Timestamp;
use serde_json::Value;

use super::oauth::{self, Reply};
use super::{PresentFuture, Presented, Provider};
use crate::asker::Pass;
use crate::clouds::Clouds;
use crate::demand::Demand;
use crate::login::{Door, Login};
use crate::node::{self, NodeIdentity};
use crate::{mint, reply, wire};

const EXCHANGE_PATH: &str = "/oauth2/exchange";

/// How long a refresh token is used that does not say when it ends. Real ones live for hours.
const UNSTATED_LIFE: Duration = Duration::from_hours(1);

/// A service principal of a tenant at a registry of Azure.
pub(super) struct Azure<'a> {
    login: &'a Login,
    asker: Asker<'a>,
    /// The host of the directory that the tenant is in.
    directory: &'static str,
}

/// Who asks the directory, or whom the machine's own service speaks for.
enum Asker<'a> {
    Principal(Principal<'a>),
    /// The machine, by the name under which its identity is granted.
    Node(&'a str),
}

/// A token of the directory, and the tenant in which it counts where that is known.
struct Identified {
    token: SecretString,
    tenant: Option<String>,
}

/// A service principal, and what shows it.
#[derive(Clone, Copy)]
struct Principal<'a> {
    client_id: &'a str,
    tenant: &'a str,
    secret: &'a AzureSecret,
}

impl<'a> Azure<'a> {
    /// Nothing for a credential that registries take as it is.
    pub(super) fn new(
        credential: &'a Credential,
        login: &'a Login,
    ) -> Result<Option<Self>, AuthError> {
        let registry = &login.endpoint.registry;
        let Some(asker) = Asker::of(credential) else {
            return Ok(None);
        };
        let directory = hosts::azure_directory(registry).ok_or_else(|| {
            let service = Service::of(registry).name();
            AuthError::Refused {
                message: format!(
                    "Azure's service principals are for Azure Container Registry, and {registry} \
                     is {service}"
                ),
            }
        })?;
        Ok(Some(Self {
            login,
            asker,
            directory,
        }))
    }

    async fn ask(&self, clouds: &Clouds) -> Result<Presented, AuthError> {
        let door = self.login.door()?;
        // The registry's own name for itself, which a regional endpoint has too.
        let demand = mint::known_demand(self.login, &door).await?;
        let identity = match &self.asker {
            Asker::Principal(principal) => self.identity(clouds, *principal).await?,
            Asker::Node(name) => self.node_identity(clouds, name).await?,
        };
        let reply = self
            .exchange(&door, &demand, &identity, clouds.now())
            .await?;
        read(&reply).ok_or_else(|| reply.unusable())
    }

    /// What the directory gives, for what is stored or for a token that our issuer makes now.
    async fn identity(
        &self,
        clouds: &Clouds,
        principal: Principal<'_>,
    ) -> Result<Identified, AuthError> {
        let tenant = Some(principal.tenant.to_owned());
        let token = self.token(clouds, principal).await?;
        Ok(Identified { token, tenant })
    }

    /// What the machine is given for an identity of its own, where that is granted.
    async fn node_identity(&self, clouds: &Clouds, name: &str) -> Result<Identified, AuthError> {
        let opener = &self.login.identity.credential;
        match opener.node_identity(name).await? {
            NodeIdentity::Azure {
                client_id,
                tenant_id,
            } => Ok(Identified {
                token: node::azure_token(clouds, client_id.as_deref()).await?,
                tenant: tenant_id,
            }),
            other => Err(other.is_no("Azure")),
        }
    }

    async fn token(
        &self,
        clouds: &Clouds,
        principal: Principal<'_>,
    ) -> Result<SecretString, AuthError> {
        let AzureSecret::Keyless = principal.secret else {
            return directory::token(clouds, self.directory, principal).await;
        };
        let issuer = &self.login.identity.credential;
        let audience = hosts::azure_federation_audience(self.directory);
        let token = AzureSecret::FederatedToken(issuer.identity_token(audience).await?);
        let principal = Principal {
            secret: &token,
            ..principal
        };
        directory::token(clouds, self.directory, principal).await
    }

    /// The registry's answer to who has this token of the directory.
    async fn exchange(
        &self,
        door: &Door,
        demand: &Demand,
        identity: &Identified,
        sent: Timestamp,
    ) -> Result<Reply, AuthError> {
        let registry = &self.login.endpoint.registry;
        let service = match demand {
            Demand::Token(token) => token.service.as_deref(),
            _ => None,
        };
        let mut fields = vec![
            ("grant_type", "access_token"),
            ("service", service.unwrap_or(registry.host())),
        ];
        fields.extend(identity.tenant.as_deref().map(|tenant| ("tenant", tenant)));
        fields.push(("access_token", identity.token.expose_secret()));
        let base = door.registry.base_url().await;
        let request = oauth::post(exchange_url(&base.map_err(mint::from_registry)?)?, &fields);
        let response = door.http.send(request).await;
        let response = response.map_err(|error| wire::from_dial(&error))?;
        let reply = Reply::read(registry.host(), sent, response).await?;
        match reply.status {
            200 => Ok(reply),
            400 | 401 | 403 => Err(AuthError::NoPermission {
                message: format!(
                    "{registry} does not let the application in; it needs the role AcrPull there, \
                     in the tenant that the registry belongs to"
                ),
            }),
            status => Err(AuthError::Refused {
                message: format!("{registry} does not exchange tokens of Azure (status {status})"),
            }),
        }
    }
}

impl Provider for Azure<'_> {
    fn present<'a>(&'a self, clouds: &'a Clouds) -> PresentFuture<'a> {
        Box::pin(self.ask(clouds))
    }
}

impl<'a> Asker<'a> {
    /// Nothing for what a registry takes as it is.
    fn of(credential: &'a Credential) -> Option<Self> {
        match credential.fields() {
            Fields::Node(node) if node.kind == CredentialKind::Azure => {
                Some(Self::Node(&node.name))
            }
            _ => Principal::of(credential).map(Self::Principal),
        }
    }
}

impl<'a> Principal<'a> {
    /// Nothing without a tenant: a registry then takes the secret itself as a password.
    fn of(credential: &'a Credential) -> Option<Self> {
        let Fields::Azure(AzureFields {
            client_id,
            secret,
            tenant_id,
        }) = credential.fields()
        else {
            return None;
        };
        Some(Self {
            client_id,
            tenant: tenant_id.as_deref()?,
            secret,
        })
    }
}

fn exchange_url(base: &Url) -> Result<Url, AuthError> {
    base.join(EXCHANGE_PATH).map_err(|_| AuthError::Internal {
        message: "no address for the registry's exchange".to_owned(),
    })
}

/// `None` when there is no usable token in the reply.
fn read(reply: &Reply) -> Option<Presented> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    let token = reply::usable(body.get("refresh_token")?.as_str()?)?;
    let unstated = reply.times.sent.checked_add(UNSTATED_LIFE).ok();
    let not_after = reply::stated_end(&token, reply.times).or(unstated);
    Some(Presented {
        pass: Pass::IdentityToken(token),
        not_after,
        is_renewable: true,
    })
}
