//! Credentials as a user gives them and as they are stored: nothing is lost, nothing is shown.

use std::collections::BTreeMap;

use credential::{Credential, CredentialKind, ExposeSecret, KNOWN_KEYS, SecretString, detect};
use reference::Registry;
use serde_json::Value;

use crate::text::{check_message, split_line};

/// A value at least this long is hardly in a message by accident.
const TELLING_BYTES: usize = 16;

/// The first line is the registry, the rest a JSON object of keys or a stored credential.
pub fn check(bytes: &[u8]) {
    let (registry, json) = split_line(bytes);
    check_stored(&String::from_utf8_lossy(json));
    let Ok(registry) = Registry::parse(&String::from_utf8_lossy(registry)) else {
        return;
    };
    if let Ok(keys) = serde_json::from_slice::<BTreeMap<String, Value>>(json) {
        check_keys(&registry, &keys);
    }
    if let Ok(text) = str::from_utf8(json) {
        check_token(&registry, text);
    }
}

fn check_keys(registry: &Registry, keys: &BTreeMap<String, Value>) {
    match detect(registry, keys) {
        Ok(detected) => {
            assert!(detected.used_keys.iter().all(|key| keys.contains_key(*key)));
            assert_eq!(
                detected.used_keys.len(),
                keys.len(),
                "a key was left unread"
            );
            assert_eq!(detected.kind, detected.credential.kind());
            assert_eq!(keys.is_empty(), detected.kind == CredentialKind::Public);
            check_kept(&detected.credential);
        }
        Err(error) => {
            check_message(&error.to_string());
            check_message(&error.hint().unwrap_or_default());
        }
    }
    check_silent(registry, keys);
}

/// All that people may see of these keys.
fn shown(registry: &Registry, keys: &BTreeMap<String, Value>) -> String {
    match detect(registry, keys) {
        Ok(detected) => {
            let hints: Vec<_> = detected.hints.iter().map(ToString::to_string).collect();
            format!("{} {detected:?}", hints.join(" "))
        }
        Err(error) => format!("{error} {}", error.hint().unwrap_or_default()),
    }
}

/// No value is in what is shown, unless the user wrote it elsewhere too, or it is said of any other
/// value as well.
fn check_silent(registry: &Registry, keys: &BTreeMap<String, Value>) {
    let shown_of_these = shown(registry, keys);
    let public = |value: &str| {
        registry.as_str().contains(value)
            || keys.keys().any(|key| key.contains(value))
            || KNOWN_KEYS.iter().any(|(key, _)| key.contains(value))
    };
    for (key, value) in keys {
        let Some(value) = value.as_str().filter(|value| value.len() >= TELLING_BYTES) else {
            continue;
        };
        if public(value) || !shown_of_these.contains(value) {
            continue;
        }
        let mut others = keys.clone();
        others.insert(key.clone(), Value::String("z".repeat(value.len())));
        assert!(
            shown(registry, &others).contains(value),
            "{value:?} is shown in {shown_of_these:?}"
        );
    }
}

/// What is stored comes back, and is stored again as the same text.
pub(crate) fn check_kept(credential: &Credential) {
    let stored = credential.to_stored();
    let again = Credential::from_stored(&stored).expect("what was stored is read");
    assert_eq!(again.kind(), credential.kind());
    assert_eq!(again.to_stored().expose_secret(), stored.expose_secret());
    assert_eq!(again.not_after(), credential.not_after());
    let parts = |credential: &Credential| {
        let (user, password) = credential.basic_parts()?;
        Some((user.to_owned(), password.expose_secret().to_owned()))
    };
    assert_eq!(parts(&again), parts(credential));
    let shown = format!("{credential:?} {:?}", credential.fields());
    check_message(&shown);
}

fn check_stored(text: &str) {
    match Credential::from_stored(&SecretString::from(text.to_owned())) {
        Ok(credential) => check_kept(&credential),
        Err(error) => check_message(&error.to_string()),
    }
}

fn check_token(registry: &Registry, text: &str) {
    let (user, token) = text
        .split_once('\n')
        .map_or((None, text), |(user, token)| (Some(user), token));
    match credential::from_token(registry, user, &SecretString::from(token.to_owned())) {
        Ok(detected) => check_kept(&detected.credential),
        Err(error) => check_message(&error.to_string()),
    }
}
