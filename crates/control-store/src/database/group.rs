//! Changes of many callers in one transaction: a commit that reaches the disk takes as long for
//! one as for a hundred.
//!
//! A change among others has a savepoint of its own, so that one that fails costs the others
//! nothing; one that is alone is a transaction of its own. Nobody is answered before the commit,
//! nor before the log is synced who asks for that: what is committed is there for all, so whoever
//! made it is told no error, and waits for as long as the disk does not work.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Database;
use super::statements::{Bound, Statements, TAKE_BACK};
use super::writer::Writer;
use crate::error::{Doing, StoreError};
use crate::store::Durability;

/// Changes that share a transaction. More would make the first of them wait for the last, and
/// readers of the log for all.
const CHANGES_AT_ONCE: usize = 128;
/// Changes that wait for the transaction before theirs; further callers wait to be let in.
const QUEUE_LENGTH: usize = 1024;
/// Pause before a disk that would not take the log is tried again.
const SYNC_PAUSE: Duration = Duration::from_secs(1);

/// What is being done to the database, within a transaction.
pub(crate) type Changing<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// The way to the transactions that many share.
#[derive(Debug)]
pub(crate) struct Group {
    queue: mpsc::Sender<Message>,
    closing: CancellationToken,
}

enum Message {
    Change(Box<dyn Queued>),
    /// From who waits for the disk alone.
    Sync(oneshot::Sender<Result<(), StoreError>>),
    /// The last one; answered when the connection is closed.
    Close(oneshot::Sender<()>),
}

impl Group {
    /// Writes through this until it is closed or dropped.
    pub(super) fn new(writer: Writer) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        let closing = CancellationToken::new();
        tokio::spawn(write(writer, waiting, closing.clone()));
        Self { queue, closing }
    }

    async fn ask<T>(
        &self,
        message: Message,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let queued = self.queue.send(message).await;
        queued.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Closes the connection after what was asked before.
    pub(super) async fn close(&self) {
        let (closed, waiting) = oneshot::channel();
        self.closing.cancel();
        if self.queue.send(Message::Close(closed)).await.is_ok() {
            let _ = waiting.await;
        }
    }
}

impl Database {
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
        let change = Change {
            durability,
            make: Some(change),
            result: None,
            reply,
        };
        let message = Message::Change(Box::new(change));
        self.group.ask(message, answer).await
    }

    /// Has all that was changed survive a power cut.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.group.ask(Message::Sync(reply), answer).await
    }

    /// Makes a change that is nothing but statements, and answers their rows. They are told what
    /// they are about by `bind`, for the text that they are run as.
    pub(crate) async fn run<F>(
        &self,
        durability: Durability,
        statements: Statements,
        doing: &'static str,
        bind: F,
    ) -> Result<Vec<SqliteRow>, StoreError>
    where
        F: FnOnce(&'static str) -> Bound + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let run = Run {
            durability,
            statements,
            doing,
            bind: Some(bind),
            result: None,
            reply,
        };
        let message = Message::Change(Box::new(run));
        self.group.ask(message, answer).await
    }
}

/// A change being made. What fails here is the transaction; what a change comes to, it keeps.
type Making<'c> = Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send + 'c>>;

/// A change that waits, whatever its answer is.
trait Queued: Send {
    fn durability(&self) -> Durability;

    /// Makes the change as a transaction, which ends with it.
    fn alone<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Making<'c>;

    /// Makes the change within a transaction, which is left as it was when it fails.
    fn among<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Making<'c>;

    fn answer(self: Box<Self>, committed: &Result<(), Arc<sqlx::Error>>);
}

/// A change by code.
struct Change<T, F> {
    durability: Durability,
    /// Taken when it is made.
    make: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Change<T, F>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Changing<'c, T>,
{
    /// Makes the change; answers whether it is to stay.
    async fn make(&mut self, connection: &mut SqliteConnection) -> bool {
        let make = self.make.take().expect("a change is made once");
        let result = make(connection).await;
        let stays = result.is_ok();
        self.result = Some(result);
        stays
    }
}

impl<T, F> Queued for Change<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Changing<'c, T> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn alone<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Making<'c> {
        Box::pin(async move {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            if self.make(&mut transaction).await {
                transaction.commit().await
            } else {
                transaction.rollback().await
            }
        })
    }

    fn among<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Making<'c> {
        Box::pin(async move {
            let mut savepoint = connection.begin().await?;
            if self.make(&mut savepoint).await {
                savepoint.commit().await
            } else {
                savepoint.rollback().await
            }
        })
    }

    fn answer(self: Box<Self>, committed: &Result<(), Arc<sqlx::Error>>) {
        answer(self.reply, self.result, committed);
    }
}

/// A change by statements.
struct Run<F> {
    durability: Durability,
    statements: Statements,
    doing: &'static str,
    /// Taken when they are run.
    bind: Option<F>,
    result: Option<Result<Vec<SqliteRow>, StoreError>>,
    reply: oneshot::Sender<Result<Vec<SqliteRow>, StoreError>>,
}

impl<F: FnOnce(&'static str) -> Bound> Run<F> {
    /// Runs the statements as this text; answers whether all of them worked.
    async fn run(&mut self, connection: &mut SqliteConnection, text: &'static str) -> bool {
        let bind = self.bind.take().expect("a change is made once");
        let rows = bind(text).fetch_all(connection).await.doing(self.doing);
        let worked = rows.is_ok();
        self.result = Some(rows);
        worked
    }
}

impl<F: FnOnce(&'static str) -> Bound + Send> Queued for Run<F> {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn alone<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Making<'c> {
        Box::pin(async move {
            if !self.run(connection, self.statements.alone).await {
                // An error where SQLite has done it already, as on a full disk: whatever is wrong
                // with the connection, another one is made.
                connection.execute("ROLLBACK").await?;
            }
            Ok(())
        })
    }

    fn among<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> Making<'c> {
        Box::pin(async move {
            if !self.run(connection, self.statements.among).await {
                connection.execute(TAKE_BACK).await?;
            }
            Ok(())
        })
    }

    fn answer(self: Box<Self>, committed: &Result<(), Arc<sqlx::Error>>) {
        answer(self.reply, self.result, committed);
    }
}

fn answer<T>(
    reply: oneshot::Sender<Result<T, StoreError>>,
    result: Option<Result<T, StoreError>>,
    committed: &Result<(), Arc<sqlx::Error>>,
) {
    let answer = match (committed, result) {
        // What failed for a reason of its own says so, whatever became of the others.
        (_, Some(Err(error))) => Err(error),
        (Ok(()), Some(result)) => result,
        (Err(error), _) => Err(StoreError::Commit {
            source: Arc::clone(error),
        }),
        (Ok(()), None) => unreachable!("a transaction is committed with all changes made"),
    };
    // A caller that has gone away is not told.
    let _ = reply.send(answer);
}

async fn write(
    mut writer: Writer,
    mut waiting: mpsc::Receiver<Message>,
    closing: CancellationToken,
) {
    let mut closed = None;
    while closed.is_none()
        && let Some(first) = waiting.recv().await
    {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Change(change) => batch.changes.push(change),
                Message::Sync(reply) => batch.syncs.push(reply),
                Message::Close(reply) => closed = Some(reply),
            }
            let is_enough = batch.changes.len() >= CHANGES_AT_ONCE || closed.is_some();
            next = if is_enough {
                None
            } else {
                waiting.try_recv().ok()
            };
        }
        batch.settle(&mut writer, &closing).await;
    }
    writer.close().await;
    if let Some(reply) = closed {
        let _ = reply.send(());
    }
}

/// What was asked in the time of one commit.
#[derive(Default)]
struct Batch {
    changes: Vec<Box<dyn Queued>>,
    syncs: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Batch {
    /// Makes the changes, and answers each when it is as durable as asked.
    async fn settle(mut self, writer: &mut Writer, closing: &CancellationToken) {
        let committed = transaction(writer, &mut self.changes).await;
        let committed = committed.map_err(Arc::new);
        if committed.is_err() {
            writer.close().await;
        }
        let (done, waiting): (Vec<_>, Vec<_>) = self
            .changes
            .into_iter()
            .partition(|change| committed.is_err() || change.durability() == Durability::Process);
        for change in done {
            change.answer(&committed);
        }
        let somebody_waits = !waiting.is_empty() || !self.syncs.is_empty();
        if somebody_waits && sync(writer, closing).await {
            for change in waiting {
                change.answer(&Ok(()));
            }
            for reply in self.syncs {
                // A caller that has gone away is not told.
                let _ = reply.send(Ok(()));
            }
        }
    }
}

/// Has the disk take the log, however long that takes; answers whether it did before the store was
/// closed.
async fn sync(writer: &mut Writer, closing: &CancellationToken) -> bool {
    while let Err(error) = writer.sync().await {
        tracing::error!(%error, "the disk does not take the store's log; nothing is confirmed");
        tokio::select! {
            () = tokio::time::sleep(SYNC_PAUSE) => {}
            () = closing.cancelled() => return false,
        }
    }
    true
}

async fn transaction(
    writer: &mut Writer,
    changes: &mut [Box<dyn Queued>],
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let connection = writer.connection().await?;
    if let [only] = changes {
        return only.alone(connection).await;
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for change in changes {
        change.among(&mut transaction).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use sqlx::ConnectOptions;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::database::{OftenAsked, reader_options, readers, writer_options};

    type Inserting = JoinHandle<Result<(), StoreError>>;

    /// A database whose log is looked for at another path than it is at.
    async fn database(path: &Path, log: &Path) -> Arc<Database> {
        let options = writer_options(path).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        connection.execute("CREATE TABLE t (x)").await.unwrap();
        let mut writer = Writer::new(path, options, connection);
        writer.look_for_log_at(log);
        Arc::new(Database {
            reader: readers(path),
            often: OftenAsked::new(reader_options(path)),
            group: Group::new(writer),
        })
    }

    fn insert(database: &Arc<Database>) -> Inserting {
        let database = Arc::clone(database);
        tokio::spawn(async move {
            let change = database.change(Durability::Disk, |connection| {
                Box::pin(async move {
                    let done = connection.execute("INSERT INTO t VALUES (1)").await;
                    done.map(drop).doing("inserting")
                })
            });
            change.await
        })
    }

    async fn rows(database: &Database) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM t");
        count.fetch_one(database.reader()).await.unwrap()
    }

    /// A database that has committed a row and cannot sync its log, as long as a file is in the
    /// way; who made the row; and the file.
    async fn unconfirmed(top: &Path) -> (Arc<Database>, Inserting, PathBuf) {
        let blocked = top.join("blocked");
        std::fs::write(&blocked, "").unwrap();
        let database = database(&top.join("t.db"), &blocked.join("log")).await;
        let inserting = insert(&database);
        while rows(&database).await == 0 {
            tokio::task::yield_now().await;
        }
        (database, inserting, blocked)
    }

    #[tokio::test]
    async fn what_is_committed_is_confirmed_when_the_disk_works_again() {
        let top = tempfile::tempdir().unwrap();
        let (database, inserting, blocked) = unconfirmed(top.path()).await;
        tokio::time::sleep(SYNC_PAUSE / 10).await;
        assert!(!inserting.is_finished(), "the log was not synced");
        std::fs::remove_file(&blocked).unwrap();
        inserting.await.unwrap().unwrap();
        assert_eq!(rows(&database).await, 1);
        database.close().await;
    }

    #[tokio::test]
    async fn a_store_is_closed_while_its_disk_does_not_work() {
        let top = tempfile::tempdir().unwrap();
        let (database, inserting, _blocked) = unconfirmed(top.path()).await;
        // More than share a transaction: each one that begins before the end meets that disk too.
        let others: Vec<_> = (0..3 * CHANGES_AT_ONCE)
            .map(|_| insert(&database))
            .collect();
        tokio::task::yield_now().await;
        database.close().await;
        for inserting in others.into_iter().chain([inserting]) {
            let answer = inserting.await.unwrap();
            assert!(matches!(answer, Err(StoreError::Closed)), "{answer:?}");
        }
    }
}
