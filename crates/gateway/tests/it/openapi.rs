//! The API document that is checked in is that of the code.

use std::path::Path;

use reqwest::{Method, StatusCode};

use crate::support::Stage;

const WRITE: &str = "HOLDFAST_WRITE_OPENAPI";

#[test]
fn the_document_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let document = gateway::openapi_document();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == document,
        "docs/openapi.json is another: {WRITE}=1 cargo test -p gateway openapi"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_and_health_needs_no_token() {
    let stage = Stage::new().await;
    let (status, served) = stage.ask(None, Method::GET, "/openapi.json", None).await;
    assert_eq!(status, StatusCode::OK);
    let document: serde_json::Value = serde_json::from_str(&gateway::openapi_document()).unwrap();
    assert_eq!(served, document);
    for path in ["/livez", "/readyz"] {
        let (status, body) = stage.ask(None, Method::GET, path, None).await;
        assert_eq!((status, body), (StatusCode::OK, "ok\n".into()), "{path}");
    }
}
