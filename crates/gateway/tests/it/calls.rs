//! Calls over the HTTP face, and those that are sent again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_store::{ContainerState, TokenScope};
use futures::future::join_all;
use registry_sim::{Login, RegistrySim};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::builds::{registry, request};
use crate::support::{Caller, Stage};
use crate::worker::FakeWorker;

const LONGEST_WAIT_MS: u32 = 20_000;
/// Far more than a commit takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A call of what the worker does with these words.
fn call(words: &str, key: Option<&str>) -> Value {
    json!({
        "format": "json", "payload": STANDARD.encode(words), "headless": true,
        "idempotency_key": key,
    })
}

/// A function that has one container, which takes one call at a time.
struct Function<'s> {
    caller: Caller<'s>,
    path: String,
    /// Asked whenever a container is started.
    registry: RegistrySim,
}

impl<'s> Function<'s> {
    async fn new(stage: &'s Stage, max_pending: u32) -> Self {
        let caller = stage.caller("team", &TokenScope::ALL).await;
        let sim = registry(Login::Nobody).await;
        let image = caller.build(request(&sim, Value::Null)).await;
        let function = json!({
            "name": "app:f", "image": image["id"], "handler": "app:f", "concurrency": 1,
            "max_containers": 1, "max_pending": max_pending,
        });
        let made = caller.define(function).await;
        let path = format!("/v1/stubs/{}/tasks", made["id"].as_str().unwrap());
        Self {
            caller,
            path,
            registry: sim,
        }
    }

    async fn ask(&self, call: Value) -> (StatusCode, Value) {
        self.caller.ask(Method::POST, &self.path, Some(call)).await
    }

    async fn start(&self, call: Value) -> String {
        let (status, task) = self.ask(call).await;
        assert!(status.is_success(), "{status} {task}");
        task["id"].as_str().unwrap().to_owned()
    }

    async fn end_of(&self, task: &str) -> Value {
        let path = format!("/v1/tasks/{task}?wait_ms={LONGEST_WAIT_MS}");
        let task = self.caller.get(&path).await;
        assert_eq!(task["state"], "ended", "{task}");
        task["end"].clone()
    }
}

/// What is told of a task once it says this, which nothing but time brings about.
async fn told(caller: &Caller<'_>, task: &str, words: &str) -> String {
    let path = format!("/v1/tasks/{task}/events?follow=false");
    let asking = async {
        loop {
            let (_, events) = caller.ask(Method::GET, &path, None).await;
            let events = events.as_str().unwrap_or_default().to_owned();
            if events.contains(words) {
                return events;
            }
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_millis(LONGEST_WAIT_MS.into());
    tokio::time::timeout(patience, asking).await.expect(words)
}

fn key(number: u8) -> String {
    format!("{number:032x}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_sent_again_runs_once() {
    let stage = Stage::new().await;
    let worker = FakeWorker::attach(&stage).await;
    let function = Function::new(&stage, 100).await;
    let again = || function.start(call("return x", Some(&key(1))));
    let ids = join_all((0..8).map(|_| again())).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let end = function.end_of(&ids[0]).await;
    assert_eq!(end["outcome"], "returned");
    assert_eq!(again().await, ids[0], "also when it has ended");
    assert_eq!(worker.calls(), 1);

    let other = function.start(call("return x", Some(&key(2)))).await;
    assert_ne!(other, ids[0]);
    function.end_of(&other).await;
    let unkeyed = function.start(call("return x", None)).await;
    function.end_of(&unkeyed).await;
    assert_eq!(worker.calls(), 3);
    let listed = function.caller.get("/v1/tasks").await;
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 3, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_made_needs_no_room_in_the_line() {
    let stage = Stage::new().await;
    let worker = FakeWorker::attach(&stage).await;
    let function = Function::new(&stage, 1).await;
    let ended = function.start(call("return x", Some(&key(1)))).await;
    function.end_of(&ended).await;
    let running = function.start(call("wait", Some(&key(2)))).await;
    let waiting = function.start(call("return x", Some(&key(3)))).await;

    let (status, refused) = function.ask(call("return x", Some(&key(4)))).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{refused}");
    let (status, _) = function.ask(call("return x", None)).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    for (number, task) in [(1, &ended), (2, &running), (3, &waiting)] {
        let again = function.start(call("whatever", Some(&key(number)))).await;
        assert_eq!(again, *task, "{number}");
    }
    worker.go_on();
    for task in [&running, &waiting] {
        assert_eq!(function.end_of(task).await["outcome"], "returned");
    }
    assert_eq!(worker.calls(), 3);
    // What was refused for want of room can be made later, with its key.
    let later = function.start(call("return x", Some(&key(4)))).await;
    assert_eq!(function.end_of(&later).await["outcome"], "returned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ended_while_it_was_started_takes_no_calls() {
    let stage = Stage::new().await;
    let worker = FakeWorker::attach(&stage).await;
    worker.hold_starts();
    let function = Function::new(&stage, 1).await;
    let task = function.start(call("return x", None)).await;
    let container = worker.started().await.delivery.unwrap().container;
    let store = stage.broker.store();
    let taken = async {
        loop {
            let open = store.open_containers().await.unwrap();
            if open[0].state == ContainerState::Starting {
                break open[0].id;
            }
            tokio::task::yield_now().await;
        }
    };
    let taken = tokio::time::timeout(PATIENCE, taken).await.unwrap();
    assert_eq!(taken.to_string(), container);
    let ended = store.end_container(taken, None, "somebody took it away");
    assert!(ended.await.unwrap());
    worker.go_on();
    assert_eq!(function.end_of(&task).await["outcome"], "returned");
    assert_eq!(worker.starts(), 2, "the call is made in another one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_told_why_in_one_line() {
    let stage = Stage::new().await;
    let function = Function::new(&stage, 100).await;
    let task = function.start(call("return x", None)).await;
    let events = told(&function.caller, &task, "no worker has room for it yet").await;
    assert!(events.contains("stderr"), "{events}");
    let _worker = FakeWorker::attach(&stage).await;
    assert_eq!(function.end_of(&task).await["outcome"], "returned");
    let events = told(&function.caller, &task, "event: end").await;
    assert_eq!(events.matches("the call waits").count(), 1, "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_registry_is_away_is_told_so() {
    let stage = Stage::new().await;
    let _worker = FakeWorker::attach(&stage).await;
    let function = Function::new(&stage, 100).await;
    let host = function.registry.host().to_owned();
    drop(function.registry);
    let body = Some(call("return x", None));
    let (_, task) = function
        .caller
        .ask(Method::POST, &function.path, body)
        .await;
    let task = task["id"].as_str().unwrap();
    let waits = "the call waits: no container could be started: ";
    let events = told(&function.caller, task, waits).await;
    assert!(events.contains(&host), "{events}");
}
