//! The socket of whoever runs the gateway.

use std::os::unix::fs::PermissionsExt;

use control_store::TokenScope;
use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::support::Stage;

const WORKSPACE: &str = "holdfast-workspace";

async fn ask(stage: &Stage, path: &str, workspace: Option<&str>) -> (StatusCode, Value) {
    let client = Client::builder().unix_socket(stage.operators_socket());
    let mut request = client
        .build()
        .unwrap()
        .get(format!("http://operator{path}"));
    if let Some(workspace) = workspace {
        request = request.header(WORKSPACE, workspace);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn an_operator_needs_no_token_and_names_a_workspace() {
    let stage = Stage::new().await;
    stage.workspace("team").await;
    let (status, whoami) = ask(&stage, "/v1/whoami", Some("team")).await;
    assert_eq!(status, StatusCode::OK, "{whoami}");
    assert_eq!(whoami["workspace"]["name"], "team");
    assert_eq!(whoami["token"], Value::Null);
    for path in [
        "tasks",
        "containers",
        "stubs",
        "tokens",
        "secrets",
        "images",
    ] {
        let (status, answer) = ask(&stage, &format!("/v1/{path}"), Some("team")).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
    let refused = [
        (None, StatusCode::BAD_REQUEST),
        (Some("nobody"), StatusCode::NOT_FOUND),
        (Some(""), StatusCode::NOT_FOUND),
    ];
    for (workspace, expected) in refused {
        let (status, answer) = ask(&stage, "/v1/whoami", workspace).await;
        assert_eq!(status, expected, "{workspace:?}: {answer}");
    }
}

#[tokio::test]
async fn the_port_knows_no_operators() {
    let stage = Stage::new().await;
    stage.workspace("team").await;
    let url = format!("http://{}/v1/whoami", stage.address);
    let asked = Client::new().get(&url).header(WORKSPACE, "team").send();
    assert_eq!(asked.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    stage.workspace("other").await;
    let caller = stage.caller("other", &TokenScope::ALL).await;
    let asked = Client::new().get(&url).header(WORKSPACE, "team");
    let answer = asked.bearer_auth(&caller.token).send().await.unwrap();
    let whoami: Value = answer.json().await.unwrap();
    assert_eq!(whoami["workspace"]["name"], "other");
}

#[tokio::test]
async fn the_socket_is_its_owners() {
    let stage = Stage::new().await;
    let mode = stage.operators_socket().metadata().unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}
