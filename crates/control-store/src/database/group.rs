//! Changes of many callers in one transaction: a commit that reaches the disk takes as long for
//! one as for a hundred.
//!
//! A change among others has a savepoint of its own, so that one that fails costs the others
//! nothing; one that is alone is a transaction of its own. Nobody is answered before the commit,
//! nor before the log is synced who asks for that.

use std::pin::Pin;
use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

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

/// What is being done to the database, within a transaction.
pub(crate) type Changing<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// The way to the transactions that many share.
#[derive(Debug)]
pub(crate) struct Group {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Change(Box<dyn Queued>),
    /// The last one; answered when the connection is closed.
    Close(oneshot::Sender<()>),
}

impl Group {
    /// Writes through this until it is closed or dropped.
    pub(super) fn new(writer: Writer) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(write(writer, waiting));
        Self { queue }
    }

    async fn ask<T>(
        &self,
        change: Box<dyn Queued>,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let queued = self.queue.send(Message::Change(change)).await;
        queued.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Closes the connection after what was asked before.
    pub(super) async fn close(&self) {
        let (closed, waiting) = oneshot::channel();
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
        self.group.ask(Box::new(change), answer).await
    }

    /// Has all that was changed survive a power cut.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.group.ask(Box::new(Sync { reply }), answer).await
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
        self.group.ask(Box::new(run), answer).await
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

/// No change, for who only waits for the disk.
struct Sync {
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Queued for Sync {
    fn durability(&self) -> Durability {
        Durability::Disk
    }

    fn alone<'c>(&'c mut self, _: &'c mut SqliteConnection) -> Making<'c> {
        Box::pin(async { Ok(()) })
    }

    fn among<'c>(&'c mut self, _: &'c mut SqliteConnection) -> Making<'c> {
        Box::pin(async { Ok(()) })
    }

    fn answer(self: Box<Self>, committed: &Result<(), Arc<sqlx::Error>>) {
        answer(self.reply, Some(Ok(())), committed);
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

async fn write(mut writer: Writer, mut waiting: mpsc::Receiver<Message>) {
    let mut closing = None;
    while closing.is_none()
        && let Some(first) = waiting.recv().await
    {
        let mut changes = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Change(change) => changes.push(change),
                Message::Close(closed) => closing = Some(closed),
            }
            let is_enough = changes.len() >= CHANGES_AT_ONCE || closing.is_some();
            next = if is_enough {
                None
            } else {
                waiting.try_recv().ok()
            };
        }
        let committed = transaction(&mut writer, &mut changes).await;
        if committed.is_err() {
            writer.close().await;
        }
        settle(&mut writer, changes, committed).await;
    }
    writer.close().await;
    if let Some(closed) = closing {
        let _ = closed.send(());
    }
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

/// Answers each change when it is as durable as asked.
async fn settle(
    writer: &mut Writer,
    changes: Vec<Box<dyn Queued>>,
    committed: Result<(), sqlx::Error>,
) {
    let tell = |changes: Vec<Box<dyn Queued>>, outcome: Result<(), sqlx::Error>| {
        let outcome = outcome.map_err(Arc::new);
        for change in changes {
            change.answer(&outcome);
        }
    };
    if committed.is_err() {
        return tell(changes, committed);
    }
    let (waiting, ready) = changes
        .into_iter()
        .partition(|change| change.durability() == Durability::Disk);
    tell(ready, Ok(()));
    if !waiting.is_empty() {
        tell(waiting, writer.sync().await);
    }
}
