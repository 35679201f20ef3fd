//! Builds of images, with credentials of every origin.

use broker::{LoginRequest, RegistrySettings};
use control_store::TokenScope;
use credential::{Credential, SecretString};
use registry_sim::{Entry, Image, ImageBuilder, Layer, Login, Options, RegistrySim};
use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Caller, Stage};

pub(crate) const USERNAME: &str = "puller";
pub(crate) const PASSWORD: &str = "correct-horse-battery";
const OTHER_PASSWORD: &str = "another-horse-battery";

pub(crate) fn image() -> Image {
    ImageBuilder::new()
        .layer(Layer::gzip(&[Entry::file("etc/motd", "hello\n")]))
        .layer(Layer::gzip(&[Entry::file("app/main.py", "print(1)\n")]))
        .build()
}

pub(crate) async fn registry(login: Login) -> RegistrySim {
    let options = Options {
        login,
        username: USERNAME.to_owned(),
        password: PASSWORD.to_owned(),
        ..Options::default()
    };
    let sim = RegistrySim::start(options).await;
    sim.push("acme/app", "v1", &image());
    sim
}

/// A request for the image with this credential.
pub(crate) fn request(sim: &RegistrySim, credential: impl Into<Value>) -> Value {
    let credential: Value = credential.into();
    let base_image = format!("{}/acme/app:v1", sim.host());
    json!({ "base_image": base_image, "credential": credential })
}

pub(crate) fn password(password: &str) -> Value {
    json!({ "USERNAME": USERNAME, "PASSWORD": password })
}

impl Caller<'_> {
    pub(crate) async fn build(&self, request: Value) -> Value {
        let (status, image) = self.ask(Method::POST, "/v1/images", Some(request)).await;
        assert_eq!(status, StatusCode::OK, "{image}");
        image
    }

    async fn build_refused(&self, request: Value) -> (u16, String, String) {
        self.refused(Method::POST, "/v1/images", Some(request))
            .await
    }
}

impl Stage {
    /// The version of the only registry credential of a workspace, if it has one.
    async fn sealed_version(&self, workspace: &str) -> Option<u32> {
        let workspace = self.workspace(workspace).await;
        let rows = self.broker.list(workspace).await.unwrap();
        assert!(rows.len() <= 1, "{rows:?}");
        rows.first().map(|row| row.version)
    }

    /// What `holdfast login` does.
    pub(crate) async fn login(&self, workspace: &str, scope: &str, password: &str) {
        let workspace = self.workspace(workspace).await;
        let password = SecretString::from(password.to_owned());
        let request = LoginRequest {
            scope: scope.parse().unwrap(),
            credential: Credential::basic(USERNAME.to_owned(), password),
            settings: RegistrySettings {
                plain_http: true,
                ..RegistrySettings::default()
            },
        };
        self.broker.login(workspace, request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_is_built_with_the_credential_that_comes_with_it() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let built = caller.build(request(&sim, password(PASSWORD))).await;
    let scope = format!("{}/acme/app", sim.host());
    assert_eq!(built["reference"], format!("{scope}:v1"));
    assert_eq!(built["manifest_digest"], image().digest);
    assert_eq!(
        built["python"],
        json!({"program": "python3", "version": "3.11.2"})
    );
    let credential = json!({"scope": scope, "kind": "basic", "expires_at": null});
    assert_eq!(built["credential"], credential);

    let again = caller.build(request(&sim, password(PASSWORD))).await;
    assert_eq!(
        (&again["id"], &again["created_at"]),
        (&built["id"], &built["created_at"])
    );
    assert_eq!(stage.sealed_version("team").await, Some(1));
    assert_eq!(
        stage.probe.asked(),
        [["python3", "python"]],
        "it is known by then"
    );
    let listed = caller.get("/v1/images").await;
    assert_eq!(listed["images"].as_array().map(Vec::len), Some(1));
    let shown = caller
        .get(&format!("/v1/images/{}", built["id"].as_str().unwrap()))
        .await;
    assert_eq!(shown, listed["images"][0]);
    for answer in [built, again, listed] {
        assert!(!answer.to_string().contains(PASSWORD), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_stored_nowhere() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let workspace = stage.workspace("team").await;
    for login in [
        Login::Basic,
        Login::EcrLike,
        Login::Bearer(registry_sim::Realm::SameHost),
    ] {
        let sim = registry(login).await;
        let wrong = request(&sim, password("a-wrong-password"));
        let (status, answer) = caller.ask(Method::POST, "/v1/images", Some(wrong)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
        let text = |field: &str| answer["error"][field].as_str().unwrap().to_owned();
        let subject = format!("credential for {}/acme/app: ", sim.host());
        assert!(text("message").starts_with(&subject), "{answer}");
        assert!(text("message").contains("refused"), "{answer}");
        assert!(text("hint").contains("valid credential"), "{answer}");
        assert!(!answer.to_string().contains("a-wrong-password"), "{answer}");
    }
    assert_eq!(stage.broker.list(workspace).await.unwrap(), []);
    assert_eq!(stage.broker.vault().list(workspace).await.unwrap(), []);
    assert_eq!(stage.broker.store().settings(workspace).await.unwrap(), []);
    assert_eq!(caller.get("/v1/images").await, json!({"images": []}));
    assert_eq!(stage.probe.asked(), Vec::<Vec<String>>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_value_is_that_of_a_secret() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let keys = json!({"USERNAME": "", "PASSWORD": ""});
    for (name, value) in [("USERNAME", USERNAME), ("PASSWORD", PASSWORD)] {
        let (code, kind, message) = caller.build_refused(request(&sim, keys.clone())).await;
        assert_eq!((code, &*kind), (400, "invalid"));
        assert!(message.starts_with("credential key "), "{message}");
        assert!(
            message.ends_with(" is empty, and no secret is named so"),
            "{message}"
        );
        let path = format!("/v1/secrets/{name}");
        let value = Some(json!({ "value": value }));
        let (status, _) = caller.ask(Method::PUT, &path, value).await;
        assert_eq!(status, StatusCode::OK);
    }
    let built = caller.build(request(&sim, keys.clone())).await;
    assert_eq!(built["credential"]["kind"], "basic");
    // Those of another workspace are not taken, and a key that is none opens no secret.
    let other = stage.caller("other", &TokenScope::ALL).await;
    let (code, ..) = other.build_refused(request(&sim, keys)).await;
    assert_eq!(code, 400);
    let unknown = json!({"PASSWORT": "", "USERNAME": ""});
    let (code, _, message) = caller.build_refused(request(&sim, unknown)).await;
    assert_eq!(
        (code, &*message),
        (400, "one of the credential's keys is not the name of a key")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_credential_is_sealed_although_the_image_is_there() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let built = caller.build(request(&sim, password(PASSWORD))).await;
    sim.set_password(OTHER_PASSWORD);
    let (code, ..) = caller
        .build_refused(request(&sim, password(PASSWORD)))
        .await;
    assert_eq!(code, 403, "the old one is checked each time");
    assert_eq!(stage.sealed_version("team").await, Some(1));
    for _ in 0..2 {
        let again = caller.build(request(&sim, password(OTHER_PASSWORD))).await;
        assert_eq!(again["id"], built["id"]);
        assert_eq!(stage.sealed_version("team").await, Some(2));
    }
    assert_eq!(stage.probe.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_what_login_stored_is_used_and_none_is_none() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    for credential in [Value::Null, json!({})] {
        let (code, kind, _) = caller.build_refused(request(&sim, credential)).await;
        assert_eq!((code, &*kind), (403, "denied"));
    }
    stage.login("team", sim.host(), PASSWORD).await;
    let built = caller.build(request(&sim, Value::Null)).await;
    assert_eq!(built["credential"]["scope"], sim.host());
    let (code, kind, _) = caller.build_refused(request(&sim, json!({}))).await;
    assert_eq!(
        (code, &*kind),
        (403, "denied"),
        "nothing is shown, whatever is stored"
    );
    let other = stage.caller("other", &TokenScope::ALL).await;
    let (code, ..) = other.build_refused(request(&sim, Value::Null)).await;
    assert_eq!(code, 403, "a login is its workspace's");

    let public = registry(Login::Nobody).await;
    for credential in [Value::Null, json!({})] {
        let built = other.build(request(&public, credential)).await;
        assert_eq!(built["credential"], Value::Null);
    }
}

/// How the registry is spoken to is as a login said, for the credential that comes with an image.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_reached_as_a_login_said() {
    let authority = registry_sim::Authority::new();
    let options = Options {
        login: Login::Basic,
        tls: Some(authority),
        ..Options::default()
    };
    let sim = RegistrySim::start(options).await;
    sim.push("acme/app", "v1", &image());
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let unknown = Some(request(&sim, password(PASSWORD)));
    let (status, answer) = caller.ask(Method::POST, "/v1/images", unknown).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "nobody vouches for it");
    let hint = format!(
        "if it has its own authority: `holdfast login {}/acme/app --ca-file FILE`",
        sim.host()
    );
    assert_eq!(answer["error"]["hint"], hint);
    let settings = RegistrySettings {
        ca_pem: sim.ca_pem().map(|pem| pem.as_bytes().to_vec()),
        ..RegistrySettings::default()
    };
    let login = LoginRequest {
        scope: sim.host().parse().unwrap(),
        credential: Credential::basic(USERNAME.to_owned(), SecretString::from(PASSWORD.to_owned())),
        settings,
    };
    let workspace = stage.workspace("team").await;
    stage.broker.login(workspace, login).await.unwrap();
    caller.build(request(&sim, password(PASSWORD))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_its_workspaces_own() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let ours = stage.caller("ours", &TokenScope::ALL).await;
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let built = ours.build(request(&sim, password(PASSWORD))).await;
    let id = built["id"].as_str().unwrap();
    let (code, ..) = theirs
        .refused(Method::GET, &format!("/v1/images/{id}"), None)
        .await;
    assert_eq!(code, 404);
    assert_eq!(theirs.get("/v1/images").await, json!({"images": []}));
    let stub = json!({"name": "f", "image": id, "handler": "app:f"});
    let (code, ..) = theirs
        .refused(Method::POST, "/v1/stubs", Some(stub.clone()))
        .await;
    assert_eq!(code, 400);
    let workspace = stage.workspace("theirs").await;
    let opened = stage
        .gateway
        .open_image(workspace, &id.parse().unwrap())
        .await;
    assert_eq!(opened.unwrap_err().kind, gateway::Kind::NotFound);
    for credential in [Value::Null, password("a-wrong-password")] {
        let (code, ..) = theirs.build_refused(request(&sim, credential)).await;
        assert_eq!(code, 403, "that it is here proves nothing");
    }
    let same = theirs.build(request(&sim, password(PASSWORD))).await;
    assert_eq!(same["id"], id);
    assert_eq!(
        stage.probe.asked().len(),
        2,
        "what one found is not told to the other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_of_the_image_and_what_is_added_to_it() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    sim.push("acme/app", "v2", &image());
    sim.push("acme/copy", "v1", &image());
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let build = async |name: &str, python: &str, environment: Value| {
        let base_image = format!("{}/{name}", sim.host());
        let built = caller
            .build(json!({
                "base_image": base_image, "python": python, "environment": environment,
            }))
            .await;
        assert_eq!(built["reference"], base_image);
        built["id"].as_str().unwrap().to_owned()
    };
    let first = build("acme/app:v1", "python3", json!({})).await;
    for name in ["acme/app:v1", "acme/app:v2", "acme/copy:v1"] {
        assert_eq!(build(name, "python3", json!({})).await, first, "{name}");
    }
    let mut ids = vec![
        first,
        build("acme/app:v1", "/opt/python", json!({})).await,
        build("acme/app:v1", "python3", json!({"A": "1"})).await,
        build("acme/app:v1", "python3", json!({"A": "2"})).await,
        build("acme/app:v1", "python3", json!({"A": "1", "B": ""})).await,
    ];
    let reordered = build("acme/app:v1", "python3", json!({"B": "", "A": "1"})).await;
    assert_eq!(ids.last(), Some(&reordered));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_python_is_no_image_for_functions() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    stage.probe.finds(None);
    let mut wanted = request(&sim, Value::Null);
    wanted["python"] = json!("/opt/venv/bin/python");
    let (status, answer) = caller.ask(Method::POST, "/v1/images", Some(wanted)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let message = format!(
        "image {}/acme/app:v1 has no Python that can be used; looked for /opt/venv/bin/python",
        sim.host()
    );
    assert_eq!(answer["error"]["message"], message);
    assert!(answer["error"]["hint"].is_string());
    stage.probe.finds(Some("3.11.2\u{1b}[2J"));
    let (code, _, message) = caller.build_refused(request(&sim, Value::Null)).await;
    assert_eq!(code, 422, "{message}");
    assert!(!message.contains('\u{1b}'), "{message}");
    assert_eq!(caller.get("/v1/images").await, json!({"images": []}));
    stage.probe.finds(Some("3.12.1"));
    let built = caller.build(request(&sim, Value::Null)).await;
    assert_eq!(built["python"]["version"], "3.12.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_refused_by_name() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let at = |name: &str| json!(format!("{}/acme/{name}", sim.host()));
    let no_field = "the body has not the fields";
    let table = [
        ("python_packages", json!([]), 422, "python_packages is not"),
        ("commands", json!(["ls"]), 422, "commands is not supported"),
        ("gpu", json!("A10G"), 400, no_field),
        ("base_image", json!(""), 400, "base_image: "),
        ("base_image", json!("https://a/b"), 400, "base_image: "),
        ("base_image", at("app:none"), 404, "manifest 127.0.0.1"),
        ("base_image", at("none:v1"), 404, "manifest 127.0.0.1"),
        ("python", json!("python3 -c"), 400, "python is "),
        ("environment", json!({"A-B": "x"}), 400, "environment: "),
        ("environment", json!({"A": "x".repeat(70_000)}), 413, "env"),
        (
            "credential",
            json!({"USERNAME": "a"}),
            400,
            "credential key",
        ),
        ("credential", json!({"GITHUB_TOKEN": PASSWORD}), 400, "cred"),
        ("credential", json!({"PASSWORD": 7}), 400, no_field),
        ("credential", json!(PASSWORD), 400, no_field),
    ];
    for (field, value, code, begins) in table {
        let mut wanted = request(&sim, Value::Null);
        wanted[field] = value;
        let (status, kind, message) = caller.build_refused(wanted.clone()).await;
        assert_eq!(status, code, "{wanted}: {kind}: {message}");
        assert!(message.starts_with(begins), "{wanted}: {message}");
        assert!(!message.contains(PASSWORD), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_builds_nothing() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let reader = stage.caller("team", &[TokenScope::Read]).await;
    let (code, kind, _) = reader.build_refused(request(&sim, Value::Null)).await;
    assert_eq!((code, &*kind), (403, "denied"));
    assert_eq!(reader.get("/v1/images").await, json!({"images": []}));
}

/// The events of an answer: their types and their data.
async fn events(response: reqwest::Response) -> Vec<(String, Value)> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    let event = |event: &str| {
        let (kind, data) = event.split_once('\n').unwrap();
        let kind = kind.strip_prefix("event: ").unwrap().to_owned();
        let data = data.strip_prefix("data: ").unwrap();
        (kind, serde_json::from_str(data).unwrap())
    };
    events.map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_told_as_events() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let ask = async |password_text: &str| {
        let asked = caller
            .request(Method::POST, "/v1/images")
            .header(ACCEPT, "text/event-stream")
            .json(&request(&sim, password(password_text)));
        events(asked.send().await.unwrap()).await
    };
    let told = ask(PASSWORD).await;
    let (last, lines) = told.split_last().unwrap();
    assert!(lines.iter().all(|(kind, _)| kind == "progress"), "{told:?}");
    assert_eq!(last.0, "image");
    assert_eq!(last.1["python"]["version"], "3.11.2");
    let lines: Vec<_> = lines
        .iter()
        .map(|(_, data)| data["message"].as_str().unwrap())
        .collect();
    let begun = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    let found = format!("found {}: 2 layers, ", image().digest);
    for (what, count) in [
        ("checking the credential with 127.0.0.1", 1),
        ("sealed the basic credential for ", 1),
        (&found, 1),
        ("reading layer sha256:", 2),
        ("indexed layer sha256:", 2),
        ("found Python 3.11.2", 1),
    ] {
        assert_eq!(begun(what), count, "{what:?} in {lines:#?}");
    }
    let refused = ask("a-wrong-password").await;
    let (kind, problem) = refused.last().unwrap();
    assert_eq!((&**kind, &problem["kind"]), ("error", &json!("denied")));
    assert!(
        problem["message"].is_string() && problem["hint"].is_string(),
        "{problem}"
    );
    for (_, data) in told.iter().chain(&refused) {
        let data = data.to_string();
        assert!(
            !data.contains(PASSWORD) && !data.contains("a-wrong-password"),
            "{data}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_on_when_nobody_listens() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    stage.probe.set_open(false);
    let asked = caller
        .request(Method::POST, "/v1/images")
        .header(ACCEPT, "text/event-stream")
        .json(&request(&sim, password(PASSWORD)));
    let mut response = asked.send().await.unwrap();
    response.chunk().await.unwrap().expect("it has begun");
    drop(response);
    let again = caller.build(request(&sim, password(PASSWORD)));
    let opening = async { stage.probe.set_open(true) };
    let (built, ()) = tokio::join!(again, opening);
    assert_eq!(built["python"]["version"], "3.11.2");
    assert_eq!(stage.probe.asked().len(), 1, "the first build found it");
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_of_one_image_at_the_same_time_are_one_piece_of_work() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let builds = (0..12).map(|_| caller.build(request(&sim, password(PASSWORD))));
    let built = futures::future::join_all(builds).await;
    assert!(built.iter().all(|image| image["id"] == built[0]["id"]));
    assert_eq!(stage.probe.asked().len(), 1);
    assert_eq!(stage.sealed_version("team").await, Some(1));
    let layer = &image().layers[0].digest;
    let paths = sim.registry().paths();
    let reads = paths
        .iter()
        .filter(|path| path.contains(layer.as_str()))
        .count();
    assert_eq!(reads, 1, "{paths:#?}");
}
