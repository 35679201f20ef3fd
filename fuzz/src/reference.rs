//! Image names, registries, scopes and digests: what is accepted has one canonical form.

use credential::RegistryScope;
use reference::{Digest, Reference, Registry, check_repository};
use url::{Host, Url};

use crate::text::check_message;

/// The input is a text that a user typed.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Reference::parse(&text) {
        Ok(reference) => check_reference(&reference, &text),
        Err(error) => check_message(&error.to_string()),
    }
    match Registry::parse(&text) {
        Ok(registry) => check_registry(&registry),
        Err(error) => check_message(&error.to_string()),
    }
    match RegistryScope::parse(&text) {
        Ok(scope) => check_scope(&scope),
        Err(error) => check_message(&error.to_string()),
    }
    match Digest::parse(&text) {
        Ok(digest) => assert_eq!(digest.as_str(), text),
        Err(error) => check_message(&error.to_string()),
    }
}

fn check_reference(reference: &Reference, text: &str) {
    assert_eq!(reference.typed(), text);
    let canonical = reference.canonical();
    let again = Reference::parse(&canonical).expect("a canonical name is a name");
    assert_eq!(&again, reference);
    assert_eq!(again.canonical(), canonical);
    assert_eq!(again.selector(), reference.selector());
    assert_eq!(again.origin(), reference.origin());
    assert!(canonical.starts_with(&reference.origin()));
    check_repository(reference.repository()).expect("a name holds a repository");
    check_registry(reference.registry());
    check_pinned(reference);
    let scope = RegistryScope::of_image(reference);
    assert!(scope.covers(reference.registry(), reference.repository()));
    check_scope(&scope);
}

fn check_pinned(reference: &Reference) {
    let digest = Digest::sha256([7; 32]);
    let pinned = reference.pinned(digest.clone());
    assert_eq!(pinned.digest(), Some(&digest));
    assert_eq!(pinned.tag(), reference.tag());
    assert_eq!(pinned.origin(), reference.origin());
    let again = Reference::parse(pinned.typed()).expect("a pinned name is a name");
    assert_eq!(again, pinned);
    assert_eq!(again.tag(), pinned.tag());
}

/// A registry must mean one host, to us and to the library that makes a URL of it.
fn check_registry(registry: &Registry) {
    let again = Registry::parse(registry.as_str()).expect("a registry prints as a registry");
    assert_eq!(&again, registry);
    assert_eq!(again.as_str(), registry.as_str());
    let canonical = Registry::parse(&registry.canonical()).expect("a canonical registry");
    assert_eq!(&canonical, registry);
    assert_eq!(canonical.canonical(), registry.canonical());
    let url = Url::parse(&format!("https://{}/v2/", registry.endpoint())).expect("a URL");
    let host = match url.host().expect("a URL of a registry has a host") {
        Host::Domain(domain) => domain.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    let dialled = registry.endpoint();
    assert!(
        dialled.trim_start_matches('[').starts_with(&host),
        "{dialled} is dialled as {host}"
    );
    assert_eq!(
        url.port_or_known_default(),
        Some(registry.port().unwrap_or(443))
    );
    assert!(url.username().is_empty() && url.password().is_none());
    assert_eq!(url.path(), "/v2/");
}

fn check_scope(scope: &RegistryScope) {
    let again = RegistryScope::parse(&scope.to_string()).expect("a scope prints as a scope");
    assert_eq!(&again, scope);
    assert_eq!(again.to_string(), scope.to_string());
    assert_eq!(again.secret_name(), scope.secret_name());
    let name = scope.secret_name();
    let parsed = credential::SecretName::parse(name.as_str()).expect("a scope has a good name");
    assert_eq!(parsed, name);
    assert!(name.is_of_registry());
}
