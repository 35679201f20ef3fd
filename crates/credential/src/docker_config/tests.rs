//! Files of docker, podman and Kubernetes, as they are and as they should not be.

use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::{Fields, GcpFields};

fn read(text: &str) -> DockerConfig {
    DockerConfig::parse(&SecretString::from(text)).expect(text)
}

/// Scope, kind or helper, and what is in it; or why there is nothing.
fn shown(login: &DockerLogin) -> String {
    let found = match &login.found {
        Ok(found) => found,
        Err(error) => return format!("{}: {error}", login.key),
    };
    let scope = &found.scope;
    match &found.source {
        Source::Helper { name, server } => format!("{scope} in {name} as {server}"),
        Source::File(detected) => {
            let credential = &detected.credential;
            let held = match (credential.basic_parts(), credential.bearer()) {
                (Some((user, password)), _) => format!("{user}|{}", password.expose_secret()),
                (None, Some(token)) => format!("bearer|{}", token.expose_secret()),
                (None, None) => match credential.fields() {
                    Fields::Gcp(GcpFields::ServiceAccount { json, .. }) => {
                        format!("key|{}", json.expose_secret())
                    }
                    _ => "nothing".to_owned(),
                },
            };
            format!("{scope} {} {held}", detected.kind)
        }
    }
}

fn all_shown(config: &DockerConfig) -> Vec<String> {
    config.logins.iter().map(shown).collect()
}

#[track_caller]
fn check_entry(entry: &str, expected: &str) {
    let config = read(&format!(r#"{{"auths":{{"r.example":{entry}}}}}"#));
    assert_eq!(all_shown(&config), [expected], "{entry}");
}

#[test]
fn entries_hold_credentials_in_many_ways() {
    let auth = |text: &str| format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(text));
    check_entry(&auth("u:p"), "r.example basic u|p");
    check_entry(&auth("u:p:q\n:"), "r.example basic u|p:q\n:");
    check_entry(&auth("u:p\0\0"), "r.example basic u|p");
    check_entry(&auth("<token>:t"), "r.example basic <token>|t");
    // `user:pw` without padding, and with a line break in the middle.
    check_entry(r#"{"auth":"dXNlcjpwdw"}"#, "r.example basic user|pw");
    check_entry(r#"{"auth":"dXNl\ncjpwdw=="}"#, "r.example basic user|pw");
    check_entry(r#"{"username":"u","password":"p"}"#, "r.example basic u|p");
    check_entry(
        r#"{"auth":"dTo=","identitytoken":"t"}"#,
        "r.example basic <token>|t",
    );
    check_entry(r#"{"registrytoken":"t"}"#, "r.example token bearer|t");
    check_entry(
        r#"{"auth":"","username":null,"email":"e","identitytoken":"t"}"#,
        "r.example basic <token>|t",
    );
}

#[test]
fn entries_that_hold_nothing_say_so_without_it() {
    let auth = |text: &str| format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(text));
    let not_parts = "r.example: auth is not base64 of a user name, a colon and a password";
    let empty = "r.example: holds no credential, and no helper is named that does";
    check_entry(r#"{"auth":"CANARY!"}"#, not_parts);
    check_entry(&auth("CANARY"), not_parts);
    check_entry(r#"{"auth":"/////w=="}"#, not_parts);
    check_entry("{}", empty);
    check_entry("null", empty);
    check_entry(r#"{"auth":""}"#, empty);
    check_entry(
        &auth("CANARY:"),
        "r.example: credential key DOCKER_PASSWORD is empty",
    );
    check_entry(
        &auth(":CANARY"),
        "r.example: credential key DOCKER_USERNAME is empty",
    );
    check_entry(
        r#"{"registrytoken":"CANARY x"}"#,
        "r.example: credential key REGISTRY_TOKEN holds a space or a line break",
    );
}

#[test]
fn googles_json_is_a_service_account() {
    let json = crate::service_account::SAMPLE;
    let auth = |user: &str, password: &str| STANDARD.encode(format!("{user}:{password}"));
    for (user, password) in [
        ("_json_key", json.to_owned()),
        ("_json_key_base64", STANDARD.encode(json)),
    ] {
        let config = read(&format!(
            r#"{{"auths":{{"gcr.io":{{"auth":"{}"}}}}}}"#,
            auth(user, &password)
        ));
        let expected = format!("gcr.io gcp key|{json}");
        assert_eq!(all_shown(&config), [expected]);
    }
    let config = read(&format!(
        r#"{{"auths":{{"gcr.io":{{"auth":"{}"}}}}}}"#,
        auth("_json_key", "/CANARY.json")
    ));
    let refused = "gcr.io: credential key DOCKER_PASSWORD is a path or something else than the \
                   JSON of a service account";
    assert_eq!(all_shown(&config), [refused]);
}

#[test]
fn helpers_have_what_the_file_has_not() {
    let config = read(
        r#"{"auths":{"a.example":{},"b.example":{"auth":"dTpw"},"c.example":{"auth":"dTpw"}},
            "credHelpers":{"c.example":"gcloud","d.example":"ecr-login","e.example":"../x",
                "f.example":"holdfast"},
            "credsStore":"pass"}"#,
    );
    let expected = [
        "a.example in pass as a.example",
        "b.example basic u|p",
        "c.example in gcloud as c.example",
        "d.example in ecr-login as d.example",
        "e.example: names a helper by something else than letters, digits, dots, dashes and \
         underscores",
        "f.example: is what holdfast gives docker, which is here already",
    ];
    assert_eq!(all_shown(&config), expected);
    assert_eq!(
        config.store.map(|name| name.program()).as_deref(),
        Some("docker-credential-pass")
    );
}

#[test]
fn of_several_keys_for_a_scope_dockers_own_counts() {
    let config = read(
        r#"{"auths":{"docker.io":{"auth":"YTpw"},"https://index.docker.io/v1/":{"auth":"Yjpw"},
            "ghcr.io":{"auth":"Yzpw"},"https://ghcr.io":{"auth":"ZDpw"},
            "ghcr.io/acme":{"auth":"ZTpw"}}}"#,
    );
    let expected = [
        "ghcr.io basic c|p",
        "ghcr.io/acme basic e|p",
        "docker.io basic b|p",
        "docker.io: https://index.docker.io/v1/ is for the same scope and comes first",
        "https://ghcr.io: ghcr.io is for the same scope and comes first",
    ];
    assert_eq!(all_shown(&config), expected);
}

#[test]
fn the_bare_form_and_secrets_of_kubernetes_are_read() {
    let bare = r#"{"https://r.example/v1/":{"auth":"dTpw","email":"e@x"}}"#;
    let config = r#"{"auths":{"r.example":{"username":"u","password":"p","auth":"dTpw"}}}"#;
    let (bare64, config64) = (STANDARD.encode(bare), STANDARD.encode(config));
    let quoted = serde_json::to_string(config).unwrap();
    let forms = [
        bare.to_owned(),
        config.to_owned(),
        format!(r#"{{".dockerconfigjson":"{config64}"}}"#),
        format!(r#"{{".dockercfg":"{bare64}"}}"#),
        format!(r#"{{"kind":"Secret","data":{{".dockerconfigjson":"{config64}"}}}}"#),
        format!(r#"{{"kind":"Secret","data":{{".dockercfg":"{bare64}"}}}}"#),
        format!(r#"{{"kind":"Secret","stringData":{{".dockerconfigjson":{quoted}}}}}"#),
    ];
    for form in forms {
        assert_eq!(all_shown(&read(&form)), ["r.example basic u|p"], "{form}");
    }
}

#[test]
fn a_secret_of_kubernetes_names_no_program() {
    let config = r#"{"auths":{"a.example":{}},"credHelpers":{"b.example":"pass"},
        "credsStore":"pass"}"#;
    let text = format!(r#"{{".dockerconfigjson":"{}"}}"#, STANDARD.encode(config));
    let read = read(&text);
    let of_secret = "holds no credential, and a helper that a Kubernetes Secret names is not run";
    let expected = ["a.example", "b.example"].map(|key| format!("{key}: {of_secret}"));
    assert_eq!(all_shown(&read), expected);
    assert_eq!(read.store, None);
}

#[test]
fn what_is_no_such_file_is_refused_without_its_text() {
    let long = format!("{{\"auths\":{{}},\"x\":\"{}\"}}", "a".repeat(TEXT_LIMIT));
    let not_config = DockerConfigError::NotDockerConfig;
    let not_secret = DockerConfigError::NotDockerSecret;
    let table = [
        ("CANARY", &not_config),
        ("[]", &not_config),
        (r#"{"auths":"CANARY"}"#, &not_config),
        (r#"{"auths":{"a":"CANARY"}}"#, &not_config),
        (r#"{"auths":{"a":{"auth":7}}}"#, &not_config),
        (r#"{"kind":"Secret","data":{"password":"x"}}"#, &not_secret),
        (r#"{".dockerconfigjson":"CANARY!"}"#, &not_secret),
        (r#"{".dockerconfigjson":"e30="}"#, &not_secret),
        (long.as_str(), &DockerConfigError::TooLong),
    ];
    for (text, expected) in table {
        let error = DockerConfig::parse(&SecretString::from(text)).unwrap_err();
        assert_eq!(error, *expected, "{text}");
    }
    for text in ["{}", r#"{"HttpHeaders":{"User-Agent":"x"}}"#] {
        assert!(read(text).logins.is_empty(), "{text}");
    }
}
