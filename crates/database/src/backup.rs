//! Backups: one SQLite file each, wherever the database is, which is looked at before a row of it
//! is believed.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sqlx::SqliteConnection;

use crate::connection::{Connection, Target};
use crate::database::Rules;
use crate::error::DatabaseError;
use crate::query::query;
use crate::readers::Readers;
use crate::tables::make_in_memory;

/// What is wrong with a file that was to be a backup, as it follows its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackupProblem {
    #[error("is no backup of this kind")]
    Other,
    #[error("was written by a newer version of Holdfast")]
    Newer,
    #[error("is damaged")]
    Damaged,
}

/// A directory beside a database in which a copy of one is made. It goes with what is left in it.
#[derive(Debug)]
pub struct Workplace(PathBuf);

impl Workplace {
    /// Only under the lock of that database's path: what is there already was left by a process
    /// that was killed.
    pub fn beside(database: &Path) -> io::Result<Self> {
        let directory = with_suffix(database, ".copying");
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self(directory))
    }

    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Copies a file into it, as long as it is now; what is no file is refused unopened, since a
    /// pipe has no end.
    pub fn take_copy(&self, of: &Path, name: &str) -> io::Result<PathBuf> {
        let metadata = std::fs::metadata(of)?;
        if !metadata.is_file() {
            return Err(io::Error::other("is no file"));
        }
        let path = self.0.join(name);
        let mut to = new_private(&path)?;
        let from = File::open(of)?;
        io::copy(&mut io::Read::take(from, metadata.len()), &mut to)?;
        to.sync_all()?;
        Ok(path)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _left_for_the_next = std::fs::remove_dir_all(&self.0);
    }
}

/// Has a file that is not there yet appear whole or not at all, for its owner alone: `write` is
/// given the name that it has until then, of an empty file. Answers how long it is.
pub async fn write_new<E>(
    path: &Path,
    failed: impl Fn(io::Error) -> E,
    write: impl AsyncFnOnce(&Path) -> Result<(), E>,
) -> Result<u64, E> {
    if path.symlink_metadata().is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let partial = with_suffix(path, ".partial");
    let file = new_private(&partial).map_err(&failed)?;
    let written = match write(&partial).await {
        Ok(()) => appear(&file, &partial, path).map_err(failed),
        Err(error) => Err(error),
    };
    let _gone_or_of_no_use = std::fs::remove_file(&partial);
    written
}

/// A link takes nobody's place, where a rename would.
fn appear(file: &File, partial: &Path, path: &Path) -> io::Result<u64> {
    file.sync_all()?;
    std::fs::hard_link(partial, path)?;
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file.metadata()?.len())
}

fn new_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a file that nobody changes has the tables of one of these versions, and nothing beside
/// them: a view, a trigger or a column that is computed would be a program of a stranger's. What
/// stands in its rows is for who copies them.
pub async fn check_backup(path: &Path, rules: &Rules) -> Result<(), BackupProblem> {
    let file = Readers::of_unchanged(path);
    let checked = check_open(&file, rules).await;
    file.close().await;
    checked
}

async fn check_open(file: &Readers, rules: &Rules) -> Result<(), BackupProblem> {
    let found = schema(file).await.map_err(|_| BackupProblem::Other)?;
    let mut latest = Vec::new();
    for count in 1..=rules.migrations.len() {
        let version = Rules {
            migrations: &rules.migrations[..count],
            ..*rules
        };
        latest = schema_of(&version).await.expect("migrations of ours apply");
        if found == latest {
            return check_pages(file).await;
        }
    }
    Err(newer_or_other(file, &found, &latest, rules).await)
}

async fn check_pages(file: &Readers) -> Result<(), BackupProblem> {
    let checked = query("PRAGMA integrity_check(1)").fetch_one(file).await;
    match checked {
        Ok((answer,)) if answer == "ok" => Ok(()),
        Ok::<(String,), _>(_) | Err(_) => Err(BackupProblem::Damaged),
    }
}

/// One row of a schema: what kind of thing it is, its name, and how it was made.
type Made = (String, String, Option<String>);

/// However its lines were broken by the version that made it.
async fn schema<'t>(of: impl Into<Target<'t>>) -> Result<Vec<Made>, DatabaseError> {
    let asked = query("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name");
    let rows: Vec<Made> = asked.fetch_all(of).await?;
    let on_one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows = rows.into_iter();
    Ok(rows
        .map(|(kind, name, text)| (kind, name, text.map(on_one_line)))
        .collect())
}

async fn schema_of(rules: &Rules) -> Result<Vec<Made>, DatabaseError> {
    let mut made: SqliteConnection = make_in_memory(rules).await?;
    schema(&mut Connection::Sqlite(&mut made)).await
}

/// The list of migrations is asked where it is the table that it should be.
async fn newer_or_other(
    file: &Readers,
    found: &[Made],
    latest: &[Made],
    rules: &Rules,
) -> BackupProblem {
    let mut lists = latest.iter().filter(|it| it.1 == "_sqlx_migrations");
    if !lists.all(|list| found.contains(list)) {
        return BackupProblem::Other;
    }
    let known: Vec<i64> = rules.migrations.iter().map(|it| it.version).collect();
    let first = query("SELECT description FROM _sqlx_migrations WHERE version = 1");
    let newest = query("SELECT coalesce(max(version), 0) FROM _sqlx_migrations");
    let first: Result<(String,), _> = first.fetch_one(file).await;
    let newest: Result<(i64,), _> = newest.fetch_one(file).await;
    match (first, newest) {
        (Ok((first,)), Ok((newest,)))
            if first == rules.migrations[0].name && !known.contains(&newest) =>
        {
            BackupProblem::Newer
        }
        _ => BackupProblem::Other,
    }
}
