//! One container's owner as a process of its own, so that tests can signal it, kill it and give it
//! a terminal.
//!
//! `container-driver run RUN_ROOT LOWER [NAME=VALUE]… -- COMMAND…` exits with the container's code;
//! what happened goes as JSON lines to the socket or file named by `report=`.
//! `container-driver reap RUN_ROOT` clears stale containers away and prints how many.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use container::{
    ContainerSpec, DEFAULT_SHM_BYTES, IdRange, ImageDefaults, Network, NetworkMode, NetworkRequest,
    Overrides, PortMap, Resources, RunDir, Runtime, Signals, Streams, Volume, compose,
    default_hostname, parse_size_bytes, reap_stale,
};
use ids::ContainerId;
use serde_json::{Value, json};

type Failure = (u8, Box<dyn std::error::Error>);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["reap", run_root] => {
            let reaped = reap_stale(Path::new(run_root));
            let errors: Vec<_> = reaped.iter().filter_map(|one| one.error.as_ref()).collect();
            println!("reaped {} {errors:?}", reaped.len());
            ExitCode::SUCCESS
        }
        ["run", run_root, lower, ..] => run(run_root, lower, &arguments[3..]),
        _ => ExitCode::from(125),
    }
}

fn run(run_root: &str, lower: &str, rest: &[String]) -> ExitCode {
    let end = rest
        .iter()
        .position(|word| word == "--")
        .unwrap_or(rest.len());
    let options = Options(&rest[..end]);
    let mut report = Report::to(options.one("report"));
    let command = rest.get(end + 1..).unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new().expect("an executor");
    let ended = runtime.block_on(own(run_root, lower, &options, command, &mut report));
    match ended {
        Ok(code) => ExitCode::from(code),
        Err((code, error)) => {
            let mut message = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            report.write(&json!({ "event": "error", "code": code, "message": message }));
            ExitCode::from(code)
        }
    }
}

async fn own(
    run_root: &str,
    lower: &str,
    options: &Options<'_>,
    command: &[String],
    report: &mut Report,
) -> Result<u8, Failure> {
    let ours = |error: Box<dyn std::error::Error>| (125, error);
    let mut signals = Signals::listen().map_err(|error| ours(error.into()))?;
    let spec = spec(lower, options, command).map_err(ours)?;
    let runtime = Runtime::find().map_err(|error| ours(error.into()))?;
    let ids = options
        .one("ids")
        .map(|first| first.parse().map(IdRange::starting_at));
    let ids = ids
        .transpose()
        .map_err(|error: std::num::ParseIntError| ours(error.into()))?;
    let dir = RunDir::create(Path::new(run_root), spec.id, ids);
    let dir = dir.map_err(|error| ours(error.into()))?;
    let request = NetworkRequest {
        mode: spec.network,
        subnet: None,
    };
    let network = Network::prepare(&dir, request).await;
    let mut network = network.map_err(|error| ours(error.into()))?;
    let published = network.publish(&spec.ports).await;
    published.map_err(|error| ours(error.into()))?;
    let started = runtime.run(&spec, &dir, &network, Streams::Ours).await;
    let mut running = started.map_err(|error| (error.exit_code(), error.into()))?;
    report.write(&json!({
        "event": "started",
        "id": spec.id.to_string(),
        "address": network.address().map(|address| address.to_string()),
        "ports": network.published().map(|port| port.host_port).collect::<Vec<_>>(),
    }));
    let status = running.wait(&mut signals).await;
    let status = status.map_err(|error| ours(error.into()))?;
    drop(network);
    dir.remove().map_err(|error| ours(error.into()))?;
    let memory = status.memory_note().map(|note| note.to_string());
    report.write(&json!({ "event": "ended", "code": status.code, "memory": memory }));
    Ok(status.code)
}

fn spec(
    lower: &str,
    options: &Options<'_>,
    command: &[String],
) -> Result<ContainerSpec, Box<dyn std::error::Error>> {
    let id = ContainerId::new();
    let hostname = options
        .one("hostname")
        .map_or_else(|| default_hostname(&id), str::to_owned);
    let overrides = Overrides {
        entrypoint: None,
        args: command.to_vec(),
        env: options.all("env").map(str::to_owned).collect(),
        working_dir: options.one("cwd").map(str::to_owned),
        user: options.one("user").map(str::to_owned),
        terminal: options.one("terminal").is_some(),
        stdin: options.one("stdin").is_some(),
    };
    let defaults = Resources::default();
    let resources = Resources {
        memory_bytes: options.one("memory").map(parse_size_bytes).transpose()?,
        cpus: options.one("cpus").map(str::parse).transpose()?,
        reserved_cpus: None,
        pids: options
            .one("pids")
            .map(str::parse)
            .transpose()?
            .or(defaults.pids),
    };
    let volumes = options
        .all("volume")
        .map(Volume::parse)
        .collect::<Result<_, _>>()?;
    let ports = options
        .all("port")
        .map(PortMap::parse)
        .collect::<Result<_, _>>()?;
    let network = options
        .one("network")
        .map_or(Ok(NetworkMode::None), str::parse)?;
    let shm_bytes = options.one("shm").map(parse_size_bytes).transpose()?;
    Ok(ContainerSpec {
        id,
        lower: PathBuf::from(lower),
        process: compose(&defaults_of(options)?, &overrides, &hostname)?,
        volumes,
        network,
        ports,
        shm_bytes: shm_bytes.unwrap_or(DEFAULT_SHM_BYTES),
        resources,
        hostname,
    })
}

/// The defaults of the image configuration in a file.
fn defaults_of(options: &Options<'_>) -> Result<ImageDefaults, Box<dyn std::error::Error>> {
    let Some(path) = options.one("config") else {
        return Ok(ImageDefaults::default());
    };
    Ok(ImageDefaults::from_config(&std::fs::read(path)?)?)
}

struct Options<'a>(&'a [String]);

impl<'a> Options<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter_map(|word| word.split_once('='));
        pairs
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn one(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }
}

struct Report(Box<dyn Write>);

impl Report {
    fn to(place: Option<&str>) -> Self {
        let place = place.unwrap_or("/dev/null");
        match UnixStream::connect(place) {
            Ok(stream) => Self(Box::new(stream)),
            Err(_) => Self(Box::new(
                File::create(place).expect("a place for the report"),
            )),
        }
    }

    fn write(&mut self, event: &Value) {
        // Whoever waited for the start need not wait for the end.
        let _ = writeln!(self.0, "{event}");
    }
}
