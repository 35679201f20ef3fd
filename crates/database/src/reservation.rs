//! What one process of all may do with a database on a server: whoever holds a lock there, until
//! it ends.
//!
//! The lock goes with its connection, so that the end of a process, or of its machine, gives it
//! back. A server that was started anew knows of none: then it is taken again, unless somebody was
//! faster, and whoever had it hears so within seconds.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::address::Server;
use crate::connection::{Connection, in_time};
use crate::database::Durability;
use crate::error::DatabaseError;
use crate::postgres;
use crate::query::query;

/// How often it is asked whether the lock is still held.
const INTERVAL: Duration = Duration::from_secs(1);

/// The lock, held until this is dropped.
pub struct Reservation {
    options: PgConnectOptions,
    connection: PgConnection,
    key: i64,
    holder: String,
}

/// What became of asking for it.
#[derive(Debug)]
pub enum Reserved {
    Ours(Box<Reservation>),
    /// Another process has it; what it calls itself, where the server tells.
    Theirs(Option<String>),
}

impl std::fmt::Debug for Reservation {
    /// The options hold a password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reservation")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl Reservation {
    /// Takes it if nobody has it. The schema is that of [`Rules`](crate::Rules), and others are
    /// told the name of the holder.
    pub async fn take(
        server: &Server,
        schema: &str,
        purpose: &str,
        holder: &str,
    ) -> Result<Reserved, DatabaseError> {
        let options = postgres::options(server, schema, Durability::Process)?;
        let options = options.application_name(holder);
        let key = postgres::lock_key(schema, purpose);
        let mut connection = postgres::connect(&options).await?;
        if let Err(theirs) = lock(&mut connection, key).await? {
            return Ok(Reserved::Theirs(theirs));
        }
        Ok(Reserved::Ours(Box::new(Self {
            options,
            connection,
            key,
            holder: holder.to_owned(),
        })))
    }

    /// Holds it; comes back when somebody else has it, with what they call themselves.
    pub async fn keep(mut self) -> Option<String> {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if postgres::lives(&mut self.connection).await {
                continue;
            }
            match self.take_again().await {
                Ok(Ok(())) => {}
                // The server does not know yet that the connection before is gone.
                Ok(Err(holder)) if holder.as_deref() == Some(&self.holder) => {}
                Ok(Err(holder)) => return holder,
                // While it is away nobody takes it.
                Err(_away) => {}
            }
        }
    }

    async fn take_again(&mut self) -> Result<Result<(), Option<String>>, DatabaseError> {
        let mut connection = postgres::connect(&self.options).await?;
        let locked = lock(&mut connection, self.key).await?;
        if locked.is_ok() {
            self.connection = connection;
        }
        Ok(locked)
    }
}

/// Takes the lock, or says who has it.
async fn lock(
    connection: &mut PgConnection,
    key: i64,
) -> Result<Result<(), Option<String>>, DatabaseError> {
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key);
    if in_time(asked.fetch_one(&mut *connection)).await? {
        return Ok(Ok(()));
    }
    // The server shows a key of 64 bits as two of 32.
    let holder = query(
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE locktype = 'advisory' AND granted AND objsubid = 1
           AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (classid::bigint << 32) | objid::bigint = $1",
    );
    let mut connection = Connection::Postgres(connection);
    let name: Option<(Option<String>,)> = holder.bind(key).fetch_optional(&mut connection).await?;
    Ok(Err(name.and_then(|(name,)| name)))
}
