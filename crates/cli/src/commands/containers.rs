//! `holdfast containers list|stop`: the containers that functions run in.

use ids::ContainerId;
use serde::{Deserialize, Serialize};

use super::tasks::function_names;
use crate::app::App;
use crate::args::{ContainersCommand, GatewayArg};
use crate::client::GatewayClient;
use crate::failure::Result;
use crate::output::{or_dash, table};

/// A container, as the HTTP face shows it.
#[derive(Debug, Serialize, Deserialize)]
struct Container {
    id: String,
    stub: String,
    state: String,
    worker: Option<String>,
    requested_at: String,
    ready_at: Option<String>,
    ended_at: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Containers {
    containers: Vec<Container>,
}

pub(crate) async fn containers(app: &App, command: ContainersCommand) -> Result<()> {
    match command {
        ContainersCommand::List { gateway } => list(app, &gateway).await,
        ContainersCommand::Stop { gateway, ids } => stop(app, &gateway, &ids).await,
    }
}

async fn list(app: &App, gateway: &GatewayArg) -> Result<()> {
    let client = GatewayClient::new(app, gateway)?;
    let Containers { containers } = client.get("/v1/containers").await?;
    let names = function_names(&client).await?;
    app.output.show(&containers, |containers| {
        let cells = containers.iter().map(|container| {
            let name = names.get(&container.stub).unwrap_or(&container.stub);
            vec![
                container.id.clone(),
                name.clone(),
                container.state.clone(),
                or_dash(container.worker.as_deref()),
                or_dash(container.ready_at.as_deref()),
            ]
        });
        table(
            &["CONTAINER", "FUNCTION", "STATE", "WORKER", "READY"],
            cells,
        )
    })
}

async fn stop(app: &App, gateway: &GatewayArg, ids: &[ContainerId]) -> Result<()> {
    let client = GatewayClient::new(app, gateway)?;
    let mut stopped = Vec::new();
    for id in ids {
        let container: Container = client.post(&format!("/v1/containers/{id}/stop")).await?;
        app.output.note(&format!("{id} is told to stop"));
        stopped.push(container);
    }
    app.output.show(&stopped, |_| String::new())
}
