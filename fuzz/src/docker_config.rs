//! Logins that docker, podman, Kubernetes and credential helpers keep: scopes are scopes, helpers
//! are no paths, nothing is shown.

use std::collections::BTreeSet;

use credential::docker_config::{DockerConfig, DockerLogin, Source, keep_first_of_each_scope};
use credential::docker_helper::{HelperName, read_list, read_reply};
use credential::kubelet::KubeletRequest;
use credential::{Detected, ExposeSecret, RegistryScope, SecretString};
use reference::Registry;

use crate::credential::check_kept;
use crate::text::check_message;

/// A secret at least this long is hardly in a message by accident.
const TELLING_BYTES: usize = 16;

/// All of it is one file, one answer of a helper and one question of a kubelet.
pub fn check(bytes: &[u8]) {
    check_reply(bytes);
    check_kubelet(bytes);
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match DockerConfig::parse(&SecretString::from(text)) {
        Ok(config) => check_config(config),
        Err(error) => check_message(&error.to_string()),
    }
}

fn check_config(config: DockerConfig) {
    if let Some(store) = &config.store {
        check_helper(store);
    }
    let mut logins = config.logins;
    for login in &logins {
        check_login(login);
    }
    keep_first_of_each_scope(&mut logins);
    let scopes = logins.iter().filter_map(|login| login.found.as_ref().ok());
    let scopes: Vec<&RegistryScope> = scopes.map(|found| &found.scope).collect();
    let different: BTreeSet<&RegistryScope> = scopes.iter().copied().collect();
    assert_eq!(different.len(), scopes.len(), "two logins for one scope");
}

fn check_login(login: &DockerLogin) {
    check_message(&login.key);
    let found = match &login.found {
        Ok(found) => found,
        Err(error) => return check_message(&error.to_string()),
    };
    let shown = found.scope.to_string();
    assert_eq!(RegistryScope::parse(&shown).as_ref(), Ok(&found.scope));
    match &found.source {
        Source::File(detected) => check_detected(detected),
        Source::Helper { name, .. } => check_helper(name),
    }
}

fn check_helper(name: &HelperName) {
    let program = name.program();
    assert!(!program.contains(['/', '\0']) && program.len() > "docker-credential-".len());
}

fn check_detected(detected: &Detected) {
    check_kept(&detected.credential);
    let shown = format!("{detected:?}");
    if let Some((_, secret)) = detected.credential.basic_parts() {
        let secret = secret.expose_secret();
        assert!(secret.len() < TELLING_BYTES || !shown.contains(secret));
    }
}

fn check_kubelet(bytes: &[u8]) {
    match KubeletRequest::parse(bytes) {
        Ok(request) => {
            let response = request.response(None);
            serde_json::from_str::<serde_json::Value>(&response).expect("JSON");
        }
        Err(error) => check_message(&error.to_string()),
    }
}

fn check_reply(bytes: &[u8]) {
    let registry = Registry::parse("r.example").expect("a registry");
    match read_reply(&registry, bytes) {
        Ok(detected) => check_detected(&detected),
        Err(error) => check_message(&error.to_string()),
    }
    if let Err(error) = read_list(bytes) {
        check_message(&error.to_string());
    }
}
