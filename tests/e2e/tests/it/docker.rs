//! Logins of docker, podman and Kubernetes, taken over; and ours, given to them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::home::finish;
use e2e::image::busybox;
use e2e::{Finished, Home};
use serde_json::{Value, json};

use crate::support::{PASSWORD, Stage, USER};

/// Where nobody listens.
const NOWHERE: &str = "127.0.0.1:1";

/// What docker's file has for a user and a password.
fn auth(password: &str) -> Value {
    json!({ "auth": STANDARD.encode(format!("{USER}:{password}")) })
}

fn write(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, text).expect("a file");
    path
}

/// Runs with these words after `login --from-docker`, with the home's own files of docker's.
fn from_docker(home: &Home, words: &[&str], input: &str) -> Finished {
    let words = [&["login", "--from-docker"], words].concat();
    let mut command = home.command(&words);
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    command
        .env("HOME", home.path())
        .env("PATH", path)
        .env("HOLDFAST_TOKEN", "CANARY")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let finished = finish(command.spawn().expect("it starts"), input);
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(
        !said.contains(PASSWORD) && !said.contains("CANARY"),
        "{said}"
    );
    finished
}

fn outcomes(finished: &Finished) -> Vec<(String, String)> {
    let json = finished.json();
    let rows = json.as_array().expect("rows").iter();
    let cell = |row: &Value, name: &str| row[name].as_str().unwrap_or("-").to_owned();
    rows.map(|row| (cell(row, "scope"), cell(row, "outcome")))
        .collect()
}

fn scopes(home: &Home) -> Vec<String> {
    let listed = home.run(&["credentials", "list", "--json"]).ok().json();
    let rows = listed.as_array().expect("rows").iter();
    rows.map(|row| row["scope"].as_str().expect("a scope").to_owned())
        .collect()
}

#[test]
fn logins_of_dockers_file_are_listed_and_taken_over() {
    let stage = Stage::new(busybox());
    let (home, host) = (&stage.home, stage.registry.host().to_owned());
    let config = json!({ "auths": {
        format!("http://{host}/v2/"): auth(PASSWORD),
        NOWHERE: auth("CANARY"),
        "*.example.com": auth("CANARY"),
    }});
    fs::create_dir(home.path().join(".docker")).expect("a directory");
    write(home, ".docker/config.json", &config.to_string());

    let listed = from_docker(home, &["--json"], "").ok();
    let pair = |scope: &str, outcome: &str| (scope.to_owned(), outcome.to_owned());
    let expected = [
        pair(NOWHERE, "found"),
        pair("-", "skipped"),
        pair(&host, "found"),
    ];
    assert_eq!(outcomes(&listed), expected);
    assert!(!home.data_dir().exists(), "a list writes nothing");
    let mut unasked = home.command(&["image", "inspect", &stage.image]);
    let unasked = unasked.env("HOME", home.path()).output().expect("it runs");
    assert_eq!(
        unasked.status.code(),
        Some(4),
        "files of docker's are used unasked"
    );

    let all = from_docker(home, &["--all", "--json"], "");
    let expected = [
        pair(NOWHERE, "failed"),
        pair("-", "skipped"),
        pair(&host, "sealed"),
    ];
    assert_eq!(outcomes(&all), expected);
    all.fails(9, "2 of 3 logins were not taken over");
    assert_eq!(scopes(home), [host.as_str()]);

    let again = from_docker(home, &[&host, "--json"], "").ok();
    assert_eq!(outcomes(&again), [pair(&host, "unchanged")]);
    // Narrower than docker has it.
    let scope = stage.scope();
    let below = from_docker(home, &[&scope], "").ok();
    assert!(
        below.stdout.contains("sealed (version 1)"),
        "{}",
        below.stdout
    );
    home.run(&["image", "inspect", &stage.image]).ok();
}

#[test]
fn what_the_registry_refuses_is_not_taken_over() {
    let stage = Stage::new(busybox());
    let host = stage.registry.host().to_owned();
    let config = json!({ "auths": { &host: auth("CANARY") } });
    let file = write(&stage.home, "auth.json", &config.to_string());
    let words = ["--docker-config", file.to_str().expect("utf-8"), &host];
    from_docker(&stage.home, &words, "").fails(4, "1 of 1 logins");
    let words = [
        "--docker-config",
        file.to_str().expect("utf-8"),
        "r.example",
    ];
    from_docker(&stage.home, &words, "").fails(5, "1 of 1 logins");
    assert_eq!(scopes(&stage.home), [""; 0]);
    write(&stage.home, "auth.json", "CANARY");
    from_docker(&stage.home, &words, "").fails(3, "neither a docker configuration");
}

#[test]
fn helpers_are_asked_for_what_they_have() {
    let stage = Stage::new(busybox());
    let (home, host) = (&stage.home, stage.registry.host());
    let reply = json!({ "ServerURL": host, "Username": USER, "Secret": PASSWORD });
    let list = json!({ host: USER, NOWHERE: "bob" });
    let script = format!(
        "#!/bin/sh\n\
         test -z \"$HOLDFAST_TOKEN\" || exit 7\n\
         case \"$1 $(cat)\" in\n\
         'list ') echo '{list}' ;;\n\
         'get {host}') echo '{reply}' ;;\n\
         *) echo 'credentials not found in native keychain'; exit 1 ;;\n\
         esac\n"
    );
    let program = write(home, "docker-credential-test", &script);
    fs::set_permissions(program, fs::Permissions::from_mode(0o700)).expect("permissions");
    let config =
        json!({ "auths": {}, "credsStore": "test", "credHelpers": { "r.example": "none" } });
    let file = write(home, "config.json", &config.to_string());
    let file = file.to_str().expect("utf-8");

    let listed = from_docker(home, &["--docker-config", file], "").ok();
    assert!(
        listed.stdout.contains("docker-credential-test"),
        "{}",
        listed.stdout
    );
    from_docker(home, &["--docker-config", file, host], "").ok();
    assert_eq!(scopes(home), [host]);
    let nothing = from_docker(home, &["--docker-config", file, NOWHERE], "");
    assert!(
        nothing.stdout.contains("has nothing for"),
        "{}",
        nothing.stdout
    );
    nothing.fails(5, "1 of 1 logins");
    let absent = from_docker(home, &["--docker-config", file, "r.example"], "");
    assert!(
        absent.stdout.contains("docker-credential-none"),
        "{}",
        absent.stdout
    );
    absent.fails(10, "1 of 1 logins");
}

#[test]
fn a_secret_of_kubernetes_is_taken_over_from_standard_input() {
    let stage = Stage::new(busybox());
    let host = stage.registry.host();
    let config = json!({ "auths": { host: auth(PASSWORD) } }).to_string();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": { "name": "regcred" },
        "data": { ".dockerconfigjson": STANDARD.encode(config) },
    });
    let words = ["--docker-config", "-", "--all"];
    from_docker(&stage.home, &words, &secret.to_string()).ok();
    assert_eq!(scopes(&stage.home), [host]);
}

#[test]
fn login_says_what_goes_together() {
    let home = Home::new();
    home.run(&["login", "a.example", "b.example", "--token-stdin"])
        .fails(3, "--from-docker");
    home.run(&["login", "--token-stdin"]).fails(2, "SCOPE");
    home.run(&["login", "a.example", "--all", "--from-docker"])
        .fails(2, "--all");
    home.run(&["login", "--from-docker", "--all", "--plain-http"])
        .fails(2, "--plain-http");
    from_docker(&home, &[], "").fails(5, "keeps a file of logins");
}
