//! What leases have given out: read from the audit log, so that it is known after they ended.

use ids::{SecretId, WorkerId, WorkspaceId};
use jiff::Timestamp;

use crate::clock::timestamp;
use crate::error::{Doing, VaultError};
use crate::leases::VendDetail;
use crate::vault::Vault;

/// Rows that one look answers with, the newest: what a person can read, and a few megabytes.
const EXPOSURES_LIMIT: i64 = 100_000;

/// Whose exposure is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExposureOf {
    Worker(WorkerId),
    Secret(WorkspaceId, SecretId),
}

/// One thing that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    pub at: Timestamp,
    pub workspace: String,
    pub secret_id: String,
    pub version: u32,
    /// The image that was read, or the name of the secret.
    pub subject: String,
    /// Nothing where it was given to a command on the vault's own machine.
    pub worker: Option<String>,
    pub container: String,
    /// Registry and repository; nothing for a named secret.
    pub repository: Option<String>,
    pub rung: String,
    /// Until when it can be used, where that is known.
    pub not_after: Option<Timestamp>,
}

type Row = (i64, String, String, i64, String, String);

impl Vault {
    /// What was given since then, the newest first.
    pub async fn exposures(
        &self,
        of: ExposureOf,
        since: Option<Timestamp>,
    ) -> Result<Vec<Exposure>, VaultError> {
        let (worker, secret) = match of {
            ExposureOf::Worker(worker) => (Some(worker.to_string()), None),
            ExposureOf::Secret(workspace, secret) => {
                (None, Some((workspace.to_string(), secret.to_string())))
            }
        };
        let (workspace, secret) = secret.unzip();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT at, workspace, secret_id, version, subject, detail FROM audit
             WHERE action IN ('vend', 'give') AND at >= ?1 AND json_valid(detail)
               AND workspace IS NOT NULL AND secret_id IS NOT NULL AND version IS NOT NULL
               AND (?2 IS NULL OR json_extract(detail, '$.worker') = ?2)
               AND (?3 IS NULL OR (workspace = ?3 AND secret_id = ?4))
             ORDER BY sequence DESC LIMIT ?5",
        )
        .bind(since.map_or(i64::MIN, Timestamp::as_millisecond))
        .bind(worker)
        .bind(workspace)
        .bind(secret)
        .bind(EXPOSURES_LIMIT)
        .fetch_all(self.inner.database.reader())
        .await
        .doing("reading what was given out")?;
        Ok(rows.into_iter().filter_map(exposure).collect())
    }
}

/// A row that does not read was not written by this program; `verify` names it.
fn exposure((at, workspace, secret_id, version, subject, detail): Row) -> Option<Exposure> {
    let detail: VendDetail = serde_json::from_str(&detail).ok()?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Some(Exposure {
        at: timestamp(at),
        workspace,
        secret_id,
        version: u32::try_from(version).ok()?,
        subject,
        worker: some(detail.worker),
        container: detail.container,
        repository: some(detail.repository),
        rung: detail.rung,
        not_after: detail.not_after,
    })
}
