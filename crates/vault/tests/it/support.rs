//! A vault in a temporary directory, and ways to get at its file from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use credential::{SecretName, SecretString};
use ids::WorkspaceId;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;
use vault::{
    Clock, KeySource, LeaseReader, NewSecret, OpenedSecret, Renewal, RootKey, SealedVersion, Stamp,
    Vault, VaultError, VaultPlace,
};

/// Which process reads the root key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeping {
    /// This one.
    Here,
    /// A keeper: this program again.
    Keeper,
}

/// The tests of these names, which take a [`Keeping`], once for each.
macro_rules! with_each_keeping {
    ($($test:ident,)+) => {
        mod here {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::support::Keeping::Here).await;
            }
        )+}
        mod keeper {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::support::Keeping::Keeper).await;
            }
        )+}
    };
}
pub(crate) use with_each_keeping;

pub(crate) struct Stage {
    keeping: Keeping,
    pub(crate) directory: TempDir,
    pub(crate) vault: Vault,
    pub(crate) workspace: WorkspaceId,
    pub(crate) time: Time,
}

/// A clock that a test turns.
#[derive(Clone)]
pub(crate) struct Time(Arc<AtomicI64>);

impl Time {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_700_000_000)))
    }

    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = Arc::clone(&self.0);
        Clock::new(move || Timestamp::from_second(time.load(Ordering::Relaxed)).unwrap())
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(Keeping::Here).await
    }

    pub(crate) async fn with(keeping: Keeping) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let time = Time::new();
        let vault = Vault::open_with(keeping.place(directory.path()), time.clock())
            .await
            .unwrap();
        Self {
            keeping,
            directory,
            vault,
            workspace: WorkspaceId::new(),
            time,
        }
    }

    pub(crate) fn place(&self) -> VaultPlace {
        self.keeping.place(self.directory.path())
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(self.directory.path())
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        key_file(self.directory.path())
    }

    /// The same files, as another process would have them.
    pub(crate) async fn again(&self) -> Result<Vault, VaultError> {
        Vault::open_with(self.place(), self.time.clock()).await
    }

    pub(crate) async fn put(&self, secret: &str, plaintext: &str) -> SealedVersion {
        put(&self.vault, self.workspace, secret, plaintext)
            .await
            .unwrap()
    }

    pub(crate) async fn open(
        &self,
        secret: &str,
        version: Option<u32>,
    ) -> Result<OpenedSecret, VaultError> {
        self.vault
            .open_secret(self.workspace, &name(secret), version, "a test")
            .await
    }

    /// Runs SQL on the file behind the vault's back.
    pub(crate) async fn sql(&self, statements: &str) {
        self.sql_on(&self.database(), statements).await;
    }

    pub(crate) async fn sql_on(&self, database: &Path, statements: &str) {
        let mut connection = connection(database).await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        let mut connection = connection(&self.database()).await;
        let number = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        number
    }

    pub(crate) async fn blob(&self, query: &str) -> Vec<u8> {
        let mut connection = connection(&self.database()).await;
        let blob = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        blob
    }
}

async fn connection(database: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(database)
        .foreign_keys(false)
        .connect()
        .await
        .unwrap()
}

impl Keeping {
    pub(crate) fn place(self, directory: &Path) -> VaultPlace {
        VaultPlace {
            database: database(directory),
            root_key: self.root_key(&key_file(directory)),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what is not tested with a keeper is quicker"
    )]
    pub(crate) fn root_key(self, file: &Path) -> RootKey {
        match self {
            Self::Here => RootKey::in_this_process(file),
            Self::Keeper => {
                let source = KeySource::File(file.to_owned());
                RootKey::kept_by(crate::role::program("key_keeper"), &source)
            }
        }
    }
}

/// A vault whose root key is read by this process.
pub(crate) fn place(directory: &Path) -> VaultPlace {
    Keeping::Here.place(directory)
}

pub(crate) fn database(directory: &Path) -> PathBuf {
    directory.join("data/vault.db")
}

pub(crate) fn key_file(directory: &Path) -> PathBuf {
    directory.join("etc/root.key")
}

pub(crate) fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

pub(crate) async fn put(
    vault: &Vault,
    workspace: WorkspaceId,
    secret_name: &str,
    plaintext: &str,
) -> Result<SealedVersion, VaultError> {
    let new = NewSecret {
        name: &name(secret_name),
        kind: "basic",
        scope: "ghcr.io",
        plaintext: &secret(plaintext),
        in_clear: None,
    };
    vault.put(workspace, new, "a test").await
}

/// A container on no worker.
pub(crate) const READER: LeaseReader<'_> = LeaseReader {
    worker: None,
    container: "ctr",
};

/// A renewal that gives nothing new.
pub(crate) fn renewal(number: u64, version: u32) -> Renewal {
    Renewal {
        stamp: Stamp::fresh(number),
        version,
        until: None,
        given: None,
    }
}

/// Every file below a directory, with its bytes.
pub(crate) fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

pub(crate) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
