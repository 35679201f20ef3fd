//! What clouds ask an issuer of identity tokens: public, the same for everybody, and kept by caches
//! for minutes. Says nothing of workspaces, and makes nothing but the first keys.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CACHE_CONTROL;
use broker::IssuerDocuments;
use serde_json::Value;

use super::Answer;
use super::answer::Failed;
use crate::gateway::Gateway;
use crate::problem::Problem;

type Document = ([(HeaderName, String); 1], Json<Value>);

/// Where the keys of this installation's issuer are
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    security(()),
    responses(
        (status = 200, body = Value, description = "OpenID Connect Discovery 1.0"),
        (status = "default", body = Failed),
    )
)]
pub(super) async fn configuration(State(gateway): State<Gateway>) -> Answer<Document> {
    Ok(public(documents(&gateway).await?.configuration))
}

/// The keys that clouds verify this installation's tokens with
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    security(()),
    responses(
        (status = 200, body = Value, description = "JSON Web Key Set"),
        (status = "default", body = Failed),
    )
)]
pub(super) async fn keys(State(gateway): State<Gateway>) -> Answer<Document> {
    Ok(public(documents(&gateway).await?.keys))
}

async fn documents(gateway: &Gateway) -> Answer<IssuerDocuments> {
    let documents = gateway.broker().issuer_documents().await?;
    documents.ok_or_else(|| Problem::not_found("this installation issues no identity tokens"))
}

fn public(document: Value) -> Document {
    let kept = format!("public, max-age={}", broker::MAX_AGE.as_secs());
    ([(CACHE_CONTROL, kept)], Json(document))
}
