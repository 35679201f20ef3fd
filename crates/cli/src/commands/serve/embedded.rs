//! The worker of this machine: a child process at the other end of a socket pair, started again
//! when it dies.
//!
//! It is a process of its own since it runs what strangers wrote and may hold no stored secret.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use gateway::Gateway;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::app::{App, own_program};
use crate::commands::roles;

const NAME: &str = "local";
/// What a worker is told by the environment: where programs are, what to log, and the proxies.
const PASSED_ON: [&str; 10] = [
    "PATH",
    "HOLDFAST_LOG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];
/// Pause before a worker that died is started again; doubled when it died at once.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Calls wait for it, and a start costs little.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A worker that lived so long did not die of how it was started.
const LIVED: Duration = Duration::from_secs(5);
/// How long a worker may take to end its containers when it is told to.
const END_TIMEOUT: Duration = Duration::from_secs(40);

/// Keeps a worker until the shutdown, and then until it has cleared away.
pub(super) async fn keep(app: &App, gateway: &Gateway, shutdown: &CancellationToken) {
    let mut pause = FIRST_PAUSE;
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        if let Err(error) = serve_one(app, gateway, shutdown).await {
            app.output
                .note(&format!("the worker cannot be started: {error}"));
        } else if !shutdown.is_cancelled() {
            app.output.note("the worker has died; it is started again");
        }
        pause = if started.elapsed() > LIVED {
            FIRST_PAUSE
        } else {
            (pause * 2).min(LONGEST_PAUSE)
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// One worker, from its start to its end.
async fn serve_one(app: &App, gateway: &Gateway, shutdown: &CancellationToken) -> io::Result<()> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let mut child = start(app, theirs.into())?;
    tokio::select! {
        () = gateway.serve_worker(ours, shutdown.clone()) => {}
        ended = child.wait() => {
            ended?;
            return Ok(());
        }
    }
    // Its socket is closed, by which it knows that it is to end.
    if tokio::time::timeout(END_TIMEOUT, child.wait())
        .await
        .is_err()
    {
        child.kill().await?;
    }
    Ok(())
}

fn start(app: &App, socket: OwnedFd) -> io::Result<Child> {
    let settings = &app.settings;
    let program = own_program().map_err(|failure| io::Error::other(failure.message))?;
    let mut command = Command::new(program);
    // Tokens and passwords may stand in the environment of whoever started us.
    command.env_clear();
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // First the role, by which it is known among processes.
    command.args([roles::WORKER_SERVER, "--name", NAME]);
    if let Some(config) = &settings.config {
        command.arg("--config").arg(config);
    }
    command
        .arg("--data-dir")
        .arg(&settings.data_dir)
        .arg("--run-dir")
        .arg(&settings.run_dir)
        .arg("--root-key")
        .arg(settings.root_key.typed())
        // A signal to our group is ours to pass on: calls that are being answered need the worker.
        .process_group(0)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}
