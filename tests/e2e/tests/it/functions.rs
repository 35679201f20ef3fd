//! Functions, called from Python through a gateway, in a private image.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::Home;
use e2e::home::finish;
use e2e::{Finished, home};
use registry_sim::debian::DebianRegistry;
use serde_json::Value;

use crate::serving::Serving;
use crate::support::{PASSWORD, SmallDisk, USER, files_below, until};

const SECRET: &str = "canary-1d9f3c0a7be24b6f";

/// A registry that demands a login, with an image that has a Python, and a gateway.
pub(crate) struct Stage {
    pub(crate) home: Home,
    pub(crate) registry: DebianRegistry,
    pub(crate) image: String,
    serving: Option<Serving>,
    pub(crate) token: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(Serving::start)
    }

    pub(crate) fn with(serve: impl FnOnce(&Home) -> Serving) -> Self {
        Self::of(DebianRegistry::htpasswd(USER, PASSWORD), serve)
    }

    pub(crate) fn of(registry: DebianRegistry, serve: impl FnOnce(&Home) -> Serving) -> Self {
        let image = format!("{}/acme/python:v1", registry.host());
        push(&image, &registry.skopeo_login("acme/python"));
        let home = Home::new().with_own_program();
        let serving = serve(&home);
        let token = serving.first_token();
        Self {
            home,
            registry,
            image,
            serving: Some(serving),
            token,
        }
    }

    /// Host and port of the gateway.
    pub(crate) fn address(&self) -> (&str, &str) {
        self.serving().address().rsplit_once(':').expect("a port")
    }

    pub(crate) fn serving(&self) -> &Serving {
        self.serving.as_ref().expect("it serves")
    }

    /// What `app.py` says to these words, with this password for the registry.
    fn python_with(&self, password: &str, words: &[&str]) -> Finished {
        finish(self.start_python(password, words), "")
    }

    pub(crate) fn start_python(&self, password: &str, words: &[&str]) -> Child {
        let mut command = self.program("app.py");
        command
            .args(words)
            .env("PASSWORD", password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("python starts")
    }

    /// One of the test programs, with our package and all that it has to know.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(python("sdk"));
        command
            .arg(programs().join(name))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("PYTHONPATH", repository().join("sdk/python/src"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOLDFAST_GATEWAY", self.serving().gateway())
            .env("HOLDFAST_TOKEN", &self.token)
            .env("IMAGE", &self.image)
            .env("USERNAME", USER)
            .env("PASSWORD", PASSWORD);
        command
    }

    pub(crate) fn python(&self, words: &[&str]) -> Finished {
        self.python_with(PASSWORD, words)
    }

    /// Ends the gateway and starts another one on the same data and port.
    pub(crate) fn serve_again(&mut self, end: impl FnOnce(Serving)) {
        self.serve_after(end, |_| {});
    }

    /// The same, and something between the two.
    pub(crate) fn serve_moved(&mut self, between: impl FnOnce(&Home)) {
        self.serve_after(Serving::end, between);
    }

    fn serve_after(&mut self, end: impl FnOnce(Serving), between: impl FnOnce(&Home)) {
        let serving = self.serving.take().expect("it serves");
        let address = serving.address().to_owned();
        end(serving);
        between(&self.home);
        self.serving = Some(Serving::start_at(&self.home, &address));
    }

    pub(crate) fn end(mut self) {
        self.end_serving();
        assert_nothing_is_left(&self.home);
    }

    pub(crate) fn end_serving(&mut self) {
        self.serving.take().expect("it serves").end();
    }
}

fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.join("../..").canonicalize().expect("a repository")
}

pub(crate) fn programs() -> PathBuf {
    repository().join("tests/e2e/tests/it/programs")
}

fn target() -> PathBuf {
    let debug = home::binary().parent().expect("target/<profile>");
    debug.parent().expect("target").to_owned()
}

pub(crate) fn python(environment: &str) -> PathBuf {
    let python = target().join("python").join(environment).join("bin/python");
    assert!(
        python.exists(),
        "{}: run `cargo xtask setup`",
        python.display()
    );
    python
}

/// The demo's image, which has a Debian and its Python.
fn push(image: &str, login: &str) {
    push_as(image, login, &[]);
}

/// The same, as `skopeo copy` makes it by these options.
pub(crate) fn push_as(image: &str, login: &str, options: &[&str]) {
    let folder = target().join("holdfast-demo");
    let entries = std::fs::read_dir(&folder).expect("run `cargo xtask pack`");
    let layouts = entries.flatten().map(|entry| entry.path());
    let layout = layouts
        .filter(|path| path.join("index.json").exists() && !path.ends_with("with-data"))
        .min()
        .expect("run `cargo xtask pack`");
    let status = Command::new("skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false"])
        .args(options)
        .arg(login)
        .arg(format!("oci:{}:demo", layout.display()))
        .arg(format!("docker://{image}"))
        .status()
        .expect("skopeo starts");
    assert!(status.success(), "the image cannot be pushed");
}

/// No process, no mount and no container's directory.
pub(crate) fn assert_nothing_is_left(home: &Home) {
    until("no process", || home.processes().is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let path = home.path().to_str().expect("UTF-8");
    assert!(!mounts.contains(path), "{mounts}");
    assert_eq!(container_directories(home), Vec::<PathBuf>::new());
}

pub(crate) fn container_directories(home: &Home) -> Vec<PathBuf> {
    let containers = home.run_dir().join("worker/containers");
    let entries = std::fs::read_dir(containers)
        .into_iter()
        .flatten()
        .flatten();
    let directories = entries.map(|entry| entry.path());
    directories.filter(|path| path.is_dir()).collect()
}

/// Those of sandboxes that a container is in; another may be ready for the next one.
pub(crate) fn used_directories(home: &Home) -> Vec<PathBuf> {
    let mut directories = container_directories(home);
    directories.retain(|path| path.join("about.json").exists());
    directories
}

/// What is on the disk beside the container's own tree: databases, caches, and what the runtime is
/// told.
pub(crate) fn files_of(home: &Home) -> Vec<PathBuf> {
    let mut files = files_below(&home.data_dir());
    files.extend(files_below(&home.run_dir().join("worker/files")));
    for directory in container_directories(home) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        files.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_file()),
        );
    }
    files
}

#[test]
fn a_function_is_called_in_a_private_image() {
    let stage = Stage::new();
    let first = stage.python(&["greet", "world"]).ok();
    assert_eq!(first.stdout, "greeting world\nHello, world!\n");
    let second = stage.python(&["greet", "again"]).ok();
    assert_eq!(second.stdout, "greeting again\nHello, again!\n");
    let mapped = stage.python(&["map"]).ok();
    assert_eq!(mapped.stdout, "9900\n");
    stage
        .python_with("wrong", &["greet", "nobody"])
        .fails(1, "refused the credential");
    stage.end();
}

#[test]
fn each_call_ends_in_one_way_that_its_caller_sees() {
    let stage = Stage::new();
    let ended = stage.python(&["ends"]).ok();
    let lines: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.contains(" -> "))
        .collect();
    assert_eq!(
        lines,
        [
            "raise -> KeyError",
            "exit -> ContainerDied",
            "lock -> ResultNotPicklable",
            "flood -> flood",
            "fork -> fork",
            "sleep -> TaskTimedOut",
        ]
    );
    let listed = stage.home.run(&["tasks", "list", "--json"]).ok().json();
    let tasks = listed.as_array().expect("a list").iter();
    let mut logs = tasks.map(|task| {
        let id = task["id"].as_str().expect("an id");
        stage.home.run(&["logs", id]).ok()
    });
    let flood = logs.find(|logs| logs.stdout.len() > 1 << 20);
    let says = flood.expect("most of it is kept").stderr;
    assert!(
        says.contains(" of earlier output are no longer kept"),
        "{says}"
    );
    stage.end();
}

#[test]
fn a_full_disk_is_told_and_over_when_there_is_room_again() {
    let mut disk = None;
    let mut stage = Stage::with(|home| {
        std::fs::create_dir(home.data_dir()).expect("a directory");
        disk = Some(SmallDisk::mount(&home.data_dir(), "1g"));
        Serving::start(home)
    });
    stage.python(&["greet", "world"]).ok();
    let filler = stage.home.data_dir().join("filler");
    fill(&filler);
    for words in [&["greet", "nobody"][..], &["cold"]] {
        stage
            .python(words)
            .fails(1, "the disk of the gateway is full");
    }
    std::fs::remove_file(filler).expect("the filler is there");
    stage.python(&["greet", "again"]).ok();
    stage.python(&["cold"]).ok();
    stage.end_serving();
}

/// Leaves no block of the disk free.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    for piece in [1 << 20, 1 << 12, 1 << 8] {
        while file.write_all(&vec![0; piece]).is_ok() {}
    }
}

#[test]
fn secrets_reach_their_function_and_nothing_else() {
    let stage = Stage::new();
    let words = ["secret", "set", "API_KEY"];
    stage.home.run_with_input(&words, SECRET).ok();
    let shown = stage.python(&["shows_secret"]).ok();
    let reversed: String = SECRET.chars().rev().collect();
    assert_eq!(shown.stdout.trim(), reversed);
    stage.home.run_with_input(&words, "another value").ok();
    let shown = stage.python(&["shows_secret"]).ok();
    assert_eq!(
        shown.stdout.trim(),
        "eulav rehtona",
        "a warm container is not asked"
    );
    let around = stage.python(&["looks_around"]).ok();
    assert_eq!(
        around.stdout.trim(),
        "([], 1)",
        "a token, or another socket"
    );
    let files = files_of(&stage.home);
    let is_bundle = |path: &PathBuf| path.ends_with("config.json");
    assert!(
        files.iter().any(is_bundle),
        "a container is warm: {files:?}"
    );
    for path in files {
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in [SECRET, PASSWORD] {
            let found = bytes
                .windows(secret.len())
                .any(|at| at == secret.as_bytes());
            assert!(!found, "a secret is in {}", path.display());
        }
    }
    stage.end();
}

#[test]
fn a_new_password_needs_no_rebuild() {
    let mut stage = Stage::new();
    stage.python(&["cold"]).ok();
    stage.registry.set_password("a new password");
    stage.python(&["cold"]).fails(1, "refused the credential");
    let built = stage.python_with("a new password", &["cold"]).ok();
    assert!(!built.stderr.contains("layer"), "{}", built.stderr);
    let listed = stage
        .home
        .run(&["credentials", "list", "--json"])
        .ok()
        .json();
    assert_eq!(listed[0]["version"], 2, "{listed}");
    stage.end();
}

/// A call that runs when the password changes reads what it has not read before, once there is a
/// credential that the registry takes.
#[test]
fn a_running_call_reads_on_with_a_new_password() {
    let mut stage = Stage::new();
    let holdfast = |words: &[&str]| stage.home.run(words).ok();
    stage.python(&["cold"]).ok();
    until("no container", || {
        holdfast(&["containers", "list", "--json"]).json() == Value::Array(Vec::new())
    });
    holdfast(&["cache", "prune", "--all"]);
    let reading = stage.start_python(PASSWORD, &["reads_later", "10"]);
    until("it runs", || {
        let listed = holdfast(&["tasks", "list", "--state", "running", "--json"]).json();
        listed[0].is_object()
    });
    stage.registry.set_password("a new password");
    let cached = || holdfast(&["cache", "du", "--json"]).json()["bytes"].as_u64();
    let before = cached().expect("a number");
    let listed = holdfast(&["credentials", "list", "--json"]).json();
    let scope = listed[0]["scope"].as_str().expect("a scope");
    let words = ["credentials", "rotate", scope, "--password-stdin"];
    stage.home.run_with_input(&words, "a new password").ok();
    let read = finish(reading, "").ok().stdout;
    let bytes = read.strip_prefix("waiting\n").expect("it waited").trim();
    assert!(bytes.parse::<u64>().expect("a number") > 1 << 20, "{bytes}");
    assert!(
        cached() > Some(before + (1 << 20)),
        "it read from the registry"
    );
    stage.end();
}

#[test]
fn a_python_that_is_not_in_the_image_is_named() {
    let stage = Stage::new();
    for python in ["/no/such/python9", "python3.99"] {
        let mut program = stage.program("app.py");
        let program = program.args(["greet", "world"]).env("IMAGE_PYTHON", python);
        let output = program.output().expect("python starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let says = format!("no Python that can be used; looked for {python}: ");
        assert!(
            !output.status.success() && stderr.contains(&says),
            "{stderr}"
        );
    }
    stage.end();
}

#[test]
fn a_gateway_that_is_killed_loses_nothing_that_it_accepted() {
    let mut stage = Stage::new();
    stage.python(&["greet", "world"]).ok();
    let id = stage.python(&["submit", "600"]).ok().stdout;
    let path = format!("/v1/tasks/{}", id.trim());
    while stage.serving().get(&path, &stage.token).1["state"] != "running" {
        std::thread::yield_now();
    }
    stage.serve_again(Serving::kill);
    let (status, task) = stage
        .serving()
        .get(&format!("{path}?wait_ms=30000"), &stage.token);
    assert_eq!((status, &task["state"]), (200, &"ended".into()), "{task}");
    assert_eq!(task["end"]["outcome"], "lost");
    let gone = stage.home.run(&["logs", id.trim()]).ok();
    assert!(gone.stderr.contains("is no longer kept"), "{}", gone.stderr);
    let after = stage.python(&["greet", "again"]).ok();
    assert!(
        after.stdout.ends_with("Hello, again!\n"),
        "{}",
        after.stdout
    );
    stage.end();
}

#[test]
fn whoever_runs_the_gateway_sees_and_ends_calls() {
    let stage = Stage::new();
    stage.python(&["greet", "world"]).ok();
    let holdfast = |words: &[&str]| stage.home.run(words).ok();
    let listed = holdfast(&["tasks", "list", "--json"]).json();
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!(listed[0]["end"]["outcome"], "returned", "{listed}");
    let shown = holdfast(&["tasks", "list"]).stdout;
    assert!(shown.contains("app:greet"), "{shown}");
    for words in [&["logs", id][..], &["logs", "-f", id]] {
        assert_eq!(holdfast(words).stdout, "greeting world\n");
        let mut unread = stage.home.spawn(words);
        drop(unread.stdout.take());
        let output = unread.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(!stderr.contains("error"), "{stderr}");
    }
    let id = stage.python(&["submit", "600"]).ok().stdout;
    let id = id.trim();
    let follower = stage.home.spawn(&["logs", "-f", id]);
    until("it runs", || holdfast(&["logs", id]).stdout == "waiting\n");
    let cancelled = holdfast(&["tasks", "cancel", id, "--json"]).json();
    assert_eq!(cancelled[0]["end"]["outcome"], "cancelled", "{cancelled}");
    let followed = finish(follower, "").ok();
    assert_eq!(followed.stdout, "waiting\n");
    assert!(followed.stderr.contains("cancelled"), "{}", followed.stderr);
    let containers = holdfast(&["containers", "list", "--json"]).json();
    for container in containers.as_array().expect("a list") {
        let id = container["id"].as_str().expect("an id");
        holdfast(&["containers", "stop", id]);
    }
    until("no container", || {
        holdfast(&["containers", "list", "--json"]).json() == Value::Array(Vec::new())
    });
    let home = &stage.home;
    let words = ["--workspace", "other", "tasks", "list"];
    home.run(&words).fails(5, "no workspace");
    let elsewhere = ["tasks", "show", id, "--gateway", stage.serving().gateway()];
    home.run(&elsewhere).fails(3, "HOLDFAST_TOKEN");
    stage.end();
}

#[test]
fn without_a_gateway_the_error_says_so() {
    let home = Home::new();
    for words in [&["tasks", "list"][..], &["containers", "list"]] {
        home.run(words).fails(6, "no gateway serves");
        let mut elsewhere = home.command(&[words, &["--gateway", "http://127.0.0.1:1"]].concat());
        let output = elsewhere.env("HOLDFAST_TOKEN", "hf_any").output();
        let stderr = String::from_utf8(output.expect("runs").stderr).expect("UTF-8");
        let says = "error: no connection to the gateway at http://127.0.0.1:1: Connection refused";
        assert!(stderr.starts_with(says), "{stderr}");
        assert!(stderr.contains("hint: does `holdfast serve`"), "{stderr}");
        assert!(!stderr.contains("tcp connect"), "{stderr}");
    }
}

#[test]
fn a_container_reaches_no_machine_and_no_gateway() {
    let stage = Stage::new();
    let gateway = stage.serving().address();
    let port = gateway.rsplit(':').next().expect("a port");
    let words = [
        "reaches",
        "169.254.169.254:80",
        gateway,
        &format!("10.0.2.2:{port}"),
        stage.registry.host(),
    ];
    let reached = stage.python(&words).ok();
    assert_eq!(reached.stdout.trim(), "[]");
    stage.end();
}

#[test]
fn a_container_finds_nothing_of_a_neighbour() {
    let stage = Stage::new();
    let found = stage.python(&["neighbours"]).ok().stdout;
    let (by_itself, by_another) = found.trim().split_once(' ').expect("two");
    // Two sockets and three files, which the hunt does find.
    assert!(by_itself.parse::<u32>().expect("a number") >= 5, "{found}");
    assert_eq!(by_another, "[]");
    stage.end();
}

#[test]
fn a_workspace_does_not_see_anothers_calls() {
    let stage = Stage::new();
    stage.python(&["greet", "world"]).ok();
    let (_, tasks) = stage.serving().get("/v1/tasks", &stage.token);
    let (_, stubs) = stage.serving().get("/v1/stubs", &stage.token);
    let (_, containers) = stage.serving().get("/v1/containers", &stage.token);
    let own = |value: &serde_json::Value| value.as_str().expect("an id").to_owned();
    let task = own(&tasks["tasks"][0]["id"]);
    let stub = own(&stubs["stubs"][0]["id"]);
    assert_eq!(containers["containers"].as_array().map(Vec::len), Some(1));
    let words = ["--workspace", "other", "tokens", "create", "b", "--json"];
    let made = stage.home.run(&words).ok().json();
    let token = made["token"].as_str().expect("a token");
    for path in [format!("/v1/tasks/{task}"), format!("/v1/stubs/{stub}")] {
        assert_eq!(stage.serving().get(&path, token).0, 404, "{path}");
    }
    for list in ["tasks", "stubs", "containers", "images"] {
        let (status, listed) = stage.serving().get(&format!("/v1/{list}"), token);
        assert_eq!(
            (status, listed[list].as_array().map(Vec::len)),
            (200, Some(0))
        );
    }
    stage.end();
}
