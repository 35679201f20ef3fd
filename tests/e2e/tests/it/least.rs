//! A worker that has less than an auth: where a registry sends readers to its storage, and where it
//! takes nothing less than a password.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::home::finish;
use e2e::{Finished, Home, memory};
use registry_sim::Moto;
use registry_sim::debian::DebianRegistry;
use rustix::process::Pid;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::functions::{Stage, assert_nothing_is_left};
use crate::machines::{CONTROL, Machines};
use crate::serving::Serving;
use crate::support::{PASSWORD, USER, until};
use crate::workers::join;

/// What stands in each URL that the storage's owner signed.
const SIGNATURE: &str = "X-Amz-Signature=";

/// The registry is on the gateway's loopback; the storage alone is where the worker reaches it.
#[test]
fn a_worker_that_reaches_the_storage_alone_runs_a_private_image_and_holds_no_auth() {
    let machines = Machines::enter();
    let runtime = Runtime::new().expect("a runtime");
    let moto = Moto::start(CONTROL.into());
    let bucket = moto.bucket("images");
    let registry = DebianRegistry::token_in_bucket(USER, PASSWORD, &bucket);
    let registry = runtime.block_on(registry);
    let stage = Stage::of(registry, |home| {
        Serving::start_with_workers_at(home, "10.77.0.1:0")
    });
    let scope = stage.registry.host();
    let flags = ["--username", USER, "--password-stdin", "--plain-http"];
    let login = [&["login", scope], &flags[..]].concat();
    stage.home.run_with_input(&login, PASSWORD).ok();
    let node = Home::new().with_own_program();
    let made = stage.home.run(&["worker", "token", "--json"]).ok().json();
    let token = made["token"].as_str().expect("a token");
    let mut worker = machines.on_node(|| join(&node, stage.serving().workers(), token));
    let said = stage.python(&["greet", "world"]).ok();
    assert_eq!(said.stdout, "greeting world\nHello, world!\n");
    let read = stage.python(&["reads_later", "0"]).ok();
    assert!(read.stdout.starts_with("waiting\n"), "{}", read.stdout);

    let issuer = stage.registry.issuer().expect("it takes tokens");
    let mut auths = issuer.secrets();
    assert!(auths.len() > 1, "tokens were issued");
    auths.push(BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let gateway = stage.serving().process();
    assert!(holds(gateway, &auths), "the gateway needs them");
    stage.python(&["submit", "600"]).ok();
    let mut searched = Vec::new();
    until("a mount has read", || {
        let processes = node.processes();
        let mut mounts = processes.iter().filter(|(_, role)| role == "mount-server");
        mounts.any(|(process, _)| holds(*process, &[SIGNATURE.to_owned()]))
    });
    for (process, role) in node.processes() {
        assert!(!holds(process, &auths), "{role} holds an auth");
        searched.push(role);
    }
    for role in ["worker", "mount-server"] {
        assert!(searched.iter().any(|found| found == role), "{searched:?}");
    }
    stage.home.run(&["worker", "remove", "node-1"]).ok();
    let ended = worker.wait().expect("it ends");
    assert_eq!(ended.code(), Some(4), "it is no worker any more");
    assert_nothing_is_left(&node);
    stage.end();
}

/// The registry is on the gateway's loopback, and wants the password itself.
#[test]
fn a_worker_that_reaches_the_gateway_alone_runs_a_private_image_and_holds_no_password() {
    let machines = Machines::enter();
    let registry = DebianRegistry::htpasswd(USER, PASSWORD);
    let mut stage = Stage::of(registry, |home| {
        Serving::start_with_workers_at(home, "10.77.0.1:0")
    });
    let node = Home::new().with_own_program();
    let made = stage.home.run(&["worker", "token", "--json"]).ok().json();
    let token = made["token"].as_str().expect("a token");
    let mut worker = machines.on_node(|| join(&node, stage.serving().workers(), token));
    let said = stage.python(&["greet", "world"]).ok();
    assert_eq!(said.stdout, "greeting world\nHello, world!\n");

    let password = [
        PASSWORD.to_owned(),
        BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")),
    ];
    let gateway = stage.serving().process();
    assert!(holds(gateway, &password), "the gateway needs it");
    stage.python(&["submit", "600"]).ok();
    // The registry is away while a function reads most of its image.
    let reading = stage.start_python(PASSWORD, &["reads_later", "10"]);
    until("both run", || {
        let is_waiting = |logs: &Finished| logs.stdout == "waiting\n";
        logs(&stage).iter().filter(|logs| is_waiting(logs)).count() == 2
    });
    stage.registry.stop();
    until("a read waits for the registry", || {
        let is_told = |logs: &Finished| logs.stderr.contains("cannot read from");
        logs(&stage).iter().any(is_told)
    });
    stage.registry.start_again();
    let read = finish(reading, "").ok().stdout;
    let bytes = read.strip_prefix("waiting\n").expect("it waited").trim();
    assert!(bytes.parse::<u64>().expect("a number") > 1 << 20, "{bytes}");
    let mut searched = Vec::new();
    for (process, role) in node.processes() {
        assert!(!holds(process, &password), "{role} holds the password");
        searched.push(role);
    }
    for role in ["worker", "mount-server"] {
        assert!(searched.iter().any(|found| found == role), "{searched:?}");
    }
    let given = given_to_the_worker(&stage);
    assert_eq!(given["rotate"], json!([]), "{given}");
    let rows = given["exposed"].as_array().expect("rows");
    assert!(!rows.is_empty(), "that it read is on record: {given}");
    for row in rows {
        assert_eq!(row["rung"], "read through the broker", "{given}");
    }
    stage.home.run(&["worker", "remove", "node-1"]).ok();
    let ended = worker.wait().expect("it ends");
    assert_eq!(ended.code(), Some(4), "it is no worker any more");
    assert_nothing_is_left(&node);
    stage.end();
}

#[test]
fn a_worker_is_given_the_password_where_the_workspace_says_so() {
    let stage = Stage::with(Serving::start_without_worker);
    let flags = [
        "--username",
        USER,
        "--password-stdin",
        "--workers-may-hold-password",
    ];
    let login = [&["login", stage.registry.host()], &flags[..]].concat();
    let said = stage.home.run_with_input(&login, PASSWORD).ok();
    assert!(
        said.stdout.contains("workers are given it"),
        "{}",
        said.stdout
    );
    let listed = stage
        .home
        .run(&["credentials", "list", "--json"])
        .ok()
        .json();
    assert_eq!(listed[0]["workers_may_hold_password"], true, "{listed}");
    let node = Home::new().with_own_program();
    let made = stage.home.run(&["worker", "token", "--json"]).ok().json();
    let token = made["token"].as_str().expect("a token");
    let mut worker = join(&node, stage.serving().workers(), token);
    stage.python(&["greet", "world"]).ok();
    stage.python(&["submit", "600"]).ok();
    let password = [PASSWORD.to_owned()];
    until("a mount has read", || {
        let processes = node.processes();
        let mut mounts = processes.iter().filter(|(_, role)| role == "mount-server");
        mounts.any(|(process, _)| holds(*process, &password))
    });
    let given = given_to_the_worker(&stage);
    let rows = given["exposed"].as_array().expect("rows");
    let has_it = |row: &Value| row["rung"] == "basic (whole identity)" && row["alive"] == true;
    assert!(rows.iter().any(has_it), "{given}");
    assert_ne!(given["rotate"], json!([]), "{given}");
    stage.home.run(&["worker", "remove", "node-1"]).ok();
    worker.wait().expect("it ends");
    assert_nothing_is_left(&node);
    stage.end();
}

/// What running calls have written.
fn logs(stage: &Stage) -> Vec<Finished> {
    let listed = ["tasks", "list", "--state", "running", "--json"];
    let listed = stage.home.run(&listed).ok().json();
    let tasks = listed.as_array().expect("a list").iter();
    let logs = tasks.map(|task| {
        let id = task["id"].as_str().expect("an id");
        stage.home.run(&["logs", id]).ok()
    });
    logs.collect()
}

fn given_to_the_worker(stage: &Stage) -> Value {
    let asked = ["audit", "blast", "--worker", "node-1", "--json"];
    stage.home.run(&asked).ok().json()
}

fn holds(process: Pid, wanted: &[String]) -> bool {
    memory::holds(process.as_raw_nonzero().get().unsigned_abs(), wanted)
}
