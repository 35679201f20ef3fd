//! A PostgreSQL server for tests: Debian's, in a directory of its own, reached by a Unix socket, or
//! by a port in TLS.
//!
//! Invariants: it ends with the process that started it, however that ends, since its keeper reads
//! a pipe that breaks then; a missing server is a panic that says what to install. Its texts are
//! sorted as English is, and not by their bytes, so that who relies on the latter sees it fail.
//! Deliberately keeps nothing: what it has on disk is not synced and goes with it.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The user that may do everything, and needs no password.
pub const USER: &str = "holdfast";
/// A user that needs one, and may make schemas in every database that is made here.
pub const GUARDED_USER: &str = "guarded";
pub const GUARDED_PASSWORD: &str = "a password of tests";

/// Where Debian has the programs, by the version of the server.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// What names the socket where there is no port.
const DEFAULT_PORT: u16 = 5432;
/// Whom the server runs as where tests are run by root, which it refuses.
const SYSTEM_USER: &str = "postgres";

/// Starts the server, says so, and waits for its input to end.
const KEEPER: &str = r#"
pg_ctl="$1" directory="$2"
"$pg_ctl" -D "$directory/data" -l "$directory/log" -s -w start >&2 ||
    { cat "$directory/log" >&2; rm -rf "$directory"; exit 1; }
echo started
while read -r _; do :; done
"$pg_ctl" -D "$directory/data" -s -m immediate stop 2> /dev/null
rm -rf "$directory"
"#;

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    /// Removed by the keeper, as it belongs to the server.
    directory: PathBuf,
    port: u16,
    keeper: Child,
    databases: AtomicU32,
}

impl PostgresServer {
    /// The one of this process, which many tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// One that listens at a port of 127.0.0.1 and 127.0.0.2 too, in TLS, with this certificate and
    /// key in PEM.
    pub fn start_in_tls(certificate: &str, key: &str) -> Self {
        Self::start_with(Some((certificate, key)))
    }

    fn start_with(tls: Option<(&str, &str)>) -> Self {
        let programs = programs();
        let owner = owner();
        // Removed here until there is a keeper.
        let made = directory(owner);
        let directory = made.path().to_owned();
        let mut making = command(&programs.join("initdb"), owner, &directory);
        making.args([
            "--no-sync",
            "--encoding=UTF8",
            "--auth=trust",
            "--username",
            USER,
        ]);
        making.args([
            "--locale=C.UTF-8",
            "--locale-provider=icu",
            "--icu-locale=en-US",
        ]);
        run(making.arg("--pgdata").arg(directory.join("data")));
        let port = if tls.is_some() {
            free_port()
        } else {
            DEFAULT_PORT
        };
        configure(&directory, port);
        if let Some((certificate, key)) = tls {
            configure_tls(&directory, owner, certificate, key);
        }
        // In a session of its own: what ends the group of the tests must not end who cleans up.
        let mut keeping = command(Path::new("setsid"), owner, &directory);
        let keeping = keeping
            .args(["/bin/sh", "-c", KEEPER, "keeper"])
            .arg(programs.join("pg_ctl"))
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut keeper = keeping.spawn().expect("a shell");
        let _ = made.keep();
        let mut line = String::new();
        let output = keeper.stdout.take().expect("its output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("a pipe");
        assert_eq!(line, "started\n", "the PostgreSQL server does not start");
        let server = Self {
            programs,
            owner,
            directory,
            port,
            keeper,
            databases: AtomicU32::new(0),
        };
        server.sql(
            "postgres",
            &format!("CREATE ROLE {GUARDED_USER} LOGIN PASSWORD '{GUARDED_PASSWORD}'"),
        );
        server
    }

    /// Makes an empty database; answers its address.
    pub fn new_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        let granting = format!("GRANT CREATE ON DATABASE {name} TO {GUARDED_USER}");
        self.sql("postgres", &granting);
        self.address(USER, &name)
    }

    /// The address of a database, for a user.
    pub fn address(&self, user: &str, database: &str) -> String {
        let (directory, port) = (self.directory.display(), self.port);
        format!("postgres://{user}@:{port}/{database}?host={directory}")
    }

    /// The address of the database that is always there, at the port in TLS.
    pub fn tls_address(&self, host: &str) -> String {
        format!("postgres://{USER}@{host}:{}/postgres", self.port)
    }

    /// Runs a statement; answers what `psql` prints of it, without decoration.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let mut asking = command(&self.programs.join("psql"), self.owner, &self.directory);
        asking.args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-q", "-A", "-t"]);
        asking.arg("-h").arg(&self.directory);
        asking.args(["-p", &self.port.to_string()]);
        asking.args(["-U", USER, "-d", database, "-c", statement]);
        run(&mut asking)
    }

    /// Stops the server as a crash would, if not for what it has written.
    pub fn stop(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    /// Starts it again after [`Self::stop`].
    pub fn start_again(&self) {
        self.control(&["-w", "start"]);
    }

    fn control(&self, arguments: &[&str]) {
        let mut asking = command(&self.programs.join("pg_ctl"), self.owner, &self.directory);
        asking.arg("-D").arg(self.directory.join("data"));
        asking.arg("-l").arg(self.directory.join("log"));
        run(asking.arg("-s").args(arguments));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn programs() -> PathBuf {
    let versions = std::fs::read_dir(PROGRAMS).into_iter().flatten().flatten();
    let programs = versions.map(|version| version.path().join("bin"));
    let newest = programs.filter(|it| it.join("postgres").exists()).max();
    newest.unwrap_or_else(|| panic!("no PostgreSQL in {PROGRAMS}: run `cargo xtask setup`"))
}

/// The user and group of the server, where it must be another than that of the tests.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("a list of users");
    let user = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let id = |field: usize| fields[field].parse().expect("an id");
        (fields[0] == SYSTEM_USER).then(|| (id(2), id(3)))
    });
    Some(user.unwrap_or_else(|| panic!("no user {SYSTEM_USER}: run `cargo xtask setup`")))
}

fn directory(owner: Option<(u32, u32)>) -> TempDir {
    let made = TempDir::with_prefix("holdfast-postgres-").expect("a temporary directory");
    if let Some((user, group)) = owner {
        chown(made.path(), Some(user), Some(group)).expect("root gives it away");
    }
    made
}

/// Who may come in, and what a server is spared that lives for a few tests.
fn configure(directory: &Path, port: u16) {
    let access = format!("local all {GUARDED_USER} scram-sha-256\nlocal all {USER} trust\n");
    std::fs::write(directory.join("data/pg_hba.conf"), access).expect("a file");
    let settings = format!(
        "listen_addresses = ''\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
         max_connections = 200\nshared_buffers = 16MB\n",
        directory.display()
    );
    append(&directory.join("data/postgresql.conf"), &settings);
}

fn configure_tls(directory: &Path, owner: Option<(u32, u32)>, certificate: &str, key: &str) {
    let data = directory.join("data");
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = data.join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
        if let Some((user, group)) = owner {
            chown(&path, Some(user), Some(group)).expect("root gives it away");
        }
    }
    let settings = "ssl = on\nlisten_addresses = '127.0.0.1, 127.0.0.2'\n";
    append(&data.join("postgresql.conf"), settings);
    let access = format!("hostssl all {USER} 127.0.0.0/8 trust\n");
    append(&data.join("pg_hba.conf"), &access);
}

fn append(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.append(true).open(path).expect("initdb made it");
    file.write_all(text.as_bytes()).expect("a file");
}

/// Another program may take it before the server does, which then does not start.
fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("bound").port()
}

/// A program run as the server's user, in its directory, of an environment that names nothing.
fn command(program: &Path, owner: Option<(u32, u32)>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear();
    command
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("a program of PostgreSQL");
    let (printed, errors) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(printed).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_stops_and_leaves_nothing() {
        let server = PostgresServer::start();
        server.new_database();
        assert_eq!(
            server.sql("test_0", "SELECT 'a' < 'B'"),
            "t",
            "not by bytes"
        );
        server.stop();
        server.start_again();
        assert_eq!(server.sql("test_0", "SELECT 1"), "1");
        let keeper = rustix::process::Pid::from_child(&server.keeper);
        let group = rustix::process::getpgid(Some(keeper)).unwrap();
        assert_ne!(group, rustix::process::getpgrp());
        let directory = server.directory.clone();
        drop(server);
        assert!(!directory.exists());
    }
}
