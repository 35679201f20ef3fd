//! From keys to a kind, row by row of the table in the crate doc, and every way to get it wrong.

use credential::{
    CredentialError, CredentialKind, Detected, ExposeSecret, Fields, GcpFields, Hint, KNOWN_KEYS,
    SecretString, detect, from_token,
};
use reference::Registry;
use serde_json::json;

use crate::{ECR, EXTERNAL_ACCOUNT, GUID, ROLE, SERVICE_ACCOUNT, detect_pairs, keys};

const TABLE: &str = include_str!("../data/detection.txt");
/// What the table must keep, at least, so that it is never emptied by mistake.
const LEAST_ROWS: usize = 100;

struct Row {
    registry: String,
    pairs: Vec<(String, String)>,
    outcome: String,
}

fn rows() -> Vec<Row> {
    let lines = TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<Row> = lines.map(row).collect();
    assert!(rows.len() >= LEAST_ROWS, "only {} rows", rows.len());
    rows
}

fn row(line: &str) -> Row {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [registry, pairs, outcome] = columns.try_into().expect(line);
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').expect(line);
        (key.to_owned(), expand(value))
    };
    let pairs = pairs.split_whitespace().map(pair).collect();
    Row {
        registry: expand(registry),
        pairs,
        outcome: expand(outcome),
    }
}

/// Resolves the stand-ins that the table's head explains.
fn expand(text: &str) -> String {
    let sourced = EXTERNAL_ACCOUNT.replacen('{', r#"{"credential_source":{"file":"/x"},"#, 1);
    [
        ("{ecr}", ECR),
        ("{account}", SERVICE_ACCOUNT),
        ("{pool}", EXTERNAL_ACCOUNT),
        ("{sourced}", &sourced),
        ("{role}", ROLE),
        ("{guid}", GUID),
        ("{newline}", "\n"),
        ("{space}", " "),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

/// The answer in the words of the table.
fn outcome(answer: &Result<Detected, CredentialError>) -> String {
    match answer {
        Ok(detected) => outcome_of(detected),
        Err(CredentialError::Missing { missing, .. }) => format!("missing {missing}"),
        Err(CredentialError::Conflict { first, second }) => format!("conflict {first} {second}"),
        Err(CredentialError::WrongRegistry { key, .. }) => format!("elsewhere {key}"),
        Err(CredentialError::Malformed { key, problem }) => format!("malformed {key} {problem}"),
        Err(error) => panic!("{error}"),
    }
}

fn outcome_of(detected: &Detected) -> String {
    let kind = detected.kind;
    match parts(detected) {
        Some((username, secret)) => format!("{kind} {username} {secret}"),
        None if detected.credential.is_keyless() => format!("{kind} keyless"),
        None if kind == CredentialKind::Public => "public".to_owned(),
        None if detected.credential.bearer().is_some() => format!("{kind} bearer"),
        None => format!("{kind} none"),
    }
}

#[test]
fn every_row_of_the_table() {
    for Row {
        registry,
        pairs,
        outcome: expected,
    } in rows()
    {
        let borrowed: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let answer = detect_pairs(&registry, &borrowed);
        assert_eq!(outcome(&answer), expected, "{registry} {pairs:?}");
        if let Ok(mut detected) = answer {
            let mut given: Vec<&str> = borrowed.iter().map(|(key, _)| *key).collect();
            given.sort_unstable();
            detected.used_keys.sort_unstable();
            assert_eq!(
                detected.used_keys, given,
                "every key is used, none is dropped"
            );
        }
    }
}

fn parts(detected: &Detected) -> Option<(String, String)> {
    let (username, password) = detected.credential.basic_parts()?;
    Some((username.to_owned(), password.expose_secret().to_owned()))
}

#[test]
fn aws_keys_are_kept_whole() {
    let detected = detect_pairs(
        ECR,
        &[
            ("AWS_ACCESS_KEY_ID", "ASIAX"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "t"),
            ("AWS_REGION", "us-west-2"),
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_EXTERNAL_ID", "e"),
            ("AWS_ROLE_SESSION_NAME", "holdfast"),
        ],
    )
    .unwrap();
    let Fields::Aws(aws) = detected.credential.fields() else {
        panic!("{:?}", detected.kind)
    };
    assert_eq!(aws.access_key_id, "ASIAX");
    assert_eq!(aws.secret_access_key.expose_secret(), "s");
    assert_eq!(aws.session_token.as_ref().unwrap().expose_secret(), "t");
    assert_eq!(aws.region.as_deref(), Some("us-west-2"));
    assert_eq!(aws.role_arn.as_deref(), Some(ROLE));
    assert_eq!(aws.external_id.as_ref().unwrap().expose_secret(), "e");
    assert_eq!(aws.role_session_name.as_deref(), Some("holdfast"));
    assert_eq!(
        detected.hints,
        [Hint::AwsRegionOfHost, Hint::TemporaryAwsKeys]
    );
}

#[test]
fn a_service_account_brings_its_project() {
    let pairs = [("GOOGLE_APPLICATION_CREDENTIALS", SERVICE_ACCOUNT)];
    let detected = detect_pairs("gcr.io", &pairs).unwrap();
    let Fields::Gcp(GcpFields::ServiceAccount { project_id, .. }) = detected.credential.fields()
    else {
        panic!("{:?}", detected.kind)
    };
    assert_eq!(project_id.as_deref(), Some("acme"));
    assert_eq!(detected.hints, []);
}

#[test]
fn the_path_of_an_image_does_not_decide() {
    for image in [
        "evil.com/gcr.io/x",
        "evil.com/123456789012.dkr.ecr.us-east-1.amazonaws.com/x",
    ] {
        let image = reference::Reference::parse(image).unwrap();
        let found = detect(image.registry(), &keys(&[("GCP_ACCESS_TOKEN", "t")]));
        assert!(
            matches!(found, Err(CredentialError::WrongRegistry { .. })),
            "{found:?}"
        );
    }
}

#[test]
fn every_key_and_value_is_looked_at() {
    let registry = Registry::parse("r.io").unwrap();
    let mut map = keys(&[("USERNAME", "u"), ("PASSWORD", "p")]);
    for value in [
        json!(7),
        json!(null),
        json!(true),
        json!(["p"]),
        json!({"a": "p"}),
    ] {
        map.insert("PASSWORD".to_owned(), value);
        let error = detect(&registry, &map).unwrap_err();
        assert_eq!(error, CredentialError::NotText { key: "PASSWORD" });
    }
    for value in ["", " ", "\n"] {
        map.insert("PASSWORD".to_owned(), json!(value));
        let error = detect(&registry, &map).unwrap_err();
        assert_eq!(error, CredentialError::Empty { key: "PASSWORD" });
    }
    map.insert("PASSWORD".to_owned(), json!("x".repeat(64 * 1024 + 1)));
    let error = detect(&registry, &map).unwrap_err();
    assert_eq!(
        error,
        CredentialError::TooLong {
            key: "PASSWORD",
            limit: 64 * 1024
        }
    );
    map.insert("PASSWROD".to_owned(), json!("x"));
    let error = detect(&registry, &map).unwrap_err();
    assert_eq!(
        error,
        CredentialError::UnknownKey {
            key: "PASSWROD".to_owned()
        }
    );
    assert_eq!(
        error.to_string(),
        "credential key \"PASSWROD\" is not known"
    );
    assert_eq!(error.hint().as_deref(), Some("did you mean PASSWORD?"));
}

#[test]
fn no_key_is_known_without_being_read() {
    for (key, family) in KNOWN_KEYS {
        // Alone at a registry that is of no service, a key must lead to an answer that names it.
        let found = detect_pairs("r.io", &[(key, "value")]);
        let named = match &found {
            Ok(detected) => detected.used_keys == [key],
            Err(error) => error.to_string().contains(key),
        };
        assert!(named, "{key} of {family:?}: {found:?}");
    }
}

#[test]
fn bare_tokens_get_the_user_of_their_service() {
    let token = || SecretString::from("t".to_owned());
    let table = [
        ("ghcr.io", None, Some(("x-access-token", "t"))),
        ("ghcr.io", Some("u"), Some(("u", "t"))),
        ("nvcr.io", None, Some(("$oauthtoken", "t"))),
        ("r.io", None, None),
    ];
    for (registry, username, expected) in table {
        let registry = Registry::parse(registry).unwrap();
        let detected = from_token(&registry, username, &token()).unwrap();
        let expected = expected.map(|(user, secret)| (user.to_owned(), secret.to_owned()));
        assert_eq!(parts(&detected), expected, "{registry}");
        assert_eq!(detected.credential.bearer().is_some(), expected.is_none());
    }
    let hub = from_token(&Registry::docker_hub(), None, &token()).unwrap_err();
    assert!(
        matches!(
            hub,
            CredentialError::Missing {
                missing: "REGISTRY_USERNAME",
                ..
            }
        ),
        "{hub}"
    );
}

#[test]
fn a_pasted_jwt_shows_its_end() {
    // {"exp":1700000000}
    let jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjE3MDAwMDAwMDB9.c2ln";
    for pairs in [
        [("USERNAME", "u"), ("PASSWORD", jwt)],
        [("REGISTRY_USERNAME", "u"), ("REGISTRY_TOKEN", jwt)],
    ] {
        let detected = detect_pairs("acme.azurecr.io", &pairs).unwrap();
        assert_eq!(detected.not_after.unwrap().as_second(), 1_700_000_000);
    }
}
