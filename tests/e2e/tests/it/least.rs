//! A worker that has less than an auth: where a registry sends readers to its storage.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::{Home, memory};
use registry_sim::Moto;
use registry_sim::debian::DebianRegistry;
use rustix::process::Pid;
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

fn holds(process: Pid, wanted: &[String]) -> bool {
    memory::holds(process.as_raw_nonzero().get().unsigned_abs(), wanted)
}
