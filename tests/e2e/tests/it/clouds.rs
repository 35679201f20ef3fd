//! Credentials of clouds, from the command line to the registry, which is reached under its real
//! name like the services that know them.

use e2e::{Finished, Home};
use registry_sim::{AzureApi, GoogleApi};
use serde_json::{Value, json};

use crate::cloud::{self, AZURE, Cloud, GOOGLE, GUID};

const SUBJECT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjaSJ9.canary-signature";
const SECRET: &str = "canary~secret";

impl Cloud {
    /// Logs in by the names of variables.
    fn login_by(&self, scope: &str, environment: &[(&str, &str)]) -> Finished {
        let names: Vec<&str> = environment.iter().map(|(name, _)| *name).collect();
        let names = names.join(",");
        self.run(
            &["login", scope, "--from-env", &names, "--json"],
            environment,
            "",
        )
    }

    /// Reads an image with what is stored.
    fn pull(&self, host: &str) {
        let image = format!("{host}/acme/fn:v1");
        self.run(&["image", "index", &image], &[], "").ok();
    }

    /// Where the stored credential is asked for by an opened vault, not by what was typed.
    fn check(&self) -> Value {
        let checked = self.run(&["credentials", "check", "--json"], &[], "");
        checked.ok().json()
    }
}

fn google() -> (Cloud, GoogleApi) {
    let parts = cloud::google(None);
    parts.api.believe(SUBJECT);
    parts.open(Home::new())
}

fn azure() -> (Cloud, AzureApi) {
    cloud::azure(None, SECRET, SUBJECT).open(Home::new())
}

#[track_caller]
fn is_sealed(login: Finished, kind: &str) {
    let shown = login.ok().json();
    assert_eq!(shown["kind"], kind, "{shown}");
    assert_eq!(shown["proven"], "repository", "{shown}");
}

#[test]
fn googles_credentials_log_in_in_every_form() {
    let (cloud, api) = google();
    let scope = format!("{GOOGLE}/acme/fn");
    let key = api.service_account().to_string();
    std::fs::write(cloud.home.path().join("key.json"), &key).expect("writes");
    let words = [
        "login",
        &scope,
        "--service-account-file",
        "key.json",
        "--json",
    ];
    is_sealed(cloud.run(&words, &[], ""), "gcp");
    assert_eq!(cloud.check()[0]["state"], "ok");
    cloud.pull(GOOGLE);
    let asked = api.token().read().requests;
    assert!(asked >= 3, "{asked}");
    let by_key = [("GOOGLE_APPLICATION_CREDENTIALS", key.as_str())];
    is_sealed(cloud.login_by(&scope, &by_key), "gcp");
    let words = [
        "login",
        &scope,
        "-u",
        "_json_key",
        "--password-stdin",
        "--json",
    ];
    is_sealed(cloud.run(&words, &[], &key), "gcp");
    is_sealed(
        cloud.login_by(&scope, &[("GCP_ACCESS_TOKEN", "ya29.access")]),
        "gcp",
    );
    let pool = api.external_account().to_string();
    let federated = [
        ("GOOGLE_APPLICATION_CREDENTIALS", pool.as_str()),
        ("GCP_SUBJECT_TOKEN", SUBJECT),
    ];
    is_sealed(cloud.login_by(&scope, &federated), "gcp");
    assert_eq!(cloud.check()[0]["state"], "ok");
}

/// Docker stores again what it was given.
#[test]
fn what_was_minted_does_not_take_the_place_of_its_key() {
    let (cloud, api) = google();
    let key = api.service_account().to_string();
    let words = ["login", GOOGLE, "-u", "_json_key", "--password-stdin"];
    cloud.run(&words, &[], &key).ok();
    let store = |username: &str, secret: &str| {
        let request = json!({ "ServerURL": GOOGLE, "Username": username, "Secret": secret });
        cloud.run(&["credential-helper", "store"], &[], &request.to_string())
    };
    let refused = store("oauth2accesstoken", "ya29.access");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stdout.contains("holdfast login"), "{refused:?}");
    store("_json_key", &key).ok();
    assert_eq!(cloud.check()[0]["state"], "ok");
}

#[test]
fn what_googles_json_must_not_say_is_refused_at_login() {
    let (cloud, api) = google();
    let with = |json: &Value, name: &str, value: Value| {
        let mut json = json.clone();
        json[name] = value;
        json.to_string()
    };
    let (key, pool) = (api.service_account(), api.external_account());
    let cases = [
        (
            with(&key, "token_uri", json!("https://evil.example/")),
            "token_uri",
        ),
        (
            with(&key, "universe_domain", json!("evil.example")),
            "universe_domain",
        ),
        (
            with(&pool, "token_url", json!("http://127.0.0.1/")),
            "token_url",
        ),
        (
            with(&pool, "credential_source", json!({ "file": "/etc/passwd" })),
            "take credential_source out",
        ),
        ("key.json".to_owned(), "what is in the file"),
    ];
    for (json, says) in cases {
        let keys = [
            ("GOOGLE_APPLICATION_CREDENTIALS", json.as_str()),
            ("GCP_SUBJECT_TOKEN", SUBJECT),
        ];
        let refused = cloud.login_by(GOOGLE, &keys).fails(3, says);
        assert!(
            !refused.stderr.contains("evil.example"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(cloud.sim.registry().read().requests, 0);
    assert_eq!(
        cloud
            .run(&["credentials", "list", "--json"], &[], "")
            .ok()
            .json(),
        json!([])
    );
}

#[test]
fn principals_of_azure_log_in_by_secret_and_by_another_issuers_token() {
    let (cloud, api) = azure();
    let scope = format!("{AZURE}/acme/fn");
    let of = |name, value| {
        [
            ("AZURE_CLIENT_ID", GUID),
            ("AZURE_TENANT_ID", GUID),
            (name, value),
        ]
    };
    for (name, value) in [
        ("AZURE_CLIENT_SECRET", SECRET),
        ("AZURE_FEDERATED_TOKEN", SUBJECT),
    ] {
        is_sealed(cloud.login_by(&scope, &of(name, value)), "azure");
        cloud.pull(AZURE);
        assert_eq!(cloud.check()[0]["state"], "ok");
    }
    let asked = api.counter().read().requests;
    assert!(asked >= 6, "{asked}");
    let wrong = of("AZURE_CLIENT_SECRET", "wrong");
    cloud
        .login_by(&scope, &wrong)
        .fails(4, "give the secret's value, not its id");
    let mut wrong = of("AZURE_CLIENT_SECRET", SECRET);
    wrong[1].1 = "common";
    cloud.login_by(&scope, &wrong).fails(3, "AZURE_TENANT_ID");
    let file = of("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token");
    cloud
        .login_by(&scope, &file)
        .fails(3, "did you mean AZURE_FEDERATED_TOKEN?");
}
