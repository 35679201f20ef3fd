//! API tokens: who may call, as what.
//!
//! Only the hash of a token is kept. Tokens are random, so that the hash needs no salt and finds
//! its row; whoever holds a copy of the store has no token.

use std::str::FromStr;

use ids::{TokenId, WorkspaceId};
use jiff::Timestamp;

use crate::store::StoreFuture;

/// What stands for a token here.
pub type TokenHash = [u8; 32];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenScope {
    /// To see images, functions, tasks, containers and logs, and the names of secrets.
    Read,
    /// To build images, with the credentials that come with them, define functions and call them.
    Call,
    /// To write secrets and registry credentials.
    Secrets,
    /// To make and revoke tokens.
    Tokens,
    /// To see how much is done in all workspaces together.
    Metrics,
}

impl TokenScope {
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Call,
        Self::Secrets,
        Self::Tokens,
        Self::Metrics,
    ];
    /// Those that are about one workspace, and all that a token is for unless somebody says so.
    pub const OF_A_WORKSPACE: [Self; 4] = [Self::Read, Self::Call, Self::Secrets, Self::Tokens];

    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Call => "call",
            Self::Secrets => "secrets",
            Self::Tokens => "tokens",
            Self::Metrics => "metrics",
        }
    }
}

/// Why a text is not a scope. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such scope; there are {}", TokenScope::ALL.map(TokenScope::name).join(", "))]
pub struct ParseTokenScopeError;

impl FromStr for TokenScope {
    type Err = ParseTokenScopeError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|scope| scope.name() == name);
        named.ok_or(ParseTokenScopeError)
    }
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    pub id: TokenId,
    pub workspace: WorkspaceId,
    pub name: String,
    pub scopes: Vec<TokenScope>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub is_enabled: bool,
    /// The last use that was noted.
    pub used_at: Option<Timestamp>,
}

/// A token that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub id: TokenId,
    pub name: String,
    pub hash: TokenHash,
    pub scopes: Vec<TokenScope>,
    pub expires_at: Option<Timestamp>,
}

/// Where API tokens are kept.
pub trait TokenRecords {
    fn add_token<'a>(
        &'a self,
        workspace: WorkspaceId,
        token: &'a NewToken,
    ) -> StoreFuture<'a, ApiToken>;

    /// The token of this hash, whether or not it is enabled or over.
    fn token_of_hash<'a>(&'a self, hash: &'a TokenHash) -> StoreFuture<'a, Option<ApiToken>>;

    /// The tokens of a workspace, oldest first.
    fn tokens(&self, workspace: WorkspaceId) -> StoreFuture<'_, Vec<ApiToken>>;

    /// Enables or disables a token; answers whether there is one.
    fn set_token_enabled(
        &self,
        workspace: WorkspaceId,
        id: TokenId,
        is_enabled: bool,
    ) -> StoreFuture<'_, bool>;

    /// Removes a token; answers whether there was one.
    fn remove_token(&self, workspace: WorkspaceId, id: TokenId) -> StoreFuture<'_, bool>;

    /// Notes that a token was used.
    fn note_token_use(&self, id: TokenId, at: Timestamp) -> StoreFuture<'_, ()>;
}
