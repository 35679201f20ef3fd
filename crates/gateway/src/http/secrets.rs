//! Named secrets. There is no way to read a value.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use broker::NamedSecret;
use credential::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::answer::Failed;
use super::body::{Body, Id};
use super::{Answer, DONE};
use crate::caller::Caller;
use crate::gateway::Gateway;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownSecret {
    name: String,
    version: u32,
    updated_at: String,
}

impl From<NamedSecret> for ShownSecret {
    fn from(secret: NamedSecret) -> Self {
        Self {
            name: secret.name.as_str().to_owned(),
            version: secret.version,
            updated_at: secret.sealed_at.to_string(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Secrets {
    secrets: Vec<ShownSecret>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewValue {
    #[schema(value_type = String)]
    #[serde(deserialize_with = "secret")]
    value: SecretString,
}

pub(super) fn secret<'de, D>(deserializer: D) -> Result<SecretString, D::Error>
where
    D: Deserializer<'de>,
{
    String::deserialize(deserializer).map(SecretString::from)
}

/// The names of the workspace's secrets
#[utoipa::path(
    get,
    path = "/v1/secrets",
    responses((status = 200, body = Secrets), (status = "default", body = Failed))
)]
pub(super) async fn list(State(gateway): State<Gateway>, caller: Caller) -> Answer<Json<Secrets>> {
    let secrets = gateway.secrets(&caller).await?;
    let secrets = secrets.into_iter().map(ShownSecret::from).collect();
    Ok(Json(Secrets { secrets }))
}

/// Seal a value, the first of its name or the next version
#[utoipa::path(
    put,
    path = "/v1/secrets/{name}",
    params(("name" = String, Path, description = "as an environment variable would be named")),
    request_body = NewValue,
    responses((status = 200, body = ShownSecret), (status = "default", body = Failed))
)]
pub(super) async fn set(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
    Body(new): Body<NewValue>,
) -> Answer<Json<ShownSecret>> {
    let row = gateway.set_secret(&caller, &name, &new.value).await?;
    Ok(Json(row.into()))
}

/// Remove a secret and all its versions
#[utoipa::path(
    delete,
    path = "/v1/secrets/{name}",
    params(("name" = String, Path)),
    responses((status = 204), (status = "default", body = Failed))
)]
pub(super) async fn remove(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
) -> Answer<StatusCode> {
    gateway.delete_secret(&caller, &name).await?;
    Ok(DONE)
}
