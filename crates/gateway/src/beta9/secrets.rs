//! Named secrets. Values come in and never go out.

use beta9_protocol::secret::secret_service_server::SecretService;
use beta9_protocol::secret::{
    CreateSecretRequest, CreateSecretResponse, DeleteSecretRequest, DeleteSecretResponse,
    GetSecretRequest, GetSecretResponse, ListSecretsRequest, ListSecretsResponse, Secret,
    UpdateSecretRequest, UpdateSecretResponse,
};
use broker::{BrokerError, NamedSecret};
use credential::SecretString;
use tonic::Request;

use super::refusal::{reply, unsupported};
use super::{Answer, Beta9, called, times};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::Problem;

#[tonic::async_trait]
impl SecretService for Beta9 {
    async fn create_secret(
        &self,
        request: Request<CreateSecretRequest>,
    ) -> Answer<CreateSecretResponse> {
        let (caller, request) = called(request)?;
        Ok(reply(create(&self.gateway, &caller, request).await))
    }

    async fn update_secret(
        &self,
        request: Request<UpdateSecretRequest>,
    ) -> Answer<UpdateSecretResponse> {
        let (caller, request) = called(request)?;
        Ok(reply(update(&self.gateway, &caller, request).await))
    }

    async fn delete_secret(
        &self,
        request: Request<DeleteSecretRequest>,
    ) -> Answer<DeleteSecretResponse> {
        let (caller, request) = called(request)?;
        let deleted = self.gateway.delete_secret(&caller, &request.name).await;
        Ok(reply(deleted.map(|()| DeleteSecretResponse {
            ok: true,
            ..Default::default()
        })))
    }

    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Answer<GetSecretResponse> {
        let (_, request) = called(request)?;
        Ok(reply(Err(never_shown(&request.name))))
    }

    async fn list_secrets(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Answer<ListSecretsResponse> {
        let (caller, _) = called(request)?;
        let secrets = self.gateway.secrets(&caller).await;
        Ok(reply(secrets.map(|secrets| ListSecretsResponse {
            ok: true,
            secrets: secrets.iter().map(shown).collect(),
            ..Default::default()
        })))
    }
}

async fn create(
    gateway: &Gateway,
    caller: &Caller,
    request: CreateSecretRequest,
) -> Result<CreateSecretResponse, Problem> {
    let value = SecretString::from(request.value);
    refuse_hosts(&request.hosts)?;
    let secret = gateway.create_secret(caller, &request.name, &value).await?;
    Ok(CreateSecretResponse {
        ok: true,
        name: secret.name.as_str().to_owned(),
        ..Default::default()
    })
}

/// There are no hosts that `clear_hosts` could take away.
async fn update(
    gateway: &Gateway,
    caller: &Caller,
    request: UpdateSecretRequest,
) -> Result<UpdateSecretResponse, Problem> {
    let value = SecretString::from(request.value);
    refuse_hosts(&request.hosts)?;
    gateway.modify_secret(caller, &request.name, &value).await?;
    Ok(UpdateSecretResponse {
        ok: true,
        ..Default::default()
    })
}

fn refuse_hosts(hosts: &[String]) -> Result<(), Problem> {
    if hosts.is_empty() {
        return Ok(());
    }
    let problem = unsupported("secrets for certain hosts only are not supported");
    Err(problem
        .hint("leave --host away: functions that name the secret have it in the environment"))
}

/// Why this value is not shown.
fn never_shown(name: &str) -> Problem {
    match NamedSecret::parse_name(name) {
        Ok(name) => {
            let name = name.as_str();
            let problem = unsupported(format!("the value of secret {name:?} is shown to nobody"));
            problem.hint("functions that name it have it in the environment")
        }
        Err(BrokerError::NameOfRegistry { name }) => {
            let name = name.as_str();
            let problem = unsupported(format!("{name} is a registry credential: it never leaves"));
            problem.hint("`holdfast credentials list` shows what is known about it")
        }
        Err(error) => Problem::from(error),
    }
}

/// A secret without its value. Of older versions nobody is told when they were sealed.
fn shown(secret: &NamedSecret) -> Secret {
    let sealed_at = times::at(secret.sealed_at);
    let is_first = secret.version == 1;
    Secret {
        name: secret.name.as_str().to_owned(),
        created_at: Some(if is_first { sealed_at } else { times::UNKNOWN }),
        updated_at: Some(sealed_at),
        ..Default::default()
    }
}
