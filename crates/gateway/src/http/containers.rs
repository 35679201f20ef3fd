//! Containers of functions.

use axum::Json;
use axum::extract::State;
use control_store::ContainerRecord;
use ids::ContainerId;
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::answer::Failed;
use super::body::Id;
use crate::caller::Caller;
use crate::gateway::Gateway;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownContainer {
    id: String,
    stub: String,
    /// `requested`, `placed`, `starting`, `ready` or `ended`
    state: &'static str,
    worker: Option<String>,
    requested_at: String,
    ready_at: Option<String>,
    ended_at: Option<String>,
    /// Why it ended
    reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Containers {
    containers: Vec<ShownContainer>,
}

impl From<ContainerRecord> for ShownContainer {
    fn from(record: ContainerRecord) -> Self {
        Self {
            id: record.id.to_string(),
            stub: record.stub.to_string(),
            state: record.state.name(),
            worker: record.worker.map(|id| id.to_string()),
            requested_at: record.requested_at.to_string(),
            ready_at: record.ready_at.map(|at| at.to_string()),
            ended_at: record.ended_at.map(|at| at.to_string()),
            reason: record.reason,
        }
    }
}

/// The containers of the workspace that have not ended
#[utoipa::path(
    get,
    path = "/v1/containers",
    responses((status = 200, body = Containers), (status = "default", body = Failed))
)]
pub(super) async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Answer<Json<Containers>> {
    let containers = gateway.containers(&caller).await?;
    let containers = containers.into_iter().map(ShownContainer::from).collect();
    Ok(Json(Containers { containers }))
}

/// Stop a container; its calls have ten seconds to end
#[utoipa::path(
    post,
    path = "/v1/containers/{id}/stop",
    params(("id" = String, Path)),
    responses((status = 200, body = ShownContainer), (status = "default", body = Failed))
)]
pub(super) async fn stop(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<ContainerId>,
) -> Answer<Json<ShownContainer>> {
    let record = gateway.stop_container(&caller, id).await?;
    Ok(Json(record.into()))
}
