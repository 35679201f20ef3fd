//! The open vault: its files, its keys and what every operation starts from.
//!
//! The root key is never here: a process that runs for days holds the keys of the workspaces it
//! serves, and the audit key, and asks what holds the root key to wrap and unwrap them.

use std::sync::Arc;

use database::{Database, DatabaseError, FromRow, Row, Transaction, query};
use ids::WorkspaceId;

use crate::audit::{self, AuditAction, AuditKey, Entry};
use crate::clock::Clock;
use crate::error::{Doing, VaultError};
use crate::group_commit::{Change, GroupCommit};
use crate::keys::{Binding, Key, KeyId, KeyPurpose, Wrapped, fill_random};
use crate::place::{OpeningLock, VaultPlace};
use crate::process::ProcessName;
use crate::root_key::HoldsRootKey;
use crate::rotation;
use crate::workspace_keys::KnownKeys;

/// Bytes of the random id that every vault has.
pub(crate) const VAULT_ID_BYTES: usize = 16;
/// The tables that something sealed is erased from or overwritten in.
const SEALED_TABLES: &[&str] = &["secret_version", "workspace_key", "vault"];
/// Who the vault itself is in its audit log.
pub(crate) const OURSELVES: &str = "vault";

/// Stands where a workspace stands, for what is sealed of the installation itself.
const INSTALLATION: &str = "00000000-0000-7000-8000-000000000000";

/// What a row of the audit log is about that is no secret.
#[derive(Debug, Clone, Copy)]
pub struct Noted<'a> {
    /// Whose matter it is, where it is one workspace's.
    pub workspace: Option<WorkspaceId>,
    pub subject: &'a str,
    pub detail: &'a str,
}

/// Sealed secrets, the leases on them and their audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) place: VaultPlace,
    pub(crate) database: Database,
    pub(crate) vault_id: Vec<u8>,
    pub(crate) audit_key: AuditKey,
    pub(crate) clock: Clock,
    pub(crate) process: ProcessName,
    commits: GroupCommit,
    pub(crate) known_keys: Arc<KnownKeys>,
}

/// The vault's own row.
#[derive(Debug)]
pub(crate) struct VaultRow {
    pub(crate) vault_id: Vec<u8>,
    pub(crate) root_key_id: KeyId,
    /// The root key that a rotation which is under way, or was cut short, goes to.
    pub(crate) next_root_key_id: Option<KeyId>,
    pub(crate) audit_key_id: KeyId,
    pub(crate) audit_key: Vec<u8>,
}

/// A workspace's key as its row has it.
#[derive(Debug)]
pub(crate) struct WrappedRow {
    pub(crate) workspace: String,
    pub(crate) root_key_id: Vec<u8>,
    /// Whether that is the vault's root key, or the one that a rotation goes to.
    pub(crate) is_root_known: bool,
    pub(crate) key_id: Vec<u8>,
    pub(crate) wrapped: Vec<u8>,
}

/// Reads [`WrappedRow`]s; `WHERE` or `ORDER BY` follows.
macro_rules! select_wrapped {
    ($what:literal) => {
        concat!(
            "SELECT workspace, workspace_key.root_key_id,
                    coalesce(workspace_key.root_key_id IN (vault.root_key_id, next_root_key_id),
                             FALSE),
                    key_id, wrapped
             FROM workspace_key, vault ",
            $what
        )
    };
}
pub(crate) use select_wrapped;

/// How often something is begun again whose root key a rotation has taken away meanwhile: what it
/// read first was of before. Twice in a row takes two rotations.
const ROTATION_ATTEMPTS: usize = 3;

impl Vault {
    /// Opens the vault, or makes it with its root key when there is none. A vault whose root key
    /// is missing is refused: a new key would open nothing.
    pub async fn open(place: VaultPlace) -> Result<Self, VaultError> {
        Self::open_with(place, Clock::system()).await
    }

    pub async fn open_with(place: VaultPlace, clock: Clock) -> Result<Self, VaultError> {
        let root_key = &*place.root_key.holder;
        root_key.prepare();
        let lock = place.lock().await?;
        let process = ProcessName::of_this_process(place.machines());
        let process = process.map_err(|source| VaultError::Io {
            subject: "/proc/self".to_owned(),
            source,
        })?;
        let database = lock.open().await?;
        let row = read_row(&database).await?;
        let (vault_id, audit_key) = match &row {
            Some(row) => open_existing(root_key, row, &lock).await?,
            None => create(&database, &place, &lock, clock.now_ms()).await?,
        };
        let known_keys = KnownKeys::new(clock.clone(), root_key.key_time());
        let vault = Inner {
            audit_key: AuditKey::new(&vault_id, audit_key),
            known_keys,
            place,
            database,
            vault_id,
            clock,
            process,
            commits: GroupCommit::default(),
        };
        if let Some(row) = row {
            match rotation::finish_interrupted(&vault, &row, &lock).await {
                // What is under a key that can be asked opens all the same.
                Ok(()) | Err(VaultError::KeyService { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            inner: Arc::new(vault),
        })
    }

    /// Notes what was done about no secret of its own, such as that a machine was let in or denied.
    /// The row is on disk when this returns.
    pub async fn note(
        &self,
        action: AuditAction,
        actor: &str,
        about: Noted<'_>,
    ) -> Result<(), VaultError> {
        let entry = Entry::new(action, actor).detail(about.detail);
        let entry = match about.workspace {
            Some(workspace) => entry.of(workspace, about.subject),
            None => entry.about(about.subject),
        };
        self.inner.record(entry).await
    }

    /// Closes the files. What is dropped without this is closed by the system, and its log is
    /// read by the next process that opens the vault.
    pub async fn close(&self) {
        self.inner.database.close().await;
    }
}

impl Inner {
    /// Writes an audit row together with those of concurrent callers.
    pub(crate) async fn record(&self, entry: Entry) -> Result<(), VaultError> {
        self.make(Change::Note(entry)).await
    }

    /// Makes a change together with those of concurrent callers.
    pub(crate) async fn make(&self, change: Change) -> Result<(), VaultError> {
        self.commits.make(self, change).await
    }

    /// What was erased is not to linger.
    pub(crate) async fn after_retiring(&self, retired: usize) {
        if retired > 0 {
            self.clear_erased().await;
        }
    }

    pub(crate) async fn clear_erased(&self) {
        self.database.clear_deleted(SEALED_TABLES).await;
    }

    /// A transaction beside which nobody else writes. Boxed, like the other one, since the way of
    /// each engine is kilobytes long, and stands in everything that waits for a secret.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static>, VaultError> {
        let begun = Box::pin(self.database.begin()).await;
        begun.doing("waiting to write")
    }

    /// A transaction that only reads, and sees one state of everything.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static>, VaultError> {
        let begun = Box::pin(self.database.snapshot()).await;
        begun.doing("waiting to read")
    }

    /// Adds audit rows to the caller's transaction.
    pub(crate) async fn audit(
        &self,
        transaction: &mut Transaction<'_>,
        entries: &[Entry],
    ) -> Result<(), VaultError> {
        audit::append(transaction, &self.audit_key, self.clock.now_ms(), entries).await
    }

    pub(crate) fn root_key(&self) -> &dyn HoldsRootKey {
        &*self.place.root_key.holder
    }

    pub(crate) fn binding(&self, purpose: KeyPurpose) -> Binding<'_> {
        Binding {
            vault_id: &self.vault_id,
            purpose,
        }
    }

    /// Does what reads rows and then asks for their root key, again where a rotation has come
    /// between the two.
    pub(crate) async fn beside_rotations<T, F: Future<Output = Result<T, VaultError>>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<T, VaultError> {
        for _ in 1..ROTATION_ATTEMPTS {
            match work().await {
                Err(VaultError::RootKeyWrong { .. } | VaultError::RootKeyMissing { .. }) => {}
                done => return done,
            }
        }
        work().await
    }
}

impl FromRow for WrappedRow {
    fn from_row(row: Row) -> Result<Self, DatabaseError> {
        Ok(Self {
            workspace: row.get(0)?,
            root_key_id: row.get(1)?,
            is_root_known: row.get(2)?,
            key_id: row.get(3)?,
            wrapped: row.get(4)?,
        })
    }
}

/// Whose secrets are those of the installation itself: an id that no workspace gets.
pub fn installation() -> WorkspaceId {
    WorkspaceId::parse_uuid(INSTALLATION).expect("it has the form of an id")
}

pub(crate) fn workspace_key_damaged(workspace: &str) -> VaultError {
    VaultError::WorkspaceKeyDamaged {
        workspace: workspace.to_owned(),
    }
}

pub(crate) fn key_id_of(bytes: &[u8]) -> Result<KeyId, VaultError> {
    KeyId::from_slice(bytes).ok_or_else(|| VaultError::AuditDamaged {
        problem: "stands beside a key id of the wrong length".to_owned(),
    })
}

pub(crate) async fn unwrap_audit(
    root_key: &dyn HoldsRootKey,
    row: &VaultRow,
) -> Result<Key, VaultError> {
    let binding = Binding {
        vault_id: &row.vault_id,
        purpose: KeyPurpose::Audit,
    };
    let wrapped = Wrapped {
        key_id: row.audit_key_id,
        bytes: &row.audit_key,
    };
    let key = root_key.unwrap(row.root_key_id, binding, wrapped).await?;
    key.ok_or_else(|| VaultError::AuditDamaged {
        problem: "has a key that does not open under the root key".to_owned(),
    })
}

pub(crate) async fn read_row(database: &Database) -> Result<Option<VaultRow>, VaultError> {
    type Row = (Vec<u8>, Vec<u8>, Option<Vec<u8>>, Vec<u8>, Vec<u8>);
    let row: Option<Row> =
        query("SELECT vault_id, root_key_id, next_root_key_id, audit_key_id, audit_key FROM vault")
            .fetch_optional(database)
            .await
            .doing("reading the vault's row")?;
    let Some((vault_id, root_key_id, next_root_key_id, audit_key_id, audit_key)) = row else {
        return Ok(None);
    };
    let next_root_key_id = next_root_key_id.as_deref().map(key_id_of).transpose()?;
    Ok(Some(VaultRow {
        vault_id,
        root_key_id: key_id_of(&root_key_id)?,
        next_root_key_id,
        audit_key_id: key_id_of(&audit_key_id)?,
        audit_key,
    }))
}

async fn open_existing(
    root_key: &dyn HoldsRootKey,
    row: &VaultRow,
    lock: &OpeningLock,
) -> Result<(Vec<u8>, Key), VaultError> {
    match row.next_root_key_id {
        None => root_key.settle(row.root_key_id, lock).await?,
        // Rows of both are there, so neither counts for more yet.
        Some(next) => root_key.require(next).await?,
    }
    let audit_key = unwrap_audit(root_key, row).await?;
    Ok((row.vault_id.clone(), audit_key))
}

/// The first rows. The root key is on disk before they are committed.
async fn create(
    database: &Database,
    place: &VaultPlace,
    lock: &OpeningLock,
    now: i64,
) -> Result<(Vec<u8>, Key), VaultError> {
    refuse_file_beside(place)?;
    refuse_leftover_rows(database, place).await?;
    let root_key = &*place.root_key.holder;
    let root = root_key.first(&place.data, lock).await?;
    let mut vault_id = vec![0; VAULT_ID_BYTES];
    fill_random(&mut vault_id);
    let key = AuditKey::new(&vault_id, Key::random());
    let binding = Binding {
        vault_id: &vault_id,
        purpose: KeyPurpose::Audit,
    };
    let wrapped = root_key.wrap(root, binding, key.key()).await?;
    let row = VaultRow {
        vault_id,
        root_key_id: root,
        next_root_key_id: None,
        audit_key_id: key.key().id(),
        audit_key: wrapped,
    };
    let mut transaction = database.begin().await.doing("waiting to write")?;
    insert_row(&mut transaction, &row, &key, now).await?;
    let created = Entry::new(AuditAction::Create, OURSELVES);
    audit::append(&mut transaction, &key, now, &[created]).await?;
    transaction
        .commit()
        .await
        .doing("committing the vault's row")?;
    Ok((row.vault_id, key.key().clone()))
}

async fn insert_row(
    transaction: &mut Transaction<'_>,
    row: &VaultRow,
    key: &AuditKey,
    now: i64,
) -> Result<(), VaultError> {
    let genesis = key.genesis();
    query(
        "INSERT INTO vault (singleton, vault_id, root_key_id, audit_key_id, audit_key,
                            head_sequence, head_mac, head_seal, created_at)
         VALUES (1, $1, $2, $3, $4, 0, $5, $6, $7)",
    )
    .bind(&row.vault_id)
    .bind(row.root_key_id.0.as_slice())
    .bind(row.audit_key_id.0.as_slice())
    .bind(&row.audit_key)
    .bind(&genesis)
    .bind(key.head_seal(0, &genesis))
    .bind(now)
    .execute(transaction)
    .await
    .doing("writing the vault's row")?;
    Ok(())
}

/// Whoever names a server where there was a file has not lost what is in the file.
fn refuse_file_beside(place: &VaultPlace) -> Result<(), VaultError> {
    let file = place.file();
    match (&place.server, file.try_exists()) {
        (Some(_), Ok(true)) => Err(VaultError::InFile {
            file,
            database: place.subject(),
        }),
        (Some(_), Err(source)) => Err(VaultError::Io {
            subject: file.display().to_string(),
            source,
        }),
        (Some(_), Ok(false)) | (None, _) => Ok(()),
    }
}

/// A database that has sealed rows and no row of its own was tampered with: making a new one
/// would orphan what is sealed.
async fn refuse_leftover_rows(database: &Database, place: &VaultPlace) -> Result<(), VaultError> {
    let rows = count_rows(database).await?;
    if rows == 0 {
        return Ok(());
    }
    Err(VaultError::NotAVault {
        database: place.subject(),
        problem: format!("has {rows} rows and has lost the row that says which keys they need"),
    })
}

/// How many rows there are of what only a vault has.
pub(crate) async fn count_rows(database: &Database) -> Result<i64, VaultError> {
    let (rows,): (i64,) = query(
        "SELECT (SELECT count(*) FROM workspace_key) + (SELECT count(*) FROM secret)
              + (SELECT count(*) FROM audit)",
    )
    .fetch_one(database)
    .await
    .doing("looking for rows")?;
    Ok(rows)
}
