//! API tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use control_store::{ApiToken, TokenScope};
use credential::ExposeSecret;
use ids::TokenId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::Failed;
use super::body::{Body, Id};
use super::{Answer, DONE};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::tokens::TokenRequest;
use crate::problem::Problem;

/// A token without its text, which nobody has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownToken {
    id: String,
    name: String,
    /// Of `read`, `call`, `secrets`, `tokens` and `metrics`
    scopes: Vec<&'static str>,
    created_at: String,
    expires_at: Option<String>,
    enabled: bool,
    /// To the minute
    used_at: Option<String>,
}

impl From<ApiToken> for ShownToken {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            scopes: token.scopes.iter().map(|scope| scope.name()).collect(),
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
            enabled: token.is_enabled,
            used_at: token.used_at.map(|at| at.to_string()),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    /// Oldest first
    tokens: Vec<ShownToken>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    name: String,
    /// Of `read`, `call`, `secrets`, `tokens` and `metrics`; no more than the caller's own
    scopes: Vec<String>,
    /// RFC 3339; without, it has no end
    #[serde(default)]
    expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct CreatedToken {
    #[serde(flatten)]
    token: ShownToken,
    /// Shown here and never again
    #[serde(rename = "token")]
    text: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    enabled: bool,
}

/// The tokens of the workspace
#[utoipa::path(
    get,
    path = "/v1/tokens",
    responses((status = 200, body = Tokens), (status = "default", body = Failed))
)]
pub(super) async fn list(State(gateway): State<Gateway>, caller: Caller) -> Answer<Json<Tokens>> {
    let tokens = gateway.tokens(&caller).await?;
    let tokens = tokens.into_iter().map(ShownToken::from).collect();
    Ok(Json(Tokens { tokens }))
}

/// Make a token
#[utoipa::path(
    post,
    path = "/v1/tokens",
    request_body = NewToken,
    responses((status = 201, body = CreatedToken), (status = "default", body = Failed))
)]
pub(super) async fn create(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(new): Body<NewToken>,
) -> Answer<(StatusCode, Json<CreatedToken>)> {
    let request = TokenRequest {
        name: new.name,
        scopes: parse_scopes(&new.scopes)?,
        expires_at: new.expires_at.as_deref().map(parse_time).transpose()?,
    };
    let made = gateway.create_token(&caller, request).await?;
    let created = CreatedToken {
        token: made.token.into(),
        text: made.text.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Switch a token on or off
#[utoipa::path(
    patch,
    path = "/v1/tokens/{id}",
    params(("id" = String, Path, description = "tok-…")),
    request_body = Switch,
    responses((status = 200, body = ShownToken), (status = "default", body = Failed))
)]
pub(super) async fn switch(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<TokenId>,
    Body(switch): Body<Switch>,
) -> Answer<Json<ShownToken>> {
    let token = gateway.enable_token(&caller, id, switch.enabled).await?;
    Ok(Json(token.into()))
}

/// Remove a token
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    params(("id" = String, Path, description = "tok-…")),
    responses((status = 204), (status = "default", body = Failed))
)]
pub(super) async fn remove(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<TokenId>,
) -> Answer<StatusCode> {
    gateway.delete_token(&caller, id).await?;
    Ok(DONE)
}

fn parse_scopes(names: &[String]) -> Result<Vec<TokenScope>, Problem> {
    let scopes = names.iter().map(|name| name.parse());
    scopes.collect::<Result<_, _>>().map_err(Problem::invalid)
}

fn parse_time(text: &str) -> Result<Timestamp, Problem> {
    let malformed = |_| Problem::invalid("a time is written as 2030-01-31T12:00:00Z");
    text.parse().map_err(malformed)
}
