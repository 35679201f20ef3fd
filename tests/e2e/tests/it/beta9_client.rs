//! The `beta9` client as it comes from `PyPI`, newest and oldest that we hold to, against the real
//! gateway.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::Finished;
use e2e::home::finish;

use crate::functions::{Stage, programs, python};
use crate::support::{PASSWORD, USER};

/// A user with a configuration file, as `docs/beta9-client.md` says that the commands need one.
struct User<'a> {
    stage: &'a Stage,
    environment: &'static str,
    config: PathBuf,
}

impl<'a> User<'a> {
    fn new(stage: &'a Stage, environment: &'static str) -> Self {
        let folder = stage.home.path().join(environment);
        std::fs::create_dir_all(folder.join("app")).expect("a directory");
        std::fs::copy(
            programs().join("with_beta9.py"),
            folder.join("app/with_beta9.py"),
        )
        .expect("the program");
        let config = folder.join("config.ini");
        let (host, port) = stage.address();
        let text = format!(
            "[default]\ntoken = {}\ngateway_host = {host}\ngateway_port = {port}\n",
            stage.token
        );
        std::fs::write(&config, text).expect("written");
        Self {
            stage,
            environment,
            config,
        }
    }

    fn run(&self, program: &Path, words: &[&str]) -> Finished {
        let folder = self.config.parent().expect("a directory");
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder)
            .env("CONFIG_PATH", &self.config)
            .env("COLUMNS", "200")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("IMAGE", &self.stage.image)
            .env("USERNAME", USER)
            .env("PASSWORD", PASSWORD)
            .current_dir(folder.join("app"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        finish(command.spawn().expect("it starts"), "")
    }

    fn program(&self, what: &str) -> Finished {
        self.run(&python(self.environment), &["with_beta9.py", what])
    }

    fn beta9(&self, words: &[&str]) -> Finished {
        self.run(&python(self.environment).with_file_name("beta9"), words)
    }
}

fn check(environment: &'static str) {
    let stage = Stage::new();
    let user = User::new(&stage, environment);
    // The newest client sends names, the oldest the values of its environment.
    user.beta9(&["secret", "create", "USERNAME", USER]).ok();
    user.beta9(&["secret", "create", "PASSWORD", PASSWORD]).ok();
    for call in ["first", "second"] {
        let done = user.program("call").ok();
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(done.stdout.contains("value Hello!"), "{call}: {said}");
        assert!(said.contains("in the container"), "{call}: {said}");
    }
    let mapped = user.program("map").ok();
    assert!(mapped.stdout.contains("sum 9900"), "{}", mapped.stdout);
    secrets(&user);
    stage.end();
}

fn secrets(user: &User<'_>) {
    user.beta9(&["secret", "create", "KEY", "first value"]).ok();
    user.beta9(&["secret", "modify", "KEY", "second value"])
        .ok();
    let listed = user.beta9(&["secret", "list"]).ok();
    assert!(listed.stdout.contains("KEY"), "{}", listed.stdout);
    let shown = user.beta9(&["secret", "show", "KEY"]);
    let said = format!("{}{}", shown.stdout, shown.stderr);
    assert!(
        !said.contains("second value") && said.contains("Error"),
        "{said}"
    );
    user.beta9(&["secret", "delete", "KEY"]).ok();
    let listed = user.beta9(&["secret", "list"]).ok();
    assert!(!listed.stdout.contains("KEY"), "{}", listed.stdout);
}

#[test]
fn the_newest_beta9_client_calls_functions() {
    check("beta9-0.1.291");
}

#[test]
fn the_oldest_beta9_client_calls_functions() {
    check("beta9-0.1.245");
}
