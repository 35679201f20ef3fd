//! What bad input gets: one line, a documented code, nothing half-stored.

use std::os::unix::process::CommandExt;

use e2e::Home;
use e2e::image::busybox;

use crate::support::Stage;

#[test]
fn malformed_input_is_named() {
    let home = Home::new();
    for (words, code, says) in [
        (
            vec!["run", "UPPER/Case:tag!", "true"],
            125,
            "UPPER/Case:tag!",
        ),
        (vec!["run", "https://ghcr.io/a/b", "true"], 125, "https"),
        (
            vec!["run", "--shm-size", "lots", "a/b", "true"],
            125,
            "lots",
        ),
        (vec!["run", "--network", "moon", "a/b", "true"], 125, "moon"),
        (
            vec!["run", "-v", "nonsense", "a/b", "true"],
            125,
            "nonsense",
        ),
        (vec!["run", "-p", "99999:1", "a/b", "true"], 125, "99999"),
        (vec!["run", "--gpus", "all", "a/b", "true"], 125, "--gpus"),
        (vec!["run", "-d", "a/b", "true"], 125, "--detach"),
        (
            vec!["run", "--privileged", "a/b", "true"],
            125,
            "--privileged",
        ),
        (vec!["reference", "a//b"], 3, "a//b"),
        (vec!["image", "inspect", ""], 3, "empty"),
        (vec!["logout", "nowhere.example"], 5, "nowhere.example"),
        (vec!["stop", "nobody"], 5, "nobody"),
        (vec!["cache", "prune", "--keep", "much"], 3, "much"),
        (vec!["frobnicate"], 2, "frobnicate"),
    ] {
        let run = home.run(&words);
        assert_eq!(run.code, code, "{words:?}: {}", run.stderr);
        assert!(
            run.stderr.contains(says),
            "{words:?}: {says:?} not in {:?}",
            run.stderr
        );
        assert!(
            !run.stderr.contains("panicked"),
            "{words:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn errors_are_json_when_asked_for() {
    let home = Home::new();
    let run = home.run(&["reference", "a//b", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&run.stderr).expect("JSON on stderr");
    assert_eq!(error["error"]["kind"], "invalid");
    assert!(
        error["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("a//b"))
    );
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn a_registry_that_is_not_there_is_told() {
    let home = Home::new();
    // Port 1 of the loopback has no listener on any machine that runs these tests.
    let words = [
        "run",
        "--credential",
        "none",
        "127.0.0.1:1/acme/fn:v1",
        "true",
    ];
    home.run(&words).fails(125, "127.0.0.1:1");
    home.login("127.0.0.1:1", "alice", "pw")
        .fails(6, "127.0.0.1:1");
    assert_eq!(
        home.run(&["credentials", "list", "--json"])
            .ok()
            .stdout
            .trim(),
        "[]"
    );
}

#[test]
fn an_image_that_is_not_there_is_told() {
    let stage = Stage::logged_in(busybox());
    let image = format!("{}/acme/other:v9", stage.registry.host());
    stage
        .home
        .run(&["run", &image, "true"])
        .fails(125, "acme/other");
    stage
        .home
        .run(&["image", "index", &image])
        .fails(5, "acme/other");
}

#[test]
fn a_root_key_that_is_gone_is_never_replaced() {
    let stage = Stage::logged_in(busybox());
    std::fs::remove_file(stage.home.root_key()).expect("the root key was made");
    stage
        .home
        .run(&["credentials", "list"])
        .fails(11, "root key");
    assert!(!stage.home.root_key().exists());
}

#[test]
fn without_root_the_error_says_so() {
    let home = Home::new();
    let output = home
        .command(&["run", "127.0.0.1:1/a/b", "true"])
        .uid(65534)
        .output();
    let output = output.expect("the binary is executable by anyone");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("root"), "{stderr}");
}
