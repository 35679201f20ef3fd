//! Databases on a server: one for each directory that a vault is opened in, by whatever process.

use std::path::Path;

use postgres_server::PostgresServer;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

/// Has the address, for the processes that a test starts.
const ADDRESS: &str = "server";

/// What a test that writes to the database says in SQLite's words.
const WORDS: &str = "
    CREATE DOMAIN public.blob AS bytea;
    CREATE FUNCTION public.zeroblob(length int) RETURNS bytea LANGUAGE sql
        AS $$ SELECT decode(repeat('00', length), 'hex') $$;
    CREATE FUNCTION public.unhex(digits text) RETURNS bytea LANGUAGE sql
        AS $$ SELECT decode(digits, 'hex') $$;";

/// The database of a directory, which is made when there is none.
pub(super) fn of(directory: &Path) -> database::Server {
    let address = match std::fs::read_to_string(directory.join(ADDRESS)) {
        Ok(address) => address,
        Err(_) => make(directory),
    };
    database::Server::parse(&address).unwrap()
}

fn make(directory: &Path) -> String {
    let server = PostgresServer::shared();
    let address = server.new_database();
    server.sql(parts(&address).name, WORDS);
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join(ADDRESS), &address).unwrap();
    address
}

/// What the address of a database says beside its user.
struct Parts<'a> {
    name: &'a str,
    port: u16,
    /// Directory of the server's socket.
    socket: &'a str,
}

fn parts(address: &str) -> Parts<'_> {
    let (_, rest) = address.split_once("@:").unwrap();
    let (port, rest) = rest.split_once('/').unwrap();
    let (name, socket) = rest.split_once("?host=").unwrap();
    Parts {
        name,
        port: port.parse().unwrap(),
        socket,
    }
}

/// Is held to no rule of the tables.
pub(super) async fn connection(directory: &Path) -> PgConnection {
    let address = std::fs::read_to_string(directory.join(ADDRESS)).unwrap();
    let parts = parts(&address);
    let options = PgConnectOptions::new_without_pgpass()
        .socket(parts.socket)
        .port(parts.port)
        .username(postgres_server::USER)
        .database(parts.name);
    let settings = [
        ("search_path", "holdfast_vault, public"),
        ("session_replication_role", "replica"),
    ];
    options.options(settings).connect().await.unwrap()
}
