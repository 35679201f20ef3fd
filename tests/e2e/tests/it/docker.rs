//! Logins of docker, podman and Kubernetes, taken over; and ours, given to them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

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
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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

/// The helper of this home, on its path under docker's name for it, and a file that names it.
struct Helper<'a> {
    home: &'a Home,
    auth_file: PathBuf,
}

impl<'a> Helper<'a> {
    fn of(home: &'a Home, host: &str) -> Self {
        let link = home.path().join("docker-credential-holdfast");
        symlink(e2e::home::binary(), link).expect("a link");
        let config = json!({ "auths": {}, "credHelpers": { host: "holdfast" } });
        let auth_file = write(home, "auth.json", &config.to_string());
        Self { home, auth_file }
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let own = self.home.command(&[]);
        let mut command = Command::new(program);
        command.args(words).env_clear();
        for (name, value) in own.get_envs() {
            value.map(|value| command.env(name, value));
        }
        let path = format!(
            "{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.home.path().display()
        );
        command
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("REGISTRY_AUTH_FILE", &self.auth_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, program: &str, words: &[&str], input: &str) -> Finished {
        let child = self.command(program, words).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{program}: {error}: run `cargo xtask setup`");
        });
        finish(child, input)
    }

    fn ask(&self, action: &str, input: &str) -> Finished {
        let program = self.home.path().join("docker-credential-holdfast");
        self.run(program.to_str().expect("utf-8"), &[action], input)
    }

    fn share(&self, scope: &str) -> Finished {
        self.home
            .run(&["credentials", "share", scope, "--with", "docker"])
            .ok()
    }
}

const NOT_FOUND: &str = "credentials not found in native keychain\n";

#[test]
fn skopeo_and_podman_pull_with_what_is_shared() {
    let stage = Stage::logged_in(busybox());
    let (host, image) = (stage.registry.host(), stage.image.as_str());
    let helper = Helper::of(&stage.home, host);
    let storage = stage.home.path().join("podman");
    let storage = storage.to_str().expect("utf-8");
    let docker_image = format!("docker://{image}");
    let inspect = ["inspect", "--tls-verify=false", &docker_image];
    let pull = [
        "--root",
        &format!("{storage}/root"),
        "--runroot",
        &format!("{storage}/run"),
        "--storage-driver",
        "vfs",
        "pull",
        "--quiet",
        "--tls-verify=false",
        image,
    ];
    let refused = helper.run("skopeo", &inspect, "");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.stderr.contains("is not shared with docker"),
        "{refused:?}"
    );

    let shared = helper.share(&stage.scope());
    assert!(
        shared.stdout.contains("stored user name and password"),
        "{}",
        shared.stdout
    );
    let inspected = helper.run("skopeo", &inspect, "").ok().json();
    assert_eq!(inspected["Name"], json!(image.trim_end_matches(":v1")));
    helper.run("podman", &pull, "").ok();

    let unshare = ["credentials", "unshare", &stage.scope(), "--with", "docker"];
    stage.home.run(&unshare).ok();
    assert_ne!(helper.run("skopeo", &inspect, "").code, 0);
    stage.home.run(&unshare).fails(5, "is shared with docker");
}

#[test]
fn podman_logs_in_and_out_through_the_helper() {
    let stage = Stage::new(busybox());
    let host = stage.registry.host();
    let helper = Helper::of(&stage.home, host);
    let login = |password: &str| {
        let words = [
            "login",
            "--tls-verify=false",
            "-u",
            USER,
            "--password-stdin",
            host,
        ];
        helper.run("podman", &words, password)
    };
    assert_ne!(login("wrong").code, 0);
    login(PASSWORD).ok();
    assert_eq!(scopes(&stage.home), [host]);
    let below = stage.scope();
    stage.home.login(&below, USER, PASSWORD).ok();
    helper.run("podman", &["logout", host], "").ok();
    // That of the host, and no other.
    assert_eq!(scopes(&stage.home), [below]);
}

#[test]
fn the_helper_speaks_as_dockers_own_do() {
    let stage = Stage::new(busybox());
    let host = stage.registry.host();
    let helper = Helper::of(&stage.home, host);
    let nothing = helper.ask("get", host);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (1, NOT_FOUND));
    assert!(!stage.home.data_dir().exists(), "a question makes no vault");
    assert_eq!(helper.ask("list", "").ok().stdout, "{}\n");
    helper.ask("erase", host).ok();

    let given = |password: &str| {
        json!({ "ServerURL": host, "Username": USER, "Secret": password }).to_string()
    };
    let wrong = helper.ask("store", &given("CANARY"));
    assert_eq!(
        (wrong.code, wrong.stderr.contains("CANARY")),
        (1, false),
        "{wrong:?}"
    );
    assert!(wrong.stdout.contains("refused the credential"), "{wrong:?}");
    helper.ask("store", &given(PASSWORD)).ok();
    let unshared = helper.ask("get", host);
    assert_eq!((unshared.code, unshared.stdout.as_str()), (1, NOT_FOUND));
    assert!(
        unshared.stderr.contains("credentials share"),
        "{unshared:?}"
    );
    assert_eq!(helper.ask("list", "").ok().stdout, "{}\n");
}

#[test]
fn the_helper_gives_what_is_shared_and_refuses_the_rest() {
    let stage = Stage::new(busybox());
    let host = stage.registry.host();
    let helper = Helper::of(&stage.home, host);
    stage.home.login(host, USER, PASSWORD).ok();
    helper.share(host);
    for server in [host, &format!("http://{host}/v2/"), &format!("{host}\n")] {
        let reply = helper.ask("get", server).ok().json();
        let expected = json!({
            "ServerURL": server.trim(), "Username": USER, "Secret": PASSWORD,
        });
        assert_eq!(reply, expected);
    }
    assert_eq!(helper.ask("list", "").ok().json(), json!({ host: USER }));
    let listed = stage
        .home
        .run(&["credentials", "list", "--json"])
        .ok()
        .json();
    assert_eq!(listed[0]["shared_with"], json!(["docker"]));

    for (action, input, says) in [
        ("get", "", "no credentials server URL"),
        ("get", "a.example\nb.example", "more than one line"),
        ("get", "not a host", "credentials not found"),
        ("get", &"a".repeat(65 << 10), "longer than"),
        ("store", "CANARY", "no credential as docker stores it"),
        (
            "store",
            r#"{"ServerURL":"","Username":"u","Secret":"s"}"#,
            "server URL",
        ),
        (
            "store",
            r#"{"ServerURL":"a.example","Username":"","Secret":"s"}"#,
            "USERNAME",
        ),
    ] {
        let said = helper.ask(action, input);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.stdout.contains(says) && !said.stdout.contains("CANARY"),
            "{said:?}"
        );
    }
    let version = helper.ask("version", "").ok().stdout;
    assert!(
        version.starts_with("docker-credential-holdfast (Holdfast) "),
        "{version}"
    );
    let same = stage
        .home
        .run_with_input(&["credential-helper", "get"], host)
        .ok();
    assert_eq!(same.json()["Secret"], json!(PASSWORD));
    helper.ask("erase", host).ok();
    assert_eq!(scopes(&stage.home), [""; 0]);
}

/// As Kubernetes' documentation has it, with what later versions add.
fn kubelet_request(image: &str) -> String {
    let request = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderRequest",
        "image": image,
        "serviceAccountToken": "CANARY",
        "serviceAccountAnnotations": { "example.com/role": "CANARY" },
    });
    request.to_string()
}

#[test]
fn the_kubelet_is_given_what_is_shared_for_the_image() {
    let stage = Stage::new(busybox());
    let ask = |input: &str| {
        let words = ["kubelet-credential-provider"];
        let finished = stage.home.run_with_input(&words, input);
        assert!(!format!("{finished:?}").contains("CANARY"), "{finished:?}");
        finished
    };
    let response = |duration: &str, auth: Value| {
        json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "kind": "CredentialProviderResponse",
            "cacheKeyType": "Image",
            "cacheDuration": duration,
            "auth": auth,
        })
    };
    let nothing = response("0s", json!({}));
    let request = kubelet_request(&stage.image);
    assert_eq!(ask(&request).ok().json(), nothing);
    assert!(!stage.home.data_dir().exists(), "a question makes no vault");
    stage.home.login(&stage.scope(), USER, PASSWORD).ok();
    stage
        .home
        .run(&["credentials", "share", &stage.scope(), "--with", "docker"])
        .ok();
    let unshared = ask(&request).ok();
    assert_eq!(unshared.json(), nothing);
    assert!(
        unshared.stderr.contains("is not shared with kubelet"),
        "{unshared:?}"
    );

    stage
        .home
        .run(&["credentials", "share", &stage.scope(), "--with", "kubelet"])
        .ok();
    let repository = stage.image.trim_end_matches(":v1");
    let auth = json!({ repository: { "username": USER, "password": PASSWORD } });
    assert_eq!(ask(&request).ok().json(), response("600s", auth));
    // The kubelet itself would take `acme` for a part of `acmetest`.
    let beside = format!("{}test/fn:v1", stage.scope());
    assert_eq!(ask(&kubelet_request(&beside)).ok().json(), nothing);

    let v2 = request.replace("k8s.io/v1", "k8s.io/v2");
    ask(&v2).fails(3, "another apiVersion");
    ask("CANARY").fails(3, "not the JSON of a CredentialProviderRequest");
    ask(&kubelet_request("r.example/*")).fails(3, "an image that is none");
}
