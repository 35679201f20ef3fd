//! Secrets: in, and never out.

use control_store::TokenScope;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::Stage;

const VALUE: &str = "a-value-that-nobody-is-shown";

#[tokio::test(flavor = "multi_thread")]
async fn values_come_in_and_never_go_out() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    for version in 1..=2 {
        let body = Some(json!({ "value": VALUE }));
        let (status, row) = caller.ask(Method::PUT, "/v1/secrets/API_KEY", body).await;
        assert_eq!(status, StatusCode::OK, "{row}");
        assert_eq!(row["version"], version);
        assert!(!row.to_string().contains(VALUE));
    }
    let listed = caller.get("/v1/secrets").await;
    assert_eq!(listed["secrets"][0]["name"], "API_KEY");
    assert_eq!(listed["secrets"][0]["version"], 2);
    assert!(!listed.to_string().contains(VALUE));
    let (code, ..) = caller
        .refused(Method::GET, "/v1/secrets/API_KEY", None)
        .await;
    assert_eq!(code, 400, "there is no way to ask");
    let (status, _) = caller
        .ask(Method::DELETE, "/v1/secrets/API_KEY", None)
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (code, ..) = caller
        .refused(Method::DELETE, "/v1/secrets/API_KEY", None)
        .await;
    assert_eq!(code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_repeats_no_value() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let cases = [
        (
            "/v1/secrets/oci-registry-ghcr-io",
            json!({ "value": VALUE }),
            400,
        ),
        ("/v1/secrets/-a", json!({ "value": VALUE }), 400),
        (
            "/v1/secrets/A",
            json!({ "value": VALUE, "more": VALUE }),
            400,
        ),
        ("/v1/secrets/A", json!({ "value": [VALUE] }), 400),
        (
            "/v1/secrets/A",
            json!({ "value": VALUE.repeat(10_000) }),
            400,
        ),
        (
            "/v1/secrets/A",
            json!({ "value": VALUE.repeat(100_000) }),
            413,
        ),
    ];
    for (path, body, code) in cases {
        let (status, answer) = caller.ask(Method::PUT, path, Some(body)).await;
        assert_eq!(status.as_u16(), code, "{path}: {answer}");
        assert!(!answer.to_string().contains(VALUE), "{answer}");
    }
}
