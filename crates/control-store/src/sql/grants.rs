//! Grants: who proved possession of what, with which version of which secret.

use database::{Connection, query};
use ids::{GrantId, SecretId, WorkspaceId};
use reference::Digest;

use super::{damaged, digest, now_ms, parsed, timestamp};
use crate::database::Database;
use crate::error::{Doing, StoreError};
use crate::images::{Grant, GrantOutcome, GrantProof, NewGrant, ProvenVersion};
use crate::store::Durability;

pub(super) async fn record(
    database: &Database,
    workspace: WorkspaceId,
    grant: &NewGrant,
) -> Result<GrantOutcome, StoreError> {
    let grant = grant.clone();
    let change = database.change(Durability::Process, move |connection| {
        Box::pin(async move { record_within(connection, workspace, &grant).await })
    });
    change.await
}

/// Compare and set: a later version of the same secret stays. Another secret, or none, replaces
/// what was there, since that is what the origin answered last.
pub(super) async fn record_within(
    connection: &mut Connection<'_>,
    workspace: WorkspaceId,
    grant: &NewGrant,
) -> Result<GrantOutcome, StoreError> {
    let (secret_id, version) = match grant.proof {
        GrantProof::Anonymous => (None, None),
        GrantProof::Credential(proven) => {
            (Some(proven.secret_id.to_string()), Some(proven.version))
        }
    };
    let recorded: Option<(String,)> = query(
        "INSERT INTO image_grant (grant_id, workspace_id, image_id, origin, secret_id,
                                  secret_version, granted_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (workspace_id, image_id, origin) DO UPDATE
         SET secret_id = excluded.secret_id, secret_version = excluded.secret_version,
             granted_at = excluded.granted_at, refused_at = NULL
         WHERE image_grant.secret_id IS DISTINCT FROM excluded.secret_id
            OR image_grant.secret_version IS NULL
            OR image_grant.secret_version <= excluded.secret_version
         RETURNING grant_id",
    )
    .bind(GrantId::new().to_string())
    .bind(workspace.to_string())
    .bind(grant.image_id.as_str())
    .bind(&grant.origin)
    .bind(secret_id)
    .bind(version)
    .bind(now_ms())
    .fetch_optional(connection)
    .await
    .doing("recording a grant")?;
    match recorded {
        Some((id,)) => Ok(GrantOutcome::Recorded(parsed("image_grant", &id)?)),
        None => Ok(GrantOutcome::Superseded),
    }
}

/// All images of one manifest that one workspace has from one origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfManifest<'a> {
    pub(super) workspace: WorkspaceId,
    pub(super) manifest_digest: &'a Digest,
    pub(super) origin: &'a str,
}

/// Ids of grant and image, origin, secret and version, when it was granted and refused.
type Row = (
    String,
    String,
    String,
    Option<String>,
    Option<i64>,
    i64,
    Option<i64>,
);

pub(super) async fn find(
    database: &Database,
    workspace: WorkspaceId,
    image_id: &Digest,
    origin: &str,
) -> Result<Option<Grant>, StoreError> {
    let row: Option<Row> = query(
        "SELECT grant_id, image_id, origin, secret_id, secret_version, granted_at, refused_at
         FROM image_grant WHERE workspace_id = $1 AND image_id = $2 AND origin = $3",
    )
    .bind(workspace.to_string())
    .bind(image_id.as_str())
    .bind(origin)
    .fetch_optional(database.reader())
    .await
    .doing("finding a grant")?;
    row.map(|row| grant(workspace, row)).transpose()
}

pub(super) async fn last(
    database: &Database,
    of: OfManifest<'_>,
) -> Result<Option<Grant>, StoreError> {
    let row: Option<Row> = query(
        "SELECT grant_id, image_id, origin, secret_id, secret_version, granted_at, refused_at
         FROM image_grant
         WHERE workspace_id = $1 AND origin = $3 AND image_id IN
               (SELECT image_id FROM image WHERE workspace_id = $1 AND manifest_digest = $2)
         ORDER BY granted_at DESC, grant_id DESC LIMIT 1",
    )
    .bind(of.workspace.to_string())
    .bind(of.manifest_digest.as_str())
    .bind(of.origin)
    .fetch_optional(database.reader())
    .await
    .doing("finding the last proof of an image")?;
    row.map(|row| grant(of.workspace, row)).transpose()
}

pub(super) async fn note_refusal(
    database: &Database,
    of: OfManifest<'_>,
) -> Result<u64, StoreError> {
    let change = query(
        "UPDATE image_grant SET refused_at = $4
         WHERE workspace_id = $1 AND origin = $3 AND refused_at IS NULL AND image_id IN
               (SELECT image_id FROM image WHERE workspace_id = $1 AND manifest_digest = $2)",
    )
    .bind(of.workspace.to_string())
    .bind(of.manifest_digest.as_str())
    .bind(of.origin)
    .bind(now_ms());
    database
        .execute(Durability::Disk, "noting a refusal", change)
        .await
}

pub(super) async fn note_refused_credential(
    database: &Database,
    workspace: WorkspaceId,
    secret_id: SecretId,
) -> Result<u64, StoreError> {
    let change = query(
        "UPDATE image_grant SET refused_at = $3
         WHERE workspace_id = $1 AND secret_id = $2 AND refused_at IS NULL",
    )
    .bind(workspace.to_string())
    .bind(secret_id.to_string())
    .bind(now_ms());
    let doing = "noting a refused credential";
    database.execute(Durability::Disk, doing, change).await
}

fn grant(workspace: WorkspaceId, row: Row) -> Result<Grant, StoreError> {
    let (id, image_id, origin, secret_id, version, granted_at, refused_at) = row;
    Ok(Grant {
        id: parsed("image_grant", &id)?,
        workspace,
        image_id: digest("image_grant", &image_id)?,
        origin,
        proof: proof(secret_id.as_deref(), version)?,
        granted_at: timestamp(granted_at),
        refused_at: refused_at.map(timestamp),
    })
}

pub(super) async fn revoke(
    database: &Database,
    workspace: WorkspaceId,
    secret_id: SecretId,
) -> Result<u64, StoreError> {
    let change = query("DELETE FROM image_grant WHERE workspace_id = $1 AND secret_id = $2")
        .bind(workspace.to_string())
        .bind(secret_id.to_string());
    database
        .execute(Durability::Process, "revoking grants", change)
        .await
}

fn proof(secret_id: Option<&str>, version: Option<i64>) -> Result<GrantProof, StoreError> {
    let (Some(secret_id), Some(version)) = (secret_id, version) else {
        return Ok(GrantProof::Anonymous);
    };
    let version = u32::try_from(version);
    Ok(GrantProof::Credential(ProvenVersion {
        secret_id: parsed("image_grant", secret_id)?,
        version: version.map_err(|error| damaged("image_grant", error.to_string()))?,
    }))
}
