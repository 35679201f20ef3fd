//! Changes that are nothing but statements: the connection's thread makes them all in one turn.
//!
//! Every question to a connection wakes its thread and whoever asks, which takes longer than most
//! statements do. So what happens with every call is written as one text of several statements,
//! each guarded by a condition of its own where it depends on how things stand.

use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

/// A query, and what is bound to it. Statements take their arguments one after the other, each
/// from where the one before has ended: a numbered one, as `?1`, would not know of the others.
pub(crate) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// Statements that make one change, in both forms that it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statements {
    /// As a transaction.
    pub(super) alone: &'static str,
    /// Within one, which they leave as it was when one of them fails.
    pub(super) among: &'static str,
}

impl Statements {
    pub(crate) const fn new(alone: &'static str, among: &'static str) -> Self {
        Self { alone, among }
    }
}

/// What takes back what was made of a change among others.
pub(super) const TAKE_BACK: &str = "ROLLBACK TO change; RELEASE change";

macro_rules! statements {
    ($($sql:expr),+ $(,)?) => {
        $crate::database::Statements::new(
            concat!("BEGIN IMMEDIATE;", $($sql, ";",)+ "COMMIT"),
            concat!("SAVEPOINT change;", $($sql, ";",)+ "RELEASE change"),
        )
    };
}

pub(crate) use statements;
