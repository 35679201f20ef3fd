//! What a start on one worker has read is foretold to the next on another, and to no other
//! workspace's.

use std::path::Path;
use std::time::Duration;

use control_store::TokenScope;
use image_store::{Touch, pack_touches, unpack_touches};
use tokio::time::sleep;
use worker_protocol::{Touched, Trace};

use super::*;
use crate::beta9::Beta9;

/// A file for each of two layers, and one for the command.
const KEPT_FILES: usize = 3;

/// What a worker says of a start: pairs of layer and span.
fn touched(start: &Start, spans: &[(u32, u32)]) -> from_worker::Message {
    let touch = |(at_ms, (layer, span)): (u32, &(u32, u32))| Touch {
        layer: *layer,
        span: *span,
        at_ms,
    };
    let touches: Vec<_> = (0..).zip(spans).map(touch).collect();
    from_worker::Message::Touched(Touched {
        delivery: start.delivery.clone(),
        interpreter: start.interpreters[0].clone(),
        trace: Some(Trace {
            touches: pack_touches(&touches).into(),
        }),
    })
}

fn foretold(start: &Start) -> Vec<(u32, u32)> {
    let trace = start.foretold.as_ref();
    let touches = trace.map(|trace| unpack_touches(&trace.touches).unwrap());
    let touches = touches.unwrap_or_default().into_iter();
    touches.map(|touch| (touch.layer, touch.span)).collect()
}

fn files_in(path: &Path) -> usize {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| if path.is_dir() { files_in(&path) } else { 1 })
        .sum()
}

/// Waits until the gateway has written what it was told.
async fn kept(stage: &Stage) {
    let traces = stage.directory.path().join("data/traces");
    let waiting = async {
        while files_in(&traces) < KEPT_FILES {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within(waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_touched_is_foretold_to_another() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let first = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let mut scene = Scene::on(stage, first).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    let start = scene.worker.started().await;
    assert_eq!(start.foretold, None, "nothing is known yet");
    let made_up = [(0, u32::MAX), (7, 0), (u32::MAX, 0)];
    let said = [&[(1, 0)], &made_up[..], &[(0, 0)]].concat();
    scene.worker.say(touched(&start, &said)).await;
    kept(&scene.stage).await;
    // It is said once; what comes after that counts for nothing.
    scene.worker.say(touched(&start, &[(0, 0)])).await;
    assert_eq!(last_reply(&scene, "return 2").await, "2");

    let id = scene.stage.broker.store().workers().await.unwrap()[0].id;
    let removing = scene.stage.gateway.remove_worker(id, "a test");
    removing.await.unwrap();
    within(scene.worker.cut_off()).await;
    let second = port.worker(&scene.stage, "node-2").await;
    scene.worker = second.attach().await.unwrap();
    assert_eq!(last_reply(&scene, "return 3").await, "3");
    assert_eq!(foretold(&scene.worker.started().await), [(1, 0), (0, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspaces_starts_are_not_foretold_by_it() {
    let stage = Stage::new().await;
    let worker = FakeWorker::attach(&stage).await;
    let scene = Scene::on(stage, worker).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    let start = scene.worker.started().await;
    scene.worker.say(touched(&start, &[(1, 0), (0, 0)])).await;
    kept(&scene.stage).await;

    let caller = scene.stage.caller("others", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&scene.stage, &caller);
    let plain = beta9.plain_with(&caller, &scene.sim, &[]).await;
    let stub_id = beta9.define(plain).await;
    let request = beta9_protocol::function::FunctionInvokeRequest {
        stub_id,
        args: "return 1".into(),
        headless: false,
    };
    let mut replies = beta9.invoke(request, Returning::Never).await.unwrap();
    while within(replies.message()).await.unwrap().is_some() {}
    let starts = scene.worker.all_starts();
    let image = |start: &Start| start.image.clone().unwrap();
    assert_eq!(image(&starts[1]).layers, image(&starts[0]).layers);
    assert_eq!(image(&starts[1]).origin, image(&starts[0]).origin);
    assert_eq!(starts[1].foretold, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_worker_says_of_a_start_is_refused() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let first = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let scene = Scene::on(stage, first).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    let start = scene.worker.started().await;
    let second = port.worker(&scene.stage, "node-2").await;
    let second = second.attach().await.unwrap();
    let before = audit(&scene.stage, "deny").await.len();
    second.say(touched(&start, &[(1, 0)])).await;
    let waiting = async {
        while audit(&scene.stage, "deny").await.len() == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within(Box::pin(waiting)).await;
    // The container's own worker has still its one word.
    scene.worker.say(touched(&start, &[(1, 0), (0, 0)])).await;
    kept(&scene.stage).await;
}
