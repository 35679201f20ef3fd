//! `WWW-Authenticate`: bounded, read back as written, and no credential led astray.

use reference::Registry;
use registry_client::{Challenge, Endpoint, challenge};
use token_exchange::fuzzing;

use crate::text::split_line;

/// As the reader has them.
const CHALLENGES_MAX: usize = 16;
const PARAMS_MAX: usize = 32;
const LINE_MAX_BYTES: usize = 16 * 1024;

/// Where tokens for a registry may be had although it is another host, as a user allows it.
const ALLOWED: &str = "tokens.example.com";

/// The first line is the registry, each other line is one header.
pub fn check(bytes: &[u8]) {
    let (registry, headers) = split_line(bytes);
    let headers = String::from_utf8_lossy(headers);
    let challenges = challenge::parse(headers.split('\n'));
    assert!(challenges.len() <= CHALLENGES_MAX);
    for challenge in &challenges {
        check_shape(challenge);
    }
    check_read_back(&challenges);
    let demand = fuzzing::token_demand(&challenges);
    if let Some((realm, scope)) = demand {
        check_scope(scope.as_deref());
        if let Ok(registry) = Registry::parse(&String::from_utf8_lossy(registry)) {
            check_realm(&registry, &realm);
        }
    }
}

fn check_shape(challenge: &Challenge) {
    assert!(!challenge.scheme.is_empty());
    assert!(challenge.params.len() <= PARAMS_MAX);
    for name in challenge.params.iter().map(|(name, _)| name) {
        assert!(!name.is_empty() && name.to_ascii_lowercase() == *name);
        assert!(challenge.param(name).is_some());
    }
    assert_eq!(challenge.scheme.to_ascii_lowercase(), challenge.scheme);
    assert!(challenge.token68.as_deref() != Some(""));
}

/// One challenge a line, all values quoted: the same challenges must come out.
fn check_read_back(challenges: &[Challenge]) {
    let lines: Vec<String> = challenges.iter().map(written).collect();
    if lines.iter().all(|line| line.len() <= LINE_MAX_BYTES) {
        assert_eq!(
            challenge::parse(lines.iter().map(String::as_str)),
            challenges,
            "{lines:?}"
        );
    }
}

fn written(challenge: &Challenge) -> String {
    let params = challenge.params.iter().map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name}=\"{value}\"")
    });
    let parts: Vec<String> = challenge
        .token68
        .clone()
        .into_iter()
        .chain(params)
        .collect();
    format!("{} {}", challenge.scheme, parts.join(", "))
}

/// Whatever the registry suggests, only pulling one repository is asked for.
fn check_scope(scope: Option<&str>) {
    let Some(scope) = scope else { return };
    let name = scope
        .strip_prefix("repository:")
        .and_then(|rest| rest.strip_suffix(":pull"))
        .expect("a scope is for pulling a repository");
    assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!name.contains([',', '&', '?', '#', '%', '"']));
}

fn check_realm(registry: &Registry, realm: &str) {
    let endpoint = Endpoint::new(registry.clone());
    for allowed in [None, Some(ALLOWED)] {
        let Some(url) = fuzzing::judge_realm(&endpoint, realm, allowed) else {
            continue;
        };
        let host = url.host_str().expect("a realm has a host");
        let own = registry.endpoint();
        let own = own
            .trim_start_matches('[')
            .starts_with(host.trim_matches(['[', ']']));
        let known = matches!(
            (registry.canonical().as_str(), host),
            ("docker.io", "auth.docker.io")
                | ("registry.gitlab.com", "gitlab.com")
                | ("registry.digitalocean.com", "api.digitalocean.com")
        );
        let by_user = allowed == Some(host) && url.port().is_none();
        assert!(
            own || known || by_user,
            "{registry} sends credentials to {url}"
        );
        assert_eq!(url.scheme(), "https");
        assert!(url.username().is_empty() && url.password().is_none());
        assert!(url.fragment().is_none());
    }
}
