//! Credentials of clouds, from the command line to the registry, which is reached under its real
//! name like the services that know them.

use std::process::Stdio;

use e2e::home::finish;
use e2e::image::busybox;
use e2e::{Finished, Home};
use registry_sim::{
    Authority, AzureApi, AzureExchange, AzurePrincipal, GoogleApi, Login, Options, Realm,
    RegistrySim, Switchboard, unsigned_token,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const GOOGLE: &str = "eu-docker.pkg.dev";
const AZURE: &str = "acme.azurecr.io";
const DIRECTORY: &str = "login.microsoftonline.com";
const GUID: &str = "409520d4-8100-4d1d-ad47-72432ddcc120";
const SUBJECT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjaSJ9.canary-signature";
const SECRET: &str = "canary~secret";

/// A registry and the services of its cloud, and a home that trusts and reaches them.
struct Cloud {
    home: Home,
    proxy: Switchboard,
    sim: RegistrySim,
    /// Where all of these live.
    _runtime: Runtime,
}

impl Cloud {
    fn start(
        runtime: Runtime,
        host: &str,
        authority: Authority,
        lines: &[(&str, &str)],
        options: Options,
    ) -> Self {
        let home = Home::new();
        std::fs::write(home.path().join("ca.pem"), authority.pem()).expect("writes");
        let options = Options {
            login: Login::Bearer(Realm::Url(format!("https://{host}/oauth2/token"))),
            tls: Some(authority),
            ..options
        };
        let sim = runtime.block_on(RegistrySim::start(options));
        sim.push("acme/fn", "v1", &busybox().build());
        let mut lines = lines.to_vec();
        lines.push((host, sim.host()));
        let proxy = runtime.block_on(Switchboard::start(&lines));
        Self {
            home,
            proxy,
            sim,
            _runtime: runtime,
        }
    }

    fn run(&self, words: &[&str], environment: &[(&str, &str)], input: &str) -> Finished {
        let child = self
            .home
            .command(words)
            .env("HTTPS_PROXY", self.proxy.url())
            .env("SSL_CERT_FILE", self.home.path().join("ca.pem"))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the holdfast binary starts");
        finish(child, input)
    }

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
    let runtime = Runtime::new().expect("a runtime");
    let names: Vec<&str> = GoogleApi::HOSTS.into_iter().chain([GOOGLE]).collect();
    let authority = Authority::naming(&names);
    let api = runtime.block_on(GoogleApi::start(&authority));
    api.believe(SUBJECT);
    let options = Options {
        username: "oauth2accesstoken".to_owned(),
        password: "ya29.access".to_owned(),
        ..Options::default()
    };
    let cloud = Cloud::start(runtime, GOOGLE, authority, &api.lines(), options);
    (cloud, api)
}

fn azure() -> (Cloud, AzureApi) {
    let runtime = Runtime::new().expect("a runtime");
    let authority = Authority::naming(&[AZURE, DIRECTORY]);
    let principal = AzurePrincipal {
        tenant: GUID.to_owned(),
        client_id: GUID.to_owned(),
        client_secret: SECRET.to_owned(),
        federated_token: SUBJECT.to_owned(),
    };
    let api = runtime.block_on(AzureApi::start(&authority, principal));
    let refresh_token = unsigned_token("refresh", std::time::Duration::from_hours(3));
    let options = Options {
        password: refresh_token.clone(),
        ..Options::default()
    };
    let lines = [(DIRECTORY, api.host())];
    let cloud = Cloud::start(runtime, AZURE, authority, &lines, options);
    cloud.sim.set_exchange(AzureExchange {
        service: "sim".to_owned(),
        tenant: GUID.to_owned(),
        access_token: "aad-access-token".to_owned(),
        refresh_token,
        fault: None,
    });
    (cloud, api)
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
