//! Tokens: who gets in, and for what.

use control_store::TokenScope;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_who_asks() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let whoami = caller.get("/v1/whoami").await;
    assert_eq!(whoami["workspace"]["name"], "team");
    assert_eq!(whoami["token"]["name"], "of team");
    assert_eq!(
        whoami["token"]["scopes"],
        json!(["read", "call", "secrets", "tokens", "metrics"])
    );
    let listed = caller.get("/v1/tokens").await;
    assert_eq!(listed["tokens"][0]["id"], whoami["token"]["id"]);
    assert!(listed["tokens"][0]["used_at"].is_string(), "{listed}");
    assert!(!listed.to_string().contains(&caller.token));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token_that_counts() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let whoami = caller.get("/v1/whoami").await;
    let good = caller.token.clone();
    let (other, shorter) = (format!("hf_{}", "0".repeat(64)), &good[..66]);
    let tokens = [None, Some(""), Some("hf_"), Some(&*other), Some(shorter)];
    let paths = ["/v1/whoami", "/v1/tokens", "/v1/secrets"];
    for (token, path) in tokens
        .iter()
        .flat_map(|token| paths.map(|path| (token, path)))
    {
        let (status, value) = stage.ask(*token, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{token:?} {path}");
        assert_eq!(value["error"]["kind"], "unauthenticated");
    }
    let path = format!("/v1/tokens/{}", whoami["token"]["id"].as_str().unwrap());
    let switch = |enabled: bool| Some(json!({ "enabled": enabled }));
    let helper = stage.caller("team", &TokenScope::ALL).await;
    let (status, value) = helper.ask(Method::PATCH, &path, switch(false)).await;
    assert_eq!((status, &value["enabled"]), (StatusCode::OK, &json!(false)));
    let (code, kind, message) = caller.refused(Method::GET, "/v1/whoami", None).await;
    assert_eq!((code, &*kind), (401, "unauthenticated"));
    assert_eq!(message, "token is switched off");
    helper.ask(Method::PATCH, &path, switch(true)).await;
    caller.get("/v1/whoami").await;
    let (status, _) = helper.ask(Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (code, _, message) = caller.refused(Method::GET, "/v1/whoami", None).await;
    assert_eq!((code, &*message), (401, "token is not known here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_what_it_says() {
    let stage = Stage::new().await;
    let new = |scopes: &[&str]| Some(json!({"name": "new", "scopes": scopes}));
    let reader = stage.caller("team", &[TokenScope::Read]).await;
    let maker = stage
        .caller("team", &[TokenScope::Read, TokenScope::Tokens])
        .await;
    reader.get("/v1/tokens").await;
    let denied: [(&_, Method, &str, Option<Value>); 5] = [
        (&reader, Method::POST, "/v1/tokens", new(&["read"])),
        (
            &reader,
            Method::PUT,
            "/v1/secrets/A",
            Some(json!({"value": "x"})),
        ),
        (&reader, Method::DELETE, "/v1/secrets/A", None),
        (
            &maker,
            Method::POST,
            "/v1/tokens",
            new(&["read", "secrets"]),
        ),
        (
            &maker,
            Method::PUT,
            "/v1/secrets/A",
            Some(json!({"value": "x"})),
        ),
    ];
    for (caller, method, path, body) in denied {
        let (code, kind, message) = caller.refused(method.clone(), path, body).await;
        assert_eq!(
            (code, &*kind),
            (403, "denied"),
            "{method} {path}: {message}"
        );
        assert!(message.starts_with("token has no scope"), "{message}");
    }
    let (status, made) = maker.ask(Method::POST, "/v1/tokens", new(&["read"])).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let text = made["token"].as_str().unwrap();
    let (status, _) = stage.ask(Some(text), Method::GET, "/v1/whoami", None).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_do_not_meet() {
    let stage = Stage::new().await;
    let ours = stage.caller("ours", &TokenScope::ALL).await;
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let id = ours.get("/v1/whoami").await["token"]["id"].clone();
    let path = format!("/v1/tokens/{}", id.as_str().unwrap());
    let switch = Some(json!({"enabled": false}));
    for (method, body) in [(Method::PATCH, switch), (Method::DELETE, None)] {
        let (code, kind, _) = theirs.refused(method, &path, body).await;
        assert_eq!((code, &*kind), (404, "not_found"));
    }
    let value = Some(json!({"value": "ours"}));
    ours.ask(Method::PUT, "/v1/secrets/NAME", value).await;
    assert_eq!(theirs.get("/v1/secrets").await, json!({"secrets": []}));
    let (code, ..) = theirs
        .refused(Method::DELETE, "/v1/secrets/NAME", None)
        .await;
    assert_eq!(code, 404);
    assert_eq!(
        theirs.get("/v1/tokens").await["tokens"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    ours.get("/v1/whoami").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let bodies = [
        json!({}),
        json!([]),
        json!({"name": "a", "scopes": ["read"], "more": 1}),
        json!({"name": 1, "scopes": ["read"]}),
        json!({"name": "a", "scopes": ["everything"]}),
        json!({"name": "a", "scopes": []}),
        json!({"name": " ", "scopes": ["read"]}),
        json!({"name": "a\u{1b}[31m", "scopes": ["read"]}),
        json!({"name": "a", "scopes": ["read"], "expires_at": "tomorrow"}),
        json!({"name": "a", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}),
    ];
    for body in bodies {
        let (code, kind, message) = caller
            .refused(Method::POST, "/v1/tokens", Some(body.clone()))
            .await;
        assert_eq!((code, &*kind), (400, "invalid"), "{body}: {message}");
    }
    let long = json!({"name": "a".repeat(200), "scopes": ["read"]});
    let (code, kind, _) = caller.refused(Method::POST, "/v1/tokens", Some(long)).await;
    assert_eq!((code, &*kind), (413, "too_large"));
    let (code, ..) = caller
        .refused(Method::DELETE, "/v1/tokens/sec-1", None)
        .await;
    assert_eq!(code, 400);
    let (code, kind, _) = caller.refused(Method::GET, "/v2/", None).await;
    assert_eq!((code, &*kind), (404, "not_found"));
    let (code, ..) = caller.refused(Method::PUT, "/v1/whoami", None).await;
    assert_eq!(code, 400);
}
