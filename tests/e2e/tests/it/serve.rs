//! `holdfast serve` and its tokens, as a program meets them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e::Home;
use serde_json::Value;

use crate::serving::Serving;
use crate::support::files_below;

#[test]
fn the_first_start_makes_a_token_and_the_next_does_not() {
    let home = Home::new();
    let serving = Serving::start(&home);
    let file = serving.listening["token_file"].as_str().expect("a file");
    let file = Path::new(file).to_owned();
    let mode = std::fs::metadata(&file)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).expect("reads");
    let token = token.trim().to_owned();
    let (status, whoami) = serving.get("/v1/whoami", &token);
    assert_eq!((status, &whoami["token"]["name"]), (200, &"first".into()));
    assert_eq!(serving.get("/v1/whoami", "hf_0").0, 401);
    std::fs::remove_file(&file).expect("removed");
    for path in files_below(&home.data_dir()) {
        let bytes = std::fs::read(&path).expect("reads");
        let found = bytes.windows(token.len()).any(|at| at == token.as_bytes());
        assert!(!found, "the token is in {}", path.display());
    }
    serving.end();

    let again = Serving::start(&home);
    assert_eq!(again.listening["token_file"], Value::Null);
    assert!(!file.exists());
    assert_eq!(again.get("/v1/whoami", &token).0, 200);
    again.end();
}

#[test]
fn tokens_are_kept_by_whoever_runs_the_installation() {
    let home = Home::new();
    let words = [
        "tokens", "create", "ci", "--scope", "read", "--days", "7", "--json",
    ];
    let made = home.run(&words).ok().json();
    let (id, token) = (
        made["id"].as_str().unwrap(),
        made["token"].as_str().unwrap(),
    );
    let serving = Serving::start(&home);
    assert_eq!(serving.listening["token_file"], Value::Null, "there is one");
    assert_eq!(serving.get("/v1/tokens", token).0, 200);
    home.run(&["tokens", "disable", id]).ok();
    assert_eq!(serving.get("/v1/tokens", token).0, 401, "at once");
    home.run(&["tokens", "enable", id]).ok();
    assert_eq!(serving.get("/v1/tokens", token).0, 200);
    let listed = home.run(&["tokens", "list"]).ok();
    assert!(listed.stdout.contains("ci") && !listed.stdout.contains(token));
    home.run(&["tokens", "rm", id]).ok();
    home.run(&["tokens", "rm", id]).fails(5, "no token");
    assert_eq!(serving.get("/v1/tokens", token).0, 401);
    home.run(&["tokens", "create", "x", "--scope", "all"])
        .fails(3, "there are read, call, secrets, tokens, metrics");
    serving.end();
}

#[test]
fn what_cannot_be_served_is_told() {
    let home = Home::new();
    home.run(&["serve", "--listen", "0.0.0.0:0"])
        .fails(3, "--allow-unencrypted");
    let half = ["serve", "--listen", "127.0.0.1:0", "--tls-cert", "/c.pem"];
    home.run(&half).fails(3, "go together");
    let whole = [&half[..], &["--tls-key", "/k.pem"]].concat();
    home.run(&whole).fails(10, "/c.pem");
    let config = home.path().join("holdfast.toml");
    let text = "tls_cert = \"/of-file.pem\"\ntls_key = \"/k.pem\"\n";
    std::fs::write(&config, text).expect("written");
    let config = ["--config", config.to_str().expect("UTF-8")];
    let by_file = [&config[..], &["serve", "--listen", "0.0.0.0:0"]].concat();
    home.run(&by_file).fails(10, "/of-file.pem");
    let by_flag = [&config[..], &half].concat();
    home.run(&by_flag).fails(10, "/c.pem");
    let serving = Serving::start(&home);
    let gateway = serving.listening["gateway"].as_str().unwrap();
    let address = gateway.trim_start_matches("http://");
    let other = Home::new();
    other
        .run(&["serve", "--listen", address])
        .fails(10, "cannot listen on");
    home.run(&["serve", "--listen", "127.0.0.1:0"])
        .fails(10, "another gateway serves");
    serving.end();
}
