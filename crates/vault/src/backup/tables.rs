//! The tables of a vault, as they are copied: in the order in which they refer to each other.

use database::{DatabaseError, Row, Value};

use Holds::{Bytes, Integer, Text};

/// What a column holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holds {
    Text,
    Integer,
    Bytes,
}

/// A table whose key is its first columns.
pub(super) struct Table {
    pub(super) columns: &'static [Holds],
    /// The rows after a key, as many as are asked for.
    pub(super) page: &'static str,
    pub(super) keys: usize,
    pub(super) insert: &'static str,
}

impl Holds {
    pub(super) fn read(self, row: &Row, column: usize) -> Result<Value, DatabaseError> {
        Ok(match self {
            Self::Text => Value::Text(row.get(column)?),
            Self::Integer => Value::Integer(row.get(column)?),
            Self::Bytes => Value::Bytes(row.get(column)?),
        })
    }

    /// What is before every key.
    pub(super) fn first(self) -> Value {
        match self {
            Self::Text => Value::Text(Some(String::new())),
            Self::Integer => Value::Integer(Some(i64::MIN)),
            Self::Bytes => Value::Bytes(Some(Vec::new())),
        }
    }
}

pub(super) const TABLES: &[Table] = &[
    Table {
        columns: &[
            Integer, Bytes, Bytes, Bytes, Bytes, Integer, Bytes, Bytes, Integer, Bytes,
        ],
        page: "SELECT singleton, vault_id, root_key_id, audit_key_id, audit_key, head_sequence,
                      head_mac, head_seal, created_at, next_root_key_id
               FROM vault WHERE singleton > $1
               ORDER BY singleton LIMIT $2",
        keys: 1,
        insert: "INSERT INTO vault (singleton, vault_id, root_key_id, audit_key_id, audit_key,
                      head_sequence, head_mac, head_seal, created_at, next_root_key_id)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    },
    Table {
        columns: &[Text, Bytes, Bytes, Integer, Bytes],
        page: "SELECT workspace, key_id, wrapped, created_at, root_key_id
               FROM workspace_key WHERE workspace > $1
               ORDER BY workspace LIMIT $2",
        keys: 1,
        insert: "INSERT INTO workspace_key (workspace, key_id, wrapped, created_at, root_key_id)
               VALUES ($1, $2, $3, $4, $5)",
    },
    Table {
        columns: &[Text, Text, Text, Integer, Bytes, Integer, Integer, Text],
        page: "SELECT secret_id, workspace, name, current_version, head_mac, created_at,
                      removed_at, after_removal
               FROM secret WHERE secret_id > $1
               ORDER BY secret_id LIMIT $2",
        keys: 1,
        insert: "INSERT INTO secret (secret_id, workspace, name, current_version, head_mac,
                      created_at, removed_at, after_removal)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    },
    Table {
        columns: &[
            Text, Integer, Text, Text, Bytes, Text, Integer, Integer, Text, Text, Text, Text,
            Integer, Integer, Text,
        ],
        page: "SELECT secret_id, version, kind, scope, sealed, actor, created_at, retired_at,
                      state, proven, rung, realm, checked_at, not_after, in_clear
               FROM secret_version WHERE (secret_id, version) > ($1, $2)
               ORDER BY secret_id, version LIMIT $3",
        keys: 2,
        insert: "INSERT INTO secret_version (secret_id, version, kind, scope, sealed, actor,
                      created_at, retired_at, state, proven, rung, realm, checked_at,
                      not_after, in_clear)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    },
    Table {
        columns: &[
            Text, Text, Text, Integer, Text, Text, Text, Integer, Integer, Integer, Text, Text,
            Text, Text, Integer, Integer, Bytes,
        ],
        page: "SELECT lease_id, workspace, secret_id, version, image, container, owner,
                      begun_at, expires_at, ended_at, end_reason, repository, worker, rung,
                      not_after, renewals, nonce
               FROM lease WHERE lease_id > $1
               ORDER BY lease_id LIMIT $2",
        keys: 1,
        insert: "INSERT INTO lease (lease_id, workspace, secret_id, version, image, container,
                      owner, begun_at, expires_at, ended_at, end_reason, repository, worker,
                      rung, not_after, renewals, nonce)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
               $17)",
    },
    Table {
        columns: &[
            Integer, Integer, Text, Text, Text, Text, Integer, Text, Text, Bytes,
        ],
        page: "SELECT sequence, at, actor, action, workspace, secret_id, version, subject,
                      detail, mac
               FROM audit WHERE sequence > $1
               ORDER BY sequence LIMIT $2",
        keys: 1,
        insert: "INSERT INTO audit (sequence, at, actor, action, workspace, secret_id, version,
                      subject, detail, mac)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    },
];

#[cfg(test)]
mod tests {
    use database::query;

    use super::*;
    use crate::place::OpeningLock;

    /// What a statement of [`TABLES`] names between these.
    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        let (_, rest) = text.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    }

    fn names(list: &str) -> Vec<&str> {
        list.split(',').map(str::trim).collect()
    }

    /// A table or a column that is added and not copied would be missing in a backup.
    #[tokio::test]
    async fn every_column_of_every_table_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let lock = OpeningLock::take(directory.path(), None).await.unwrap();
        let database = lock.open().await.unwrap();
        let asked = query(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_sqlx_migrations'
             ORDER BY name",
        );
        let made: Vec<(String,)> = asked.fetch_all(&database).await.unwrap();
        let mut copied: Vec<_> = TABLES
            .iter()
            .map(|table| (between(table.insert, "INSERT INTO ", " ").to_owned(),))
            .collect();
        copied.sort();
        assert_eq!(copied, made);
        for table in TABLES {
            let name = between(table.insert, "INSERT INTO ", " ");
            let inserted = names(between(table.insert, "(", ")"));
            assert_eq!(names(between(table.page, "SELECT", "FROM")), inserted);
            let asked = query("SELECT name, type, pk FROM pragma_table_info($1)").bind(name);
            let columns: Vec<(String, String, i64)> = asked.fetch_all(&database).await.unwrap();
            let mut expected: Vec<_> = columns.iter().map(|(name, ..)| name.as_str()).collect();
            let mut sorted = inserted.clone();
            expected.sort_unstable();
            sorted.sort_unstable();
            assert_eq!(sorted, expected, "{name}");
            for (at, (column, holds)) in inserted.iter().zip(table.columns).enumerate() {
                let (_, kind, key) = columns.iter().find(|(name, ..)| name == column).unwrap();
                let expected = match holds {
                    Text => "TEXT",
                    Integer => "INTEGER",
                    Bytes => "BLOB",
                };
                assert_eq!(kind, expected, "{name}.{column}");
                assert_eq!(at < table.keys, *key > 0, "{name}.{column}");
            }
            assert_eq!(inserted.len(), table.columns.len(), "{name}");
        }
    }
}
