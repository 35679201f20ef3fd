//! A worker that is told to warm an image is answered about that, until it has ended, and what it
//! says of it counts for nothing else.

use registry_sim::{ImageBuilder, Layer, RegistrySim};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use worker_protocol::ended::Cause;
use worker_protocol::{Ended, Warm, Warming};

use super::*;

/// Asks over the operators' socket for the image to be warmed.
fn warm(stage: &Stage, worker: &str, image: &str) -> JoinHandle<(u16, Value)> {
    let client = reqwest::Client::builder().unix_socket(stage.operators_socket());
    let request = client
        .build()
        .unwrap()
        .post(format!("http://operator/v1/workers/{worker}/warm"))
        .header("holdfast-workspace", "team")
        .json(&json!({ "image": image }));
    tokio::spawn(async move {
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    })
}

/// What a container that started with the image would be.
fn as_start(warm: &Warm) -> Start {
    Start {
        delivery: warm.delivery.clone(),
        image: warm.image.clone(),
        ..Start::default()
    }
}

fn ended(warm: &Warm, cause: Cause) -> from_worker::Message {
    from_worker::Message::Ended(Ended {
        delivery: warm.delivery.clone(),
        cause: cause.into(),
        reason: "so it says".to_owned(),
        ..Ended::default()
    })
}

async fn registry() -> (RegistrySim, String) {
    let registry = RegistrySim::anonymous().await;
    let image = ImageBuilder::new().layer(Layer::gzip(&[])).build();
    registry.push("team/app", "v1", &image);
    let name = format!("{}/team/app:v1", registry.host());
    (registry, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_warms_is_answered_about_that_image_alone() {
    let stage = Stage::new().await;
    stage.workspace("team").await;
    let (_registry, image) = registry().await;
    let port = Port::open(&stage).await;
    let first = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let second = port.worker(&stage, "node-2").await.attach().await.unwrap();
    let asked = warm(&stage, "node-1", &image);
    let told = within(first.told_to_warm()).await;
    let start = as_start(&told);
    assert_eq!(ask_all(&second, &start).await, [Code::NotFound; 5]);
    // It has no code, and no secret.
    let expected = [Code::Ok, Code::Ok, Code::Ok, Code::NotFound, Code::Ok];
    assert_eq!(ask_all(&first, &start).await, expected);
    check_forbidden(&first, &start).await;
    // Another worker ends it for nobody.
    second.say(ended(&told, Cause::Warmed)).await;
    for spans_present in [1, u64::MAX] {
        let warming = Warming {
            delivery: told.delivery.clone(),
            spans: 3,
            spans_present,
            bytes_fetched: 7,
        };
        first.say(from_worker::Message::Warming(warming)).await;
    }
    first.say(ended(&told, Cause::Warmed)).await;
    let (status, warmed) = within(asked).await.unwrap();
    assert_eq!(status, 200, "{warmed}");
    assert_eq!(
        (&warmed["spans"], &warmed["bytes_fetched"]),
        (&3.into(), &7.into())
    );
    assert_eq!(warmed["worker"], "node-1");
    assert_eq!(ask_all(&first, &start).await, [Code::NotFound; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_worker_has_not_warmed_is_told() {
    let stage = Stage::new().await;
    stage.workspace("team").await;
    let (_registry, image) = registry().await;
    let port = Port::open(&stage).await;
    let (status, unknown) = warm(&stage, "node-1", &image).await.unwrap();
    assert_eq!(status, 404, "{unknown}");
    for (cause, expected) in [
        (Cause::NoRoom, 503),
        (Cause::Denied, 403),
        (Cause::Mount, 503),
        (Cause::Stopped, 503),
    ] {
        let name = format!("node-{}", cause as i32);
        let worker = port.worker(&stage, &name).await.attach().await.unwrap();
        let asked = warm(&stage, &name, &image);
        let told = within(worker.told_to_warm()).await;
        worker.say(ended(&told, cause)).await;
        let (status, refused) = within(asked).await.unwrap();
        assert_eq!(status, expected, "{cause:?}: {refused}");
    }
    let machine = port.worker(&stage, "leaving").await;
    let worker = machine.attach().await.unwrap();
    let asked = warm(&stage, "leaving", &image);
    within(worker.told_to_warm()).await;
    let workers = stage.broker.store().workers().await.unwrap();
    let own = workers.iter().find(|worker| worker.name == "leaving");
    let removing = stage.gateway.remove_worker(own.unwrap().id, "a test");
    removing.await.unwrap();
    let (status, lost) = within(asked).await.unwrap();
    assert_eq!(status, 503, "{lost}");
    assert!(lost.to_string().contains("went away"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_no_say_about_a_workers_disk() {
    use control_store::TokenScope::{Call, Metrics, Read, Secrets, Tokens};
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let _worker = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let scopes = [Read, Call, Secrets, Tokens, Metrics];
    let caller = stage.caller("team", &scopes).await;
    let denied_so_far = audit(&stage, "deny").await.len();
    let body = json!({ "image": "registry.test/team/app" });
    let path = "/v1/workers/node-1/warm";
    let asked = caller.refused(reqwest::Method::POST, path, Some(body));
    let (status, kind, _) = asked.await;
    assert_eq!((status, &*kind), (403, "denied"));
    assert_eq!(audit(&stage, "deny").await.len(), denied_so_far + 1);
}
