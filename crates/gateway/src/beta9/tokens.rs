//! API tokens.
//!
//! The client knows two types of them. A `workspace` token is its owner's: it has every scope of a
//! workspace. A `workspace_restricted` one is for a program that uses the workspace without
//! administering it: it builds images, calls functions and sees what there is, but makes no token,
//! writes no secret, and decides of none what runs with it or where it is sent. Here that is `read`
//! and `call`; a token of other scopes is listed as restricted too.

use beta9_protocol::gateway::{
    CreateTokenRequest, CreateTokenResponse, DeleteTokenRequest, DeleteTokenResponse,
    ListTokensResponse, ToggleTokenRequest, ToggleTokenResponse, Token,
};
use control_store::{ApiToken, TokenScope};
use credential::ExposeSecret;
use ids::TokenId;

use super::{parse_id, times};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::tokens::TokenRequest;
use crate::problem::Problem;

const WORKSPACE: &str = "workspace";
const RESTRICTED: &str = "workspace_restricted";
const RESTRICTED_SCOPES: [TokenScope; 2] = [TokenScope::Read, TokenScope::Call];

/// The name of tokens whose maker could not give one.
const NAME: &str = "beta9";

/// Makes a token; its text is shown in this reply alone.
pub(super) async fn create(
    gateway: &Gateway,
    caller: &Caller,
    request: CreateTokenRequest,
) -> Result<CreateTokenResponse, Problem> {
    let request = TokenRequest {
        name: NAME.to_owned(),
        scopes: parse_type(&request.token_type)?,
        expires_at: None,
    };
    let made = gateway.create_token(caller, request).await?;
    let token = Token {
        key: made.text.expose_secret().to_owned(),
        ..shown(&made.token)
    };
    Ok(CreateTokenResponse {
        ok: true,
        token: Some(token),
        ..Default::default()
    })
}

pub(super) async fn list(
    gateway: &Gateway,
    caller: &Caller,
) -> Result<ListTokensResponse, Problem> {
    let tokens = gateway.tokens(caller).await?;
    Ok(ListTokensResponse {
        ok: true,
        tokens: tokens.iter().map(shown).collect(),
        ..Default::default()
    })
}

/// Switches a token to what it is not.
pub(super) async fn toggle(
    gateway: &Gateway,
    caller: &Caller,
    request: ToggleTokenRequest,
) -> Result<ToggleTokenResponse, Problem> {
    let id = parse_token_id(&request.token_id)?;
    let tokens = gateway.tokens(caller).await?;
    let known = tokens.iter().find(|token| token.id == id);
    // The operation has the words for one that is not there.
    let is_enabled = known.is_some_and(|token| token.is_enabled);
    let token = gateway.enable_token(caller, id, !is_enabled).await?;
    Ok(ToggleTokenResponse {
        ok: true,
        token: Some(shown(&token)),
        ..Default::default()
    })
}

pub(super) async fn delete(
    gateway: &Gateway,
    caller: &Caller,
    request: DeleteTokenRequest,
) -> Result<DeleteTokenResponse, Problem> {
    let id = parse_token_id(&request.token_id)?;
    gateway.delete_token(caller, id).await?;
    Ok(DeleteTokenResponse {
        ok: true,
        ..Default::default()
    })
}

fn parse_type(name: &str) -> Result<Vec<TokenScope>, Problem> {
    match name {
        WORKSPACE => Ok(TokenScope::OF_A_WORKSPACE.to_vec()),
        RESTRICTED => Ok(RESTRICTED_SCOPES.to_vec()),
        _ => Err(Problem::invalid("no such type of token")
            .hint(format!("there are {WORKSPACE} and {RESTRICTED}"))),
    }
}

fn parse_token_id(text: &str) -> Result<TokenId, Problem> {
    parse_id(text, TokenId::parse_uuid, "no token has such an id")
        .map_err(|problem| problem.hint("`beta9 token list` shows them"))
}

/// A token without its text. When it was last changed nobody notes.
fn shown(token: &ApiToken) -> Token {
    let has_all = TokenScope::OF_A_WORKSPACE
        .iter()
        .all(|scope| token.scopes.contains(scope));
    let token_type = if has_all { WORKSPACE } else { RESTRICTED };
    Token {
        token_id: token.id.uuid().to_string(),
        active: token.is_enabled,
        reusable: true,
        token_type: token_type.to_owned(),
        created_at: Some(times::at(token.created_at)),
        updated_at: Some(times::UNKNOWN),
        ..Default::default()
    }
}
