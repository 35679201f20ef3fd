//! What leases have given out, and what programs of others were handed: read from the audit log, so
//! that it is known after they ended.

use credential::SecretName;
use database::query;
use ids::{WorkerId, WorkspaceId};
use jiff::Timestamp;

use crate::clock::timestamp;
use crate::error::{Doing, VaultError};
use crate::leases::VendDetail;
use crate::vault::Vault;

/// Rows that one look answers with, the newest: some tens of megabytes.
pub const EXPOSURES_LIMIT: u32 = 100_000;

/// Whose exposure is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExposureOf<'a> {
    Worker(WorkerId),
    /// All that was ever of this name.
    Secret(WorkspaceId, &'a SecretName),
}

/// One thing that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    pub at: Timestamp,
    pub workspace: String,
    pub secret_id: String,
    pub version: u32,
    /// The name of the secret that it is, or is made of.
    pub secret: String,
    /// Of a registry credential.
    pub scope: Option<String>,
    /// Nothing where it was given to a command on the vault's own machine.
    pub worker: Option<String>,
    pub container: String,
    /// The program of others that it was handed out to, where it was no container.
    pub recipient: Option<String>,
    /// Registry and repository; the registry alone where that is what a recipient asked for, and
    /// nothing for a named secret.
    pub repository: Option<String>,
    pub rung: String,
    /// Until when it can be used, where that is known.
    pub not_after: Option<Timestamp>,
}

type Row = (i64, String, String, i64, String, Option<String>, String);

impl Vault {
    /// What was given since then, the newest first.
    pub async fn exposures(
        &self,
        of: ExposureOf<'_>,
        since: Option<Timestamp>,
    ) -> Result<Vec<Exposure>, VaultError> {
        let (worker, secret) = match of {
            ExposureOf::Worker(worker) => (Some(worker), None),
            ExposureOf::Secret(workspace, name) => (
                None,
                Some((workspace.to_string(), name.as_str().to_owned())),
            ),
        };
        let (workspace, secret) = secret.unzip();
        let rows: Vec<Row> = query(
            "SELECT at, secret.workspace, audit.secret_id, audit.version, name, scope,
                    audit.detail
             FROM audit JOIN secret USING (secret_id)
             LEFT JOIN secret_version USING (secret_id, version)
             WHERE action IN ('vend', 'give', 'hand-out') AND at >= $1
               AND ($2 IS NULL OR audit.detail LIKE $2)
               AND ($3 IS NULL OR (secret.workspace = $3 AND name = $4))
             ORDER BY sequence DESC LIMIT $5",
        )
        .bind(since.map_or(i64::MIN, Timestamp::as_millisecond))
        .bind(worker.map(names_worker))
        .bind(workspace)
        .bind(secret)
        .bind(EXPOSURES_LIMIT)
        .fetch_all(&self.inner.database)
        .await
        .doing("reading what was given out")?;
        let mut all: Vec<_> = rows.into_iter().filter_map(exposure).collect();
        if let Some(worker) = worker.map(|worker| worker.to_string()) {
            all.retain(|exposure| exposure.worker.as_ref() == Some(&worker));
        }
        Ok(all)
    }

    /// The worker that joined by this name last, also when it is none any more.
    pub async fn joined_worker(&self, name: &str) -> Result<Option<WorkerId>, VaultError> {
        let subject: Option<(String,)> = query(
            "SELECT subject FROM audit
             WHERE action = 'join' AND substr(detail, 1, length($1)) = $1
             ORDER BY sequence DESC LIMIT 1",
        )
        .bind(format!("{name}, key "))
        .fetch_optional(&self.inner.database)
        .await
        .doing("looking for a worker that joined")?;
        Ok(subject.and_then(|(subject,)| subject.parse().ok()))
    }
}

/// The pattern of details that name a worker, whose id has no character that is special in it. In
/// what somebody else chose, such as a container's name, the quotes are written otherwise.
fn names_worker(worker: WorkerId) -> String {
    format!("%\"worker\":\"{worker}\"%")
}

/// A row that does not read was not written by this program; `verify` names it.
fn exposure((at, workspace, secret_id, version, secret, scope, detail): Row) -> Option<Exposure> {
    let detail: VendDetail = serde_json::from_str(&detail).ok()?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Some(Exposure {
        at: timestamp(at),
        workspace,
        secret_id,
        version: u32::try_from(version).ok()?,
        secret,
        scope: scope.and_then(some),
        worker: some(detail.worker),
        container: detail.container,
        recipient: detail.recipient,
        repository: some(detail.repository),
        rung: detail.rung,
        not_after: detail.not_after,
    })
}
