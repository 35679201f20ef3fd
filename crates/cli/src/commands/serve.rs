//! `holdfast serve`: this installation, for programs that call it, and the worker of this machine;
//! `holdfast gateway`: the same without that worker.
//!
//! Listens for programs on this machine, and beyond it in TLS, unless a flag names the risk; for
//! workers anywhere, since they speak mutual TLS. The first start makes a token, which a terminal
//! is shown and otherwise a file of the owner's alone holds.

mod embedded;

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use container::Signals;
use control_store::TokenScope;
use credential::{ExposeSecret, SecretString};
use database::{Reservation, Reserved};
use gateway::{BoundService, BoundWorkers, Gateway, ServerTls, TlsError, TlsFiles, TokenRequest};
use ids::WorkspaceId;
use peer_identity::KeyPair;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::args::{GatewayArgs, ListenArgs, ServeArgs};
use crate::client::SOCKET_FILE;
use crate::commands::run::must_be_root;
use crate::failure::{Failure, Kind, Result};
use crate::settings::Settings;

/// Where the first token goes where nobody looks on.
const FIRST_TOKEN_FILE: &str = "first-token";
const LOCK_FILE: &str = "serve.lock";
/// Who this gateway is to its workers.
const KEY_FILE: &str = "gateway.key";
const FIRST_TOKEN_NAME: &str = "first";

/// What is served, and where.
#[derive(Debug)]
pub(crate) struct Serving {
    listen: ListenArgs,
    workers: Option<SocketAddr>,
    has_own_worker: bool,
}

impl Serving {
    fn must_be_possible(&self) -> Result<()> {
        if !self.has_own_worker {
            return Ok(());
        }
        must_be_root("serve").map_err(|failure| {
            let hint = "sudo holdfast serve …; `holdfast gateway`, whose workers are other \
                        machines, goes without";
            failure.hint(hint)
        })
    }
}

impl From<ServeArgs> for Serving {
    fn from(args: ServeArgs) -> Self {
        Self {
            listen: args.listen,
            workers: args.workers,
            has_own_worker: true,
        }
    }
}

impl From<GatewayArgs> for Serving {
    fn from(args: GatewayArgs) -> Self {
        Self {
            listen: args.listen,
            workers: Some(args.workers),
            has_own_worker: false,
        }
    }
}

/// What a script waits for.
#[derive(Debug, Serialize)]
struct Listening {
    /// How programs name it.
    gateway: String,
    address: SocketAddr,
    /// Where workers on other machines come to.
    workers: Option<SocketAddr>,
    workspace: String,
    /// Where the first token is, if one was made and nobody was shown it.
    token_file: Option<PathBuf>,
}

impl Listening {
    fn text(&self) -> String {
        let mut text = format!("listening on {}", self.gateway);
        let address = self.address.to_string();
        if !self.gateway.ends_with(&address) {
            text.push_str(&format!(", at {address}"));
        }
        if let Some(workers) = self.workers {
            text.push_str(&format!("\nworkers come to {workers}"));
        }
        if let Some(file) = &self.token_file {
            text.push_str(&format!("\nthe first token is in {}", file.display()));
        }
        text
    }
}

pub(crate) async fn serve(app: &App, serving: &Serving) -> Result<()> {
    serving.must_be_possible()?;
    let tls = open_tls(&serving.listen, &app.settings)?;
    check_address(&serving.listen, tls.as_ref())?;
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(Kind::Machine, format!("signals: {error}")))?;
    app.make_data_dir()?;
    // Before anything is read of what a restore may be replacing.
    let _only = only_one(app)?;
    let only_of_database = only_one_of_database(app).await?;
    let opened = app.open().await?;
    let gateway = app.gateway(&opened)?;
    let service = BoundService::bind(gateway.clone(), serving.listen.listen).await;
    let service = service.map_err(|error| {
        Failure::of(Kind::Machine, &error).hint("is another one running? --listen names a port")
    })?;
    let workers = bind_workers(app, &gateway, serving).await?;
    // Only now is what is left of a socket nobody's.
    let service = service.with_operators_socket(&app.settings.data_dir.join(SOCKET_FILE));
    let service = service.map_err(|error| {
        let hint = "the path of a socket has at most 107 bytes: --data-dir names a shorter place";
        Failure::of(Kind::Machine, &error).hint(hint)
    })?;
    let token_file = first_token(app, &gateway, opened.workspace).await?;
    let listening = Listening {
        gateway: url(app, service.address(), tls.as_ref()),
        address: service.address(),
        workers: workers.as_ref().map(BoundWorkers::address),
        workspace: app.settings.workspace.to_string(),
        token_file,
    };
    let service = match tls {
        Some(tls) => service.with_tls(tls),
        None => service,
    };
    app.output.show(&listening, Listening::text)?;
    gateway.resume().await?;
    let shutdown = CancellationToken::new();
    // Calls that are being answered may need the worker until they are.
    let worker_shutdown = CancellationToken::new();
    let running = async {
        let answering = async {
            service.run(shutdown.clone()).await;
            worker_shutdown.cancel();
        };
        let own_worker = async {
            if serving.has_own_worker {
                embedded::keep(app, &gateway, &worker_shutdown).await;
            }
        };
        let other_workers = async {
            if let Some(workers) = workers {
                workers.run(worker_shutdown.clone()).await;
            }
        };
        tokio::join!(answering, own_worker, other_workers);
    };
    let ending = async {
        signals.asked_to_end().await;
        app.output
            .note("ending what was begun; once more ends at once");
        shutdown.cancel();
        signals.asked_to_end().await;
    };
    tokio::select! {
        () = running => Ok(()),
        () = ending => Ok(()),
        failure = only_of_database.lost() => Err(failure),
    }
}

async fn bind_workers(
    app: &App,
    gateway: &Gateway,
    serving: &Serving,
) -> Result<Option<BoundWorkers>> {
    let Some(address) = serving.workers else {
        return Ok(None);
    };
    let bound = BoundWorkers::bind(gateway.clone(), address, &gateway_key(app)?).await;
    let bound = bound.map_err(|error| {
        Failure::of(Kind::Machine, &error).hint("is another one running? --workers names a port")
    })?;
    Ok(Some(bound))
}

/// Who this gateway is to its workers, made when it is first wanted.
pub(crate) fn gateway_key(app: &App) -> Result<KeyPair> {
    app.make_data_dir()?;
    let path = app.settings.data_dir.join(KEY_FILE);
    KeyPair::open_or_make(&path).map_err(|error| Failure::of(Kind::Machine, &error))
}

/// Keeps gateways from a state that is replaced under them, as another gateway would.
pub(crate) async fn keep_gateways_out(app: &App) -> Result<impl Sized + use<>> {
    Ok((only_one(app)?, only_one_of_database(app).await?))
}

/// Held by the gateway of a data directory: a second one would take what the first has under way
/// for what an earlier run left.
fn only_one(app: &App) -> Result<File> {
    let path = app.settings.data_dir.join(LOCK_FILE);
    let failed =
        |error: std::io::Error| Failure::new(Kind::Machine, format!("{}: {error}", path.display()));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            let directory = app.settings.data_dir.display();
            let message = format!("another gateway serves {directory}");
            Err(Failure::new(Kind::Machine, message)
                .hint("there can be one; --data-dir names another"))
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Held by the gateway of a database on a server, which other machines reach too.
struct OnlyOfDatabase(Option<(Box<Reservation>, String)>);

async fn only_one_of_database(app: &App) -> Result<OnlyOfDatabase> {
    let Some(database) = &app.settings.database else {
        return Ok(OnlyOfDatabase(None));
    };
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let holder = format!("gateway on {host}, process {}", std::process::id());
    let reserved = control_store::reserve_gateway(&database.server()?, &holder).await?;
    match reserved {
        Reserved::Ours(reservation) => {
            Ok(OnlyOfDatabase(Some((reservation, database.to_string()))))
        }
        Reserved::Theirs(holder) => Err(another_serves(&database.to_string(), holder)),
    }
}

impl OnlyOfDatabase {
    /// Comes back when another gateway has it: the server was started anew, and that one was
    /// faster. What runs here is that one's to end.
    async fn lost(self) -> Failure {
        match self.0 {
            Some((reservation, database)) => another_serves(&database, reservation.keep().await),
            None => std::future::pending().await,
        }
    }
}

fn another_serves(database: &str, holder: Option<String>) -> Failure {
    let named = holder.filter(|name| !name.is_empty());
    let holder = named.unwrap_or_else(|| "another gateway".to_owned());
    Failure::new(Kind::Machine, format!("{holder} serves {database}"))
        .hint("there can be one; end that one first")
}

/// What callers are shown, where a certificate was named.
fn open_tls(args: &ListenArgs, settings: &Settings) -> Result<Option<ServerTls>> {
    let certificate = args.tls_cert.as_ref().or(settings.tls_cert.as_ref());
    let key = args.tls_key.as_ref().or(settings.tls_key.as_ref());
    let files = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        (Some(_), None) => return Err(half("a certificate is named, and no key")),
        (None, Some(_)) => return Err(half("a key is named, and no certificate")),
    };
    let tls = ServerTls::open(files).map_err(|error| {
        let kind = match error {
            TlsError::Io { .. } => Kind::Machine,
            _ => Kind::Invalid,
        };
        Failure::of(kind, &error)
    })?;
    Ok(Some(tls))
}

fn half(message: &str) -> Failure {
    Failure::invalid(message).hint("--tls-cert and --tls-key go together")
}

/// Tokens and secrets cross this socket.
fn check_address(args: &ListenArgs, tls: Option<&ServerTls>) -> Result<()> {
    if args.listen.ip().is_loopback() || tls.is_some() || args.allow_unencrypted {
        return Ok(());
    }
    let message = format!("{} is reached from beyond this machine", args.listen.ip());
    let hint = "tokens and secrets would cross the network in the clear: name a certificate by \
                --tls-cert and --tls-key, put a proxy with TLS before 127.0.0.1, or say \
                --allow-unencrypted";
    Err(Failure::invalid(message).hint(hint))
}

/// How programs name this gateway: in TLS by a name of the certificate, since clients compare it.
fn url(app: &App, address: SocketAddr, tls: Option<&ServerTls>) -> String {
    let Some(tls) = tls else {
        return format!("http://{address}");
    };
    let Some(host) = tls.host(address.ip()) else {
        app.output
            .note("the certificate has no name for this address: clients will refuse it");
        return format!("https://{address}");
    };
    format!("https://{host}:{}", address.port())
}

/// Makes the first token of a workspace that has none; answers the file that it is in.
async fn first_token(
    app: &App,
    gateway: &Gateway,
    workspace: WorkspaceId,
) -> Result<Option<PathBuf>> {
    if gateway.has_tokens(workspace).await? {
        return Ok(None);
    }
    let request = TokenRequest {
        name: FIRST_TOKEN_NAME.to_owned(),
        scopes: TokenScope::OF_A_WORKSPACE.to_vec(),
        expires_at: None,
    };
    let made = gateway.make_token(workspace, request).await?;
    if std::io::stderr().is_terminal() {
        eprintln!("token, shown this once: {}", made.text.expose_secret());
        return Ok(None);
    }
    let path = app.settings.data_dir.join(FIRST_TOKEN_FILE);
    write_token(&path, &made.text)
        .map_err(|error| Failure::new(Kind::Machine, format!("{}: {error}", path.display())))?;
    Ok(Some(path))
}

/// Has it in a file that only its owner reads, in place of any that is there.
fn write_token(path: &Path, token: &SecretString) -> std::io::Result<()> {
    // What is there may have another mode.
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    write_new_token(path, token)
}

/// Has it in a new file that only its owner reads.
pub(crate) fn write_new_token(path: &Path, token: &SecretString) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", token.expose_secret())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_let_in_by_name_only() {
        let check = |listen: &str, allow_unencrypted| {
            let args = ListenArgs {
                listen: listen.parse().unwrap(),
                tls_cert: None,
                tls_key: None,
                allow_unencrypted,
            };
            check_address(&args, None).is_ok()
        };
        for local in ["127.0.0.1:0", "127.9.9.9:7230", "[::1]:7230"] {
            assert!(check(local, false), "{local}");
        }
        for other in [
            "0.0.0.0:7230",
            "[::]:7230",
            "10.0.0.1:80",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(!check(other, false), "{other}");
            assert!(check(other, true), "{other}");
        }
    }
}
