//! The open vault: its files, its keys and what every operation starts from.
//!
//! The root key is read from its file for the moment in which a key is wrapped or unwrapped and
//! is not kept: a process that runs for days holds the keys of the workspaces it serves, and the
//! audit key, nothing above them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ids::WorkspaceId;
use sqlx::SqliteConnection;

use crate::audit::{self, AuditAction, AuditKey, Entry, GroupCommit};
use crate::clock::Clock;
use crate::database::{Database, OpeningLock, parent};
use crate::error::{Doing, VaultError};
use crate::keys::{Key, KeyId, KeyPurpose, Wrapped, fill_random};
use crate::process::ProcessName;
use crate::root_key::RootKeyFile;

const VAULT_ID_BYTES: usize = 16;
/// How often the key file is looked at while a rotation elsewhere renames it. Each look sees a
/// whole key; two renames in between would need two rotations.
const ROOT_KEY_ATTEMPTS: usize = 3;
/// Who the vault itself is in its audit log.
pub(crate) const OURSELVES: &str = "vault";

/// Where a vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultPaths {
    pub database: PathBuf,
    /// Outside the directory of the database, so that a copy of the one is not a copy of both.
    pub root_key: PathBuf,
}

/// Sealed secrets, the leases on them and their audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) paths: VaultPaths,
    pub(crate) database: Database,
    pub(crate) vault_id: Vec<u8>,
    pub(crate) root_key: RootKeyFile,
    pub(crate) audit_key: AuditKey,
    pub(crate) clock: Clock,
    pub(crate) process: ProcessName,
    commits: GroupCommit,
    workspace_keys: Mutex<HashMap<WorkspaceId, Arc<Key>>>,
}

/// The vault's own row.
#[derive(Debug)]
pub(crate) struct VaultRow {
    pub(crate) vault_id: Vec<u8>,
    pub(crate) root_key_id: KeyId,
    pub(crate) audit_key_id: KeyId,
    pub(crate) audit_key: Vec<u8>,
}

impl Vault {
    /// Opens the vault, or makes it with its root key when there is none. A vault whose root key
    /// is missing is refused: a new key would open nothing.
    pub async fn open(paths: VaultPaths) -> Result<Self, VaultError> {
        Self::open_with(paths, Clock::system()).await
    }

    pub async fn open_with(paths: VaultPaths, clock: Clock) -> Result<Self, VaultError> {
        let lock = OpeningLock::take(&paths.database).await?;
        let process = ProcessName::of_this_process().map_err(|source| VaultError::Io {
            subject: "/proc/self".to_owned(),
            source,
        })?;
        let root_key = RootKeyFile::new(&paths.root_key);
        let database = Database::open(&lock).await?;
        let (vault_id, audit_key) = match read_row(&database).await? {
            Some(row) => open_existing(&root_key, &row)?,
            None => create(&database, &paths, &root_key, clock.now_ms()).await?,
        };
        let vault = Inner {
            audit_key: AuditKey::new(&vault_id, audit_key),
            paths,
            database,
            vault_id,
            root_key,
            clock,
            process,
            commits: GroupCommit::default(),
            workspace_keys: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(vault),
        })
    }

    /// Closes the files. What is dropped without this is closed by the system, and its log is
    /// read by the next process that opens the vault.
    pub async fn close(&self) {
        self.inner.database.close().await;
    }

    pub fn paths(&self) -> &VaultPaths {
        &self.inner.paths
    }
}

impl Inner {
    /// Writes an audit row together with those of concurrent callers.
    pub(crate) async fn record(&self, entry: Entry) -> Result<(), VaultError> {
        self.commits
            .record(&self.database, &self.audit_key, &self.clock, entry)
            .await
    }

    /// Adds audit rows to the caller's transaction.
    pub(crate) async fn audit(
        &self,
        connection: &mut SqliteConnection,
        entries: &[Entry],
    ) -> Result<(), VaultError> {
        audit::append(connection, &self.audit_key, self.clock.now_ms(), entries).await
    }

    /// The key of a workspace, if it has one.
    pub(crate) async fn workspace_key(
        &self,
        connection: &mut SqliteConnection,
        workspace: WorkspaceId,
    ) -> Result<Option<Arc<Key>>, VaultError> {
        if let Some(key) = self.known_keys().get(&workspace) {
            return Ok(Some(Arc::clone(key)));
        }
        let row: Option<(Vec<u8>, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "SELECT root_key_id, key_id, wrapped FROM workspace_key, vault WHERE workspace = ?1",
        )
        .bind(workspace.to_string())
        .fetch_optional(connection)
        .await
        .doing("reading a workspace's key")?;
        let Some((root_key_id, key_id, wrapped)) = row else {
            return Ok(None);
        };
        let root = self.root_key.matching(key_id_of(&root_key_id)?)?;
        let key = unwrap_workspace(&root, &self.vault_id, workspace, &key_id, &wrapped)?;
        Ok(Some(self.remember(workspace, key)))
    }

    /// The key of a workspace, made in the caller's transaction when it has none.
    pub(crate) async fn workspace_key_or_new(
        &self,
        connection: &mut SqliteConnection,
        workspace: WorkspaceId,
    ) -> Result<Arc<Key>, VaultError> {
        if let Some(key) = self.workspace_key(connection, workspace).await? {
            return Ok(key);
        }
        let root_key_id: Vec<u8> = sqlx::query_scalar("SELECT root_key_id FROM vault")
            .fetch_one(&mut *connection)
            .await
            .doing("reading the vault's row")?;
        let root = self.root_key.matching(key_id_of(&root_key_id)?)?;
        let key = Key::random();
        let text = workspace.to_string();
        let wrapped = root.wrap(&self.vault_id, KeyPurpose::Workspace(&text), &key);
        sqlx::query(
            "INSERT INTO workspace_key (workspace, key_id, wrapped, created_at)
             VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(&text)
        .bind(key.id().0.as_slice())
        .bind(wrapped)
        .bind(self.clock.now_ms())
        .execute(connection)
        .await
        .doing("writing a workspace's key")?;
        // Not remembered before it is committed: the next caller reads it from the table.
        Ok(Arc::new(key))
    }

    fn remember(&self, workspace: WorkspaceId, key: Key) -> Arc<Key> {
        let key = Arc::new(key);
        self.known_keys().insert(workspace, Arc::clone(&key));
        key
    }

    fn known_keys(&self) -> std::sync::MutexGuard<'_, HashMap<WorkspaceId, Arc<Key>>> {
        self.workspace_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl RootKeyFile {
    /// The key with this id, which during a rotation may still be the next one.
    pub(crate) fn matching(&self, wanted: KeyId) -> Result<Key, VaultError> {
        let mut found = None;
        for _ in 0..ROOT_KEY_ATTEMPTS {
            for file in [self, &self.next()] {
                match file.read()? {
                    Some(key) if key.id() == wanted => return Ok(key),
                    Some(key) => found = found.or_else(|| Some(key.id())),
                    None => {}
                }
            }
        }
        let path = self.path().to_owned();
        Err(match found {
            None => VaultError::RootKeyMissing {
                path,
                key_id: wanted.to_string(),
            },
            Some(found) => VaultError::RootKeyWrong {
                path,
                found: found.to_string(),
                expected: wanted.to_string(),
            },
        })
    }

    /// Finishes or undoes what a killed rotation left: the vault's row says which key counts.
    /// Only under the opening lock, where no rotation is under way.
    pub(crate) fn settle(&self, wanted: KeyId) -> Result<Key, VaultError> {
        let next = self.next();
        let key = self.matching(wanted)?;
        let in_place = self.read()?.is_some_and(|key| key.id() == wanted);
        if in_place {
            next.remove()?;
        } else {
            next.rename_to(self)?;
        }
        Ok(key)
    }
}

pub(crate) fn key_id_of(bytes: &[u8]) -> Result<KeyId, VaultError> {
    KeyId::from_slice(bytes).ok_or_else(|| VaultError::AuditDamaged {
        problem: "stands beside a key id of the wrong length".to_owned(),
    })
}

pub(crate) fn unwrap_workspace(
    root: &Key,
    vault_id: &[u8],
    workspace: WorkspaceId,
    key_id: &[u8],
    wrapped: &[u8],
) -> Result<Key, VaultError> {
    let text = workspace.to_string();
    let wrapped = Wrapped {
        key_id: key_id_of(key_id)?,
        bytes: wrapped,
    };
    root.unwrap_key(vault_id, KeyPurpose::Workspace(&text), &wrapped)
        .map_err(|_unopened| VaultError::WorkspaceKeyDamaged { workspace: text })
}

pub(crate) fn unwrap_audit(root: &Key, row: &VaultRow) -> Result<Key, VaultError> {
    let wrapped = Wrapped {
        key_id: row.audit_key_id,
        bytes: &row.audit_key,
    };
    root.unwrap_key(&row.vault_id, KeyPurpose::Audit, &wrapped)
        .map_err(|_unopened| VaultError::AuditDamaged {
            problem: "has a key that does not open under the root key".to_owned(),
        })
}

pub(crate) async fn read_row(database: &Database) -> Result<Option<VaultRow>, VaultError> {
    type Row = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);
    let row: Option<Row> =
        sqlx::query_as("SELECT vault_id, root_key_id, audit_key_id, audit_key FROM vault")
            .fetch_optional(database.writer())
            .await
            .doing("reading the vault's row")?;
    let Some((vault_id, root_key_id, audit_key_id, audit_key)) = row else {
        return Ok(None);
    };
    Ok(Some(VaultRow {
        vault_id,
        root_key_id: key_id_of(&root_key_id)?,
        audit_key_id: key_id_of(&audit_key_id)?,
        audit_key,
    }))
}

fn open_existing(file: &RootKeyFile, row: &VaultRow) -> Result<(Vec<u8>, Key), VaultError> {
    let root = file.settle(row.root_key_id)?;
    let audit_key = unwrap_audit(&root, row)?;
    Ok((row.vault_id.clone(), audit_key))
}

/// The first rows. The root key is on disk before they are committed.
async fn create(
    database: &Database,
    paths: &VaultPaths,
    file: &RootKeyFile,
    now: i64,
) -> Result<(Vec<u8>, Key), VaultError> {
    refuse_leftover_rows(database, &paths.database).await?;
    let root = if let Some(key) = file.read()? {
        key
    } else {
        refuse_key_beside_data(paths)?;
        file.create(&Key::random())?
    };
    let mut vault_id = vec![0; VAULT_ID_BYTES];
    fill_random(&mut vault_id);
    let key = AuditKey::new(&vault_id, Key::random());
    let mut transaction = database.begin().await?;
    insert_row(&mut transaction, &vault_id, &root, &key, now).await?;
    let created = Entry::new(AuditAction::Create, OURSELVES);
    audit::append(&mut transaction, &key, now, &[created]).await?;
    transaction
        .commit()
        .await
        .doing("committing the vault's row")?;
    Ok((vault_id, key.key().clone()))
}

async fn insert_row(
    connection: &mut SqliteConnection,
    vault_id: &[u8],
    root: &Key,
    key: &AuditKey,
    now: i64,
) -> Result<(), VaultError> {
    let genesis = key.genesis();
    sqlx::query(
        "INSERT INTO vault (singleton, vault_id, root_key_id, audit_key_id, audit_key,
                            head_sequence, head_mac, head_seal, created_at)
         VALUES (1, ?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
    )
    .bind(vault_id)
    .bind(root.id().0.as_slice())
    .bind(key.key().id().0.as_slice())
    .bind(root.wrap(vault_id, KeyPurpose::Audit, key.key()))
    .bind(&genesis)
    .bind(key.head_seal(0, &genesis))
    .bind(now)
    .execute(connection)
    .await
    .doing("writing the vault's row")?;
    Ok(())
}

/// A database that has sealed rows and no row of its own was tampered with: making a new one
/// would orphan what is sealed.
async fn refuse_leftover_rows(database: &Database, path: &Path) -> Result<(), VaultError> {
    let rows: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM workspace_key) + (SELECT count(*) FROM secret)
              + (SELECT count(*) FROM audit)",
    )
    .fetch_one(database.writer())
    .await
    .doing("looking for rows")?;
    if rows == 0 {
        return Ok(());
    }
    Err(VaultError::NotAVault {
        path: path.to_owned(),
        problem: format!("has {rows} rows and has lost the row that says which keys they need"),
    })
}

fn refuse_key_beside_data(paths: &VaultPaths) -> Result<(), VaultError> {
    let resolved = |path: &Path| {
        let path = parent(path);
        std::fs::canonicalize(path).or_else(|_| std::path::absolute(path))
    };
    let (Ok(data), Ok(key)) = (resolved(&paths.database), resolved(&paths.root_key)) else {
        return Ok(());
    };
    if !key.starts_with(&data) {
        return Ok(());
    }
    Err(VaultError::RootKeyUnsafe {
        path: paths.root_key.clone(),
        problem: format!("would be in the data directory {}", data.display()),
        fix: "holdfast --root-key /etc/holdfast/root.key".to_owned(),
    })
}
