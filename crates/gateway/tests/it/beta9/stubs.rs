//! Functions, as the client defines them.

use beta9_protocol::gateway::{
    Autoscaler, CheckpointTrigger, DurableDisk, GetOrCreateStubRequest, PersistentRoot, PoolConfig,
    PricingPolicy, Schema, SecretVar, ServingConfig, TaskPolicy, Volume,
};
use bytes::Bytes;
use control_store::TokenScope;
use ids::ObjectId;
use registry_sim::{Login, RegistrySim};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Beta9, refusal};
use super::images::wanted;
use super::objects::hash;
use crate::builds::registry;
use crate::support::{Caller, Stage};

impl Beta9 {
    /// What clients send for a plain function, whose image and files are there.
    pub(crate) async fn plain(
        &self,
        caller: &Caller<'_>,
        sim: &RegistrySim,
    ) -> GetOrCreateStubRequest {
        self.plain_with(caller, sim, &[]).await
    }

    /// The same of an image that wants this credential.
    pub(crate) async fn plain_with(
        &self,
        caller: &Caller<'_>,
        sim: &RegistrySim,
        credential: &[(&str, &str)],
    ) -> GetOrCreateStubRequest {
        let (_, built) = self.build(wanted(sim, credential)).await;
        let hash = hash('a');
        let object_id = self.put(vec![(&hash, Bytes::from("archive"))]).await;
        let value = Some(json!({"value": "v"}));
        caller.ask(Method::PUT, "/v1/secrets/TOKEN", value).await;
        GetOrCreateStubRequest {
            object_id: object_id.unwrap(),
            image_id: built.image_id,
            stub_type: "function".to_owned(),
            name: "function/app:f".to_owned(),
            python_version: "python3".to_owned(),
            cpu: 125,
            memory: 128,
            handler: "app:f".to_owned(),
            workers: 1,
            max_pending_tasks: 100,
            authorized: true,
            autoscaler: Some(Autoscaler {
                r#type: "queue_depth".to_owned(),
                max_containers: 1,
                tasks_per_container: 1,
                min_containers: 0,
            }),
            task_policy: Some(TaskPolicy {
                timeout: 3600,
                max_retries: 3,
                ttl: 0,
            }),
            concurrent_requests: 1,
            extra: "{}".to_owned(),
            app_name: "app".to_owned(),
            ..Default::default()
        }
    }

    pub(crate) async fn define(&self, request: GetOrCreateStubRequest) -> String {
        let request = self.ask(request);
        let reply = self.gateway().get_or_create_stub(request).await;
        let reply = reply.unwrap().into_inner();
        assert!(reply.ok && reply.err_msg.is_empty() && reply.warn_msg.is_empty());
        reply.stub_id
    }
}

/// The stub as the other face shows it.
async fn shown(caller: &Caller<'_>, id: &str) -> Value {
    let id = id.replace('-', "");
    caller.get(&format!("/v1/stubs/stub-{id}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_what_the_client_says_of_it() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let plain = beta9.plain(&caller, &sim).await;
    let id = beta9.define(plain.clone()).await;
    let stub = shown(&caller, &id).await;
    for (field, value) in [
        ("name", json!("function/app:f")),
        ("image", json!(plain.image_id)),
        ("handler", json!("app:f")),
        ("cpu_millicores", json!(125)),
        ("memory_bytes", json!(128 << 20)),
        ("timeout_ms", json!(3_600_000)),
        ("retries", json!(3)),
        ("concurrency", json!(1)),
        ("keep_warm_ms", json!(10_000)),
        ("environment", json!({})),
        ("secrets", json!([])),
    ] {
        assert_eq!(stub[field], value, "{field}");
    }
    assert!(stub["code"].is_string());
    let older = GetOrCreateStubRequest {
        keep_warm_seconds: 10.0,
        ..plain.clone()
    };
    for same in [plain.clone(), older] {
        assert_eq!(beta9.define(same).await, id);
    }
    let other = GetOrCreateStubRequest {
        stub_type: "schedule".to_owned(),
        cpu: 1000,
        memory: 2048,
        env: vec!["MODE=a=b".to_owned()],
        secrets: vec![SecretVar {
            name: "TOKEN".to_owned(),
        }],
        task_policy: Some(TaskPolicy {
            timeout: 7,
            ..Default::default()
        }),
        keep_warm_seconds: 0.5,
        concurrent_requests: 4,
        ..plain
    };
    let stub = shown(&caller, &beta9.define(other).await).await;
    assert_eq!(stub["memory_bytes"], json!(2048_u64 << 20));
    assert_eq!(
        (&stub["timeout_ms"], &stub["retries"]),
        (&json!(7000), &json!(0))
    );
    assert_eq!(
        (&stub["keep_warm_ms"], &stub["concurrency"]),
        (&json!(500), &json!(4))
    );
    assert_eq!(stub["environment"], json!({"MODE": "a=b"}));
    assert_eq!(stub["secrets"], json!(["TOKEN"]));
}

/// A way to ask for more than a function has here.
type Change = fn(&mut GetOrCreateStubRequest);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_has_not_is_refused_by_name() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let plain = beta9.plain(&caller, &sim).await;
    let table: [(&str, Change); 33] = [
        ("gpu", |stub| stub.gpu = "T4,A10G".to_owned()),
        ("gpu", |stub| stub.gpu_count = 1),
        ("volumes", |stub| stub.volumes = vec![Volume::default()]),
        ("disks", |stub| stub.disks = vec![DurableDisk::default()]),
        ("callback_url", |stub| stub.callback_url = "x".to_owned()),
        ("on_start", |stub| stub.on_start = "app:g".to_owned()),
        ("on_deploy", |stub| stub.on_deploy = "app:g".to_owned()),
        ("ttl", |stub| stub.task_policy.as_mut().unwrap().ttl = 1),
        ("inputs", |stub| stub.inputs = Some(Schema::default())),
        ("outputs", |stub| stub.outputs = Some(Schema::default())),
        ("pool", |stub| stub.pool = Some(PoolConfig::default())),
        ("pricing", |stub| {
            stub.pricing = Some(PricingPolicy::default());
        }),
        ("workers", |stub| stub.workers = 2),
        ("autoscaler", |stub| {
            stub.autoscaler.as_mut().unwrap().min_containers = 1;
        }),
        ("autoscaler", |stub| {
            stub.autoscaler.as_mut().unwrap().tasks_per_container = 2;
        }),
        ("autoscaler", |stub| {
            stub.autoscaler.as_mut().unwrap().r#type = "x".to_owned();
        }),
        ("authorized=False", |stub| stub.authorized = false),
        ("block_network", |stub| stub.block_network = true),
        ("allow_list", |stub| {
            stub.allow_list = vec!["10.0.0.0/8".to_owned()];
        }),
        ("entrypoint", |stub| stub.entrypoint = vec!["sh".to_owned()]),
        ("ports", |stub| stub.ports = vec![80]),
        ("ports", |stub| stub.tcp = true),
        ("docker_enabled", |stub| stub.docker_enabled = true),
        ("use_vm", |stub| stub.use_vm = true),
        ("checkpoint_enabled", |stub| stub.checkpoint_enabled = true),
        ("checkpoint_enabled", |stub| {
            stub.checkpoint_trigger = Some(CheckpointTrigger::default());
        }),
        ("serving", |stub| {
            stub.serving = Some(ServingConfig::default());
        }),
        ("serving", |stub| stub.is_service = true),
        ("hostname", |stub| stub.hostname = "x".to_owned()),
        ("persistent_root", |stub| {
            stub.persistent_root = Some(PersistentRoot::default());
        }),
        ("managed_endpoint", |stub| {
            stub.managed_endpoint = "{}".to_owned();
        }),
        ("extra", |stub| stub.extra = "{\"a\": 1}".to_owned()),
        ("gpu, volumes", |stub| {
            stub.gpu = "T4".to_owned();
            stub.volumes = vec![Volume::default()];
        }),
    ];
    for (names, change) in table {
        let text = beta9.define_refused(&plain, change).await;
        assert!(
            text.starts_with(&format!("not supported: {names}\n")),
            "{names}: {text}"
        );
    }
    assert_eq!(caller.get("/v1/stubs").await, json!({"stubs": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_cannot_be_is_refused_in_words() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let plain = beta9.plain(&caller, &sim).await;
    let table: [(&str, Change); 15] = [
        ("deployments are not supported\n", |stub| {
            stub.force_create = true;
        }),
        ("\"endpoint\" is not supported", |stub| {
            stub.stub_type = "endpoint".to_owned();
        }),
        ("image_id: ", |stub| stub.image_id = "abc".to_owned()),
        ("no image sha256:00", |stub| {
            stub.image_id = format!("sha256:{}", "0".repeat(64));
        }),
        ("the files of the program are no longer here\n", |stub| {
            stub.object_id = "x".to_owned();
        }),
        ("the files of the program are no longer here\n", |stub| {
            stub.object_id = ObjectId::new().uuid().to_string();
        }),
        ("timeout=-1 is not supported", |stub| {
            stub.task_policy.as_mut().unwrap().timeout = -1;
        }),
        ("timeout_ms is 86401000", |stub| {
            stub.task_policy.as_mut().unwrap().timeout = 86_401;
        }),
        ("timeout_ms is 0", |stub| stub.task_policy = None),
        ("cpu is -1", |stub| stub.cpu = -1),
        ("memory is -1", |stub| stub.memory = -1),
        ("memory_bytes is", |stub| stub.memory = i64::MAX),
        ("handler is written as", |stub| {
            stub.handler = "..app:f".to_owned();
        }),
        ("environment: \"A\" is a reference", |stub| {
            stub.env = vec!["A=${{secret.B}}".to_owned()];
        }),
        ("no secret \"ABSENT\"", |stub| {
            stub.secrets = vec![SecretVar {
                name: "ABSENT".to_owned(),
            }];
        }),
    ];
    for (starts, change) in table {
        let text = beta9.define_refused(&plain, change).await;
        assert!(text.starts_with(starts), "{starts}: {text}");
    }
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let text = Beta9::of(&stage, &theirs)
        .define_refused(&plain, |_| ())
        .await;
    assert!(
        text.starts_with("the files of the program"),
        "they are another's: {text}"
    );
    let reader = stage.caller("team", &[TokenScope::Read]).await;
    let text = Beta9::of(&stage, &reader)
        .define_refused(&plain, |_| ())
        .await;
    assert!(text.starts_with("token has no scope \"call\"\n"), "{text}");
}

impl Beta9 {
    async fn define_refused(&self, plain: &GetOrCreateStubRequest, change: Change) -> String {
        let mut request = plain.clone();
        change(&mut request);
        let reply = self.gateway().get_or_create_stub(self.ask(request)).await;
        refusal(reply)
    }
}
