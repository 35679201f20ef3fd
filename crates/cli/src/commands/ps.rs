//! `holdfast ps` and `holdfast stop`.
//!
//! A container ends when its owner is asked to end: the owner passes the signal on and clears
//! away.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use launch::Container;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::app::App;
use crate::args::StopArgs;
use crate::failure::{Failure, Kind, Result};
use crate::output::{or_dash, show_time, table};

/// How often a container's end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long an owner may take to kill its container and clear it away.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: Option<String>,
    image: String,
    command: Vec<String>,
    pid: u32,
    started_at: String,
}

pub(crate) fn ps(app: &App) -> Result<()> {
    let rows: Vec<Row> = running(app)?
        .into_iter()
        .map(|Container { id, about }| Row {
            id,
            name: about.name,
            image: about.image,
            command: about.command,
            pid: about.owner_pid,
            started_at: jiff::Timestamp::from_second(about.started_at)
                .map(show_time)
                .unwrap_or_default(),
        })
        .collect();
    app.output.show(&rows, |rows| {
        let cells = rows.iter().map(|row| {
            vec![
                row.id.clone(),
                or_dash(row.name.as_deref()),
                row.image.clone(),
                row.command.join(" "),
                row.started_at.clone(),
            ]
        });
        table(&["CONTAINER", "NAME", "IMAGE", "COMMAND", "STARTED"], cells)
    })
}

pub(crate) async fn stop(app: &App, args: &StopArgs) -> Result<()> {
    let running = running(app)?;
    let named = |wanted: &String| {
        let found = running.iter().find(|container| {
            container.id == *wanted || container.about.name.as_ref() == Some(wanted)
        });
        found.ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("no container {wanted} is running"))
                .hint("`holdfast ps` lists those that are")
        })
    };
    let containers = args
        .containers
        .iter()
        .map(named)
        .collect::<Result<Vec<_>>>()?;
    for container in containers {
        end(app, container, Duration::from_secs(args.time)).await?;
        app.output.note(&format!("stopped {}", container.id));
    }
    Ok(())
}

/// The containers that run here, or why whoever asks may not know them.
fn running(app: &App) -> Result<Vec<Container>> {
    let directory = app.containers_dir();
    must_be_readable(&directory)?;
    let entries = std::fs::read_dir(&directory).into_iter().flatten();
    for entry in entries.flatten() {
        must_be_readable(&entry.path())?;
    }
    Ok(launch::list(&directory))
}

/// What is not there holds nothing; what cannot be looked into may.
fn must_be_readable(directory: &Path) -> Result<()> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let message = format!("{}: {error}", directory.display());
            Err(Failure::new(Kind::Machine, message).hint("run it as root"))
        }
        _ => Ok(()),
    }
}

/// Asks once; a program that does not heed it is asked until its owner kills it.
async fn end(app: &App, container: &Container, patience: Duration) -> Result<()> {
    let is_running = || {
        launch::list(&app.containers_dir())
            .iter()
            .any(|other| other.id == container.id)
    };
    ask(container)?;
    let deadline = Instant::now() + patience;
    while is_running() && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let deadline = deadline + KILL_PATIENCE;
    while is_running() {
        if Instant::now() >= deadline {
            let pid = container.about.owner_pid;
            let message = format!("{} does not end", container.id);
            return Err(Failure::new(Kind::Machine, message).hint(format!("kill -9 {pid}")));
        }
        ask(container)?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn ask(container: &Container) -> Result<()> {
    let pid = i32::try_from(container.about.owner_pid)
        .ok()
        .and_then(Pid::from_raw);
    let sent = pid.map(|pid| kill_process(pid, Signal::TERM));
    match sent {
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(error)) => Err(Failure::new(
            Kind::Machine,
            format!("cannot stop {}: {error}", container.id),
        )),
        None => Err(Failure::new(
            Kind::Unsupported,
            format!("{} is not stopped by itself", container.id),
        )
        .hint("a function's container ends with `holdfast serve`, or when nobody calls it")),
    }
}
