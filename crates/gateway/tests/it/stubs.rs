//! Stubs: what they may refer to, and within which bounds.

use control_store::{GrantProof, Image, Publication, TokenScope};
use registry_sim::Login;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::builds::{registry, request};
use crate::support::{Caller, Stage};

impl Caller<'_> {
    /// An image, code and a secret to define functions of.
    async fn furnish(&self) -> Value {
        let sim = registry(Login::Nobody).await;
        let image = self.build(request(&sim, Value::Null)).await;
        let code = reference::Digest::sha256(Sha256::digest(b"archive").into());
        let upload = self.request(Method::PUT, &format!("/v1/objects/{code}"));
        let uploaded = upload.body("archive").send().await.unwrap();
        assert_eq!(uploaded.status(), StatusCode::OK);
        let value = Some(json!({"value": "v"}));
        let (status, _) = self.ask(Method::PUT, "/v1/secrets/TOKEN", value).await;
        assert_eq!(status, StatusCode::OK);
        json!({
            "name": "app:f", "image": image["id"], "code": code.as_str(), "handler": "app:f",
            "cpu_millicores": 125, "memory_bytes": 128 << 20, "timeout_ms": 3_600_000,
            "retries": 0, "concurrency": 1, "keep_warm_ms": 10_000, "max_containers": 1,
            "max_pending": 100, "environment": {"MODE": "test"}, "secrets": ["TOKEN"],
        })
    }

    pub(crate) async fn define(&self, stub: Value) -> Value {
        let (status, made) = self.ask(Method::POST, "/v1/stubs", Some(stub)).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        made
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_definition_is_the_same_stub() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let wanted = caller.furnish().await;
    let made = caller.define(wanted.clone()).await;
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(&made[field], value, "{field}");
    }
    assert_eq!(caller.define(wanted.clone()).await, made);
    let mut other = wanted.clone();
    other["retries"] = json!(1);
    let other = caller.define(other).await;
    assert_ne!(other["id"], made["id"]);
    // What is left away is as it is by default.
    let short = json!({
        "name": "app:f", "image": wanted["image"], "code": wanted["code"], "handler": "app:f",
        "environment": {"MODE": "test"}, "secrets": ["TOKEN", "TOKEN"],
    });
    assert_eq!(caller.define(short).await, made);
    let listed = caller.get("/v1/stubs").await;
    assert_eq!(
        listed,
        json!({"stubs": [other, made.clone()]}),
        "newest first"
    );
    let path = format!("/v1/stubs/{}", made["id"].as_str().unwrap());
    assert_eq!(caller.get(&path).await, made);

    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let (code, ..) = theirs.refused(Method::GET, &path, None).await;
    assert_eq!(code, 404);
    assert_eq!(theirs.get("/v1/stubs").await, json!({"stubs": []}));
    let (code, ..) = theirs
        .refused(Method::POST, "/v1/stubs", Some(wanted.clone()))
        .await;
    assert_eq!(code, 400, "what it refers to is another's");
    // What runs with a secret is decided by those who may set it.
    let user = stage.caller("team", &[TokenScope::Call]).await;
    let (status, kind, _) = user
        .refused(Method::POST, "/v1/stubs", Some(wanted.clone()))
        .await;
    assert_eq!((status, kind.as_str()), (403, "denied"));
    let reader = stage.caller("team", &[TokenScope::Read]).await;
    assert_eq!(reader.get(&path).await, made);
    let (code, ..) = reader
        .refused(Method::POST, "/v1/stubs", Some(wanted))
        .await;
    assert_eq!(code, 403);
}

/// `holdfast run` leaves images behind of which nobody knows whether they have a Python.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_only_run_is_none_for_functions() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let mut wanted = caller.furnish().await;
    let (workspace, store) = (stage.workspace("team").await, stage.broker.store());
    let built = store.images(workspace).await.unwrap().remove(0);
    let run = Publication {
        image: Image {
            id: built.manifest_digest.clone(),
            python: None,
            ..built
        },
        proof: GrantProof::Anonymous,
    };
    store.publish(workspace, &run).await.unwrap();
    wanted["image"] = json!(run.image.id.as_str());
    let (code, ..) = caller
        .refused(Method::POST, "/v1/stubs", Some(wanted))
        .await;
    assert_eq!(code, 400);
    let path = format!("/v1/images/{}", run.image.id);
    let (code, ..) = caller.refused(Method::GET, &path, None).await;
    assert_eq!(code, 404);
    let listed = caller.get("/v1/images").await;
    assert_eq!(listed["images"].as_array().map(Vec::len), Some(1));
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[tokio::test(flavor = "multi_thread")]
async fn definitions_go_up_to_their_bounds() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let wanted = caller.furnish().await;
    let taken = [
        ("cpu_millicores", json!(1_000_000)),
        ("memory_bytes", json!(16 << 20)),
        ("timeout_ms", json!(DAY_MS)),
        ("retries", json!(10)),
        ("concurrency", json!(64)),
        ("keep_warm_ms", json!(DAY_MS)),
        ("keep_warm_ms", json!(0)),
        ("max_containers", json!(100)),
        ("max_pending", json!(10_000)),
        ("code", Value::Null),
        ("secrets", json!([])),
    ];
    for (field, value) in taken {
        let mut stub = wanted.clone();
        stub[field] = value;
        caller.define(stub).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_bounded_and_refer_to_what_is_there() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let wanted = caller.furnish().await;
    let zeros = format!("sha256:{}", "0".repeat(64));
    let secrets: Vec<_> = (0..65).map(|number| format!("S{number}")).collect();
    let refused = [
        ("cpu_millicores", json!(0)),
        ("cpu_millicores", json!(1_000_001)),
        ("memory_bytes", json!((16 << 20) - 1)),
        ("memory_bytes", json!((16_u64 << 40) + 1)),
        ("timeout_ms", json!(0)),
        ("timeout_ms", json!(DAY_MS + 1)),
        ("retries", json!(11)),
        ("concurrency", json!(0)),
        ("concurrency", json!(65)),
        ("keep_warm_ms", json!(DAY_MS + 1)),
        ("max_containers", json!(0)),
        ("max_containers", json!(101)),
        ("max_pending", json!(0)),
        ("max_pending", json!(10_001)),
        ("name", json!("")),
        ("name", json!("a\nb")),
        ("name", json!("n".repeat(257))),
        ("handler", json!("app")),
        ("handler", json!("app:f:g")),
        ("environment", json!({"A=B": "x"})),
        ("environment", json!({"TOKEN": "both"})),
        ("secrets", json!(["ABSENT"])),
        ("secrets", json!(secrets)),
        ("image", json!(zeros)),
        ("image", json!("latest")),
        ("code", json!(zeros)),
        ("code", json!("obj-0198f3a2c4d87b61a5e0c3f49d2b7e10")),
        ("python", json!("python3")),
        ("retries", json!(-1)),
        ("retries", json!(1.5)),
    ];
    for (field, value) in refused {
        let mut stub = wanted.clone();
        stub[field] = value.clone();
        let (code, kind, message) = caller.refused(Method::POST, "/v1/stubs", Some(stub)).await;
        assert_eq!(
            (code, &*kind),
            (400, "invalid"),
            "{field} {value}: {message}"
        );
    }
    let mut large = wanted;
    large["environment"] = json!({"A": "x".repeat(65 << 10)});
    let (code, ..) = caller.refused(Method::POST, "/v1/stubs", Some(large)).await;
    assert_eq!(code, 413);
}
