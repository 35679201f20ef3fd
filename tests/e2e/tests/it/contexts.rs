//! Gateways in TLS, and the file in which a person keeps them, as both the command line and the
//! Python package use it.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use e2e::home::finish;
use e2e::{Finished, Home};
use registry_sim::Authority;
use serde_json::json;

use crate::functions::Stage;
use crate::serving::Serving;

/// A person on a machine without a gateway.
struct Person {
    home: Home,
}

impl Person {
    fn new() -> Self {
        Self { home: Home::new() }
    }

    fn run_with_input(&self, words: &[&str], variables: &[(&str, &str)], input: &str) -> Finished {
        let mut command = self.home.command(words);
        command
            // Nobody means a data directory here.
            .env_remove("HOLDFAST_DATA_DIR")
            .env_remove("HOLDFAST_RUN_DIR")
            .env("HOME", self.home.path())
            .env("HOLDFAST_CONFIG", self.settings())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        finish(command.spawn().expect("it starts"), input)
    }

    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Finished {
        self.run_with_input(words, variables, "")
    }

    /// Where this machine would have its data, if it had any.
    fn settings(&self) -> String {
        let path = self.home.path().join("holdfast.toml");
        let data_dir = self.home.path().join("none");
        let text = format!("data_dir = \"{}\"\n", data_dir.display());
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }
}

#[test]
fn callers_come_in_tls() {
    let (home, authority, person) = (Home::new(), Authority::new(), Person::new());
    let serving = Serving::start_in_tls(&home, &authority, "0.0.0.0:0");
    let port = serving.address().rsplit_once(':').expect("a port").1;
    let url = format!("https://localhost:{port}");
    assert_eq!(serving.gateway(), url, "by a name of the certificate");
    let token = serving.first_token();
    let ca_file = home.path().join("ca.pem");
    let ca_file = ca_file.to_str().expect("UTF-8");
    let token = ("HOLDFAST_TOKEN", token.as_str());
    let list = ["tasks", "list", "--json", "--gateway", &url];
    let by_flag = [&list[..], &["--ca-file", ca_file]].concat();
    assert_eq!(person.run(&by_flag, &[token]).ok().json(), json!([]));
    for name in ["HOLDFAST_CA_FILE", "SSL_CERT_FILE"] {
        let variables = [token, (name, ca_file)];
        assert_eq!(person.run(&list, &variables).ok().json(), json!([]));
    }
    person.run(&list, &[token]).fails(6, "--ca-file names it");
    let unnamed = format!("https://127.0.0.2:{port}");
    let unnamed = ["tasks", "list", "--ca-file", ca_file, "--gateway", &unnamed];
    person
        .run(&unnamed, &[token])
        .fails(6, "as its certificate does");
    let clear = format!("http://localhost:{port}");
    person
        .run(&["tasks", "list", "--gateway", &clear], &[token])
        .fails(3, "this port speaks TLS");
    let missing = [&list[..], &["--ca-file", "/none.pem"]].concat();
    person.run(&missing, &[token]).fails(10, "/none.pem");
    let junk = person.settings();
    let junk = [&list[..], &["--ca-file", &junk]].concat();
    person
        .run(&junk, &[token])
        .fails(3, "no certificate in PEM");
    serving.end();
    let serving = Serving::start(&home);
    let no_tls = serving.gateway().replace("http:", "https:");
    person
        .run(&["tasks", "list", "--gateway", &no_tls], &[token])
        .fails(6, "may speak no TLS");
    serving.end();
}

#[test]
fn a_gateway_is_kept_by_name_for_commands_and_programs() {
    let authority = Authority::new();
    let stage = Stage::with(|home| Serving::start_in_tls(home, &authority, "127.0.0.1:0"));
    let person = Person::new();
    let url = stage.serving().gateway();
    let ca_file = stage.home.path().join("ca.pem");
    let ca_file = ca_file.to_str().expect("UTF-8");
    person
        .run(&["tasks", "list"], &[])
        .fails(6, "no gateway serves");
    person
        .run(&["context", "show"], &[])
        .fails(5, "no current context");

    let add = [
        "context",
        "add",
        "team",
        "--gateway",
        url,
        "--ca-file",
        ca_file,
        "--json",
    ];
    let added = person.run_with_input(&add, &[], &stage.token).ok();
    let expected = json!({
        "name": "team", "gateway": url, "is_current": true, "has_token": true,
        "ca_file": ca_file, "allow_plain_http": false,
    });
    assert_eq!(added.json(), expected);
    let file = person.home.path().join(".config/holdfast/config.toml");
    let mode = file.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let shown = person.run(&["context", "show", "--json"], &[]).ok();
    assert_eq!(shown.json(), expected);
    let listed = person.run(&["context", "list"], &[]).ok();
    assert!(listed.stdout.contains("team") && listed.stdout.contains(url));
    for said in [added, shown, listed] {
        assert!(!said.stdout.contains(&stage.token) && !said.stderr.contains(&stage.token));
    }

    // The program reads what the command wrote, and the other way round.
    let mut program = stage.program("app.py");
    program
        .env_remove("HOLDFAST_GATEWAY")
        .env_remove("HOLDFAST_TOKEN")
        .env("HOME", person.home.path())
        .args(["greet", "world"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let greeted = finish(program.spawn().expect("python starts"), "").ok();
    assert_eq!(greeted.stdout, "greeting world\nHello, world!\n");
    let tasks = person.run(&["tasks", "list", "--json"], &[]).ok().json();
    assert_eq!(tasks[0]["end"]["outcome"], "returned", "{tasks}");

    let text = std::fs::read_to_string(&file).expect("reads");
    let text = text.replace(&format!("ca_file = {ca_file:?}\n"), "");
    std::fs::write(&file, text).expect("written");
    person
        .run(&["tasks", "list"], &[])
        .fails(6, "--ca-file names it");
    let distrust = finish(program.spawn().expect("python starts"), "");
    distrust.fails(1, "HOLDFAST_CA_FILE");
    stage.end();
}

#[test]
fn contexts_are_switched_and_removed() {
    let person = Person::new();
    let add = |name: &str, gateway: &str, more: &[&str]| {
        let words = [&["context", "add", name, "--gateway", gateway][..], more].concat();
        person.run_with_input(&words, &[], "hf_canary\n")
    };
    add("team", "https://team.example.com", &[]).ok();
    add("lab", "http://10.0.0.1:7230", &[]).fails(3, "--allow-plain-http");
    add("lab", "http://10.0.0.1:7230", &["--allow-plain-http"]).ok();
    add("a b", "https://a.example.com", &[]).fails(2, "letters, digits");
    add("x", "https://user:hunter2@a", &[]).fails(3, "has a user in it");
    add("x", "https://a", &["--ca-file", "/none.pem"]).fails(10, "/none.pem");
    let words = ["context", "add", "x", "--gateway", "https://a"];
    person
        .run_with_input(&words, &[], "secret")
        .fails(3, "begin with hf_");
    person
        .run_with_input(&words, &[], "")
        .fails(3, "the token is empty");

    let current = || {
        let shown = person.run(&["context", "list", "--json"], &[]).ok().json();
        let rows = shown.as_array().expect("a list").clone();
        let mut rows = rows.into_iter().filter(|row| row["is_current"] == true);
        rows.next().map(|row| row["name"].clone())
    };
    assert_eq!(current(), Some("team".into()), "the first one");
    person.run(&["context", "use", "lab"], &[]).ok();
    assert_eq!(current(), Some("lab".into()));
    person
        .run(&["context", "use", "x"], &[])
        .fails(5, "no context");
    let shown = person.run(&["context", "show", "team"], &[]).ok();
    assert!(shown.stdout.contains("https://team.example.com"));
    let by_name = [("HOLDFAST_CONTEXT", "team")];
    let shown = person.run(&["context", "show", "--json"], &by_name).ok();
    assert_eq!(shown.json()["name"], "team");
    let removed = person
        .run(&["context", "remove", "lab", "--json"], &[])
        .ok();
    assert_eq!(removed.json(), json!({"name": "lab", "was_current": true}));
    assert_eq!(current(), None);
    person
        .run(&["context", "remove", "lab"], &[])
        .fails(5, "no context");
}

#[test]
fn on_its_own_machine_a_gateway_is_asked_before_the_current_context() {
    let person = Person::new();
    let add = ["context", "add", "far", "--gateway", "https://127.0.0.1:9"];
    person.run_with_input(&add, &[], "hf_canary").ok();
    let none = person.home.path().join("none");
    let list = ["tasks", "list", "--json"];
    person.run(&list, &[]).fails(6, "127.0.0.1:9");
    // Who names a data directory means it.
    let named = [("HOLDFAST_DATA_DIR", none.to_str().expect("UTF-8"))];
    person.run(&list, &named).fails(6, "no gateway serves");
    let home = Home::new();
    let serving = Serving::start(&home);
    std::os::unix::fs::symlink(home.data_dir(), &none).expect("a link");
    assert_eq!(person.run(&list, &[]).ok().json(), json!([]));
    let far = [&list[..], &["--context", "far"]].concat();
    person.run(&far, &[]).fails(6, "127.0.0.1:9");
    let both = [&far[..], &["--gateway", "https://127.0.0.1:10"]].concat();
    person.run(&both, &[]).fails(3, "leave out --context");
    // It left its socket behind.
    serving.kill();
    person.run(&list, &[]).fails(6, "127.0.0.1:9");
}
