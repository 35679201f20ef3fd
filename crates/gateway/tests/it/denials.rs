//! Who is refused, and what the audit log says of it: on both faces, by the same rows.

use std::collections::BTreeMap;

use beta9_protocol::function::FunctionInvokeRequest;
use beta9_protocol::gateway::{
    AuthorizeRequest, CreateTokenRequest, DeleteTokenRequest, GetOrCreateStubRequest,
    HeadObjectRequest, ListTasksRequest, StopContainerRequest, StopTasksRequest, StringList,
    ToggleTokenRequest,
};
use beta9_protocol::image::{BuildImageRequest, VerifyImageBuildRequest};
use beta9_protocol::metadata::TASK_ID;
use beta9_protocol::secret::{DeleteSecretRequest, GetSecretRequest, UpdateSecretRequest};
use control_store::{ApiToken, TokenScope};
use gateway::openapi_document;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::beta9::{Beta9, Returning, Scene, rest};
use crate::support::{Caller, Stage};

/// More rows than any test here writes.
const ROWS: u32 = 500;
/// What nothing that is kept may have in it.
const CANARY: &str = "canary-4f1d";
/// Rows of one source before they count others, as `allowance` has it.
const ROWS_AT_ONCE: usize = 32;

/// A denial, as the audit log has it.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    actor: String,
    workspace: Option<String>,
    question: String,
    reason: String,
}

impl Stage {
    /// The denials since the last look, the first first.
    async fn denials(&self, seen: &mut usize) -> Vec<Row> {
        let rows = self.broker.vault().audit_tail(ROWS).await.unwrap();
        let denied = rows.into_iter().rev().filter(|row| row.action == "deny");
        let new: Vec<_> = denied
            .skip(*seen)
            .map(|row| Row {
                actor: row.actor,
                workspace: row.workspace,
                question: row.subject,
                reason: row.detail,
            })
            .collect();
        *seen += new.len();
        new
    }

    async fn token(&self, caller: &Caller<'_>) -> ApiToken {
        let id = caller.get("/v1/whoami").await["token"]["id"].clone();
        let workspaces = self.broker.store().workspaces().await.unwrap();
        for workspace in workspaces {
            let tokens = self.broker.store().tokens(workspace.id).await.unwrap();
            if let Some(token) = tokens.into_iter().find(|token| id == token.id.to_string()) {
                return token;
            }
        }
        panic!("no token {id}");
    }
}

fn row_of(token: &ApiToken, question: &str, reason: &str) -> Row {
    Row {
        actor: token.id.to_string(),
        workspace: Some(token.workspace.to_string()),
        question: question.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The ids of one thing of each kind, by the part of a path before it.
async fn ids_of(caller: &Caller<'_>) -> BTreeMap<&'static str, String> {
    let mut ids = BTreeMap::new();
    for kind in ["images", "stubs", "tasks", "containers", "tokens"] {
        let listed = caller.get(&format!("/v1/{kind}")).await;
        let id = listed[kind][0]["id"].as_str().expect(kind).to_owned();
        ids.insert(kind, id);
    }
    let stubs = caller.get("/v1/stubs").await;
    let code = stubs["stubs"][0]["code"].as_str().unwrap().to_owned();
    ids.insert("objects", code);
    ids.insert("secrets", "TOKEN".to_owned());
    ids
}

/// A workspace that has one thing of each kind.
async fn furnished() -> Scene {
    let scene = Scene::new().await;
    rest(scene.invoke("return x", Returning::Possible).await).await;
    scene
}

fn body_of(method: &str, template: &str) -> Option<Value> {
    match (method, template) {
        ("patch", _) => Some(json!({"enabled": false})),
        ("post", "/v1/stubs/{id}/tasks") => {
            Some(json!({"format": "json", "payload": "e30=", "idempotency_key": null}))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_workspace_has_is_refused_and_noted() {
    let scene = Box::pin(furnished()).await;
    let stage = &scene.stage;
    let ours = stage.caller("team", &TokenScope::ALL).await;
    let ids = ids_of(&ours).await;
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let token = stage.token(&theirs).await;
    let mut seen = 0;
    assert_eq!(stage.denials(&mut seen).await, []);

    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let mut tried = 0;
    for (template, operations) in document["paths"].as_object().unwrap() {
        let Some((before, after)) = template.split_once('{') else {
            continue;
        };
        let kind = before.trim_matches('/').rsplit('/').next().unwrap();
        // No workspace has one: `a_token_has_no_say_about_a_workers_disk` asks for it.
        if kind == "workers" {
            continue;
        }
        let id = &ids[kind];
        let path = format!("{before}{id}{}", after.split_once('}').unwrap().1);
        for method in operations.as_object().unwrap().keys() {
            if method == "put" {
                // Who puts something has it then, and the other's stays what it is.
                continue;
            }
            let (name, body) = (method.to_uppercase(), body_of(method, template));
            let asked = Method::from_bytes(name.as_bytes()).unwrap();
            let (status, _, message) = theirs.refused(asked, &path, body).await;
            assert_eq!(status, 404, "{name} {path}: {message}");
            assert!(message.contains(id.as_str()), "{message}");
            let expected = row_of(&token, &format!("{name} {template}"), &message);
            assert_eq!(stage.denials(&mut seen).await, [expected]);
            tried += 1;
        }
    }
    assert_eq!(tried, 11, "a route that takes an id is tried here");

    let stub = json!({"name": "f", "image": ids["images"], "handler": "app:f"});
    let (status, _, message) = theirs.refused(Method::POST, "/v1/stubs", Some(stub)).await;
    assert_eq!(status, 400, "{message}");
    let expected = row_of(&token, "POST /v1/stubs", &message);
    assert_eq!(stage.denials(&mut seen).await, [expected]);
    assert!(message.contains(&ids["images"]), "{message}");

    assert_eq!(
        ids_of(&ours).await.len(),
        ids.len(),
        "all is there as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_face_refuses_and_notes_the_same() {
    let scene = Box::pin(furnished()).await;
    let stage = &scene.stage;
    let ours = stage.caller("team", &TokenScope::ALL).await;
    let ids = ids_of(&ours).await;
    let caller = stage.caller("theirs", &TokenScope::ALL).await;
    let token = stage.token(&caller).await;
    let theirs = Beta9::of(stage, &caller);
    let asks = Asks {
        theirs: &theirs,
        ids: &ids,
        object: scene.plain.object_id.clone(),
        plain: scene.plain.clone(),
    };
    let mut seen = 0;
    assert_eq!(stage.denials(&mut seen).await, []);
    let told = asks.all().await;
    let expected = told.iter().map(|(method, message)| {
        let first_line = message.lines().next().unwrap();
        row_of(&token, method, first_line)
    });
    let expected: Vec<_> = expected.collect();
    assert_eq!(stage.denials(&mut seen).await, expected);

    let message = asks.for_a_secret_in_a_build().await;
    let first_line = message.lines().next().unwrap();
    let expected = row_of(&token, "image.ImageService/BuildImage", first_line);
    assert_eq!(stage.denials(&mut seen).await, [expected]);
    assert_eq!(
        ids_of(&ours).await.len(),
        ids.len(),
        "all is there as it was"
    );
}

/// What somebody of another workspace asks for.
struct Asks<'a> {
    theirs: &'a Beta9,
    ids: &'a BTreeMap<&'static str, String>,
    object: String,
    plain: GetOrCreateStubRequest,
}

impl Asks<'_> {
    /// Asks for everything; the methods, and what was told.
    async fn all(&self) -> Vec<(&'static str, String)> {
        let mut told = self.of_the_gateway_service().await;
        told.extend(self.of_definitions().await);
        told.extend(self.of_the_other_services().await);
        told
    }

    async fn of_the_gateway_service(&self) -> Vec<(&'static str, String)> {
        let (theirs, ids) = (self.theirs, self.ids);
        let mut gateway = theirs.gateway();
        let tasks = theirs.ask(StopTasksRequest {
            task_ids: vec![ids["tasks"].clone()],
        });
        let container = theirs.ask(StopContainerRequest {
            container_id: ids["containers"].clone(),
        });
        let toggle = theirs.ask(ToggleTokenRequest {
            token_id: ids["tokens"].clone(),
        });
        let delete = theirs.ask(DeleteTokenRequest {
            token_id: ids["tokens"].clone(),
        });
        vec![
            (
                "gateway.GatewayService/StopTasks",
                gateway
                    .stop_tasks(tasks)
                    .await
                    .unwrap()
                    .into_inner()
                    .err_msg,
            ),
            (
                "gateway.GatewayService/StopContainer",
                gateway
                    .stop_container(container)
                    .await
                    .unwrap()
                    .into_inner()
                    .error_msg,
            ),
            (
                "gateway.GatewayService/ToggleToken",
                gateway
                    .toggle_token(toggle)
                    .await
                    .unwrap()
                    .into_inner()
                    .err_msg,
            ),
            (
                "gateway.GatewayService/DeleteToken",
                gateway
                    .delete_token(delete)
                    .await
                    .unwrap()
                    .into_inner()
                    .err_msg,
            ),
        ]
    }

    async fn of_definitions(&self) -> Vec<(&'static str, String)> {
        let method = "gateway.GatewayService/GetOrCreateStub";
        let mut told = Vec::new();
        for object_id in [String::new(), self.object.clone()] {
            let request = self.theirs.ask(GetOrCreateStubRequest {
                object_id,
                ..self.plain.clone()
            });
            let defined = self.theirs.gateway().get_or_create_stub(request).await;
            told.push((method, message(defined.err())));
        }
        told
    }

    async fn of_the_other_services(&self) -> Vec<(&'static str, String)> {
        let (theirs, ids) = (self.theirs, self.ids);
        let image = theirs.ask(VerifyImageBuildRequest {
            image_id: Some(ids["images"].clone()),
            python_version: "python3".to_owned(),
            ..Default::default()
        });
        let call = || FunctionInvokeRequest {
            stub_id: ids["stubs"].clone(),
            ..Default::default()
        };
        let mut going_on = theirs.ask(call());
        let task = ids["tasks"].parse().unwrap();
        going_on.metadata_mut().insert(TASK_ID, task);
        let delete = theirs.ask(DeleteSecretRequest {
            name: "TOKEN".to_owned(),
        });
        let update = theirs.ask(UpdateSecretRequest {
            name: "TOKEN".to_owned(),
            value: CANARY.to_owned(),
            ..Default::default()
        });
        let (mut function, mut secret) = (theirs.function(), theirs.secret());
        let of_call = "function.FunctionService/FunctionInvoke";
        vec![
            (
                "image.ImageService/VerifyImageBuild",
                message(theirs.image().verify_image_build(image).await.err()),
            ),
            (
                of_call,
                message(function.function_invoke(theirs.ask(call())).await.err()),
            ),
            (
                of_call,
                message(function.function_invoke(going_on).await.err()),
            ),
            (
                "secret.SecretService/DeleteSecret",
                secret
                    .delete_secret(delete)
                    .await
                    .unwrap()
                    .into_inner()
                    .err_msg,
            ),
            (
                "secret.SecretService/UpdateSecret",
                secret
                    .update_secret(update)
                    .await
                    .unwrap()
                    .into_inner()
                    .err_msg,
            ),
        ]
    }

    /// Has a build filled in with a secret, which the vault is asked for.
    async fn for_a_secret_in_a_build(&self) -> String {
        let key = self.theirs.ask(BuildImageRequest {
            existing_image_uri: "registry.example/acme/app:v1".to_owned(),
            existing_image_creds: [("PASSWORD".to_owned(), String::new())].into(),
            python_version: "python3".to_owned(),
            ..Default::default()
        });
        let building = self.theirs.image().build_image(key).await.unwrap();
        let built = building.into_inner().message().await.unwrap().unwrap();
        built.msg
    }
}

fn message(status: Option<tonic::Status>) -> String {
    status.expect("it is refused").message().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_in_any_case_is_not_noted() {
    let scene = Box::pin(furnished()).await;
    let stage = &scene.stage;
    let ours = stage.caller("team", &TokenScope::ALL).await;
    let ids = ids_of(&ours).await;
    let caller = stage.caller("theirs", &TokenScope::ALL).await;
    let theirs = Beta9::of(stage, &caller);
    let path = format!("/v1/objects/{}", ids["objects"]);
    let (status, _) = caller.ask(Method::HEAD, &path, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, ..) = caller.refused(Method::GET, "/v1/nothing", None).await;
    assert_eq!(status, 404);
    let (status, ..) = caller.refused(Method::GET, "/v1/tasks/7", None).await;
    assert_eq!(status, 400);
    for path in ["/livez", "/readyz", "/openapi.json", "/v1", "/.env"] {
        stage.ask(None, Method::GET, path, None).await;
    }
    let head = theirs.ask(HeadObjectRequest {
        hash: "a".repeat(64),
        ..Default::default()
    });
    let head = theirs.gateway().head_object(head).await.unwrap();
    assert!(!head.into_inner().exists);
    let verify = theirs.ask(VerifyImageBuildRequest {
        existing_image_uri: "registry.example/acme/app:v1".to_owned(),
        image_id: Some(ids["images"].clone()),
        ..Default::default()
    });
    theirs.image().verify_image_build(verify).await.unwrap();
    let secret = theirs.ask(GetSecretRequest {
        name: "TOKEN".to_owned(),
    });
    let secret = theirs.secret().get_secret(secret).await.unwrap();
    assert!(!secret.into_inner().ok);
    let values = vec![ids["tasks"].clone()];
    let listed = theirs.ask(ListTasksRequest {
        filters: [("id".to_owned(), StringList { values })].into(),
        limit: 1,
    });
    let listed = theirs.gateway().list_tasks(listed).await.unwrap();
    assert_eq!(listed.into_inner().tasks, []);
    assert_eq!(stage.denials(&mut 0).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_token_that_counts_is_noted_without_it() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let token = stage.token(&caller).await;
    let mut seen = 0;
    let unknown = format!("hf_{}", "0123456789abcdef".repeat(4));
    let nobody = |question: &str, reason: &str| Row {
        actor: "nobody".to_owned(),
        workspace: None,
        question: question.to_owned(),
        reason: reason.to_owned(),
    };
    let (get, authorize) = ("GET /v1/tasks/{id}", "gateway.GatewayService/Authorize");
    for (shown, reason) in [
        (None, "request shows no token"),
        (Some(CANARY), "token is not known here"),
        (Some(&*unknown), "token is not known here"),
    ] {
        let path = format!("/v1/tasks/{CANARY}?wait_ms={CANARY}");
        let (status, _) = stage.ask(shown, Method::GET, &path, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(stage.denials(&mut seen).await, [nobody(get, reason)]);
        let beta9 = Beta9::showing(&stage, shown.map(|token| format!("Bearer {token}")));
        let request = beta9.ask(AuthorizeRequest {});
        beta9.gateway().authorize(request).await.unwrap_err();
        assert_eq!(stage.denials(&mut seen).await, [nobody(authorize, reason)]);
    }
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/{CANARY}/{CANARY}", stage.address);
    let asking = client.post(url).header(CONTENT_TYPE, "application/grpc");
    asking.send().await.unwrap();
    let expected = nobody("other", "request shows no token");
    assert_eq!(stage.denials(&mut seen).await, [expected]);

    let store = stage.broker.store();
    let switched = store.set_token_enabled(token.workspace, token.id, false);
    assert!(switched.await.unwrap());
    let (status, ..) = caller.refused(Method::GET, "/v1/whoami", None).await;
    assert_eq!(status, 401);
    let expected = row_of(&token, "GET /v1/whoami", "token is switched off");
    assert_eq!(stage.denials(&mut seen).await, [expected]);
    let beta9 = Beta9::of(&stage, &caller);
    let request = beta9.ask(AuthorizeRequest {});
    beta9.gateway().authorize(request).await.unwrap_err();
    let expected = row_of(&token, authorize, "token is switched off");
    assert_eq!(stage.denials(&mut seen).await, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_more_than_the_token_is_for_is_noted() {
    let stage = Stage::new().await;
    let reader = stage.caller("team", &[TokenScope::Read]).await;
    let token = stage.token(&reader).await;
    let mut seen = 0;
    let value = Some(json!({ "value": CANARY }));
    let path = format!("/v1/secrets/{}?{CANARY}", reader.token);
    for (method, path, body, question, scope) in [
        (
            Method::PUT,
            &*path,
            value,
            "PUT /v1/secrets/{name}",
            "secrets",
        ),
        (
            Method::HEAD,
            OBJECT,
            None,
            "HEAD /v1/objects/{digest}",
            "call",
        ),
    ] {
        let (status, _) = reader.ask(method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{question}");
        let reason = format!("token has no scope {scope:?}");
        let expected = row_of(&token, question, &reason);
        assert_eq!(stage.denials(&mut seen).await, [expected]);
    }
    let beta9 = Beta9::of(&stage, &reader);
    let request = beta9.ask(CreateTokenRequest {
        token_type: "workspace".to_owned(),
    });
    let refused = beta9.gateway().create_token(request).await.unwrap();
    let expected = row_of(
        &token,
        "gateway.GatewayService/CreateToken",
        refused.into_inner().err_msg.lines().next().unwrap(),
    );
    assert_eq!(stage.denials(&mut seen).await, [expected]);

    // A name that is a token by mistake is told to whoever typed it, and kept by nobody.
    let keeper = stage
        .caller("team", &[TokenScope::Secrets, TokenScope::Call])
        .await;
    let names = json!([keeper.token]);
    let path = format!("/v1/secrets/{}", keeper.token);
    keeper.refused(Method::DELETE, &path, None).await;
    let image = format!("sha256:{}", "0".repeat(64));
    let stub = json!({"name": "f", "image": image, "handler": "a:f", "secrets": names});
    keeper.refused(Method::POST, "/v1/stubs", Some(stub)).await;
    let rows = format!("{:?}", stage.broker.vault().audit_tail(ROWS).await.unwrap());
    for text in [&*reader.token, &keeper.token, CANARY] {
        assert!(!rows.contains(text), "{rows}");
    }
}

const OBJECT: &str =
    "/v1/objects/sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_noted_as_such() {
    let stage = Stage::new().await;
    let workspace = stage.workspace("team").await;
    let client = Client::builder().unix_socket(stage.operators_socket());
    let client = client.build().unwrap();
    let id = ids::TaskId::new();
    let mut seen = 0;
    for (named, workspace, reason) in [
        (
            "team",
            Some(workspace),
            format!("no task {id} in this workspace"),
        ),
        ("none", None, "there is no workspace \"none\"".to_owned()),
    ] {
        let asking = client.get(format!("http://operator/v1/tasks/{id}"));
        let asking = asking.header(gateway::WORKSPACE_HEADER, named);
        let status = asking.send().await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND);
        let expected = Row {
            actor: "operator".to_owned(),
            workspace: workspace.map(|workspace| workspace.to_string()),
            question: "GET /v1/tasks/{id}".to_owned(),
            reason,
        };
        assert_eq!(stage.denials(&mut seen).await, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_does_not_fill_the_log() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let second = stage.caller("team", &TokenScope::ALL).await;
    let other = stage.caller("theirs", &TokenScope::ALL).await;
    let workspace = stage.token(&caller).await.workspace.to_string();
    let mut seen = 0;
    let path = format!("/v1/tasks/{}", ids::TaskId::new());
    let flood = 3 * ROWS_AT_ONCE;
    for _ in 0..flood {
        let (status, ..) = caller.refused(Method::GET, &path, None).await;
        assert_eq!(status, 404);
        // However many tokens a workspace makes.
        second.refused(Method::GET, &path, None).await;
        stage.ask(Some("hf_0"), Method::GET, &path, None).await;
    }
    let rows = stage.denials(&mut seen).await;
    let (own, nobodys): (Vec<_>, Vec<_>) = rows
        .iter()
        .partition(|row| row.workspace.as_ref() == Some(&workspace));
    // One more may be written in ten seconds, if it takes so long.
    let expected = ROWS_AT_ONCE..=ROWS_AT_ONCE + 6;
    assert!(expected.contains(&own.len()), "{}", own.len());
    assert!(expected.contains(&nobodys.len()), "{}", nobodys.len());
    // Others are heard as before, and who is refused is not shut out.
    other.refused(Method::GET, &path, None).await;
    let rows = stage.denials(&mut seen).await;
    let others = stage.token(&other).await.id.to_string();
    assert!(rows.iter().any(|row| row.actor == others), "{rows:?}");
    caller.get("/v1/whoami").await;
}
