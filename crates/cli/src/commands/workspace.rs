//! `holdfast workspace list|show|set`: what a workspace has as its own way.

use std::time::Duration;

use broker::{AfterRemoval, after_removal_of, offline_for};
use control_store::Workspace;
use serde::Serialize;

use crate::app::{ACTOR, App};
use crate::args::WorkspaceCommand;
use crate::failure::Result;
use crate::output::{show_time, table};

pub(crate) async fn workspace(app: &App, command: &WorkspaceCommand) -> Result<()> {
    match command {
        WorkspaceCommand::List => list(app).await,
        WorkspaceCommand::Show => show(app).await,
        WorkspaceCommand::Set { running, offline } => set(app, *running, *offline).await,
    }
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    created_at: String,
    /// What becomes of containers whose credential is removed.
    running: &'static str,
    /// For how long what registries proved counts while they do not answer.
    offline_seconds: u64,
}

impl From<Workspace> for Row {
    fn from(workspace: Workspace) -> Self {
        Self {
            running: after_removal_of(&workspace).as_str(),
            offline_seconds: offline_for(&workspace).as_secs(),
            id: workspace.id.to_string(),
            name: workspace.name.to_string(),
            created_at: show_time(workspace.created_at),
        }
    }
}

async fn list(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let all = opened.broker.store().workspaces().await?;
    let rows: Vec<Row> = all.into_iter().map(Row::from).collect();
    app.output.show(&rows, |rows| {
        let cells = rows.iter().map(|row| {
            let offline = show_offline(row.offline_seconds);
            let words = [&row.name, &row.id, row.running, &offline, &row.created_at];
            words.map(str::to_owned).to_vec()
        });
        table(&["NAME", "ID", "RUNNING", "OFFLINE", "MADE"], cells)
    })
}

async fn show(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let all = opened.broker.store().workspaces().await?;
    let own = all.into_iter().find(|own| own.id == opened.workspace);
    let row = Row::from(own.expect("what was opened is there"));
    app.output.show(&row, |row| {
        let Row {
            id,
            name,
            created_at,
            running,
            offline_seconds,
        } = row;
        let offline = show_offline(*offline_seconds);
        format!(
            "workspace  {name}\nid         {id}\nmade       {created_at}\n\
             running    {running}, when its credential is removed\n\
             offline    {offline}, after a proof, while the registry of a pinned image is away"
        )
    })
}

async fn set(app: &App, running: Option<AfterRemoval>, offline: Option<Duration>) -> Result<()> {
    let opened = app.open().await?;
    let (broker, workspace) = (&opened.broker, opened.workspace);
    if let Some(running) = running {
        broker.set_after_removal(workspace, running, ACTOR).await?;
    }
    if let Some(offline) = offline {
        broker.set_offline(workspace, offline, ACTOR).await?;
    }
    show(app).await
}

/// In the largest unit that says it exactly.
fn show_offline(seconds: u64) -> String {
    let units = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];
    match units
        .into_iter()
        .find(|(_, unit)| seconds >= *unit && seconds.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", seconds / unit),
        None => "never".to_owned(),
    }
}
