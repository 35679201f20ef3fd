//! The worker: `holdfast worker run` for a gateway on another machine, and the hidden
//! `holdfast worker-server` for the control plane at the other end of an inherited socket, until
//! that closes.

mod remote;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use container::Signals;
use rustix::fs::{FileType, fstat};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use worker::{Capacity, Ids, WorkerConfig};

use crate::app::{App, own_program};
use crate::args::{WorkerLimits, WorkerServerArgs};
use crate::failure::{Failure, Kind, Result};
use crate::settings::{Filling, Userns};

pub(crate) use remote::run;

pub(crate) async fn serve(app: &App, args: WorkerServerArgs) -> Result<()> {
    let machine = |error: io::Error| Failure::of(Kind::Machine, &error);
    let mut signals = Signals::listen().map_err(machine)?;
    let socket = inherited_socket().map_err(machine)?;
    let config = config(app, args.name, &args.limits, app.settings.fill)?;
    let shutdown = CancellationToken::new();
    let running = worker::run(config, socket, shutdown.clone());
    let asked = async {
        signals.asked_to_end().await;
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = running => ended,
        () = asked => Ok(()),
    };
    ended.map_err(|error| Failure::of(Kind::Machine, &error))
}

fn config(app: &App, name: String, limits: &WorkerLimits, fill: Filling) -> Result<WorkerConfig> {
    let settings = &app.settings;
    let ids = match settings.userns {
        Userns::Host => Ids::Machine,
        Userns::Private => Ids::OfWorkspace {
            directory: app.ids_dir(),
            first_id: settings.userns_first_id,
        },
    };
    let whole = whole_machine();
    Ok(WorkerConfig {
        name,
        capacity: Capacity {
            cpu_millicores: limits.cpu_millicores.unwrap_or(whole.cpu_millicores),
            memory_bytes: limits.memory_bytes.unwrap_or(whole.memory_bytes),
        },
        program: own_program()?,
        // Apart from those of `run`, each of which has an owner that can be told to stop it.
        containers_dir: settings.run_dir.join("worker/containers"),
        files_dir: settings.run_dir.join("worker/files"),
        ids,
        image_store: app.image_store()?,
        span_cache: app.span_cache()?,
        dial: settings.dial.clone(),
        fill_when_idle: fill == Filling::WhenIdle,
    })
}

fn whole_machine() -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let machine = rustix::system::sysinfo();
    Capacity {
        cpu_millicores: u32::try_from(cores * 1000).unwrap_or(u32::MAX),
        memory_bytes: machine.totalram.saturating_mul(machine.mem_unit.into()),
    }
}

/// Takes the socket from standard input, so that nothing that is started inherits it.
fn inherited_socket() -> io::Result<UnixStream> {
    let stdin = rustix::stdio::stdin();
    if FileType::from_raw_mode(fstat(stdin)?.st_mode) != FileType::Socket {
        return Err(io::Error::other(
            "the worker was not started by holdfast: its standard input is no socket",
        ));
    }
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
    let null = OpenOptions::new().read(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(null)?;
    let socket = StdUnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
