//! The peers: Ray on two cores, and Celery with two worker processes and Redis for both ways.
//!
//! Neither keeps a call on a disk, and Redis is told not to try: that is to their advantage.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::program::{self, Place, Program, Source};
use crate::bench::lab::Lab;
use crate::lab::Scratch;
use crate::process::{self, Service};
use crate::{python, setup};

const WITH_RAY: Source = Source {
    name: "with_ray",
    text: include_str!("with_ray.py"),
};
const WITH_CELERY: Source = Source {
    name: "with_celery",
    text: include_str!("with_celery.py"),
};

/// A server with an empty database listens within milliseconds.
const REDIS_START: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A program with a Ray of its own.
pub(super) struct Ray {
    pub(super) program: Program,
    _folder: Scratch,
}

impl Ray {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        python::need(python::RAY)?;
        // Ray has its sockets there, whose paths must be short.
        let folder = Scratch::new(&std::env::temp_dir(), "holdfast-ray")?;
        let place = Place::new(&WITH_RAY, &lab.folder("calls"))?;
        let text = folder.path().to_str().context("a path that is not UTF-8")?;
        let variables = [("RAY_FOLDER", text), ("RAY_USAGE_STATS_ENABLED", "0")];
        Ok(Self {
            program: Program::start(&place, python::RAY.0, &variables)?,
            _folder: folder,
        })
    }
}

/// A program, a Celery worker and a Redis, which end in this order.
pub(super) struct Celery {
    pub(super) program: Program,
    _worker: Worker,
    _redis: Service,
}

impl Celery {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        setup::need(&[("redis-server", "the broker of Celery, a peer in benches")])?;
        python::need(python::CELERY)?;
        let (redis, address) = start_redis(&lab.folder("redis"))?;
        let url = format!("redis://{address}/0");
        let place = Place::new(&WITH_CELERY, &lab.folder("calls"))?;
        let worker = Worker::start(&place, &url)?;
        let program = Program::start(&place, python::CELERY.0, &[("REDIS_URL", &url)])?;
        Ok(Self {
            program,
            _worker: worker,
            _redis: redis,
        })
    }
}

fn start_redis(folder: &Path) -> Result<(Service, SocketAddr)> {
    std::fs::create_dir_all(folder)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let port = address.port().to_string();
    let mut command = process::command("setpriv", &["--pdeathsig=KILL", "redis-server"]);
    command.args(["--bind", "127.0.0.1", "--port", &port]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]);
    let service = Service::start(command.arg(folder).stdout(Stdio::null()))?;
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begin.elapsed() > REDIS_START {
            bail!("redis-server does not listen");
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok((service, address))
}

/// The worker, with two processes as Ray has.
struct Worker(Child);

impl Worker {
    fn start(place: &Place, url: &str) -> Result<Self> {
        // A warm shutdown, with the processes that it has started, also when we are killed.
        let mut command = place.command("setpriv", "celery-worker")?;
        command
            .arg("--pdeathsig=TERM")
            .arg(python::interpreter(python::CELERY.0));
        command.args(["-m", "celery", "--app", "with_celery", "worker"]);
        command.args(["--pool", "prefork", "--concurrency", "2"]);
        let child = command
            .env("REDIS_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a Celery worker")?;
        Ok(Self(child))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        let _ = process::run(&mut process::command("kill", &["-TERM", &id]));
        program::end(&mut self.0);
    }
}
