//! What Prometheus reads, and who may.

use std::collections::BTreeMap;

use beta9_protocol::gateway::AuthorizeRequest;
use control_store::TokenScope;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, StatusCode};

use crate::beta9::{Beta9, Returning, Scene, announced, hanging, rest};
use crate::support::{Caller, Stage};

/// Values by name and labels, as they are written.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn by(caller: &Caller<'_>) -> Self {
        let response = caller.request(Method::GET, "/metrics").send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let kind = response.headers()[CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"));
        Self::parse(&response.text().await.unwrap())
    }

    /// Reads every line, or fails.
    fn parse(text: &str) -> Self {
        let lines = text.strip_suffix("# EOF\n").expect("it is whole");
        let mut values = BTreeMap::new();
        let mut described = None;
        for line in lines.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let words: Vec<_> = comment.splitn(3, ' ').collect();
                assert!(["HELP", "TYPE", "UNIT"].contains(&words[0]), "{line}");
                described = Some(words[1].to_owned());
                continue;
            }
            let (name, value) = line.rsplit_once(' ').expect(line);
            let described = described.as_deref().expect("what it is stands first");
            assert!(name.starts_with(described), "{line}");
            assert!(name.starts_with("holdfast_"), "{line}");
            let before = values.insert(name.to_owned(), value.parse().expect(line));
            assert_eq!(before, None, "{line} is there twice");
        }
        Self(values)
    }

    fn of(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn all(&self, expected: &[(&str, f64)]) {
        for (name, value) in expected {
            let found = self.of(&format!("holdfast_{name}"));
            assert!((found - value).abs() < 0.001, "{name} is {found}");
        }
    }

    fn holds(&self, word: &str) -> bool {
        self.0.keys().any(|name| name.contains(word))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_seen_in_the_counters() {
    let scene = Box::pin(Scene::new()).await;
    let stage = &scene.stage;
    let watcher = stage.caller("watchers", &[TokenScope::Metrics]).await;
    let before = Scrape::by(&watcher).await;
    before.all(&[
        ("calls_accepted_total", 0.0),
        ("calls_ended_total{outcome=\"returned\"}", 0.0),
        ("container_starts_total{result=\"started\"}", 0.0),
        ("workers{state=\"open\"}", 1.0),
        ("workers_cpu_capacity_cores", 8.0),
        ("workers_cpu_free_cores", 8.0),
        ("workers_memory_free_bytes", f64::from(1_u32 << 31) * 4.0),
    ]);
    let version = format!(
        "holdfast_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert!((before.of(&version) - 1.0).abs() < 0.001);

    rest(scene.invoke("return x", Returning::Possible).await).await;
    rest(scene.invoke("raise", Returning::Possible).await).await;
    let mut replies = scene.invoke("hang", Returning::Never).await;
    announced(&mut replies).await;
    hanging(&mut replies).await;
    let during = Scrape::by(&watcher).await;
    during.all(&[
        ("calls_accepted_total", 3.0),
        ("calls_ended_total{outcome=\"returned\"}", 1.0),
        ("calls_ended_total{outcome=\"raised\"}", 1.0),
        ("calls{state=\"running\"}", 1.0),
        ("calls{state=\"waiting\"}", 0.0),
        ("call_wait_seconds_count", 3.0),
        ("call_run_seconds_count", 2.0),
        ("containers{state=\"busy\"}", 1.0),
        ("containers{state=\"starting\"}", 0.0),
        ("container_starts_total{result=\"started\"}", 1.0),
        ("container_starts_total{result=\"failed\"}", 0.0),
        ("container_start_duration_seconds_count", 1.0),
        (
            "container_start_phase_duration_seconds_count{phase=\"room\"}",
            1.0,
        ),
        (
            "container_start_phase_duration_seconds_count{phase=\"hand-off\"}",
            1.0,
        ),
        (
            "container_start_phase_duration_seconds_count{phase=\"worker\"}",
            1.0,
        ),
        (
            "container_start_phase_duration_seconds_count{phase=\"mount\"}",
            1.0,
        ),
        ("workers_cpu_free_cores", 7.875),
        (
            "requests_total{face=\"beta9\",operation=\"function.FunctionService/FunctionInvoke\",\
             result=\"ok\"}",
            3.0,
        ),
    ]);
    for word in [
        "team", "watchers", "app:f", "acme", "sha256", "tenant", "tok-", "ws-",
    ] {
        assert!(!during.holds(word), "{word}");
    }
    drop(replies);
    scene.worker.cancelled(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_names_that_nobody_adds_to() {
    let stage = Stage::new().await;
    let watcher = stage.caller("team", &TokenScope::ALL).await;
    let unheard_of = Method::from_bytes(b"TENANT").unwrap();
    for (method, path, token) in [
        (Method::GET, "/v1/tasks?limit=1", &*watcher.token),
        (Method::GET, "/v1/tasks/tenant", &watcher.token),
        (Method::GET, "/tenant/1", &watcher.token),
        (unheard_of, "/v1/tasks", &watcher.token),
        (Method::GET, "/v1/tasks", "hf_tenant"),
    ] {
        stage.ask(Some(token), method, path, None).await;
    }
    let nobody = Beta9::showing(&stage, None);
    let asking = nobody.ask(AuthorizeRequest {});
    nobody.gateway().authorize(asking).await.unwrap_err();
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let asking = client
        .post(format!("http://{}/tenant.Tenant/Tenant", stage.address))
        .header(CONTENT_TYPE, "application/grpc")
        .bearer_auth(&watcher.token);
    asking.send().await.unwrap();
    let scrape = Scrape::by(&watcher).await;
    let request = |face: &str, operation: &str, result: &str| {
        let labels = format!("face={face:?},operation={operation:?},result={result:?}");
        scrape.of(&format!("holdfast_requests_total{{{labels}}}"))
    };
    let authorize = "gateway.GatewayService/Authorize";
    for (face, operation, result, count) in [
        ("http", "GET /v1/tasks", "ok", 1.0),
        ("http", "GET /v1/tasks", "unauthenticated", 1.0),
        ("http", "GET /v1/tasks/{id}", "invalid", 1.0),
        ("http", "other", "not_found", 1.0),
        ("http", "other", "invalid", 1.0),
        ("beta9", authorize, "unauthenticated", 1.0),
        ("beta9", "other", "invalid", 1.0),
    ] {
        let found = request(face, operation, result);
        assert!((found - count).abs() < 0.001, "{face} {operation} {result}");
    }
    scrape.all(&[
        ("refusals_total{kind=\"token\"}", 2.0),
        ("refusals_total{kind=\"name\"}", 0.0),
        ("audit_rows_unwritten_total", 0.0),
        (
            "request_duration_seconds_count{face=\"http\",operation=\"GET /v1/tasks\"}",
            2.0,
        ),
    ]);
    assert!(!scrape.holds("enant") && !scrape.holds("TENANT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_who_may_see_them() {
    let stage = Stage::new().await;
    let (status, _) = stage.ask(None, Method::GET, "/metrics", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let owner = stage.caller("team", &TokenScope::OF_A_WORKSPACE).await;
    let (code, kind, message) = owner.refused(Method::GET, "/metrics", None).await;
    assert_eq!((code, &*kind), (403, "denied"), "{message}");
    let new = serde_json::json!({"name": "more", "scopes": ["metrics"]});
    let (code, ..) = owner.refused(Method::POST, "/v1/tokens", Some(new)).await;
    assert_eq!(code, 403, "nobody makes one that is for more");
    let client = Client::builder().unix_socket(stage.operators_socket());
    let asking = client.build().unwrap().get("http://operator/metrics");
    let answer = asking.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let scrape = Scrape::parse(&answer.text().await.unwrap());
    scrape.all(&[
        ("refusals_total{kind=\"token\"}", 1.0),
        ("refusals_total{kind=\"scope\"}", 2.0),
        ("workers{state=\"open\"}", 0.0),
    ]);
}
