//! No secret shows in anything that can be printed: `Debug` of every type, every error and hint.

use std::collections::BTreeMap;
use std::fmt::Debug;

use credential::auth::{AuthScheme, RegistryAuth};
use credential::{CredentialError, ExposeSecret, KNOWN_KEYS, SecretString, detect, from_token};
use reference::Registry;
use serde_json::json;

use crate::stored_form::one_of_each;
use crate::{ECR, SERVICE_ACCOUNT, keys};

const CANARY: &str = "CANARYSECRET";

fn assert_silent(thing: &dyn Debug) {
    for shown in [format!("{thing:?}"), format!("{thing:#?}")] {
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}

#[test]
fn debug_of_every_type_is_silent() {
    for credential in one_of_each(CANARY) {
        assert_silent(&credential);
        assert_silent(credential.fields());
        assert_silent(&credential.to_stored());
        assert_silent(&credential.basic_parts().map(|(_, password)| password));
        let stored = credential.to_stored();
        assert!(credential.kind().as_str() == "public" || stored.expose_secret().contains(CANARY));
    }
    let secret = || SecretString::from(CANARY.to_owned());
    let basic = AuthScheme::Basic {
        username: CANARY.to_owned(),
        password: secret(),
    };
    for scheme in [AuthScheme::Anonymous, basic, AuthScheme::Bearer(secret())] {
        assert_silent(&scheme);
        assert_silent(&RegistryAuth {
            scheme,
            not_after: None,
            serial: 7,
        });
    }
    let registry = Registry::parse("ghcr.io").unwrap();
    assert_silent(&from_token(&registry, Some(CANARY), &secret()).unwrap());
}

fn assert_silent_error(error: &CredentialError) {
    assert_silent(error);
    let shown = format!("{error} {:?}", error.hint());
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn answers_to_every_key_are_silent() {
    let values = [
        CANARY.to_owned(),
        format!("{CANARY}\n"),
        format!("{CANARY}:x"),
        format!("/{CANARY}.json"),
        format!("{{{CANARY}"),
        SERVICE_ACCOUNT.replace("service_account", CANARY),
        CANARY.repeat(6000),
    ];
    for registry in [
        "r.io",
        "ghcr.io",
        "docker.io",
        "gcr.io",
        "acme.azurecr.io",
        "nvcr.io",
        ECR,
    ] {
        let registry = Registry::parse(registry).unwrap();
        for ((first, _), (second, _)) in KNOWN_KEYS.iter().zip(KNOWN_KEYS.iter().cycle().skip(1)) {
            for value in &values {
                match detect(&registry, &keys(&[(first, value), (second, value)])) {
                    Ok(detected) => assert_silent(&detected),
                    Err(error) => assert_silent_error(&error),
                }
            }
        }
    }
}

#[test]
fn a_secret_in_the_place_of_a_key_is_not_repeated() {
    let registry = Registry::parse("r.io").unwrap();
    for key in [
        "ghp_CANARY",
        "glpat-CANARY",
        "AKIACANARY",
        "CANARY\n",
        "CANARYCANARYCANARYCANARYCANARYCANARY",
        "CANARY-pass",
        "4CANARY",
        "",
    ] {
        let map = BTreeMap::from([(key.to_owned(), json!("x"))]);
        silent(&detect(&registry, &map).unwrap_err());
    }
    // Elements of a list where names of keys belong are keys without values.
    for key in ["CANARY", "Apassw0rd", "PASSWORT", "password"] {
        let map = BTreeMap::from([(key.to_owned(), json!(""))]);
        silent(&detect(&registry, &map).unwrap_err());
    }
    let map = BTreeMap::from([("passw0rd".to_owned(), json!("x"))]);
    silent(&detect(&registry, &map).unwrap_err());
    let map = BTreeMap::from([("password".to_owned(), json!("x"))]);
    let hint = detect(&registry, &map).unwrap_err().hint();
    assert_eq!(hint.as_deref(), Some("did you mean PASSWORD?"));
}

/// The same is said of all that is in the place of a key.
fn silent(error: &CredentialError) {
    assert_eq!(*error, CredentialError::NotKey { meant: None });
    let message = "one of the credential's keys is not the name of a key";
    assert_eq!(error.to_string(), message);
}
