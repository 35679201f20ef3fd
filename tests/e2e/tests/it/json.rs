//! The stable JSON shapes that scripts may hold us to.

use e2e::Home;
use e2e::image::busybox;
use serde_json::{Value, json};

use crate::support::Stage;

#[test]
fn a_reference_shows_its_parts() {
    let home = Home::new();
    let shown = home.run(&["reference", "alpine", "--json"]).ok().json();
    let expected = json!({
        "registry": "docker.io", "repository": "library/alpine", "tag": null, "digest": null,
        "canonical": "docker.io/library/alpine:latest",
    });
    assert_eq!(shown, expected);
}

#[test]
fn detection_tells_kind_and_names_without_the_values() {
    let home = Home::new();
    let words = [
        "credentials",
        "detect",
        "--registry",
        "ghcr.io/acme/fn",
        "--json",
    ];
    let keys = r#"{"GITHUB_USERNAME":"octo","GITHUB_TOKEN":"ghp_CANARY0000000000"}"#;
    let run = home.run_with_input(&words, keys).ok();
    let shown = run.json();
    assert_eq!(
        keys_of(&shown),
        [
            "hints",
            "kind",
            "registry",
            "scope",
            "secret_name",
            "used_keys"
        ]
    );
    assert_eq!(shown["kind"], "token");
    assert_eq!(shown["registry"], "ghcr.io");
    assert_eq!(
        shown["used_keys"],
        json!(["GITHUB_TOKEN", "GITHUB_USERNAME"])
    );
    assert!(!run.stdout.contains("CANARY"));
    home.run_with_input(&words, r#"{"GITHUB_TOKN":"x"}"#)
        .fails(3, "GITHUB_TOKN");
}

#[test]
fn credentials_and_indexes_are_listed() {
    let stage = Stage::logged_in(busybox());
    let list = stage
        .home
        .run(&["credentials", "list", "--json"])
        .ok()
        .json();
    let row = list.get(0).expect("one credential");
    assert_eq!(
        keys_of(row),
        [
            "checked_at",
            "kind",
            "not_after",
            "scope",
            "secret_name",
            "shared_with",
            "state",
            "version",
            "workers_may_hold_password"
        ]
    );
    assert_eq!(
        (&row["kind"], &row["version"]),
        (&json!("basic"), &json!(1))
    );
    let index = stage
        .home
        .run(&["image", "index", &stage.image, "--json"])
        .ok()
        .json();
    assert_eq!(keys_of(&index), ["image", "layers", "manifest_digest"]);
    let layer = index["layers"].get(0).expect("one layer");
    assert_eq!(
        keys_of(layer),
        [
            "compressed_bytes",
            "digest",
            "entries",
            "index_bytes",
            "media_type",
            "seconds",
            "spans",
            "uncompressed_bytes"
        ]
    );
}

#[test]
fn an_explanation_names_winner_and_losers() {
    let stage = Stage::logged_in(busybox());
    let host = stage.registry.host().to_owned();
    stage
        .home
        .login(&host, crate::support::USER, crate::support::PASSWORD)
        .ok();
    let words = ["credentials", "explain", &stage.image, "--json"];
    let shown = stage.home.run(&words).ok().json();
    assert_eq!(shown["chosen"], json!(stage.scope()));
    assert_eq!(shown["lost"][0]["scope"], json!(host));
}

fn keys_of(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
