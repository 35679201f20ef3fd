//! How a database is opened and spoken to: an SQLite file or a PostgreSQL server, by one SQL text.
//!
//! Invariants: writers are one at a time on both engines, also those of other processes, so that
//! what a write transaction has read stays true until it ends; a statement is a text of the
//! program, and what it is about is bound to it; an error says nothing of a password; what a row
//! holds is checked when it is read, and never panics. Holds no SQL about anybody's tables, and
//! reads no environment and no file that was not named.

mod address;
mod backup;
mod connection;
#[cfg(test)]
mod contract;
mod database;
mod error;
mod migration;
mod opening;
mod postgres;
mod query;
mod readers;
mod reservation;
mod row;
mod sqlite;
mod statements;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

pub use address::{DatabaseAddress, ParseAddressError, Server};
pub use backup::{BackupProblem, Workplace, check_backup, write_new};
pub use connection::{Connection, Target, Transaction};
pub use database::{Database, Durability, Rules};
pub use error::{DatabaseError, Failure};
pub use migration::Migration;
pub use opening::{FileLock, Opening};
pub use query::{Query, Value, query};
pub use readers::{OftenAsked, Readers};
pub use reservation::{Reservation, Reserved};
pub use row::{Column, FromRow, Row};
pub use statements::Statements;
pub use tables::Tables;
pub use writer::Writer;
