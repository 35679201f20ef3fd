//! `holdfast worker token|list|drain|remove`: the workers of this gateway, for whoever runs it.
//!
//! A gateway that runs sees what is done here within seconds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use control_store::Worker;
use credential::ExposeSecret;
use ids::WorkerId;
use jiff::Timestamp;
use peer_identity::JoinToken;
use rustix::fs::{FileType, fstat};
use serde::Serialize;

use super::audit;
use super::serve::{gateway_key, write_new_token};
use crate::app::{ACTOR, App};
use crate::args::WorkerCommand;
use crate::failure::{Failure, Kind, Result};
use crate::output::{bytes, show_time, table};

pub(crate) async fn workers(app: &App, command: WorkerCommand) -> Result<()> {
    match command {
        WorkerCommand::Token { life, file } => token(app, life, file).await,
        WorkerCommand::List => list(app).await,
        WorkerCommand::Drain { worker, undo } => drain(app, &worker, !undo).await,
        WorkerCommand::Remove { worker } => remove(app, &worker).await,
        WorkerCommand::Run(args) => super::worker::run(app, args).await,
    }
}

#[derive(Serialize)]
struct Made {
    /// Left out where it went to a file.
    token: Option<String>,
    token_file: Option<PathBuf>,
    expires_at: String,
    /// The SHA-256 of this gateway's key, which the token carries.
    gateway_key: String,
}

async fn token(app: &App, life: Duration, file: Option<PathBuf>) -> Result<()> {
    if file.is_none() && !app.output.json && stdout_is_a_file() {
        let message = "a token is shown on a terminal or written to a file of its owner's alone";
        return Err(Failure::invalid(message).hint("--file names one"));
    }
    let key = gateway_key(app)?;
    let opened = app.open().await?;
    let gateway = app.gateway(&opened)?;
    let token = gateway
        .make_join_token(key.fingerprint(), life, ACTOR)
        .await?;
    if let Some(path) = &file {
        write(path, &token)?;
    }
    let shown = file.is_none();
    let made = Made {
        token: shown.then(|| token.text().expose_secret().to_owned()),
        token_file: file,
        expires_at: show_time(Timestamp::now() + life),
        gateway_key: key.fingerprint().to_string(),
    };
    let remark = "it lets one machine in, once: `holdfast worker run HOST:PORT --token-file FILE` \
                  reads it there";
    app.output.note(remark);
    app.output
        .show(&made, |made| match (&made.token, &made.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => format!("the token is in {}", path.display()),
            (None, None) => String::new(),
        })
}

/// Whose mode is the shell's choice.
fn stdout_is_a_file() -> bool {
    let found = fstat(rustix::stdio::stdout());
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
}

fn write(path: &Path, token: &JoinToken) -> Result<()> {
    write_new_token(path, token.text())
        .map_err(|error| Failure::new(Kind::Machine, format!("{}: {error}", path.display())))
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    draining: bool,
    cpu_millicores: u32,
    memory_bytes: u64,
    joined_at: String,
    seen_at: String,
}

impl From<Worker> for Row {
    fn from(worker: Worker) -> Self {
        Self {
            id: worker.id.to_string(),
            name: worker.name,
            draining: worker.is_draining,
            cpu_millicores: worker.cpu_millicores,
            memory_bytes: worker.memory_bytes,
            joined_at: show_time(worker.joined_at),
            seen_at: show_time(worker.seen_at),
        }
    }
}

async fn list(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let workers = opened.broker.store().workers().await?;
    let rows: Vec<Row> = workers.into_iter().map(Row::from).collect();
    app.output.show(&rows, |rows| {
        let cells = rows.iter().map(|row| {
            vec![
                row.id.clone(),
                row.name.clone(),
                if row.draining { "draining" } else { "open" }.to_owned(),
                format!("{:.1}", f64::from(row.cpu_millicores) / 1000.0),
                bytes(row.memory_bytes),
                row.joined_at.clone(),
                row.seen_at.clone(),
            ]
        });
        let headings = ["ID", "NAME", "STATE", "CORES", "MEMORY", "JOINED", "SEEN"];
        table(&headings, cells)
    })
}

async fn drain(app: &App, named: &str, is_draining: bool) -> Result<()> {
    let opened = app.open().await?;
    let store = opened.broker.store();
    let (id, row) = find(store.workers().await?, named)?;
    store.set_worker_draining(id, is_draining).await?;
    let row = Row {
        draining: is_draining,
        ..row
    };
    let done = if is_draining { "draining" } else { "open" };
    app.output
        .show(&row, |row| format!("{} is {done}", row.name))
}

async fn remove(app: &App, named: &str) -> Result<()> {
    let opened = app.open().await?;
    let (id, row) = find(opened.broker.store().workers().await?, named)?;
    let gateway = app.gateway(&opened)?;
    let blast = gateway.remove_worker(id, ACTOR).await?;
    let removed = Removed {
        worker: row,
        blast: blast.into(),
    };
    app.output.show(&removed, |removed| {
        let blast = audit::render(&removed.blast);
        format!("removed {}\n{blast}", removed.worker.name)
    })
}

#[derive(Debug, Serialize)]
struct Removed {
    #[serde(flatten)]
    worker: Row,
    /// What it was given.
    #[serde(flatten)]
    blast: audit::Shown,
}

/// The worker that has this name, or this id.
fn find(workers: Vec<Worker>, named: &str) -> Result<(WorkerId, Row)> {
    let is_meant = |worker: &Worker| worker.name == named || worker.id.to_string() == named;
    let found = workers.into_iter().find(is_meant);
    let worker = found.ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("no worker {named:?} has joined"))
            .hint("`holdfast worker list` shows those that have")
    })?;
    Ok((worker.id, worker.into()))
}
