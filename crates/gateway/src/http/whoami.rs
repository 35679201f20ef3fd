//! Whose token this is.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::answer::Failed;
use super::tokens::ShownToken;
use crate::caller::Caller;
use crate::gateway::Gateway;

/// Who asks, and what answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Whoami {
    workspace: ShownWorkspace,
    /// None over the socket of whoever runs the gateway
    token: Option<ShownToken>,
    /// Of the gateway
    version: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
struct ShownWorkspace {
    id: String,
    name: String,
    /// What becomes of containers whose registry credential is removed: `continue`, `drain`, `kill`
    running: &'static str,
}

/// Whose token this is
#[utoipa::path(
    get,
    path = "/v1/whoami",
    responses((status = 200, body = Whoami), (status = "default", body = Failed))
)]
pub(super) async fn whoami(State(gateway): State<Gateway>, caller: Caller) -> Answer<Json<Whoami>> {
    let workspace = gateway.workspace(caller.workspace()).await?;
    Ok(Json(Whoami {
        workspace: ShownWorkspace {
            running: broker::after_removal_of(&workspace).as_str(),
            id: workspace.id.to_string(),
            name: workspace.name.to_string(),
        },
        token: caller.token().cloned().map(ShownToken::from),
        version: env!("CARGO_PKG_VERSION"),
    }))
}
