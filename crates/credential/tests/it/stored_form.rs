//! The stored form keeps everything, and refuses what it does not know.

use credential::{
    Credential, CredentialError, CredentialKind, ExposeSecret, SecretString, StoredCredentialError,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{ECR, EXTERNAL_ACCOUNT, GUID, ROLE, SERVICE_ACCOUNT, detect_pairs};

fn load(text: &str) -> Result<Credential, StoredCredentialError> {
    Credential::from_stored(&SecretString::from(text.to_owned()))
}

/// One credential of every form, by way of its keys.
pub(crate) fn one_of_each(secret: &str) -> Vec<Credential> {
    let account = SERVICE_ACCOUNT.replace("CANARY", &secret.replace(['"', '\\'], "x"));
    let tables: [(&str, Vec<(&str, &str)>); 10] = [
        ("r.io", vec![]),
        ("r.io", vec![("USERNAME", secret), ("PASSWORD", secret)]),
        ("r.io", vec![("REGISTRY_TOKEN", secret)]),
        (
            "ghcr.io",
            vec![("GITHUB_USERNAME", secret), ("GITHUB_TOKEN", secret)],
        ),
        (
            ECR,
            vec![
                ("AWS_ACCESS_KEY_ID", "AKIAX"),
                ("AWS_SECRET_ACCESS_KEY", secret),
                ("AWS_SESSION_TOKEN", secret),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ROLE_ARN", ROLE),
                ("AWS_EXTERNAL_ID", secret),
                ("AWS_ROLE_SESSION_NAME", "holdfast"),
            ],
        ),
        (
            "gcr.io",
            vec![("GCP_ACCESS_TOKEN", secret), ("GCP_PROJECT_ID", secret)],
        ),
        ("gcr.io", vec![("GOOGLE_APPLICATION_CREDENTIALS", &account)]),
        (
            "gcr.io",
            vec![
                ("GOOGLE_APPLICATION_CREDENTIALS", EXTERNAL_ACCOUNT),
                ("GCP_SUBJECT_TOKEN", secret),
            ],
        ),
        (
            "acme.azurecr.io",
            vec![
                ("AZURE_CLIENT_ID", GUID),
                ("AZURE_CLIENT_SECRET", secret),
                ("AZURE_TENANT_ID", GUID),
            ],
        ),
        (
            "acme.azurecr.us",
            vec![
                ("AZURE_CLIENT_ID", GUID),
                ("AZURE_FEDERATED_TOKEN", secret),
                ("AZURE_TENANT_ID", "contoso.com"),
            ],
        ),
    ];
    let detect = |(registry, pairs): (&str, Vec<(&str, &str)>)| {
        detect_pairs(registry, &pairs).expect(registry).credential
    };
    tables.into_iter().map(detect).collect()
}

/// One credential without a secret for each cloud.
fn keyless() -> Vec<Credential> {
    let tables: [(&str, &[(&str, &str)]); 3] = [
        (
            ECR,
            &[
                ("AWS_ROLE_ARN", ROLE),
                ("AWS_ROLE_SESSION_NAME", "holdfast"),
                ("AWS_REGION", "us-east-1"),
            ],
        ),
        (
            "gcr.io",
            &[
                ("GOOGLE_APPLICATION_CREDENTIALS", EXTERNAL_ACCOUNT),
                ("GCP_PROJECT_ID", "acme"),
            ],
        ),
        (
            "acme.azurecr.io",
            &[("AZURE_CLIENT_ID", GUID), ("AZURE_TENANT_ID", GUID)],
        ),
    ];
    let detect = |(registry, pairs): (&str, &[(&str, &str)])| {
        detect_pairs(registry, pairs).expect(registry).credential
    };
    tables.into_iter().map(detect).collect()
}

#[test]
fn what_is_keyless_stays_so_and_takes_no_secret_beside() {
    for credential in keyless() {
        let stored = credential.to_stored();
        let text = stored.expose_secret();
        assert!(credential.is_keyless() && credential.is_traded(), "{text}");
        assert!(Credential::from_stored(&stored).unwrap().is_keyless());
        assert!(credential.not_after().is_none() && credential.basic_parts().is_none());
        for name in [
            "secret_access_key",
            "subject_token",
            "federated_token",
            "client_secret",
            "access_token",
        ] {
            let beside = format!("\"fields\":{{\"{name}\":\"s\",");
            let text = text.replacen("\"fields\":{", &beside, 1);
            let loaded = load(&text);
            assert!(!loaded.is_ok_and(|loaded| loaded.is_keyless()), "{text}");
        }
        assert!(
            load(&text.replacen("\"yes\"", "\"no\"", 1)).is_err(),
            "{text}"
        );
    }
}

#[test]
fn every_credential_comes_back_whole() {
    let all = one_of_each("se\"cret\\").into_iter();
    for credential in all.chain(keyless()) {
        let stored = credential.to_stored();
        let back = Credential::from_stored(&stored).unwrap();
        assert_eq!(back.kind(), credential.kind());
        assert_eq!(back.to_stored().expose_secret(), stored.expose_secret());
        let value: Value = serde_json::from_str(stored.expose_secret()).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["kind"], credential.kind().as_str());
    }
}

#[test]
fn the_form_of_version_1_does_not_change() {
    let table = [
        (
            r#"{"version":1,"kind":"public","fields":{}}"#,
            CredentialKind::Public,
        ),
        (
            r#"{"version":1,"kind":"basic","fields":{"password":"p","username":"u"}}"#,
            CredentialKind::Basic,
        ),
        (
            r#"{"version":1,"kind":"token","fields":{"token":"t"}}"#,
            CredentialKind::Token,
        ),
        (
            r#"{"version":1,"kind":"token","fields":{"token":"t","username":"u"}}"#,
            CredentialKind::Token,
        ),
        (
            r#"{"version":1,"kind":"aws","fields":{"access_key_id":"i","secret_access_key":"s"}}"#,
            CredentialKind::Aws,
        ),
        (
            r#"{"version":1,"kind":"gcp","fields":{"access_token":"t","project_id":"p"}}"#,
            CredentialKind::Gcp,
        ),
        (
            r#"{"version":1,"kind":"gcp","fields":{"service_account_json":"{}"}}"#,
            CredentialKind::Gcp,
        ),
        (
            r#"{"version":1,"kind":"gcp","fields":{"audience":"a","subject_token":"t","subject_token_type":"jwt"}}"#,
            CredentialKind::Gcp,
        ),
        (
            r#"{"version":1,"kind":"azure","fields":{"client_id":"c","client_secret":"s"}}"#,
            CredentialKind::Azure,
        ),
        (
            r#"{"version":1,"kind":"azure","fields":{"client_id":"c","federated_token":"t","tenant_id":"d"}}"#,
            CredentialKind::Azure,
        ),
    ];
    for (text, kind) in table {
        let credential = load(text).expect(text);
        assert_eq!(credential.kind(), kind);
        assert_eq!(credential.to_stored().expose_secret(), text);
    }
}

#[test]
fn what_is_not_known_is_refused() {
    let kind = CredentialKind::Basic;
    let table = [
        ("", StoredCredentialError::NotStoredForm),
        ("[]", StoredCredentialError::NotStoredForm),
        ("{}", StoredCredentialError::NotStoredForm),
        ("user:password", StoredCredentialError::NotStoredForm),
        (
            r#"{"version":"1","kind":"public","fields":{}}"#,
            StoredCredentialError::NotStoredForm,
        ),
        (
            r#"{"version":1,"kind":"public"}"#,
            StoredCredentialError::NotStoredForm,
        ),
        (
            r#"{"version":1,"kind":"public","fields":{},"more":1}"#,
            StoredCredentialError::NotStoredForm,
        ),
        (
            r#"{"version":1,"kind":"public","fields":{},"credentials":{}}"#,
            StoredCredentialError::NotStoredForm,
        ),
        (
            r#"{"version":1,"kind":"basic","fields":{"username":7,"password":"p"}}"#,
            StoredCredentialError::NotStoredForm,
        ),
        (
            r#"{"version":2,"kind":"public","fields":{}}"#,
            StoredCredentialError::UnsupportedVersion { version: 2 },
        ),
        (
            r#"{"version":1,"kind":"Basic","fields":{}}"#,
            StoredCredentialError::UnknownKind,
        ),
        (
            r#"{"version":1,"kind":"basic","fields":{"username":"u"}}"#,
            StoredCredentialError::MissingField {
                kind,
                field: "password",
            },
        ),
        (
            r#"{"version":1,"kind":"basic","fields":{"username":"u","password":"p","x":"y"}}"#,
            StoredCredentialError::UnknownField { kind },
        ),
    ];
    for (text, expected) in table {
        assert_eq!(load(text).unwrap_err(), expected, "{text}");
    }
    assert_eq!(
        load(&" ".repeat(1024 * 1024 + 1)).unwrap_err(),
        StoredCredentialError::TooLong
    );
}

#[test]
fn what_beta9_stored_is_read() {
    let table = [
        ("docker.io", "public", json!({}), CredentialKind::Public),
        (
            "docker.io",
            "basic",
            json!({"USERNAME": "u", "PASSWORD": "p"}),
            CredentialKind::Basic,
        ),
        (
            "docker.io",
            "basic",
            json!({"DOCKERHUB_USERNAME": "u", "DOCKERHUB_PASSWORD": "p"}),
            CredentialKind::Basic,
        ),
        (
            "ghcr.io",
            "token",
            json!({"GITHUB_USERNAME": "u", "GITHUB_TOKEN": "t"}),
            CredentialKind::Token,
        ),
        (
            "nvcr.io",
            "token",
            json!({"NGC_API_KEY": "k"}),
            CredentialKind::Token,
        ),
        (
            "us-docker.pkg.dev",
            "gcp",
            json!({"GCP_ACCESS_TOKEN": "t"}),
            CredentialKind::Gcp,
        ),
        (
            ECR,
            "aws",
            json!({"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"}),
            CredentialKind::Aws,
        ),
        (
            "r.io:5000",
            "unknown",
            json!({"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"}),
            CredentialKind::Basic,
        ),
    ];
    for (registry, kind, credentials, expected) in table {
        let text = json!({"registry": registry, "type": kind, "credentials": credentials});
        let credential = load(&text.to_string()).expect(registry);
        assert_eq!(credential.kind(), expected, "{text}");
    }
}

#[test]
fn what_beta9_stored_and_is_no_use_is_refused() {
    let wrong = |error| StoredCredentialError::Beta9(error);
    let table = [
        (
            json!({"registry": "", "type": "basic", "credentials": {}}),
            StoredCredentialError::Beta9Registry,
        ),
        (
            json!({"registry": "r.io", "type": "odd", "credentials": {}}),
            StoredCredentialError::UnknownKind,
        ),
        (
            json!({"registry": "r.io", "type": 7, "credentials": {}}),
            StoredCredentialError::NotStoredForm,
        ),
        (
            json!({"registry": "r.io", "credentials": {}}),
            StoredCredentialError::NotStoredForm,
        ),
        (
            json!({"registry": "r.io", "type": "basic", "credentials": []}),
            StoredCredentialError::NotStoredForm,
        ),
        (
            json!({"registry": "r.io", "type": "basic", "credentials": {"USERNAME": 7}}),
            wrong(CredentialError::NotText { key: "USERNAME" }),
        ),
        (
            json!({"registry": "r.io", "type": "basic", "credentials": {"USERNAME": "u"}}),
            wrong(CredentialError::Missing {
                given: "USERNAME",
                missing: "PASSWORD",
            }),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(load(&text.to_string()).unwrap_err(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in ".{0,200}") {
        let _ = load(&text);
    }

    #[test]
    fn any_user_and_password_come_back(username in "[^:]{1,40}", password in any::<String>()) {
        let secret = SecretString::from(password.clone());
        let stored = Credential::basic(username.clone(), secret).to_stored();
        let back = Credential::from_stored(&stored).unwrap();
        let (user, secret) = back.basic_parts().unwrap();
        prop_assert_eq!((user, secret.expose_secret()), (username.as_str(), password.as_str()));
    }
}
