//! `holdfast tasks list|show|cancel`: calls of functions, as their gateway knows them.

use std::collections::HashMap;

use ids::TaskId;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{GatewayArg, TasksCommand};
use crate::client::GatewayClient;
use crate::failure::{Result, printable};
use crate::output::{or_dash, table};

/// How long `cancel` waits for what it asked for: as long as a call has to end, and some more.
const CANCEL_WAIT_MS: u64 = 15_000;

/// A task, as the HTTP face shows it but for what it returned.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    id: String,
    stub: String,
    state: String,
    attempts: u32,
    container: Option<String>,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    end: Option<End>,
}

#[derive(Debug, Serialize, Deserialize)]
struct End {
    outcome: String,
    failure: Option<Reason>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reason {
    r#type: String,
    message: String,
    traceback: String,
}

#[derive(Deserialize)]
struct Tasks {
    tasks: Vec<Task>,
}

pub(crate) async fn tasks(app: &App, command: TasksCommand) -> Result<()> {
    match command {
        TasksCommand::List {
            gateway,
            state,
            limit,
        } => list(app, &gateway, state.as_deref(), limit).await,
        TasksCommand::Show { gateway, id } => show(app, &gateway, id).await,
        TasksCommand::Cancel { gateway, ids } => cancel(app, &gateway, &ids).await,
    }
}

async fn list(app: &App, gateway: &GatewayArg, state: Option<&str>, limit: u32) -> Result<()> {
    let client = GatewayClient::new(app, gateway)?;
    let state = state.map(|state| format!("&state={state}"));
    let path = format!("/v1/tasks?limit={limit}{}", state.unwrap_or_default());
    let Tasks { tasks } = client.get(&path).await?;
    let names = function_names(&client).await?;
    app.output.show(&tasks, |tasks| {
        let cells = tasks.iter().map(|task| {
            let name = names.get(&task.stub).unwrap_or(&task.stub);
            vec![
                task.id.clone(),
                name.clone(),
                task.stands().to_owned(),
                task.attempts.to_string(),
                task.created_at.clone(),
                or_dash(task.ended_at.as_deref()),
            ]
        });
        let headings = ["TASK", "FUNCTION", "STATE", "ATTEMPTS", "MADE", "ENDED"];
        table(&headings, cells)
    })
}

/// What functions are called, by the id of their stub.
pub(super) async fn function_names(client: &GatewayClient) -> Result<HashMap<String, String>> {
    #[derive(Deserialize)]
    struct Stubs {
        stubs: Vec<Stub>,
    }
    #[derive(Deserialize)]
    struct Stub {
        id: String,
        name: String,
    }
    let Stubs { stubs } = client.get("/v1/stubs").await?;
    Ok(stubs.into_iter().map(|stub| (stub.id, stub.name)).collect())
}

async fn show(app: &App, gateway: &GatewayArg, id: TaskId) -> Result<()> {
    let client = GatewayClient::new(app, gateway)?;
    let task: Task = client.get(&format!("/v1/tasks/{id}")).await?;
    app.output.show(&task, Task::text)
}

async fn cancel(app: &App, gateway: &GatewayArg, ids: &[TaskId]) -> Result<()> {
    let client = GatewayClient::new(app, gateway)?;
    let mut cancelled = Vec::new();
    for id in ids {
        let path = format!("/v1/tasks/{id}/cancel?wait_ms={CANCEL_WAIT_MS}");
        let task: Task = client.post(&path).await?;
        app.output.note(&format!("{id}: {}", task.stands()));
        cancelled.push(task);
    }
    app.output.show(&cancelled, |_| String::new())
}

impl Task {
    /// The outcome of one that has ended, and the state of others.
    fn stands(&self) -> &str {
        let end = self.end.as_ref();
        end.map_or(&self.state, |end| &end.outcome)
    }

    fn text(&self) -> String {
        let rows = [
            ("task", self.id.clone()),
            ("stub", self.stub.clone()),
            ("state", self.stands().to_owned()),
            ("attempts", self.attempts.to_string()),
            ("container", or_dash(self.container.as_deref())),
            ("made", self.created_at.clone()),
            ("started", or_dash(self.started_at.as_deref())),
            ("ended", or_dash(self.ended_at.as_deref())),
        ];
        let mut text = String::new();
        for (name, value) in rows {
            text.push_str(&format!("{name:10} {}\n", printable(&value)));
        }
        if let Some(reason) = self.end.as_ref().and_then(|end| end.failure.as_ref()) {
            text.push_str(&reason.text());
        }
        text
    }
}

impl Reason {
    /// A traceback ends with the type and the message.
    fn text(&self) -> String {
        if self.traceback.is_empty() {
            return lines(&format!("{}: {}", self.r#type, self.message));
        }
        lines(&self.traceback)
    }
}

/// Foreign lines, each made safe to show.
fn lines(text: &str) -> String {
    let lines = text.lines().map(printable);
    lines.collect::<Vec<_>>().join("\n")
}
