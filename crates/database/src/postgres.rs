//! A database on a PostgreSQL server.
//!
//! Each process has one connection that writes and a few that read. What writes takes an advisory
//! lock first, so that writers are one at a time as they are on a file; a process that is gone
//! loses its locks with its connections. The tables are in a schema of their own, and nothing is
//! looked for in another.

use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row as _};
use tokio::net::TcpStream;

use crate::address::{Host, Server, Tls};
use crate::connection::in_time;
use crate::database::{Durability, Rules};
use crate::error::DatabaseError;
use crate::migration;
use crate::opening::OPENING_TIMEOUT;

/// How long a statement may take on the server, and wait there for whoever writes. Transactions
/// here take milliseconds; longer means that something is in trouble, and saying so is better.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a transaction may do nothing before the server ends it: what holds the write lock and
/// hangs must not stop all others for ever.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a connection may take to be there: a name, a handshake, a password.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reader is waited for, a new one included: a request that only reads is told soon
/// that the server is away.
const READER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that rested for longer is asked whether it lives before it is used.
const RESTED: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection is waited for before it is asked whether the port refuses, and again.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);
/// Readers of one process: enough that a listing does not hold up a start.
const READER_LIMIT: u32 = 4;

/// How a transaction begins that writes. Each statement sees what was committed before it: a
/// snapshot that lasts would be taken with the question for the lock, and know nothing of whoever
/// had it.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// What the driver reads of the environment and cannot be told to forget. All else that it reads
/// there is said anew.
const OBEYED: &[&str] = &["PGOPTIONS", "PGSSLCERT", "PGSSLKEY"];

/// The lock that every transaction takes that writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteLock {
    key: i64,
}

impl WriteLock {
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            key: lock_key(schema, "write"),
        }
    }

    /// Waits for the writer of another process; the end of the transaction gives the lock back.
    pub(crate) async fn take(
        self,
        connection: &mut PgConnection,
        durability: Option<Durability>,
    ) -> Result<(), sqlx::Error> {
        let durability = match durability {
            None => "",
            Some(durability) => match durability {
                Durability::Process => "SET LOCAL synchronous_commit = off;",
                Durability::Disk => "SET LOCAL synchronous_commit = on;",
            },
        };
        let text = format!("{durability} SELECT pg_advisory_xact_lock({})", self.key);
        let taking = sqlx::raw_sql(AssertSqlSafe(text)).execute(connection);
        in_time(taking).await.map(drop)
    }
}

/// The key of a lock, the same in every version of this program. Locks are of one database, so
/// that it need not differ between those.
pub(crate) fn lock_key(schema: &str, purpose: &str) -> i64 {
    // FNV-1a.
    let bytes = schema.bytes().chain([0]).chain(purpose.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}

/// Waits for other processes that open the same database, and keeps them out until the connection
/// is closed.
pub(crate) async fn opening_lock(
    server: &Server,
    schema: &str,
) -> Result<PgConnection, DatabaseError> {
    let mut connection = connect(&options(server, schema, Durability::Process)?).await?;
    let (key, timeout) = (lock_key(schema, "open"), OPENING_TIMEOUT.as_millis());
    let text = format!(
        "SET lock_timeout = {timeout}; SET statement_timeout = {timeout};
         SELECT pg_advisory_lock({key})"
    );
    // The server ends it in time, or its end of the connection is gone.
    let taking = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection);
    let taken = tokio::time::timeout(OPENING_TIMEOUT + CONNECT_TIMEOUT, taking).await;
    match taken {
        Ok(taken) => taken?,
        Err(_elapsed) => return Err(no_answer()),
    };
    Ok(connection)
}

/// What the server says of its version: whether it is there and lets this user in.
pub(crate) async fn version(server: &Server) -> Result<String, DatabaseError> {
    let mut connection = connect(&options(server, "public", Durability::Process)?).await?;
    check_encoding(server, &mut connection).await?;
    let asked = sqlx::query_scalar("SELECT current_setting('server_version')");
    Ok(in_time(asked.fetch_one(&mut connection)).await?)
}

/// Makes the schema where there is none, and brings its tables up to date.
pub(crate) async fn prepare(server: &Server, rules: &Rules) -> Result<(), DatabaseError> {
    let mut connection = connect(&options(server, rules.schema, rules.durability)?).await?;
    check_encoding(server, &mut connection).await?;
    let mut transaction = in_time(connection.begin()).await?;
    let lock = WriteLock::new(rules.schema);
    lock.take(&mut transaction, Some(Durability::Disk)).await?;
    make_schema(&mut transaction, rules.schema).await?;
    // Made for as long as it takes: tables may be large.
    let unlimited = sqlx::raw_sql("SET LOCAL statement_timeout = 0");
    in_time(unlimited.execute(&mut *transaction)).await?;
    migration::for_postgres(rules.migrations)
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|source| DatabaseError::Migration { source })?;
    in_time(transaction.commit()).await?;
    // What remains is to hang up, which it does in any case.
    let _ = connection.close().await;
    Ok(())
}

/// Texts of ours are UTF-8.
async fn check_encoding(
    server: &Server,
    connection: &mut PgConnection,
) -> Result<(), DatabaseError> {
    let asked = sqlx::query_scalar("SELECT current_setting('server_encoding')");
    let encoding: String = in_time(asked.fetch_one(connection)).await?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(DatabaseError::Unsuitable {
        database: server.to_string(),
        problem: format!("has the encoding {encoding}, and must have UTF8"),
    })
}

/// Asks first: who may not make a schema may not make one that is there either.
async fn make_schema(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let asked = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname = $1");
    let asked = asked.bind(schema.to_owned());
    let count: i64 = in_time(asked.fetch_one(&mut *connection)).await?;
    if count == 0 {
        let text = format!("CREATE SCHEMA \"{schema}\"");
        in_time(sqlx::raw_sql(AssertSqlSafe(text)).execute(connection)).await?;
    }
    Ok(())
}

pub(crate) fn writer_pool(server: &Server, rules: &Rules) -> Result<PgPool, DatabaseError> {
    let pool = pool(1, STATEMENT_TIMEOUT);
    Ok(pool.connect_lazy_with(options(server, rules.schema, rules.durability)?))
}

pub(crate) fn readers(server: &Server, rules: &Rules) -> Result<PgPool, DatabaseError> {
    let options = options(server, rules.schema, rules.durability)?;
    let options = options.options([("default_transaction_read_only", "on")]);
    Ok(pool(READER_LIMIT, READER_TIMEOUT).connect_lazy_with(options))
}

/// It waits for nobody: tables are not made shorter, which would take a lock that readers hold.
pub(crate) async fn vacuum(writer: &PgPool, tables: &[&'static str]) {
    let tables = tables.join(", ");
    let text = format!("VACUUM (SKIP_LOCKED, TRUNCATE false) {tables}");
    let _undone = in_time(sqlx::raw_sql(AssertSqlSafe(text)).execute(writer)).await;
}

fn pool(limit: u32, acquire_timeout: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(limit)
        .acquire_timeout(acquire_timeout)
        .test_before_acquire(false)
        // What does not answer now is not asked by the pool either, which would wait for ever.
        .after_release(|connection, _| {
            Box::pin(async move { Ok(has_no_transaction(connection).await) })
        })
        .before_acquire(|connection, metadata| {
            let has_rested = metadata.idle_for > RESTED;
            Box::pin(async move { Ok(!has_rested || lives(connection).await) })
        })
}

/// Comes back when the server's port refuses: nobody is there, and whoever waits is told.
pub(crate) async fn refusal(pool: &PgPool) -> sqlx::Error {
    let options = pool.connect_options();
    if options.get_socket().is_some() {
        // Which is no port, and says so itself.
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(REFUSAL_INTERVAL).await;
        let asked = TcpStream::connect((options.get_host(), options.get_port()));
        if let Ok(Err(error)) = tokio::time::timeout(CONNECT_TIMEOUT, asked).await
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return sqlx::Error::Io(error);
        }
    }
}

/// Whether a connection that was used then is likely to live, or says that it does.
pub(crate) async fn is_fresh(connection: &mut PgConnection, used_at: Instant) -> bool {
    used_at.elapsed() < RESTED || lives(connection).await
}

/// Whether the server is still at the other end: it was started anew, or something on the way
/// forgot the connection.
pub(crate) async fn lives(connection: &mut PgConnection) -> bool {
    let answer = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
    matches!(answer, Ok(Ok(())))
}

/// Whether what was begun on a connection has ended, after what it was told and not waited for: of
/// a question that was given up the driver does not know that it began a transaction, which would
/// be whose turn is next.
pub(crate) async fn has_no_transaction(connection: &mut PgConnection) -> bool {
    // Outside of one a statement begins its own.
    let asked = sqlx::raw_sql("SELECT now() = statement_timestamp()").fetch_one(connection);
    match tokio::time::timeout(PING_TIMEOUT, asked).await {
        Ok(Ok(row)) => row.try_get(0).unwrap_or(false),
        Ok(Err(_)) | Err(_) => false,
    }
}

pub(crate) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, DatabaseError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(connection) => Ok(connection?),
        Err(_elapsed) => Err(no_answer()),
    }
}

fn no_answer() -> DatabaseError {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()
}

/// How to connect. All that the driver would otherwise read of the environment is said here, or
/// refused when it is there; it prints none of it.
pub(crate) fn options(
    server: &Server,
    schema: &str,
    durability: Durability,
) -> Result<PgConnectOptions, DatabaseError> {
    refuse_environment(|name| std::env::var_os(name).is_some())?;
    let password = server.password.as_ref();
    let options = PgConnectOptions::new_without_pgpass()
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .password(password.map_or("", |it| it.expose_secret()))
        .application_name("holdfast")
        .options(settings(schema, durability))
        .disable_statement_logging();
    let options = match &server.host {
        Host::Name(name) => options.host(name),
        Host::Directory(directory) => options.socket(directory),
    };
    let options = match &server.authority {
        Some(file) => options.ssl_root_cert(file),
        None => options.ssl_root_cert_from_pem(Vec::new()),
    };
    Ok(options.ssl_mode(match server.tls {
        Tls::Disabled => PgSslMode::Disable,
        Tls::Unverified => PgSslMode::Require,
        Tls::Authority => PgSslMode::VerifyCa,
        Tls::Full => PgSslMode::VerifyFull,
    }))
}

fn refuse_environment(is_set: impl Fn(&str) -> bool) -> Result<(), DatabaseError> {
    match OBEYED.iter().find(|name| is_set(name)) {
        Some(name) => Err(DatabaseError::Environment { name }),
        None => Ok(()),
    }
}

/// What the server is told of every connection.
fn settings(schema: &str, durability: Durability) -> Vec<(&'static str, String)> {
    let timeout = STATEMENT_TIMEOUT.as_millis().to_string();
    let synchronous = match durability {
        Durability::Process => "off",
        Durability::Disk => "on",
    };
    vec![
        ("search_path", schema.to_owned()),
        ("statement_timeout", timeout.clone()),
        ("lock_timeout", timeout),
        (
            "idle_in_transaction_session_timeout",
            IDLE_TIMEOUT.as_millis().to_string(),
        ),
        ("synchronous_commit", synchronous.to_owned()),
        ("client_min_messages", "warning".to_owned()),
        // A machine that vanishes loses its locks after a minute.
        ("tcp_keepalives_idle", "30".to_owned()),
        ("tcp_keepalives_interval", "10".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "60000".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_locks_differ_and_stay() {
        let keys = [
            lock_key("holdfast_state", "write"),
            lock_key("holdfast_state", "open"),
            lock_key("holdfast_vault", "write"),
        ];
        assert_ne!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
        assert_eq!(keys[0], -1_606_373_042_782_673_117);
    }

    #[test]
    fn what_the_driver_would_obey_is_refused() {
        refuse_environment(|_| false).unwrap();
        for name in OBEYED {
            let error = refuse_environment(|it| it == *name).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
