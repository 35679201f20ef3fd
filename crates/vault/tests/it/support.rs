//! A vault in a temporary directory, and ways to get at its file from outside.

mod server;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::fake_service::Fake;
use credential::{SecretName, SecretString};
use ids::WorkspaceId;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
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
    /// None: a service keeps it.
    Service,
}

/// What has the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    File,
    /// A PostgreSQL server, which all tests of this process share.
    Server,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    keeping: Keeping,
    engine: Engine,
}

impl Engine {
    pub(crate) fn place(self, directory: &Path) -> VaultPlace {
        Setting::on(self).place(directory)
    }
}

impl Setting {
    pub(crate) const HERE: Self = Self {
        keeping: Keeping::Here,
        engine: Engine::File,
    };
    pub(crate) const KEEPER: Self = Self {
        keeping: Keeping::Keeper,
        engine: Engine::File,
    };
    pub(crate) const SERVER: Self = Self {
        keeping: Keeping::Keeper,
        engine: Engine::Server,
    };

    /// A key service, and the rows in a file.
    pub(crate) const SERVICE: Self = Self {
        keeping: Keeping::Service,
        engine: Engine::File,
    };

    pub(crate) fn is_kept_by_service(self) -> bool {
        matches!(self.keeping, Keeping::Service)
    }

    pub(crate) fn on(engine: Engine) -> Self {
        Self {
            keeping: Keeping::Here,
            engine,
        }
    }
}

/// The tests of these names, which take a [`Setting`], once for each.
macro_rules! with_each_setting {
    ($($test:ident,)+) => {
        $crate::support::tests_of!(here, $crate::support::Setting::HERE, $($test,)+);
        $crate::support::tests_of!(keeper, $crate::support::Setting::KEEPER, $($test,)+);
        $crate::support::tests_of!(server, $crate::support::Setting::SERVER, $($test,)+);
    };
}
pub(crate) use with_each_setting;

/// The tests of these names, which take an [`Engine`], once for each.
macro_rules! on_each_engine {
    ($($test:ident,)+) => {
        $crate::support::tests_of!(on_file, $crate::support::Engine::File, $($test,)+);
        $crate::support::tests_of!(on_server, $crate::support::Engine::Server, $($test,)+);
    };
}
pub(crate) use on_each_engine;

macro_rules! tests_of {
    ($module:ident, $with:expr, $($test:ident,)+) => {
        mod $module {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($with).await;
            }
        )+}
    };
}
pub(crate) use tests_of;

pub(crate) struct Stage {
    setting: Setting,
    behind: Mutex<Option<PgConnection>>,
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
        Self::with(Setting::HERE).await
    }

    pub(crate) async fn on(engine: Engine) -> Self {
        Self::with(Setting::on(engine)).await
    }

    pub(crate) async fn with(setting: Setting) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let time = Time::new();
        let vault = Vault::open_with(setting.place(directory.path()), time.clock())
            .await
            .unwrap();
        Self {
            setting,
            behind: Mutex::default(),
            directory,
            vault,
            workspace: WorkspaceId::new(),
            time,
        }
    }

    pub(crate) fn place(&self) -> VaultPlace {
        self.setting.place(self.directory.path())
    }

    /// Another place of the same sort.
    pub(crate) fn elsewhere(&self, name: &str) -> VaultPlace {
        self.setting.place(&self.directory.path().join(name))
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

    /// Whether the rows are on a server.
    pub(crate) fn is_on_server(&self) -> bool {
        matches!(self.setting.engine, Engine::Server)
    }

    /// Runs SQL on the database behind the vault's back.
    pub(crate) async fn sql(&self, statements: &str) {
        match self.setting.engine {
            Engine::File => sql_on(&self.database(), statements).await,
            Engine::Server => {
                let run = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
                run.execute(&mut *self.behind().await).await.unwrap();
            }
        }
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(format!("SELECT CAST(({query}) AS BIGINT)"));
        match self.setting.engine {
            Engine::File => {
                let mut connection = connection(&self.database()).await;
                let number = sqlx::query_scalar(query).fetch_one(&mut connection);
                number.await.unwrap()
            }
            Engine::Server => {
                let mut connection = self.behind().await;
                let number = sqlx::query_scalar(query).fetch_one(&mut *connection);
                number.await.unwrap()
            }
        }
    }

    pub(crate) async fn blob(&self, query: &str) -> Vec<u8> {
        let query = AssertSqlSafe(query.to_owned());
        match self.setting.engine {
            Engine::File => {
                let mut connection = connection(&self.database()).await;
                let blob = sqlx::query_scalar(query).fetch_one(&mut connection);
                blob.await.unwrap()
            }
            Engine::Server => {
                let mut connection = self.behind().await;
                let blob = sqlx::query_scalar(query).fetch_one(&mut *connection);
                blob.await.unwrap()
            }
        }
    }

    /// A connection to the server, which is kept: making one is more work than what it is for.
    async fn behind(&self) -> MappedMutexGuard<'_, PgConnection> {
        let mut behind = self.behind.lock().await;
        if behind.is_none() {
            *behind = Some(server::connection(self.directory.path()).await);
        }
        MutexGuard::map(behind, |behind| behind.as_mut().unwrap())
    }
}

/// Runs SQL on a file.
pub(crate) async fn sql_on(file: &Path, statements: &str) {
    let mut connection = connection(file).await;
    let run = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    run.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn connection(database: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(database)
        .foreign_keys(false)
        .connect()
        .await
        .unwrap()
}

impl Setting {
    pub(crate) fn place(self, directory: &Path) -> VaultPlace {
        VaultPlace {
            data: data(directory),
            server: match self.engine {
                Engine::File => None,
                Engine::Server => Some(server::of(directory)),
            },
            root_key: self.root_key(&key_file(directory)),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what is not tested with a keeper is quicker"
    )]
    pub(crate) fn root_key(self, file: &Path) -> RootKey {
        match self.keeping {
            Keeping::Here => RootKey::in_this_process(file),
            Keeping::Keeper => {
                let source = KeySource::File(file.to_owned());
                RootKey::kept_by(crate::role::program("key_keeper"), &source)
            }
            Keeping::Service => {
                let service = Fake::named(&file.to_string_lossy());
                RootKey::in_service(Arc::new(service))
            }
        }
    }

    /// As an argument or in the environment.
    pub(crate) fn word(self) -> String {
        format!("{:?}-{:?}", self.keeping, self.engine)
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        let known = [Self::HERE, Self::KEEPER, Self::SERVER];
        known.into_iter().find(|setting| setting.word() == word)
    }
}

pub(crate) fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

pub(crate) fn database(directory: &Path) -> PathBuf {
    data(directory).join("vault.db")
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

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(digits, "{byte:02x}").unwrap();
    }
    digits
}

pub(crate) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
