//! What a key of such a file is for.
//!
//! ```text
//! https://index.docker.io/v1/   Docker Hub, where docker keeps it
//! ghcr.io, ghcr.io/acme         a registry; podman knows namespaces too
//! https://r.example/v2/         a registry, as docker wrote it before 1.7
//! ```

use reference::Registry;

use super::DockerLoginError;
use crate::scope::{DOCKER_HUB_LEGACY_KEY, ParseScopeError, RegistryScope};

/// Versions of the protocol, which stand where a path does and are none.
const VERSIONS: [&str; 2] = ["v1", "v2"];
/// What Docker Desktop keeps below Docker Hub's key for itself.
const DESKTOP_TOKENS: [&str; 2] = ["access-token", "refresh-token"];

/// Longest part of a key that is shown: hosts are no longer.
const SHOWN_CHARS: usize = 253;

/// What people may see of a key: some wrote `user:password@host`.
pub fn shown_key(key: &str) -> String {
    let (hidden, host) = match key.rsplit_once('@') {
        Some((_, host)) => ("…@", host),
        None => ("", key),
    };
    let seen = host.chars().filter(|character| !character.is_control());
    let seen: String = seen.take(SHOWN_CHARS).collect();
    format!("{hidden}{seen}")
}

/// What docker calls the registry of a scope where it asks for one.
pub fn server_of(registry: &Registry) -> String {
    if registry.is_docker_hub() {
        DOCKER_HUB_LEGACY_KEY.to_owned()
    } else {
        registry.to_string()
    }
}

/// Whether docker and podman would write the key of this scope so.
pub(super) fn is_own(key: &str, scope: &RegistryScope) -> bool {
    if scope.registry().is_docker_hub() && scope.path().is_none() {
        key == DOCKER_HUB_LEGACY_KEY
    } else {
        key == scope.to_string()
    }
}

/// The scope that a key, or what docker asks a helper for, stands for.
pub fn scope_of(key: &str) -> Result<RegistryScope, DockerLoginError> {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let text = bare.unwrap_or(key);
    if text.contains(['*', '?']) || (text.contains('[') && Registry::parse(host(text)).is_err()) {
        return Err(DockerLoginError::Pattern);
    }
    let Some((registry, path)) = text.split_once('/') else {
        return Ok(RegistryScope::parse(text)?);
    };
    let parsed = Registry::parse(registry).map_err(ParseScopeError::from)?;
    let path = path_of(path, bare.is_some() || parsed.is_docker_hub());
    if parsed.is_docker_hub() && DESKTOP_TOKENS.contains(&path) {
        return Err(DockerLoginError::DesktopToken);
    }
    if path.is_empty() {
        return Ok(RegistryScope::parse(registry)?);
    }
    Ok(RegistryScope::parse(&format!("{registry}/{path}"))?)
}

fn host(text: &str) -> &str {
    text.split_once('/').map_or(text, |(host, _)| host)
}

/// Without a version. A namespace may have the name of one, and then nothing behind it.
fn path_of(path: &str, is_legacy: bool) -> &str {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let is_version = VERSIONS.contains(&first);
    let ends_in_slash = path.len() > first.len() && rest.is_empty();
    if is_version && (is_legacy || ends_in_slash) {
        rest
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_ages_are_scopes() {
        let table = [
            ("https://index.docker.io/v1/", Ok("docker.io")),
            ("http://index.docker.io/v1/", Ok("docker.io")),
            ("https://index.docker.io/v2/", Ok("docker.io")),
            ("index.docker.io/v1/", Ok("docker.io")),
            ("index.docker.io", Ok("docker.io")),
            ("registry-1.docker.io", Ok("docker.io")),
            ("docker.io", Ok("docker.io")),
            ("docker.io/acme", Ok("docker.io/acme")),
            ("ghcr.io", Ok("ghcr.io")),
            ("GHCR.io", Ok("ghcr.io")),
            ("ghcr.io/acme", Ok("ghcr.io/acme")),
            ("ghcr.io/acme/app", Ok("ghcr.io/acme/app")),
            ("https://ghcr.io", Ok("ghcr.io")),
            ("https://ghcr.io/", Ok("ghcr.io")),
            ("https://r.example/v1/", Ok("r.example")),
            ("http://r.example:5000/v2/", Ok("r.example:5000")),
            ("http://r.example:5000/v2", Ok("r.example:5000")),
            ("https://r.example/v2/acme", Ok("r.example/acme")),
            ("https://r.example/acme", Ok("r.example/acme")),
            ("r.example/v2/", Ok("r.example")),
            // A namespace of podman's.
            ("r.example/v2", Ok("r.example/v2")),
            ("r.example/v2/x", Ok("r.example/v2/x")),
            ("localhost:5000", Ok("localhost:5000")),
            ("[::1]:5000", Ok("[::1]:5000")),
            ("*.example.com", Err("pattern")),
            ("app?.example.com", Err("pattern")),
            ("r[0-9].example.com", Err("pattern")),
            ("r.example/team-*", Err("pattern")),
            ("https://index.docker.io/v1/access-token", Err("Desktop")),
            ("https://index.docker.io/v1/refresh-token", Err("Desktop")),
            ("", Err("empty")),
            ("https://", Err("empty")),
            ("myregistry", Err("does not start with a registry")),
            ("r.example/Acme", Err("")),
            ("r.example/app:v1", Err("tag")),
            ("ftp://r.example", Err("")),
        ];
        for (key, expected) in table {
            match (scope_of(key), expected) {
                (Ok(scope), Ok(shown)) => assert_eq!(scope.to_string(), shown, "{key}"),
                (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{key}"),
                (scope, _) => panic!("{key}: {scope:?}"),
            }
        }
    }

    #[test]
    fn a_password_in_a_key_is_not_shown() {
        assert_eq!(shown_key("https://u:p@w@r.example"), "…@r.example");
        assert_eq!(shown_key("r.example"), "r.example");
        assert_eq!(shown_key("r\u{1b}[2J"), "r[2J");
        assert_eq!(shown_key(&"a".repeat(1000)).len(), SHOWN_CHARS);
    }
}
