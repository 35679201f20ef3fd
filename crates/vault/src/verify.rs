//! Looks at everything: the audit chain, every head, every sealed byte.
//!
//! One read transaction, so that what others write meanwhile does not look like damage. All
//! damage is listed, not only the first. Plaintext is opened to see that it opens and wiped.

use std::collections::BTreeSet;

use database::{Transaction, query};
use ids::WorkspaceId;

use crate::audit::{self, AuditHead, AuditRow, SecretHead};
use crate::error::{Damage, Doing, VaultError};
use crate::keys::Key;
use crate::rotation::parse_workspace;
use crate::seal::{self, Context};
use crate::secrets::{damaged, parse_secret_id, parse_version};
use crate::vault::{Inner, Vault, WrappedRow, select_wrapped};

/// What was looked at, and what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// Where the log ends; absent when the chain is broken.
    pub head: Option<AuditHead>,
    pub workspaces: usize,
    pub secrets: usize,
    /// Versions whose sealed bytes opened.
    pub versions_opened: usize,
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One word for machines: the damage, `audit` or `key`.
    pub kind: &'static str,
    pub message: String,
}

impl AuditReport {
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn note(&mut self, error: &VaultError) {
        let kind = match error {
            VaultError::Damaged { damage, .. } => damage.as_str(),
            VaultError::AuditDamaged { .. } => "audit",
            VaultError::WorkspaceKeyDamaged { .. } => "key",
            _ => error.kind(),
        };
        self.findings.push(Finding {
            kind,
            message: error.to_string(),
        });
    }
}

/// A secret's row, whether it is removed or not.
struct SecretLine {
    workspace: WorkspaceId,
    secret_id: String,
    name: String,
    current_version: i64,
    head_mac: Vec<u8>,
    removed: bool,
}

impl Vault {
    /// Verifies the whole vault. With a head noted outside, it also shows that nothing before it
    /// was taken back, which the file alone cannot.
    pub async fn verify(&self, noted: Option<&AuditHead>) -> Result<AuditReport, VaultError> {
        let vault = &*self.inner;
        vault.beside_rotations(|| self.verify_now(noted)).await
    }

    async fn verify_now(&self, noted: Option<&AuditHead>) -> Result<AuditReport, VaultError> {
        let vault = &*self.inner;
        let mut report = AuditReport {
            head: None,
            workspaces: 0,
            secrets: 0,
            versions_opened: 0,
            findings: Vec::new(),
        };
        let mut transaction = vault.snapshot().await?;
        match audit::verify_chain(&mut transaction, &vault.audit_key, noted).await {
            Ok(head) => report.head = Some(head),
            Err(error @ VaultError::AuditDamaged { .. }) => report.note(&error),
            Err(error) => return Err(error),
        }
        verify_workspaces(vault, &mut transaction, &mut report).await?;
        verify_against_audit(&mut transaction, &mut report).await?;
        Ok(report)
    }

    /// The last rows of the audit log, newest first.
    pub async fn audit_tail(&self, limit: u32) -> Result<Vec<AuditRow>, VaultError> {
        audit::tail(&self.inner.database, limit).await
    }
}

async fn verify_workspaces(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    report: &mut AuditReport,
) -> Result<(), VaultError> {
    let rows: Vec<WrappedRow> = query(select_wrapped!("ORDER BY workspace"))
        .fetch_all(&mut *transaction)
        .await
        .doing("reading workspace keys")?;
    for row in rows {
        report.workspaces += 1;
        let opened = async {
            let workspace = parse_workspace(&row.workspace)?;
            let key = vault.unwrap_workspace(workspace, &row);
            Ok((workspace, key.await?))
        };
        match opened.await {
            Ok((workspace, key)) => {
                verify_secrets(vault, transaction, (workspace, &key), report).await?;
            }
            Err(
                damage @ (VaultError::WorkspaceKeyDamaged { .. } | VaultError::AuditDamaged { .. }),
            ) => report.note(&damage),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn verify_secrets(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    (workspace, key): (WorkspaceId, &Key),
    report: &mut AuditReport,
) -> Result<(), VaultError> {
    let rows: Vec<(String, String, i64, Vec<u8>, bool)> = query(
        "SELECT secret_id, name, current_version, head_mac, removed_at IS NOT NULL
         FROM secret WHERE workspace = $1 ORDER BY name, secret_id",
    )
    .bind(workspace.to_string())
    .fetch_all(&mut *transaction)
    .await
    .doing("reading secrets")?;
    for (secret_id, name, current_version, head_mac, removed) in rows {
        report.secrets += 1;
        let line = SecretLine {
            workspace,
            secret_id,
            name,
            current_version,
            head_mac,
            removed,
        };
        if let Err(error) = verify_head(vault, transaction, &line).await {
            report.note(&error);
        }
        verify_versions(vault, transaction, (&line, key), report).await?;
    }
    Ok(())
}

async fn verify_head(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    line: &SecretLine,
) -> Result<(), VaultError> {
    let current = parse_version(&line.name, line.current_version)?;
    let (audited,): (Option<i64>,) =
        query("SELECT max(version) FROM audit WHERE action = 'seal' AND secret_id = $1")
            .bind(&line.secret_id)
            .fetch_one(transaction)
            .await
            .doing("reading the audited version")?;
    if audited.unwrap_or(0) > line.current_version {
        return Err(damaged(&line.name, current, Damage::RolledBack));
    }
    let head = SecretHead {
        workspace: &line.workspace.to_string(),
        secret_id: &line.secret_id,
        name: &line.name,
        current_version: line.current_version,
        removed: line.removed,
    };
    let sound = audited == Some(line.current_version)
        && vault.audit_key.secret_head_matches(&head, &line.head_mac);
    if sound {
        return Ok(());
    }
    Err(damaged(&line.name, current, Damage::Head))
}

async fn verify_versions(
    vault: &Inner,
    transaction: &mut Transaction<'_>,
    (line, key): (&SecretLine, &Key),
    report: &mut AuditReport,
) -> Result<(), VaultError> {
    type Row = (i64, String, String, Option<Vec<u8>>, bool, Option<String>);
    let rows: Vec<Row> = query(
        "SELECT version, kind, scope, sealed, retired_at IS NOT NULL, in_clear
         FROM secret_version WHERE secret_id = $1 ORDER BY version",
    )
    .bind(&line.secret_id)
    .fetch_all(transaction)
    .await
    .doing("reading versions")?;
    let mut next = 1;
    for (stored, kind, scope, sealed, retired, in_clear) in rows {
        let version = parse_version(&line.name, stored)?;
        while next < version {
            report.note(&damaged(&line.name, next, Damage::Missing));
            next += 1;
        }
        next = version.saturating_add(1);
        let context = Context {
            vault_id: &vault.vault_id,
            workspace: line.workspace,
            secret_id: parse_secret_id(&line.secret_id)?,
            version,
            name: &line.name,
            kind: &kind,
            scope: &scope,
            in_clear: in_clear.as_deref(),
        };
        // A current version never retires, whatever its row says.
        let erased = line.removed || (retired && stored < line.current_version);
        match verify_version(key, &context, sealed.as_deref(), erased) {
            Ok(opened) => report.versions_opened += usize::from(opened),
            Err(damage) => report.note(&damaged(&line.name, version, damage)),
        }
    }
    if i64::from(next) <= line.current_version {
        report.note(&damaged(&line.name, next, Damage::Missing));
    }
    Ok(())
}

/// Whether a version opened; one that is erased has nothing to open.
fn verify_version(
    key: &Key,
    context: &Context<'_>,
    sealed: Option<&[u8]>,
    erased: bool,
) -> Result<bool, Damage> {
    match (sealed, erased) {
        (None, true) => Ok(false),
        (None, false) => Err(Damage::Missing),
        (Some(sealed), _) => seal::open(key, context, sealed).map(|_plaintext| true),
    }
}

/// Secrets that the log knows and the tables do not, or knows as removed and the tables do not.
async fn verify_against_audit(
    transaction: &mut Transaction<'_>,
    report: &mut AuditReport,
) -> Result<(), VaultError> {
    let rows: Vec<(String, i64)> = query(
        "SELECT subject, version FROM audit WHERE action = 'seal'
           AND secret_id NOT IN (SELECT secret_id FROM secret)
         UNION
         SELECT subject, version FROM audit WHERE action = 'remove'
           AND secret_id IN (SELECT secret_id FROM secret WHERE removed_at IS NULL)",
    )
    .fetch_all(transaction)
    .await
    .doing("comparing with the audit log")?;
    for (name, version) in BTreeSet::from_iter(rows) {
        let version = parse_version(&name, version)?;
        report.note(&damaged(&name, version, Damage::Head));
    }
    Ok(())
}
