//! Images and what names they were found by.

use database::{Connection, query};
use ids::{SecretId, WorkspaceId};
use reference::Digest;

use super::{SqlStore, check_length, damaged, digest, grants, layers, now_ms, timestamp};
use crate::database::Database;
use crate::error::{Doing, StoreError};
use crate::images::{
    Grant, GrantOutcome, Image, ImageAlias, ImageRecords, NewGrant, Publication, Python,
};
use crate::store::Durability;
use crate::store::StoreFuture;

/// Longest configuration; `image` reads none that is longer.
const CONFIG_LIMIT: usize = 4 << 20;
/// Longest environment as JSON: many times what a gateway takes, and the kernel less.
const ENVIRONMENT_LIMIT: usize = 1 << 20;

type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    i64,
    Option<Vec<u8>>,
);

impl ImageRecords for SqlStore {
    fn publish<'a>(
        &'a self,
        workspace: WorkspaceId,
        publication: &'a Publication,
    ) -> StoreFuture<'a, GrantOutcome> {
        Box::pin(publish(&self.database, workspace, publication))
    }

    fn image<'a>(
        &'a self,
        workspace: WorkspaceId,
        id: &'a Digest,
    ) -> StoreFuture<'a, Option<Image>> {
        Box::pin(find(&self.database, workspace, id))
    }

    fn images(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<Image>> {
        Box::pin(list(&self.database, workspace))
    }

    fn alias<'a>(
        &'a self,
        workspace: WorkspaceId,
        canonical: &'a str,
    ) -> StoreFuture<'a, Option<ImageAlias>> {
        Box::pin(alias(&self.database, workspace, canonical))
    }

    fn record_grant<'a>(
        &'a self,
        workspace: WorkspaceId,
        grant: &'a NewGrant,
    ) -> StoreFuture<'a, GrantOutcome> {
        Box::pin(grants::record(&self.database, workspace, grant))
    }

    fn grant<'a>(
        &'a self,
        workspace: WorkspaceId,
        image_id: &'a Digest,
        origin: &'a str,
    ) -> StoreFuture<'a, Option<Grant>> {
        Box::pin(grants::find(&self.database, workspace, image_id, origin))
    }

    fn last_proof<'a>(
        &'a self,
        workspace: WorkspaceId,
        manifest_digest: &'a Digest,
        origin: &'a str,
    ) -> StoreFuture<'a, Option<Grant>> {
        let of_manifest = grants::OfManifest {
            workspace,
            manifest_digest,
            origin,
        };
        Box::pin(grants::last(&self.database, of_manifest))
    }

    fn note_refusal<'a>(
        &'a self,
        workspace: WorkspaceId,
        manifest_digest: &'a Digest,
        origin: &'a str,
    ) -> StoreFuture<'a, u64> {
        let of_manifest = grants::OfManifest {
            workspace,
            manifest_digest,
            origin,
        };
        Box::pin(grants::note_refusal(&self.database, of_manifest))
    }

    fn note_refused_credential(
        &self,
        workspace: WorkspaceId,
        secret_id: SecretId,
    ) -> StoreFuture<'_, u64> {
        Box::pin(grants::note_refused_credential(
            &self.database,
            workspace,
            secret_id,
        ))
    }

    fn revoke_grants_of(
        &self,
        workspace: WorkspaceId,
        secret_id: SecretId,
    ) -> StoreFuture<'_, u64> {
        Box::pin(grants::revoke(&self.database, workspace, secret_id))
    }
}

async fn publish(
    database: &Database,
    workspace: WorkspaceId,
    publication: &Publication,
) -> Result<GrantOutcome, StoreError> {
    let publication = publication.clone();
    let change = database.change(Durability::Process, move |connection| {
        Box::pin(async move { publish_within(connection, workspace, &publication).await })
    });
    change.await
}

async fn publish_within(
    connection: &mut Connection<'_>,
    workspace: WorkspaceId,
    publication: &Publication,
) -> Result<GrantOutcome, StoreError> {
    let image = &publication.image;
    insert(connection, workspace, image).await?;
    query(
        "INSERT INTO image_alias (workspace_id, canonical, manifest_digest, image_id, checked_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (workspace_id, canonical) DO UPDATE
         SET manifest_digest = excluded.manifest_digest, image_id = excluded.image_id,
             checked_at = excluded.checked_at",
    )
    .bind(workspace.to_string())
    .bind(&image.canonical)
    .bind(image.manifest_digest.as_str())
    .bind(image.id.as_str())
    .bind(now_ms())
    .execute(&mut *connection)
    .await
    .doing("writing an alias")?;
    let grant = NewGrant {
        image_id: image.id.clone(),
        origin: image.origin.clone(),
        proof: publication.proof,
    };
    grants::record_within(connection, workspace, &grant).await
}

async fn insert(
    connection: &mut Connection<'_>,
    workspace: WorkspaceId,
    image: &Image,
) -> Result<(), StoreError> {
    let environment = serde_json::to_string(&image.environment).expect("texts serialise");
    check_length(
        "environment of an image",
        environment.len(),
        ENVIRONMENT_LIMIT,
    )?;
    let config_length = image.config.as_ref().map_or(0, Vec::len);
    check_length("configuration of an image", config_length, CONFIG_LIMIT)?;
    let python = image.python.as_ref();
    query(
        "INSERT INTO image (workspace_id, image_id, typed, canonical, origin, manifest_digest,
                            config_digest, layers, environment, python_program, python_version,
                            created_at, config)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (workspace_id, image_id) DO UPDATE
         SET typed = excluded.typed, canonical = excluded.canonical, origin = excluded.origin,
             layers = excluded.layers,
             python_program = coalesce(excluded.python_program, image.python_program),
             python_version = coalesce(excluded.python_version, image.python_version),
             config = coalesce(excluded.config, image.config)",
    )
    .bind(workspace.to_string())
    .bind(image.id.as_str())
    .bind(&image.typed)
    .bind(&image.canonical)
    .bind(&image.origin)
    .bind(image.manifest_digest.as_str())
    .bind(image.config_digest.as_str())
    .bind(layers::write(&image.layers))
    .bind(environment)
    .bind(python.map(|python| &python.program))
    .bind(python.map(|python| &python.version))
    .bind(image.created_at.as_millisecond())
    .bind(image.config.as_deref())
    .execute(connection)
    .await
    .doing("writing an image")?;
    Ok(())
}

async fn find(
    database: &Database,
    workspace: WorkspaceId,
    id: &Digest,
) -> Result<Option<Image>, StoreError> {
    let row: Option<Row> = query(
        "SELECT image_id, typed, canonical, origin, manifest_digest, config_digest, layers,
                environment, python_program, python_version, created_at, config
         FROM image WHERE image_id = $1 AND workspace_id = $2
           AND image_id IN (SELECT image_id FROM image_grant WHERE workspace_id = $2)",
    )
    .bind(id.as_str())
    .bind(workspace.to_string())
    .fetch_optional(database.reader())
    .await
    .doing("finding an image")?;
    row.map(image).transpose()
}

async fn list(database: &Database, workspace: WorkspaceId) -> Result<Vec<Image>, StoreError> {
    let rows: Vec<Row> = query(
        "SELECT image_id, typed, canonical, origin, manifest_digest, config_digest, layers,
                environment, python_program, python_version, created_at, NULL
         FROM image
         WHERE workspace_id = $1
           AND image_id IN (SELECT image_id FROM image_grant WHERE workspace_id = $1)
         ORDER BY created_at DESC, image_id",
    )
    .bind(workspace.to_string())
    .fetch_all(database.reader())
    .await
    .doing("listing images")?;
    rows.into_iter().map(image).collect()
}

async fn alias(
    database: &Database,
    workspace: WorkspaceId,
    canonical: &str,
) -> Result<Option<ImageAlias>, StoreError> {
    let row: Option<(String, String, String, i64)> = query(
        "SELECT canonical, manifest_digest, image_id, checked_at FROM image_alias
         WHERE workspace_id = $1 AND canonical = $2",
    )
    .bind(workspace.to_string())
    .bind(canonical)
    .fetch_optional(database.reader())
    .await
    .doing("finding an alias")?;
    row.map(|(canonical, manifest_digest, image_id, checked_at)| {
        Ok(ImageAlias {
            canonical,
            manifest_digest: digest("image_alias", &manifest_digest)?,
            image_id: digest("image_alias", &image_id)?,
            checked_at: timestamp(checked_at),
        })
    })
    .transpose()
}

fn image(row: Row) -> Result<Image, StoreError> {
    Ok(Image {
        id: digest("image", &row.0)?,
        typed: row.1,
        canonical: row.2,
        origin: row.3,
        manifest_digest: digest("image", &row.4)?,
        config_digest: digest("image", &row.5)?,
        layers: layers::read(&row.6)?,
        environment: serde_json::from_str(&row.7)
            .map_err(|error| damaged("image", error.to_string()))?,
        python: python(row.8, row.9)?,
        created_at: timestamp(row.10),
        config: row.11,
    })
}

fn python(program: Option<String>, version: Option<String>) -> Result<Option<Python>, StoreError> {
    match (program, version) {
        (Some(program), Some(version)) => Ok(Some(Python { program, version })),
        (None, None) => Ok(None),
        _ => Err(damaged("image", "half of a Python".to_owned())),
    }
}
