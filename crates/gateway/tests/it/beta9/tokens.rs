//! Tokens, of the two types that the client knows.

use beta9_protocol::gateway::{
    AuthorizeRequest, CreateTokenRequest, DeleteTokenRequest, ListTokensRequest,
    ToggleTokenRequest, Token,
};
use control_store::TokenScope;
use ids::TokenId;
use tonic::Code;

use super::client::Beta9;
use crate::support::Stage;

impl Beta9 {
    async fn create_token(&self, token_type: &str) -> Result<Token, String> {
        let request = self.ask(CreateTokenRequest {
            token_type: token_type.to_owned(),
        });
        let reply = self
            .gateway()
            .create_token(request)
            .await
            .unwrap()
            .into_inner();
        reply.token.filter(|_| reply.ok).ok_or(reply.err_msg)
    }

    async fn toggle(&self, id: &str) -> Result<Token, String> {
        let request = self.ask(ToggleTokenRequest {
            token_id: id.to_owned(),
        });
        let reply = self
            .gateway()
            .toggle_token(request)
            .await
            .unwrap()
            .into_inner();
        reply.token.filter(|_| reply.ok).ok_or(reply.err_msg)
    }

    async fn delete_token(&self, id: &str) -> Result<(), String> {
        let request = self.ask(DeleteTokenRequest {
            token_id: id.to_owned(),
        });
        let reply = self
            .gateway()
            .delete_token(request)
            .await
            .unwrap()
            .into_inner();
        if reply.ok { Ok(()) } else { Err(reply.err_msg) }
    }

    async fn tokens(&self) -> Vec<Token> {
        let request = self.ask(ListTokensRequest {});
        let reply = self
            .gateway()
            .list_tokens(request)
            .await
            .unwrap()
            .into_inner();
        assert!(reply.ok, "{}", reply.err_msg);
        reply.tokens
    }

    async fn is_let_in(&self) -> bool {
        match self
            .gateway()
            .authorize(self.ask(AuthorizeRequest {}))
            .await
        {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::Unauthenticated);
                false
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_types_of_tokens_are_for_different_things() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    for (token_type, scopes) in [
        ("workspace", &["read", "call", "secrets", "tokens"][..]),
        ("workspace_restricted", &["read", "call"]),
    ] {
        let made = beta9.create_token(token_type).await.unwrap();
        assert_eq!(made.token_type, token_type);
        assert!(made.active && made.reusable && made.key.len() >= 64);
        let path = "/v1/whoami";
        let (_, whoami) = stage
            .ask(Some(&made.key), "GET".parse().unwrap(), path, None)
            .await;
        assert_eq!(whoami["token"]["scopes"], serde_json::json!(scopes));
    }
    let types: Vec<_> = beta9
        .tokens()
        .await
        .into_iter()
        .map(|token| token.token_type)
        .collect();
    assert_eq!(types, ["workspace", "workspace", "workspace_restricted"]);
    let text = beta9.create_token("worker").await.unwrap_err();
    assert_eq!(
        text,
        "no such type of token\nthere are workspace and workspace_restricted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_switched_and_removed_and_shown_once() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let made = beta9.create_token("workspace_restricted").await.unwrap();
    let holder = Beta9::showing(&stage, Some(format!("bearer {}", made.key)));
    for is_active in [false, true] {
        let toggled = beta9.toggle(&made.token_id).await.unwrap();
        assert_eq!((toggled.active, &*toggled.key), (is_active, ""));
        assert_eq!(toggled.token_id, made.token_id);
        assert_eq!(holder.is_let_in().await, is_active);
    }
    let listed = beta9.tokens().await;
    assert!(listed.iter().all(|token| token.key.is_empty()));
    beta9.delete_token(&made.token_id).await.unwrap();
    assert!(!holder.is_let_in().await);
    let unknown = TokenId::new();
    for id in [
        made.token_id,
        unknown.uuid().to_string(),
        unknown.to_string(),
    ] {
        for text in [
            beta9.toggle(&id).await.unwrap_err(),
            beta9.delete_token(&id).await.unwrap_err(),
        ] {
            assert!(text.starts_with("no token tok-"), "{text}");
        }
    }
    for id in ["", "7", "sec-1"] {
        let text = beta9.delete_token(id).await.unwrap_err();
        assert_eq!(
            text,
            "no token has such an id\n`beta9 token list` shows them"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_a_token_for_more_than_their_own() {
    let stage = Stage::new().await;
    let scopes = [TokenScope::Read, TokenScope::Call, TokenScope::Tokens];
    let caller = stage.caller("team", &scopes).await;
    let beta9 = Beta9::of(&stage, &caller);
    let text = beta9.create_token("workspace").await.unwrap_err();
    assert!(
        text.starts_with("token has no scope \"secrets\"\n"),
        "{text}"
    );
    let made = beta9.create_token("workspace_restricted").await.unwrap();
    let holder = Beta9::showing(&stage, Some(format!("Bearer {}", made.key)));
    let text = holder
        .create_token("workspace_restricted")
        .await
        .unwrap_err();
    assert!(
        text.starts_with("token has no scope \"tokens\"\n"),
        "{text}"
    );
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let text = Beta9::of(&stage, &theirs).toggle(&made.token_id).await;
    assert!(text.unwrap_err().starts_with("no token "));
    assert!(holder.is_let_in().await);
}
