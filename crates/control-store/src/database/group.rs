//! Changes of many callers in one transaction: a commit that reaches the disk takes as long for
//! one as for a hundred.
//!
//! Each change has a savepoint of its own, so that one that fails costs the others nothing. Nobody
//! is answered before the commit.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Connection, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;

/// Changes that share a transaction. More would make the first of them wait for the last, and
/// readers of the log for all.
const CHANGES_AT_ONCE: usize = 128;
/// Changes that wait for the transaction before theirs; further callers wait to be let in.
const QUEUE_LENGTH: usize = 1024;

/// What is being done to the database, within a transaction.
pub(crate) type Changing<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// What must be true when a change is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// It survives the end of this process.
    Process,
    /// It survives a power cut.
    Disk,
}

/// The way to the transactions that many share.
#[derive(Debug)]
pub(crate) struct Group {
    queue: mpsc::Sender<Box<dyn Queued>>,
}

impl Group {
    /// Writes through this until it is dropped.
    pub(crate) fn new(writer: Writer) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(write(writer, waiting));
        Self { queue }
    }

    /// Makes a change; the answer comes when it is as durable as asked. A caller that goes away
    /// does not undo it.
    pub(crate) async fn change<T, F>(
        &self,
        durability: Durability,
        change: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Changing<'c, T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let queued = Box::new(Change {
            durability,
            change: Some(change),
            result: None,
            reply,
        });
        let closed = |_| StoreError::Closed;
        self.queue
            .send(queued)
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(closed)?
    }
}

/// The pool of the one connection that writes, and what that syncs.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) pool: SqlitePool,
    /// Set when the connection is a new one, which has the pool's own setting.
    pub(crate) is_new: Arc<AtomicBool>,
    /// What the connection was told last.
    pub(crate) set: Option<Durability>,
}

impl Writer {
    /// The connection, which syncs as asked from now on.
    async fn acquire(&mut self, asked: Durability) -> Result<PoolConnection<Sqlite>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        if self.is_new.swap(false, Ordering::Relaxed) {
            self.set = None;
        }
        if self.set != Some(asked) {
            let pragma = match asked {
                Durability::Disk => "PRAGMA synchronous = FULL",
                Durability::Process => "PRAGMA synchronous = NORMAL",
            };
            // Not known until it has worked.
            self.set = None;
            sqlx::query(pragma).execute(&mut *connection).await?;
            self.set = Some(asked);
        }
        Ok(connection)
    }
}

/// A change that waits, whatever its answer is.
trait Queued: Send {
    fn durability(&self) -> Durability;

    /// Makes the change; answers whether it is to stay.
    fn make<'c>(
        &'c mut self,
        connection: &'c mut SqliteConnection,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'c>>;

    fn answer(self: Box<Self>, committed: &Result<(), Arc<sqlx::Error>>);
}

struct Change<T, F> {
    durability: Durability,
    /// Taken when it is made.
    change: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Queued for Change<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Changing<'c, T> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn make<'c>(
        &'c mut self,
        connection: &'c mut SqliteConnection,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'c>> {
        Box::pin(async move {
            let change = self.change.take().expect("a change is made once");
            let result = change(connection).await;
            let stays = result.is_ok();
            self.result = Some(result);
            stays
        })
    }

    fn answer(self: Box<Self>, committed: &Result<(), Arc<sqlx::Error>>) {
        let answer = match (committed, self.result) {
            // What failed for a reason of its own says so, whatever became of the others.
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(result)) => result,
            (Err(error), _) => Err(StoreError::Commit {
                source: Arc::clone(error),
            }),
            (Ok(()), None) => unreachable!("a transaction is committed with all changes made"),
        };
        // A caller that has gone away is not told.
        let _ = self.reply.send(answer);
    }
}

async fn write(mut writer: Writer, mut waiting: mpsc::Receiver<Box<dyn Queued>>) {
    while let Some(first) = waiting.recv().await {
        let mut changes = vec![first];
        while changes.len() < CHANGES_AT_ONCE
            && let Ok(next) = waiting.try_recv()
        {
            changes.push(next);
        }
        let committed = transaction(&mut writer, &mut changes)
            .await
            .map_err(Arc::new);
        for change in changes {
            change.answer(&committed);
        }
    }
}

async fn transaction(
    writer: &mut Writer,
    changes: &mut [Box<dyn Queued>],
) -> Result<(), sqlx::Error> {
    let asked = changes.iter().map(|change| change.durability()).max();
    let mut connection = writer.acquire(asked.unwrap_or(Durability::Disk)).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    if let [only] = changes {
        let stays = only.make(&mut transaction).await;
        return if stays {
            transaction.commit().await
        } else {
            transaction.rollback().await
        };
    }
    for change in changes {
        let mut savepoint = transaction.begin().await?;
        if change.make(&mut savepoint).await {
            savepoint.commit().await?;
        } else {
            savepoint.rollback().await?;
        }
    }
    transaction.commit().await
}
