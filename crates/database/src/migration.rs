//! Changes of tables, in one text for both engines.

mod translation;

use sqlx::migrate::{Migration as EngineMigration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

/// A step from one version of the tables to the next. Its text is SQLite's, and never changes once
/// it was released.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub version: i64,
    pub name: &'static str,
    pub text: &'static str,
    /// For PostgreSQL, where `translation` does not make one of the text above.
    pub postgres: Option<&'static str>,
}

impl Migration {
    pub const fn new(version: i64, name: &'static str, text: &'static str) -> Self {
        Self {
            version,
            name,
            text,
            postgres: None,
        }
    }
}

pub(crate) fn for_sqlite(migrations: &[Migration]) -> Migrator {
    let steps = migrations.iter().map(step);
    Migrator::with_migrations(steps.collect())
}

/// The same steps, their texts translated, and known by the text that they are made of: another
/// translation of the same is no other step.
pub(crate) fn for_postgres(migrations: &[Migration]) -> Migrator {
    let steps = migrations.iter().map(|migration| {
        let text = match migration.postgres {
            Some(text) => text.to_owned(),
            None => translation::to_postgres(migration.text),
        };
        EngineMigration {
            sql: AssertSqlSafe(text).into_sql_str(),
            ..step(migration)
        }
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    // It runs in a transaction that holds the write lock.
    migrator.set_locking(false);
    migrator
}

fn step(migration: &Migration) -> EngineMigration {
    EngineMigration::new(
        migration.version,
        migration.name.into(),
        MigrationType::Simple,
        migration.text.into_sql_str(),
        false,
    )
}
