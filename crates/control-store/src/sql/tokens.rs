//! API tokens.

use database::query;
use ids::{TokenId, WorkspaceId};
use jiff::Timestamp;

use super::{SqlStore, check_length, now_ms, parsed, timestamp};
use crate::error::{Doing, StoreError};
use crate::store::Durability;
use crate::store::StoreFuture;
use crate::tokens::{ApiToken, NewToken, TokenHash, TokenRecords, TokenScope};

/// Longest name of a token: a line of a listing.
const NAME_LIMIT: usize = 128;

type Row = (
    String,
    String,
    String,
    String,
    i64,
    Option<i64>,
    bool,
    Option<i64>,
);

impl TokenRecords for SqlStore {
    fn add_token<'a>(
        &'a self,
        workspace: WorkspaceId,
        token: &'a NewToken,
    ) -> StoreFuture<'a, ApiToken> {
        Box::pin(self.add_token_now(workspace, token))
    }

    fn token_of_hash<'a>(&'a self, hash: &'a TokenHash) -> StoreFuture<'a, Option<ApiToken>> {
        Box::pin(self.token_of_hash_now(hash))
    }

    fn tokens(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<ApiToken>> {
        Box::pin(self.tokens_now(workspace))
    }

    fn set_token_enabled(
        &self,
        workspace: WorkspaceId,
        id: TokenId,
        is_enabled: bool,
    ) -> StoreFuture<'_, bool> {
        Box::pin(self.set_token_enabled_now(workspace, id, is_enabled))
    }

    fn remove_token(&self, workspace: WorkspaceId, id: TokenId) -> StoreFuture<'_, bool> {
        Box::pin(self.remove_token_now(workspace, id))
    }

    fn note_token_use(&self, id: TokenId, at: Timestamp) -> StoreFuture<'_, ()> {
        Box::pin(self.note_token_use_now(id, at))
    }
}

impl SqlStore {
    async fn add_token_now(
        &self,
        workspace: WorkspaceId,
        token: &NewToken,
    ) -> Result<ApiToken, StoreError> {
        check_length("name of a token", token.name.len(), NAME_LIMIT)?;
        let created_at = now_ms();
        let change = query(
            "INSERT INTO api_token (token_id, workspace_id, name, hash, scopes,
                                    created_at, expires_at, is_enabled)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1)",
        )
        .bind(token.id.to_string())
        .bind(workspace.to_string())
        .bind(&token.name)
        .bind(&token.hash[..])
        .bind(written(&token.scopes))
        .bind(created_at)
        .bind(token.expires_at.map(Timestamp::as_millisecond));
        self.database
            .execute(Durability::Disk, "adding a token", change)
            .await?;
        Ok(ApiToken {
            id: token.id,
            workspace,
            name: token.name.clone(),
            scopes: token.scopes.clone(),
            created_at: timestamp(created_at),
            expires_at: token.expires_at,
            is_enabled: true,
            used_at: None,
        })
    }

    async fn token_of_hash_now(&self, hash: &TokenHash) -> Result<Option<ApiToken>, StoreError> {
        let query = query(
            "SELECT token_id, workspace_id, name, scopes, created_at, expires_at, is_enabled,
                    used_at
             FROM api_token WHERE hash = $1",
        );
        let query = query.bind(hash.to_vec());
        let row: Option<Row> = self
            .database
            .often()
            .row(query)
            .await
            .doing("finding a token")?;
        row.map(token).transpose()
    }

    async fn tokens_now(&self, workspace: WorkspaceId) -> Result<Vec<ApiToken>, StoreError> {
        let rows: Vec<Row> = query(
            "SELECT token_id, workspace_id, name, scopes, created_at, expires_at, is_enabled,
                    used_at
             FROM api_token WHERE workspace_id = $1 ORDER BY token_id",
        )
        .bind(workspace.to_string())
        .fetch_all(self.database.reader())
        .await
        .doing("listing tokens")?;
        rows.into_iter().map(token).collect()
    }

    async fn set_token_enabled_now(
        &self,
        workspace: WorkspaceId,
        id: TokenId,
        is_enabled: bool,
    ) -> Result<bool, StoreError> {
        let change = query(
            "UPDATE api_token SET is_enabled = $3
             WHERE workspace_id = $1 AND token_id = $2",
        )
        .bind(workspace.to_string())
        .bind(id.to_string())
        .bind(is_enabled);
        let changed = self
            .database
            .execute(Durability::Disk, "changing a token", change)
            .await?;
        Ok(changed > 0)
    }

    async fn remove_token_now(
        &self,
        workspace: WorkspaceId,
        id: TokenId,
    ) -> Result<bool, StoreError> {
        let change = query("DELETE FROM api_token WHERE workspace_id = $1 AND token_id = $2")
            .bind(workspace.to_string())
            .bind(id.to_string());
        let changed = self
            .database
            .execute(Durability::Disk, "removing a token", change)
            .await?;
        Ok(changed > 0)
    }

    async fn note_token_use_now(&self, id: TokenId, at: Timestamp) -> Result<(), StoreError> {
        let change = query("UPDATE api_token SET used_at = $2 WHERE token_id = $1")
            .bind(id.to_string())
            .bind(at.as_millisecond());
        self.database
            .execute(Durability::Process, "noting the use of a token", change)
            .await
            .map(drop)
    }
}

fn written(scopes: &[TokenScope]) -> String {
    let names: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
    names.join(",")
}

fn scopes(text: &str) -> Result<Vec<TokenScope>, StoreError> {
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(|name| parsed("api_token", name)).collect()
}

fn token(row: Row) -> Result<ApiToken, StoreError> {
    let (id, workspace, name, names, created_at, expires_at, is_enabled, used_at) = row;
    Ok(ApiToken {
        id: parsed("api_token", &id)?,
        workspace: parsed("api_token", &workspace)?,
        name,
        scopes: scopes(&names)?,
        created_at: timestamp(created_at),
        expires_at: expires_at.map(timestamp),
        is_enabled,
        used_at: used_at.map(timestamp),
    })
}
