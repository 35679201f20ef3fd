//! `holdfast workspace list|show|set`: what a workspace has as its own way.

use broker::{AfterRemoval, after_removal_of};
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
        WorkspaceCommand::Set { running } => set(app, *running).await,
    }
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    created_at: String,
    /// What becomes of containers whose credential is removed.
    running: &'static str,
}

impl From<Workspace> for Row {
    fn from(workspace: Workspace) -> Self {
        Self {
            running: after_removal_of(&workspace).as_str(),
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
            let words = [&row.name, &row.id, row.running, &row.created_at];
            words.map(str::to_owned).to_vec()
        });
        table(&["NAME", "ID", "RUNNING", "MADE"], cells)
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
        } = row;
        format!(
            "workspace  {name}\nid         {id}\nmade       {created_at}\n\
             running    {running}, when its credential is removed"
        )
    })
}

async fn set(app: &App, running: AfterRemoval) -> Result<()> {
    let opened = app.open().await?;
    let (broker, workspace) = (&opened.broker, opened.workspace);
    broker.set_after_removal(workspace, running, ACTOR).await?;
    show(app).await
}
