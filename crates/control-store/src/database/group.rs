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

use database::{Connection, DatabaseError, Query, Row, Statements, Transaction, Value, Writer};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Database;
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
        F: for<'c> FnOnce(&'c mut Connection<'_>) -> Changing<'c, T> + Send + 'static,
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

    /// Makes a change that is one statement; answers how many rows it changed.
    pub(crate) async fn execute(
        &self,
        durability: Durability,
        doing: &'static str,
        query: Query,
    ) -> Result<u64, StoreError> {
        let change = self.change(durability, move |connection| {
            Box::pin(async move { query.execute(connection).await.doing(doing) })
        });
        change.await
    }

    /// Has all that was changed survive a power cut.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.group.ask(Message::Sync(reply), answer).await
    }

    /// Makes a change that is nothing but statements, and answers their rows.
    pub(crate) async fn run(
        &self,
        durability: Durability,
        statements: &'static Statements,
        doing: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let run = Run {
            durability,
            statements,
            doing,
            values,
            result: None,
            reply,
        };
        let message = Message::Change(Box::new(run));
        self.group.ask(message, answer).await
    }
}

/// A change being made. What fails here is the transaction; what a change comes to, it keeps.
type Making<'c> = Pin<Box<dyn Future<Output = Result<(), DatabaseError>> + Send + 'c>>;

/// A change that waits, whatever its answer is.
trait Queued: Send {
    fn durability(&self) -> Durability;

    /// Makes the change as a transaction, which ends with it.
    fn alone<'c>(&'c mut self, writer: &'c mut Writer, durability: Durability) -> Making<'c>;

    /// Makes the change within a transaction, which is left as it was when it fails.
    fn among<'c>(&'c mut self, transaction: &'c mut Transaction<'_>) -> Making<'c>;

    fn answer(self: Box<Self>, committed: &Result<(), Arc<DatabaseError>>);
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
    F: for<'c> FnOnce(&'c mut Connection<'_>) -> Changing<'c, T>,
{
    /// Makes the change in a transaction, and ends that.
    async fn make(&mut self, mut transaction: Transaction<'_>) -> Result<(), DatabaseError> {
        let make = self.make.take().expect("a change is made once");
        let result = make(&mut transaction.connection()).await;
        let stays = result.is_ok();
        self.result = Some(result);
        if stays {
            transaction.commit().await
        } else {
            transaction.rollback().await
        }
    }
}

impl<T, F> Queued for Change<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut Connection<'_>) -> Changing<'c, T> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn alone<'c>(&'c mut self, writer: &'c mut Writer, durability: Durability) -> Making<'c> {
        Box::pin(async move { self.make(writer.begin(durability).await?).await })
    }

    fn among<'c>(&'c mut self, transaction: &'c mut Transaction<'_>) -> Making<'c> {
        Box::pin(async move { self.make(transaction.savepoint().await?).await })
    }

    fn answer(self: Box<Self>, committed: &Result<(), Arc<DatabaseError>>) {
        answer(self.reply, self.result, committed);
    }
}

/// A change by statements.
struct Run {
    durability: Durability,
    statements: &'static Statements,
    doing: &'static str,
    /// Taken when they are run.
    values: Vec<Value>,
    result: Option<Result<Vec<Row>, StoreError>>,
    reply: oneshot::Sender<Result<Vec<Row>, StoreError>>,
}

impl Queued for Run {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn alone<'c>(&'c mut self, writer: &'c mut Writer, durability: Durability) -> Making<'c> {
        Box::pin(async move {
            let values = std::mem::take(&mut self.values);
            let rows = writer.run(self.statements, values, durability).await;
            self.result = Some(rows.doing(self.doing));
            Ok(())
        })
    }

    fn among<'c>(&'c mut self, transaction: &'c mut Transaction<'_>) -> Making<'c> {
        Box::pin(async move {
            let values = std::mem::take(&mut self.values);
            let rows = transaction.run(self.statements, values).await?;
            self.result = Some(rows.doing(self.doing));
            Ok(())
        })
    }

    fn answer(self: Box<Self>, committed: &Result<(), Arc<DatabaseError>>) {
        answer(self.reply, self.result, committed);
    }
}

fn answer<T>(
    reply: oneshot::Sender<Result<T, StoreError>>,
    result: Option<Result<T, StoreError>>,
    committed: &Result<(), Arc<DatabaseError>>,
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
        let durability = self.durability();
        let committed = transaction(writer, durability, &mut self.changes).await;
        let committed = committed.map_err(Arc::new);
        if committed.is_err() {
            writer.close().await;
        }
        let is_settled = committed.is_err() || !writer.syncs_apart();
        let (done, waiting): (Vec<_>, Vec<_>) = self
            .changes
            .into_iter()
            .partition(|change| is_settled || change.durability() == Durability::Process);
        for change in done {
            change.answer(&committed);
        }
        let somebody_waits = !waiting.is_empty() || !self.syncs.is_empty();
        if !somebody_waits {
            return;
        }
        let Some(synced) = sync(writer, closing).await else {
            return;
        };
        for change in waiting {
            change.answer(&Ok(()));
        }
        for reply in self.syncs {
            let synced = synced.as_ref().map(drop);
            // A caller that has gone away is not told.
            let _ = reply.send(synced.map_err(|source| StoreError::Commit {
                source: Arc::clone(source),
            }));
        }
    }

    /// How durable the commit must be, where it says so itself.
    fn durability(&self) -> Durability {
        let durabilities = self.changes.iter().map(|change| change.durability());
        let is_for_disk = durabilities.into_iter().any(|it| it == Durability::Disk);
        if is_for_disk {
            Durability::Disk
        } else {
            Durability::Process
        }
    }
}

/// Has what was committed survive a power cut; nothing when the store was closed before it did. A
/// file's log is waited for, however long the disk does not take it, since all others see already
/// what is in it.
async fn sync(
    writer: &mut Writer,
    closing: &CancellationToken,
) -> Option<Result<(), Arc<DatabaseError>>> {
    loop {
        let error = match writer.sync().await {
            Err(error) if writer.syncs_apart() => error,
            synced => return Some(synced.map_err(Arc::new)),
        };
        tracing::error!(%error, "the disk does not take the store's log; nothing is confirmed");
        tokio::select! {
            () = tokio::time::sleep(SYNC_PAUSE) => {}
            () = closing.cancelled() => return None,
        }
    }
}

async fn transaction(
    writer: &mut Writer,
    durability: Durability,
    changes: &mut [Box<dyn Queued>],
) -> Result<(), DatabaseError> {
    if changes.is_empty() {
        return Ok(());
    }
    if let [only] = changes {
        return only.alone(writer, durability).await;
    }
    let mut transaction = writer.begin(durability).await?;
    for change in changes {
        change.among(&mut transaction).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use database::{DatabaseAddress, query};
    use tokio::task::JoinHandle;

    use super::*;

    type Inserting = JoinHandle<Result<(), StoreError>>;

    fn insert(database: &Arc<Database>, number: usize) -> Inserting {
        let database = Arc::clone(database);
        tokio::spawn(async move {
            let change = database.change(Durability::Disk, move |connection| {
                Box::pin(async move {
                    let text = "INSERT INTO workspace (workspace_id, name, created_at)
                                VALUES ($1, $1, 0)";
                    let done = query(text)
                        .bind(number.to_string())
                        .execute(connection)
                        .await;
                    done.map(drop).doing("inserting")
                })
            });
            change.await
        })
    }

    async fn rows(database: &Database) -> i64 {
        let count = query("SELECT count(*) FROM workspace").fetch_one(database.reader());
        let (count,) = count.await.unwrap();
        count
    }

    /// A database that has committed a row and cannot sync its log, as long as a link is in the
    /// way; who made the row; and the link. SQLite has its log beside the file itself, and we look
    /// for it beside the link that the file is opened by.
    async fn unconfirmed(top: &Path) -> (Arc<Database>, Inserting, PathBuf) {
        let (file, link, blocked) = (top.join("t.db"), top.join("l.db"), top.join("l.db-wal"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::os::unix::fs::symlink(&blocked, &blocked).unwrap();
        let database = Database::open(&DatabaseAddress::File(link)).await.unwrap();
        let database = Arc::new(database);
        let inserting = insert(&database, 0);
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
            .map(|number| insert(&database, number + 1))
            .collect();
        tokio::task::yield_now().await;
        database.close().await;
        for inserting in others.into_iter().chain([inserting]) {
            let answer = inserting.await.unwrap();
            assert!(matches!(answer, Err(StoreError::Closed)), "{answer:?}");
        }
    }
}
