//! The audit log: who sealed, opened, was denied, rotated, removed, leased, joined.
//!
//! ```text
//!  row 1            row 2            row 3          head, in the vault's own row
//!  +-------+        +-------+        +-------+      +--------------------------------+
//!  | entry |        | entry |        | entry |      | sequence 3, mac 3              |
//!  | mac 1 |<-------| mac 2 |<-------| mac 3 |<-----| seal = HMAC(vault, 3, mac 3)   |
//!  +-------+        +-------+        +-------+      +--------------------------------+
//!
//!  mac n = HMAC-SHA-256(audit key, fields(domain, vault id, n, entry, mac n-1))
//! ```
//!
//! A changed, inserted or missing row breaks the chain; a cut tail disagrees with the head, whose
//! seal cannot be made without the audit key. Every append checks head and tail first, so a log
//! that was cut is not written on. The key is random and wrapped by the root key, so a rotation
//! of the root key does not touch the chain. What this cannot see is the whole file put back to
//! an older state: for that, compare [`AuditHead`]s noted outside.

use std::fmt;
use std::str::FromStr;

use database::{Database, Transaction, query};
use frames::hex;
use ids::{SecretId, WorkspaceId};
use jiff::Timestamp;

use crate::clock::timestamp;
use crate::error::{Doing, VaultError};
use crate::keys::{Fields, Key};

const ROW_DOMAIN: &str = "holdfast/vault/audit-row/v1";
const HEAD_DOMAIN: &str = "holdfast/vault/audit-head/v1";
const GENESIS_DOMAIN: &str = "holdfast/vault/audit-genesis/v1";
const SECRET_HEAD_DOMAIN: &str = "holdfast/vault/secret-head/v1";

/// Longest actor, subject or detail that is kept. They are names and short reasons.
const TEXT_LIMIT: usize = 1024;
/// Bytes of an HMAC-SHA-256.
const MAC_BYTES: usize = 32;
/// Rows read at a time when the log is walked.
const PAGE_ROWS: i64 = 1000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditAction {
    Create,
    Seal,
    Open,
    Deny,
    Rotate,
    Remove,
    /// A workspace's key was replaced, so that nothing that was sealed under it opens.
    Shred,
    Retire,
    LeaseBegin,
    LeaseMove,
    LeaseEnd,
    /// Two have renewed one lease.
    LeaseAlarm,
    /// A reader was given what it reads with.
    Vend,
    /// A container was given a named secret.
    Give,
    /// A program of others was given a user name and a password.
    HandOut,
    Backup,
    Restore,
    /// A token was made by which a machine may come to be let in.
    Invite,
    /// A machine was let in, to be given what containers read with.
    Join,
    /// A machine was taken off.
    Leave,
    /// A credential was given out to programs of others from then on.
    Share,
    /// And no longer.
    Unshare,
    /// A workspace's setting was changed.
    Set,
    /// Workers may hold a credential as it is, from then on.
    Lend,
    /// And no longer.
    Unlend,
}

impl AuditAction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Seal => "seal",
            Self::Open => "open",
            Self::Deny => "deny",
            Self::Rotate => "rotate",
            Self::Remove => "remove",
            Self::Shred => "shred",
            Self::Retire => "retire",
            Self::LeaseBegin => "lease-begin",
            Self::LeaseMove => "lease-move",
            Self::LeaseEnd => "lease-end",
            Self::LeaseAlarm => "lease-alarm",
            Self::Vend => "vend",
            Self::Give => "give",
            Self::HandOut => "hand-out",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Invite => "invite",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Share => "share",
            Self::Unshare => "unshare",
            Self::Set => "set",
            Self::Lend => "lend",
            Self::Unlend => "unlend",
        }
    }
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub sequence: u64,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub workspace: Option<String>,
    pub secret_id: Option<String>,
    pub version: Option<u32>,
    /// The name of the secret, or what else it was about.
    pub subject: String,
    pub detail: String,
}

/// Where the log ends. Noted outside, it shows later that nothing before it was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    pub sequence: u64,
    pub mac: Vec<u8>,
}

/// What is no [`AuditHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number of rows, a colon and 64 hexadecimal digits")]
pub struct NoAuditHead;

/// `ROWS:DIGITS`, as it is noted.
impl fmt::Display for AuditHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.sequence, *hex::encode(&self.mac))
    }
}

impl FromStr for AuditHead {
    type Err = NoAuditHead;

    fn from_str(text: &str) -> Result<Self, NoAuditHead> {
        let (sequence, digits) = text.split_once(':').ok_or(NoAuditHead)?;
        let mut mac = vec![0; MAC_BYTES];
        let sequence = sequence.parse().map_err(|_| NoAuditHead)?;
        let head = Self {
            sequence,
            mac: hex::decode_into(digits, &mut mac)
                .then_some(mac)
                .ok_or(NoAuditHead)?,
        };
        // The chain begins with the row that makes the vault.
        (head.sequence > 0 && head.to_string() == text)
            .then_some(head)
            .ok_or(NoAuditHead)
    }
}

/// A row that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) action: AuditAction,
    pub(crate) actor: String,
    pub(crate) workspace: Option<WorkspaceId>,
    pub(crate) secret_id: Option<SecretId>,
    pub(crate) version: Option<u32>,
    pub(crate) subject: String,
    pub(crate) detail: String,
}

impl Entry {
    pub(crate) fn new(action: AuditAction, actor: &str) -> Self {
        Self {
            action,
            actor: bounded(actor),
            workspace: None,
            secret_id: None,
            version: None,
            subject: String::new(),
            detail: String::new(),
        }
    }

    pub(crate) fn of(mut self, workspace: WorkspaceId, name: &str) -> Self {
        self.workspace = Some(workspace);
        self.subject = bounded(name);
        self
    }

    /// About what is no secret of a workspace.
    pub(crate) fn about(mut self, subject: &str) -> Self {
        self.subject = bounded(subject);
        self
    }

    pub(crate) fn version(mut self, secret_id: SecretId, version: u32) -> Self {
        self.secret_id = Some(secret_id);
        self.version = Some(version);
        self
    }

    pub(crate) fn detail(mut self, detail: &str) -> Self {
        self.detail = bounded(detail);
        self
    }
}

/// A text that every engine keeps as it is. Not all have one for the zero, and whoever could bring
/// it in would keep the rows of others from being written.
pub(crate) fn bounded(text: &str) -> String {
    let characters = text.chars().take(TEXT_LIMIT);
    let shown = |character| match character {
        '\0' => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    characters.map(shown).collect()
}

/// The stored form of a row, as it is read and written.
type StoredRow = (
    i64,
    i64,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<i64>,
    String,
    String,
    Vec<u8>,
);

/// The key of the chain and the vault that it is of.
#[derive(Debug)]
pub(crate) struct AuditKey {
    vault_id: Vec<u8>,
    key: Key,
}

impl AuditKey {
    pub(crate) fn new(vault_id: &[u8], key: Key) -> Self {
        Self {
            vault_id: vault_id.to_vec(),
            key,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// What the first row follows.
    pub(crate) fn genesis(&self) -> Vec<u8> {
        let message = Fields::new(GENESIS_DOMAIN).bytes(&self.vault_id);
        self.key.mac(&message.finish())
    }

    pub(crate) fn head_seal(&self, sequence: i64, mac: &[u8]) -> Vec<u8> {
        self.key.mac(&self.head_message(sequence, mac))
    }

    /// The keyed hash over what says which version of a secret is current.
    pub(crate) fn secret_head(&self, head: &SecretHead<'_>) -> Vec<u8> {
        self.key.mac(&self.secret_head_message(head))
    }

    pub(crate) fn secret_head_matches(&self, head: &SecretHead<'_>, mac: &[u8]) -> bool {
        self.key.mac_matches(&self.secret_head_message(head), mac)
    }

    fn secret_head_message(&self, head: &SecretHead<'_>) -> Vec<u8> {
        Fields::new(SECRET_HEAD_DOMAIN)
            .bytes(&self.vault_id)
            .text(head.workspace)
            .text(head.secret_id)
            .text(head.name)
            .number(head.current_version)
            .bytes(&[u8::from(head.removed)])
            .finish()
    }

    fn head_message(&self, sequence: i64, mac: &[u8]) -> Vec<u8> {
        Fields::new(HEAD_DOMAIN)
            .bytes(&self.vault_id)
            .number(sequence)
            .bytes(mac)
            .finish()
    }

    fn row_message(&self, row: &StoredRow, before: &[u8]) -> Vec<u8> {
        Fields::new(ROW_DOMAIN)
            .bytes(&self.vault_id)
            .number(row.0)
            .number(row.1)
            .text(&row.2)
            .text(&row.3)
            .option(row.4.as_deref().map(str::as_bytes))
            .option(row.5.as_deref().map(str::as_bytes))
            .option(
                row.6
                    .map(i64::to_le_bytes)
                    .as_ref()
                    .map(<[u8; 8]>::as_slice),
            )
            .text(&row.7)
            .text(&row.8)
            .bytes(before)
            .finish()
    }
}

/// What a secret's head is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretHead<'a> {
    pub(crate) workspace: &'a str,
    pub(crate) secret_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) current_version: i64,
    pub(crate) removed: bool,
}

/// Appends rows within the caller's transaction, after checking that the log ends as it should.
pub(crate) async fn append(
    transaction: &mut Transaction<'_>,
    key: &AuditKey,
    at: i64,
    entries: &[Entry],
) -> Result<(), VaultError> {
    let (mut sequence, mut mac) = checked_head(transaction, key).await?;
    for entry in entries {
        sequence += 1;
        let row = stored(entry, sequence, at);
        mac = key.key.mac(&key.row_message(&row, &mac));
        insert(transaction, &row, &mac).await?;
    }
    query("UPDATE vault SET head_sequence = $1, head_mac = $2, head_seal = $3")
        .bind(sequence)
        .bind(&mac)
        .bind(key.head_seal(sequence, &mac))
        .execute(transaction)
        .await
        .doing("moving the audit head")?;
    Ok(())
}

/// The head, when its seal is right and the last row is the one it names.
pub(crate) async fn checked_head(
    transaction: &mut Transaction<'_>,
    key: &AuditKey,
) -> Result<(i64, Vec<u8>), VaultError> {
    let (sequence, mac, seal): (i64, Vec<u8>, Vec<u8>) =
        query("SELECT head_sequence, head_mac, head_seal FROM vault")
            .fetch_one(&mut *transaction)
            .await
            .doing("reading the audit head")?;
    if !key
        .key
        .mac_matches(&key.head_message(sequence, &mac), &seal)
    {
        return Err(damaged("has a head that the vault did not write"));
    }
    let last: Option<(i64, Vec<u8>)> =
        query("SELECT sequence, mac FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(transaction)
            .await
            .doing("reading the last audit row")?;
    let (last_sequence, last_mac) = last.unwrap_or_else(|| (0, key.genesis()));
    if last_sequence < sequence {
        return Err(damaged(&format!(
            "was cut: it ends at row {last_sequence} and had {sequence} rows"
        )));
    }
    if last_sequence > sequence || last_mac != mac {
        return Err(damaged(&format!("does not end with its row {sequence}")));
    }
    Ok((sequence, mac))
}

/// Walks the whole chain. Answers how many rows it has.
pub(crate) async fn verify_chain(
    transaction: &mut Transaction<'_>,
    key: &AuditKey,
    noted: Option<&AuditHead>,
) -> Result<AuditHead, VaultError> {
    let (head_sequence, head_mac) = checked_head(transaction, key).await?;
    let (mut sequence, mut mac) = (0_i64, key.genesis());
    while sequence < head_sequence {
        let rows = page(transaction, sequence).await?;
        if rows.is_empty() {
            return Err(damaged(&format!("has no row {}", sequence + 1)));
        }
        for row in rows {
            sequence += 1;
            if row.0 != sequence {
                return Err(damaged(&format!("has no row {sequence}")));
            }
            if !key.key.mac_matches(&key.row_message(&row, &mac), &row.9) {
                return Err(damaged(&format!("was changed at row {sequence}")));
            }
            mac = row.9;
            check_noted(noted, sequence, &mac)?;
        }
    }
    let head = AuditHead {
        sequence: head_sequence.unsigned_abs(),
        mac: head_mac,
    };
    match noted {
        Some(noted) if noted.sequence > head.sequence => Err(damaged(&format!(
            "was put back: it ends at row {} and had {} rows",
            head.sequence, noted.sequence
        ))),
        _ => Ok(head),
    }
}

/// The last rows, newest first.
pub(crate) async fn tail(database: &Database, limit: u32) -> Result<Vec<AuditRow>, VaultError> {
    let rows: Vec<StoredRow> = query(
        "SELECT sequence, at, actor, action, workspace, secret_id, version, subject, detail, mac
         FROM audit ORDER BY sequence DESC LIMIT $1",
    )
    .bind(limit)
    .fetch_all(database)
    .await
    .doing("reading the audit log")?;
    Ok(rows.into_iter().map(shown).collect())
}

async fn page(transaction: &mut Transaction<'_>, after: i64) -> Result<Vec<StoredRow>, VaultError> {
    query(
        "SELECT sequence, at, actor, action, workspace, secret_id, version, subject, detail, mac
         FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2",
    )
    .bind(after)
    .bind(PAGE_ROWS)
    .fetch_all(transaction)
    .await
    .doing("walking the audit log")
}

async fn insert(
    transaction: &mut Transaction<'_>,
    row: &StoredRow,
    mac: &[u8],
) -> Result<(), VaultError> {
    query(
        "INSERT INTO audit (sequence, at, actor, action, workspace, secret_id, version, subject,
                            detail, mac)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.0)
    .bind(row.1)
    .bind(&row.2)
    .bind(&row.3)
    .bind(row.4.as_deref())
    .bind(row.5.as_deref())
    .bind(row.6)
    .bind(&row.7)
    .bind(&row.8)
    .bind(mac)
    .execute(transaction)
    .await
    .doing("writing an audit row")?;
    Ok(())
}

fn stored(entry: &Entry, sequence: i64, at: i64) -> StoredRow {
    (
        sequence,
        at,
        entry.actor.clone(),
        entry.action.as_str().to_owned(),
        entry.workspace.map(|workspace| workspace.to_string()),
        entry.secret_id.map(|secret| secret.to_string()),
        entry.version.map(i64::from),
        entry.subject.clone(),
        entry.detail.clone(),
        Vec::new(),
    )
}

fn shown(row: StoredRow) -> AuditRow {
    AuditRow {
        sequence: row.0.unsigned_abs(),
        at: timestamp(row.1),
        actor: row.2,
        action: row.3,
        workspace: row.4,
        secret_id: row.5,
        version: row.6.and_then(|version| u32::try_from(version).ok()),
        subject: row.7,
        detail: row.8,
    }
}

fn check_noted(noted: Option<&AuditHead>, sequence: i64, mac: &[u8]) -> Result<(), VaultError> {
    match noted {
        Some(noted) if noted.sequence == sequence.unsigned_abs() && noted.mac != mac => {
            Err(damaged(&format!(
                "was rewritten: row {sequence} is not the one that was noted"
            )))
        }
        _ => Ok(()),
    }
}

fn damaged(problem: &str) -> VaultError {
    VaultError::AuditDamaged {
        problem: problem.to_owned(),
    }
}
