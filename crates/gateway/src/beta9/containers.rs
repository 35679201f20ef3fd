//! Containers of functions, in the client's words.

use beta9_protocol::gateway::{
    Container, ListContainersResponse, StopContainerRequest, StopContainerResponse,
};
use control_store::{ContainerRecord, ContainerState};
use ids::ContainerId;

use super::{parse_id, times};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::Problem;

pub(super) async fn list(
    gateway: &Gateway,
    caller: &Caller,
) -> Result<ListContainersResponse, Problem> {
    let containers = gateway.containers(caller).await?;
    Ok(ListContainersResponse {
        ok: true,
        containers: containers.iter().map(shown).collect(),
        ..Default::default()
    })
}

pub(super) async fn stop(
    gateway: &Gateway,
    caller: &Caller,
    request: StopContainerRequest,
) -> Result<StopContainerResponse, Problem> {
    let missing = "no container has such an id";
    let id = parse_id(&request.container_id, ContainerId::parse_uuid, missing)
        .map_err(|problem| problem.hint("`beta9 container list` shows them"))?;
    gateway.stop_container(caller, id).await?;
    Ok(StopContainerResponse {
        ok: true,
        ..Default::default()
    })
}

/// One that has not started is shown as of when it was asked for: without a time, older clients
/// count from 1970.
fn shown(container: &ContainerRecord) -> Container {
    let asked_at = times::at(container.requested_at);
    Container {
        container_id: container.id.uuid().to_string(),
        stub_id: container.stub.uuid().to_string(),
        status: status(container.state).to_owned(),
        scheduled_at: Some(asked_at),
        started_at: Some(container.ready_at.map_or(asked_at, times::at)),
        workspace_id: container.workspace.uuid().to_string(),
        worker_id: container
            .worker
            .map(|id| id.uuid().to_string())
            .unwrap_or_default(),
        ..Default::default()
    }
}

fn status(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Requested | ContainerState::Placed | ContainerState::Starting => "PENDING",
        ContainerState::Ready => "RUNNING",
        ContainerState::Ended => "STOPPING",
    }
}
