//! An image that a worker of another machine is told to have in its cache. The machine is another
//! data directory here.

use std::process::Child;

use e2e::Home;
use e2e::home::finish;
use e2e::image::busybox_with;
use registry_sim::{Entry, Login, RegistrySim};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::functions::files_of;
use crate::serving::Serving;
use crate::support::{has_ended, noise, signal, until};
use crate::workers::join;

const USER: &str = "puller";
const PASSWORD: &str = "correct-horse-battery";
/// Of the file that makes the image large.
const FILE_BYTES: usize = 6 << 20;

/// A registry that demands a login, a gateway that has one, and a machine that is its worker.
struct Stage {
    runtime: Runtime,
    registry: RegistrySim,
    image: String,
    home: Home,
    serving: Serving,
    node: Home,
    worker: Child,
}

impl Stage {
    fn new() -> Self {
        Self::with_node(|_| {})
    }

    fn with_node(prepare: impl FnOnce(&Home)) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let registry = runtime.block_on(RegistrySim::with_login(Login::Basic));
        let model = Entry::file("model", noise(1, FILE_BYTES));
        registry.push("acme/fn", "v1", &busybox_with(&[model]).build());
        let image = format!("{}/acme/fn:v1", registry.host());
        let home = Home::new();
        home.login(&format!("{}/acme", registry.host()), USER, PASSWORD)
            .ok();
        let serving = Serving::start_without_worker(&home);
        let node = Home::new().with_own_program();
        prepare(&node);
        let made = home.run(&["worker", "token", "--json"]).ok().json();
        let token = made["token"].as_str().expect("a token").to_owned();
        let worker = join(&node, serving.workers(), &token);
        let stage = Self {
            runtime,
            registry,
            image,
            home,
            serving,
            node,
            worker,
        };
        // An image that is nowhere is looked for only where there is a worker.
        let missing = stage.image.replace("v1", "missing");
        until("it is attached", || {
            let words = ["image", "warm", &missing, "--worker", "node-1"];
            let said = stage.home.run(&words).stderr;
            !said.contains("has joined") && !said.contains("is not attached")
        });
        stage
    }

    fn words(&self) -> [&str; 5] {
        ["image", "warm", &self.image, "--worker", "node-1"]
    }

    /// How many bytes the node's cache holds.
    fn cached(&self) -> u64 {
        let du = self.node.run(&["cache", "du", "--json"]).ok().json();
        du["bytes"].as_u64().expect("a number")
    }

    /// One that does not come to its end: its registry gives it a layer of megabytes in hours.
    fn hanging(&self) -> Child {
        self.home.run(&["image", "index", &self.image]).ok();
        self.registry
            .faults(|faults| faults.bytes_per_second = Some(1000));
        let child = self.home.spawn(&self.words());
        until("the worker works on it", || self.fillers() == 1);
        child
    }

    /// Processes of the node that bring an image.
    fn fillers(&self) -> usize {
        let processes = self.node.processes().into_iter();
        processes.filter(|(_, role)| role == "mount-server").count()
    }

    fn end(self) {
        let Self {
            runtime,
            registry,
            serving,
            worker,
            node,
            ..
        } = self;
        signal(&worker, Signal::TERM);
        let ended = worker.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(node.processes(), [], "a process is left");
        serving.end();
        drop(registry);
        drop(runtime);
    }
}

#[test]
fn an_image_is_brought_into_the_cache_of_a_worker() {
    let stage = Stage::new();
    let warmed = stage.home.run(&stage.words()).ok();
    assert!(
        warmed.stdout.starts_with("node-1 has all of "),
        "{}",
        warmed.stdout
    );
    assert!(
        warmed.stderr.contains("100 % of it is there"),
        "{}",
        warmed.stderr
    );
    assert!(stage.cached() > FILE_BYTES as u64);
    let again = [&stage.words()[..], &["--json"]].concat();
    let again = stage.home.run(&again).ok().json();
    assert_eq!(again["bytes_fetched"], 0, "{again}");
    assert_eq!(again["worker"], "node-1");
    // It was given no more than a start is.
    for path in files_of(&stage.node) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let mut places = bytes.windows(PASSWORD.len());
        let is_there = places.any(|at| at == PASSWORD.as_bytes());
        assert!(!is_there, "the password is in {}", path.display());
    }
    let words = ["audit", "blast", "--worker", "node-1", "--json"];
    let blast = stage.home.run(&words).ok().json();
    let exposed = blast["exposed"].as_array().expect("rows");
    assert!(!exposed.is_empty(), "{blast}");
    stage.end();
}

#[test]
fn a_warming_that_cannot_be_is_refused_by_its_reason() {
    let stage = Stage::with_node(|node| node.configure("cache_limit = \"1m\"\n"));
    let warm = |image: &str, more: &[&str]| {
        let words = [&["image", "warm", image], more].concat();
        stage.home.run(&words)
    };
    let (image, node) = (stage.image.as_str(), ["--worker", "node-1"]);
    warm(image, &["--worker", "node-9"]).fails(5, "no worker \"node-9\" has joined");
    warm(image, &["--worker", "../v1"]).fails(5, "has joined");
    warm(image, &[&node[..], &["--credential", "none"]].concat()).fails(4, "holdfast login");
    warm(&image.replace("v1", "v9"), &node).fails(5, "v9");
    warm(image, &node).fails(10, "no room for all of the image");
    // Who holds a token, and be it for everything, has no say about a machine's disk.
    let token = stage.serving.first_token();
    let (status, refused) = stage.serving.post("/v1/workers/node-1/warm", &token, image);
    assert_eq!(status, 403, "{refused}");
    stage.end();
}

#[test]
fn a_warming_ends_with_who_asked_for_it() {
    let stage = Stage::new();
    let asker = stage.hanging();
    signal(&asker, Signal::INT);
    let mut asker = asker;
    asker.wait().expect("it ends");
    until("the worker is done with it", || stage.fillers() == 0);
    // Nothing of it holds the next one up.
    stage
        .registry
        .faults(|faults| faults.bytes_per_second = None);
    stage.home.run(&stage.words()).ok();
    stage.end();
}

#[test]
fn a_warming_whose_worker_goes_away_says_so() {
    let mut stage = Stage::new();
    let asker = stage.hanging();
    signal(&stage.worker, Signal::KILL);
    stage.worker.wait().expect("it ends");
    finish(asker, "").fails(10, "the worker went away meanwhile");
    until("what it had begun ends", || stage.fillers() == 0);
    stage
        .home
        .run(&stage.words())
        .fails(10, "worker node-1 is not attached now");
    assert!(has_ended(&stage.worker));
    stage.serving.end();
}
