//! API tokens: made, listed, switched and removed by those who may.

use control_store::{ApiToken, NewToken, TokenScope};
use credential::SecretString;
use ids::{TokenId, WorkspaceId};
use jiff::Timestamp;

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};
use crate::token;

/// Tokens of one workspace: people, programs and machines, and some forgotten.
const TOKENS_LIMIT: usize = 1000;

/// A token that somebody wants.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    pub name: String,
    pub scopes: Vec<TokenScope>,
    pub expires_at: Option<Timestamp>,
}

/// A token, and its text for the only time.
#[derive(Debug)]
pub struct MadeToken {
    pub token: ApiToken,
    pub text: SecretString,
}

impl Gateway {
    /// Makes a token that is for no more than the caller's own.
    pub async fn create_token(
        &self,
        caller: &Caller,
        request: TokenRequest,
    ) -> Result<MadeToken, Problem> {
        caller.must(TokenScope::Tokens)?;
        for scope in &request.scopes {
            caller.must(*scope)?;
        }
        self.make_token(caller.workspace(), request).await
    }

    /// Makes a token for whoever runs this installation.
    pub async fn make_token(
        &self,
        workspace: WorkspaceId,
        mut request: TokenRequest,
    ) -> Result<MadeToken, Problem> {
        check(&request)?;
        let known = self.store().tokens(workspace).await?;
        if known.len() >= TOKENS_LIMIT {
            let message = format!("workspace has {TOKENS_LIMIT} tokens");
            return Err(Problem::new(Kind::Conflict, message).hint("remove some"));
        }
        request.scopes.sort_unstable();
        request.scopes.dedup();
        let text = token::make().map_err(|error| Problem::internal(&error))?;
        let new = NewToken {
            id: TokenId::new(),
            name: request.name,
            hash: token::hash_of_made(&text),
            scopes: request.scopes,
            expires_at: request.expires_at,
        };
        let token = self.store().add_token(workspace, &new).await?;
        Ok(MadeToken { token, text })
    }

    /// Whether a workspace has ever let anybody in, and not taken it all back.
    pub async fn has_tokens(&self, workspace: WorkspaceId) -> Result<bool, Problem> {
        Ok(!self.store().tokens(workspace).await?.is_empty())
    }

    pub async fn tokens(&self, caller: &Caller) -> Result<Vec<ApiToken>, Problem> {
        caller.must(TokenScope::Read)?;
        Ok(self.store().tokens(caller.workspace()).await?)
    }

    /// Switches a token on or off, at once.
    pub async fn enable_token(
        &self,
        caller: &Caller,
        id: TokenId,
        is_enabled: bool,
    ) -> Result<ApiToken, Problem> {
        caller.must(TokenScope::Tokens)?;
        let (store, workspace) = (self.store(), caller.workspace());
        let find = async || {
            let tokens = store.tokens(workspace).await?;
            let token = tokens.into_iter().find(|token| token.id == id);
            token.ok_or_else(|| no_token(id))
        };
        if is_enabled {
            // As making one that is for more would be.
            for scope in find().await?.scopes {
                caller.must(scope)?;
            }
        }
        store.set_token_enabled(workspace, id, is_enabled).await?;
        find().await
    }

    pub async fn delete_token(&self, caller: &Caller, id: TokenId) -> Result<(), Problem> {
        caller.must(TokenScope::Tokens)?;
        if self.store().remove_token(caller.workspace(), id).await? {
            Ok(())
        } else {
            Err(no_token(id))
        }
    }
}

fn check(request: &TokenRequest) -> Result<(), Problem> {
    if request.name.trim().is_empty() || request.name.chars().any(char::is_control) {
        return Err(Problem::invalid(
            "a token needs a name, of characters that can be shown",
        ));
    }
    if request.scopes.is_empty() {
        return Err(Problem::invalid("a token without scopes is for nothing"));
    }
    if request
        .expires_at
        .is_some_and(|end| end <= Timestamp::now())
    {
        return Err(Problem::invalid("the token would be over already"));
    }
    Ok(())
}

fn no_token(id: TokenId) -> Problem {
    Problem::not_own(format!("no token {id} in this workspace"))
}
