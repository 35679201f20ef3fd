//! `holdfast worker run`: this machine as a worker of a gateway elsewhere.
//!
//! ```text
//! <data>/worker.key       who this worker is
//! <data>/worker.gateway   whom it trusts: the fingerprint of the gateway's key, from the token
//! ```
//!
//! What the token says of the gateway is kept once that has shown its key, and before it is shown
//! the token, so that an answer that is lost costs nothing: from then on the key is enough. The
//! address is the operator's word, and is dialled as it stands. No root key is needed, and none is
//! looked for.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use container::Signals;
use credential::{ExposeSecret, SecretString};
use peer_identity::{ConnectedStream, Connector, Fingerprint, HandshakeError, JoinToken, KeyPair};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use worker::{JoinError, JoinRequest, WorkerConfig, WorkerError};

use super::config;
use crate::app::App;
use crate::args::WorkerRunArgs;
use crate::bounded_file;
use crate::commands::run::must_be_root;
use crate::failure::{Failure, Kind, Result, chain};
use crate::secret_input;
use crate::settings::Filling;

const KEY_FILE: &str = "worker.key";
const PIN_FILE: &str = "worker.gateway";
/// A fingerprint, and what an editor adds.
const PIN_MAX_BYTES: u64 = 80;
/// A gateway far away, behind a router that drops the first packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a gateway is tried again; doubled each time, so that a fleet does not hold up one
/// that comes back.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A connection that held so long did not break for how it was made.
const HELD: Duration = Duration::from_mins(1);

/// This machine to one gateway.
struct Remote {
    gateway: String,
    /// The key that it must have.
    pin: Fingerprint,
    pin_file: PathBuf,
    connector: Connector,
    /// Since this process was started.
    has_connected: AtomicBool,
    config: WorkerConfig,
}

/// Why a try came to nothing.
enum Trouble {
    /// It may go better later.
    Passing(String),
    Lasting(Failure),
}

pub(crate) async fn run(app: &App, args: WorkerRunArgs) -> Result<()> {
    must_be_root("worker run")?;
    let mut signals = Signals::listen().map_err(|error| Failure::of(Kind::Machine, &error))?;
    app.make_data_dir()?;
    let data_dir = &app.settings.data_dir;
    let key = KeyPair::open_or_make(&data_dir.join(KEY_FILE));
    let key = key.map_err(|error| Failure::of(Kind::Machine, &error))?;
    let pin_file = data_dir.join(PIN_FILE);
    let (pin, token) = whom_to_trust(&args, &pin_file)?;
    let fill = args.fill.as_deref().map(Filling::parse).transpose()?;
    let fill = fill.unwrap_or(app.settings.fill);
    let config = config(
        app,
        args.name.map_or_else(host_name, Ok)?,
        &args.limits,
        fill,
    )?;
    let remote = Remote {
        gateway: args.gateway,
        pin,
        pin_file,
        connector: Connector::new(&key, pin),
        has_connected: AtomicBool::new(false),
        config,
    };
    let shutdown = CancellationToken::new();
    let asked = async {
        signals.asked_to_end().await;
        app.output
            .note("ending what runs here; once more ends at once");
        shutdown.cancel();
        signals.asked_to_end().await;
    };
    tokio::select! {
        ended = remote.work(app, token, &shutdown) => ended,
        () = asked => Ok(()),
    }
}

/// The gateway to trust, and the token to join it with, if there is one.
fn whom_to_trust(
    args: &WorkerRunArgs,
    pin_file: &Path,
) -> Result<(Fingerprint, Option<SecretString>)> {
    let token = match &args.token_file {
        Some(path) => secret_input::from_file("join token", path)?,
        None => match read_pin(pin_file)? {
            Some(pin) => return Ok((pin, None)),
            None => secret_input::from_stdin("join token")?,
        },
    };
    let parsed = JoinToken::parse(token.expose_secret());
    let parsed = parsed.ok_or_else(|| {
        Failure::invalid("this is no join token")
            .hint("`holdfast worker token` on the gateway's machine makes one")
    })?;
    Ok((parsed.gateway(), Some(token)))
}

fn read_pin(path: &Path) -> Result<Option<Fingerprint>> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Kind::Machine, format!("{}: {error}", path.display()))
    };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| failed(&error))?,
    };
    let read = bounded_file::read_opened(file, PIN_MAX_BYTES).and_then(bounded_file::text);
    let no_pin = |error: &dyn std::fmt::Display| {
        failed(error).hint("remove the file, and join again with a token")
    };
    let text = read.map_err(|error| no_pin(&error))?;
    let pin = text.trim_end().parse();
    pin.map(Some).map_err(|error| no_pin(&error))
}

fn keep_pin(path: &Path, pin: Fingerprint) -> io::Result<()> {
    let draft = PathBuf::from(format!("{}.new", path.display()));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&draft)?;
    writeln!(file, "{pin}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn host_name() -> Result<String> {
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .map(str::to_owned);
    name.map_err(|_| Failure::invalid("the name of this host is no text").hint("--name gives one"))
}

impl Remote {
    /// Joins if there is a token, and then runs what the gateway says, until the shutdown.
    async fn work(
        &self,
        app: &App,
        mut token: Option<SecretString>,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        while !shutdown.is_cancelled() {
            let since = Instant::now();
            let tried = match &token {
                Some(joining) => self.join(joining).await,
                None => self.attend(shutdown).await.map(|()| None),
            };
            match tried {
                Ok(Some(worker)) => {
                    app.output
                        .note(&format!("joined {} as {worker}", self.gateway));
                    token = None;
                    continue;
                }
                Ok(None) if shutdown.is_cancelled() => return Ok(()),
                Ok(None) => app.output.note(&format!("{} has hung up", self.gateway)),
                Err(Trouble::Lasting(failure)) => return Err(failure),
                Err(Trouble::Passing(reason)) => {
                    app.output
                        .note(&format!("{}: {reason}; trying again", self.gateway));
                }
            }
            if since.elapsed() > HELD {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    async fn join(&self, token: &SecretString) -> Result<Option<String>, Trouble> {
        let stream = self.connect().await?;
        keep_pin(&self.pin_file, self.pin).map_err(|error| {
            let message = format!("{}: {error}", self.pin_file.display());
            Trouble::Lasting(Failure::new(Kind::Machine, message))
        })?;
        let request = JoinRequest {
            token: token.clone(),
            name: self.config.name.clone(),
            capacity: self.config.capacity,
        };
        match worker::join(stream, request).await {
            Ok(worker) => Ok(Some(worker)),
            Err(error @ JoinError::Refused(_)) => {
                let failure = Failure::of(Kind::Denied, &error);
                let hint = "`holdfast worker token` on the gateway's machine makes a new one";
                Err(Trouble::Lasting(failure.hint(hint)))
            }
            Err(error @ JoinError::Name(_)) => {
                let failure = Failure::of(Kind::Invalid, &error);
                let hint = "--name calls it otherwise; the same token does";
                Err(Trouble::Lasting(failure.hint(hint)))
            }
            Err(error) => Err(Trouble::Passing(chain(&error))),
        }
    }

    /// Runs containers for as long as the connection holds.
    async fn attend(&self, shutdown: &CancellationToken) -> Result<(), Trouble> {
        let stream = tokio::select! {
            connected = self.connect() => connected?,
            () = shutdown.cancelled() => return Ok(()),
        };
        match worker::run(self.config.clone(), stream, shutdown.clone()).await {
            Ok(()) => Ok(()),
            Err(error @ WorkerError::NotKnown(_)) => {
                let failure = Failure::of(Kind::Denied, &error);
                let hint = "it was removed, or never joined: join with a token, by --token-file";
                Err(Trouble::Lasting(failure.hint(hint)))
            }
            Err(error @ WorkerError::Files(_)) => {
                Err(Trouble::Lasting(Failure::of(Kind::Machine, &error)))
            }
            Err(error) => Err(Trouble::Passing(chain(&error))),
        }
    }

    async fn connect(&self) -> Result<ConnectedStream<TcpStream>, Trouble> {
        let connecting = TcpStream::connect(self.gateway.as_str());
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let silent = || Trouble::Passing("no answer".to_owned());
        let stream = connecting.map_err(|_| silent())?;
        let stream = stream.map_err(|error| Trouble::Passing(error.to_string()))?;
        // What is said is small and waited for.
        let _ = stream.set_nodelay(true);
        let connected = self.connector.connect(stream).await;
        self.has_connected
            .fetch_or(connected.is_ok(), Ordering::Relaxed);
        connected.map_err(|error| match error {
            // Whom it has found there before, it may find again.
            error @ HandshakeError::OtherKey if self.has_connected.load(Ordering::Relaxed) => {
                Trouble::Passing(chain(&error))
            }
            HandshakeError::OtherKey => {
                let failure = Failure::of(Kind::Denied, &error);
                let hint = "is the address right? a gateway that was set up anew is joined anew, \
                            by --token-file";
                Trouble::Lasting(failure.hint(hint))
            }
            error => Trouble::Passing(chain(&error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_worker_trusts_is_kept_and_nothing_else_is_read() {
        let directory = std::env::temp_dir().join(format!("holdfast-pin-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join(PIN_FILE);
        assert_eq!(read_pin(&path).unwrap(), None);
        for _ in 0..2 {
            let pin = KeyPair::make().unwrap().fingerprint();
            keep_pin(&path, pin).unwrap();
            assert_eq!(read_pin(&path).unwrap(), Some(pin));
        }
        for text in ["", "0", &"0".repeat(65), &"0".repeat(1000)] {
            fs::write(&path, text).unwrap();
            assert!(read_pin(&path).is_err(), "{text}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
