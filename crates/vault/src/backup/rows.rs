//! All rows of one database in another, as they are.
//!
//! They are read in one snapshot and written in one transaction, table by table in the order in
//! which they refer to each other, and within a table by its key, so that no table is held in
//! memory.

use database::{Database, DatabaseError, Row, Transaction, Value, query};

use super::tables::{TABLES, Table};
use crate::error::{Doing, VaultError};

/// Rows in memory at a time. One has at most some 350 KB sealed.
const PAGE_ROWS: i64 = 100;

/// Copies everything into a database that has nothing.
pub(super) async fn copy(from: &Database, to: &Database) -> Result<(), VaultError> {
    let mut source = from.snapshot().await.doing("beginning to copy")?;
    let mut target = to.begin().await.doing("beginning to write a copy")?;
    for table in TABLES {
        copy_table(table, &mut source, &mut target).await?;
    }
    target.commit().await.doing("committing a copy")
}

async fn copy_table(
    table: &Table,
    source: &mut Transaction<'_>,
    target: &mut Transaction<'_>,
) -> Result<(), VaultError> {
    let keys = table.columns[..table.keys].iter();
    let mut after: Vec<Value> = keys.map(|holds| holds.first()).collect();
    loop {
        let page = after
            .drain(..)
            .fold(query(table.page), database::Query::bind);
        let page = page.bind(PAGE_ROWS).fetch_all(&mut *source);
        let rows: Vec<Row> = page.await.doing("reading rows to copy")?;
        for row in &rows {
            let values = values(table, row).doing("reading a row to copy")?;
            after = values[..table.keys].to_vec();
            let insert = values
                .into_iter()
                .fold(query(table.insert), database::Query::bind);
            insert
                .execute(&mut *target)
                .await
                .doing("writing a copied row")?;
        }
        if rows.is_empty() {
            return Ok(());
        }
    }
}

fn values(table: &Table, row: &Row) -> Result<Vec<Value>, DatabaseError> {
    let columns = table.columns.iter().enumerate();
    columns.map(|(at, holds)| holds.read(row, at)).collect()
}
