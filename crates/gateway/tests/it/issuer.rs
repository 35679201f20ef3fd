//! The documents of the issuer of identity tokens, as a cloud asks for them.

use broker::IssuerUrl;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::Stage;

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/.well-known/jwks.json";

fn issue(stage: &Stage) {
    let url = IssuerUrl::parse("https://acme.example/holdfast").unwrap();
    drop(stage.broker.clone().issuing_as(url));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_documents_are_public_and_kept_for_minutes() {
    let stage = Stage::new().await;
    issue(&stage);
    let (status, configuration) = stage.ask(None, Method::GET, CONFIGURATION, None).await;
    assert_eq!(status, StatusCode::OK, "{configuration}");
    assert_eq!(configuration["issuer"], "https://acme.example/holdfast");
    assert_eq!(
        configuration["jwks_uri"],
        format!("https://acme.example/holdfast{KEYS}")
    );
    let (_, keys) = stage.ask(None, Method::GET, KEYS, None).await;
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "{keys}");
    for key in keys["keys"].as_array().unwrap() {
        let mut names: Vec<&String> = key.as_object().unwrap().keys().collect();
        names.sort();
        // Nothing of the private half: no d, p, q, dp, dq, qi.
        assert_eq!(names, ["alg", "e", "kid", "kty", "n", "use"]);
    }
    for path in [CONFIGURATION, KEYS] {
        let url = format!("http://{}{path}", stage.address);
        let response = reqwest::get(url).await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("cache-control"), "public, max-age=300");
        assert_eq!(header("content-type"), "application/json");
        assert!(response.bytes().await.unwrap().len() < 16 * 1024);
        let (status, _) = stage.ask(None, Method::POST, path, None).await;
        assert!(!status.is_success(), "{status}");
    }
    // What a rotation by anybody changes is seen.
    stage.broker.replace_issuer_keys("t").await.unwrap();
    let (_, others) = stage.ask(None, Method::GET, KEYS, None).await;
    assert_ne!(keys, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_issuer_says_so_and_makes_no_keys() {
    let stage = Stage::new().await;
    for path in [CONFIGURATION, KEYS] {
        let (status, body) = stage.ask(None, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["error"]["kind"], json!("not_found"), "{body}");
    }
    let rows = stage.broker.vault().audit_tail(100).await.unwrap();
    assert!(rows.iter().all(|row| row.action != "seal"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_asked_of_the_vault_once() {
    let stage = Stage::new().await;
    issue(&stage);
    let asking = (0..50).map(|_| stage.ask(None, Method::GET, KEYS, None));
    let answers = futures::future::join_all(asking).await;
    let first: &Value = &answers[0].1;
    assert!(answers.iter().all(|(_, keys)| keys == first));
    let rows = stage.broker.vault().audit_tail(200).await.unwrap();
    let sealed = rows.iter().filter(|row| row.action == "seal").count();
    assert_eq!(sealed, 1, "{rows:?}");
}
