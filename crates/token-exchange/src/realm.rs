//! Which token service may see a credential.
//!
//! A registry names its token service in a header, and whoever can forge or misconfigure that
//! header would have the credential sent anywhere. So: the registry's own host (any port: GitLab's
//! registry and its token service share a host and differ in port), the service that a well-known
//! registry is known to use, or the host that the user allowed. The address policy of `dial` holds
//! besides.

use credential::auth::AuthError;
use dial::Url;
use registry_client::Endpoint;

/// Registries whose token service is elsewhere: registry host, token service host.
const KNOWN_PAIRS: [(&str, &str); 3] = [
    ("docker.io", "auth.docker.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];

/// Longest realm that is read. Real ones are below 100 bytes.
const MAX_REALM_BYTES: usize = 2048;

/// The URL of the token service, when this credential may go there.
///
/// `base` is the registry's own origin as it is dialled; `allowed` is `host` or `host:port`.
pub(crate) fn judge(
    endpoint: &Endpoint,
    base: &Url,
    realm: &str,
    allowed: Option<&str>,
) -> Result<Url, AuthError> {
    let registry = &endpoint.registry;
    let shown = dial::quoted(realm.as_bytes(), 120);
    let refused = |why: String| AuthError::Refused { message: why };
    let mut url = Url::parse(realm)
        .ok()
        .filter(|_| realm.len() <= MAX_REALM_BYTES)
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
        .ok_or_else(|| {
            refused(format!(
                "{registry} names {shown} as its token service, which is no URL"
            ))
        })?;
    url.set_fragment(None);
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(format!(
            "{registry} names a token service with a user name or password in its URL"
        )));
    }
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    if url.scheme() == "http" && base.scheme() != "http" {
        return Err(refused(format!(
            "{registry} names {shown} as its token service, and a credential does not go over \
             plain http"
        )));
    }
    if is_own_host(base, &host) || is_known_pair(endpoint, &url, &host) || is_allowed(&url, allowed)
    {
        return Ok(url);
    }
    let service = authority(&url);
    Err(refused(format!(
        "{registry} names {service} as its token service, which is another host; if that is right, \
         log in again with --token-service {service}"
    )))
}

fn is_own_host(base: &Url, host: &str) -> bool {
    base.host_str()
        .is_some_and(|own| own.eq_ignore_ascii_case(host))
}

/// A known pair holds for the usual port only.
fn is_known_pair(endpoint: &Endpoint, url: &Url, host: &str) -> bool {
    let registry = endpoint.registry.canonical();
    url.scheme() == "https"
        && url.port().is_none()
        && KNOWN_PAIRS
            .iter()
            .any(|(known, service)| *known == registry && *service == host)
}

/// Without a port, what the user allowed is the usual port of the scheme, and without a scheme it
/// is either. It is read as the realm was, so that an address may be written in any way.
fn is_allowed(url: &Url, allowed: Option<&str>) -> bool {
    let Some(allowed) = allowed else { return false };
    let allowed = allowed.trim();
    let (scheme, allowed) = allowed.split_once("://").unwrap_or((url.scheme(), allowed));
    let allowed = allowed.split('/').next().unwrap_or_default();
    let allowed = Url::parse(&format!("{scheme}://{allowed}/"));
    allowed.is_ok_and(|allowed| allowed == same_place(url))
}

/// The URL without its path and query.
fn same_place(url: &Url) -> Url {
    let mut place = url.clone();
    place.set_path("/");
    place.set_query(None);
    place
}

/// `host` or `host:port` of a URL, as a user would type it.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reference::Registry;

    fn allows(registry: &str, realm: &str, allowed: Option<&str>) -> Result<Url, AuthError> {
        let endpoint = Endpoint::new(Registry::parse(registry).expect("registry"));
        let scheme = if endpoint.registry.is_loopback() {
            "http"
        } else {
            "https"
        };
        let base = format!("{scheme}://{}/", endpoint.registry.endpoint());
        judge(&endpoint, &Url::parse(&base).expect("url"), realm, allowed)
    }

    #[test]
    fn realms_that_belong_to_the_registry_are_allowed() {
        let cases = [
            ("ghcr.io", "https://ghcr.io/token", None),
            ("GHCR.io", "https://GHCR.IO/token?x=y", None),
            ("docker.io", "https://auth.docker.io/token", None),
            ("index.docker.io", "https://auth.docker.io/token", None),
            ("registry.gitlab.com", "https://gitlab.com/jwt/auth", None),
            ("git.example:5050", "https://git.example/jwt/auth", None),
            ("127.0.0.1:5000", "http://127.0.0.1:5001/token", None),
            (
                "r.example",
                "https://auth.example/token",
                Some("auth.example"),
            ),
            (
                "r.example",
                "https://auth.example/token",
                Some("https://auth.example/"),
            ),
            (
                "r.example",
                "https://auth.example/token",
                Some("auth.example:443"),
            ),
            (
                "r.example",
                "https://auth.example:8443/token",
                Some("AUTH.example:8443"),
            ),
            (
                "r.example",
                "https://[fd12::10.0.0.1]:8443/token",
                Some("[FD12:0::a00:1]:8443"),
            ),
        ];
        for (registry, realm, allowed) in cases {
            let judged = allows(registry, realm, allowed);
            assert!(judged.is_ok(), "{registry} {realm}: {judged:?}");
        }
    }

    /// Registry, its realm, what the user allowed (`-` for nothing), what the refusal names.
    const REFUSED: &str = "
        ghcr.io                 https://evil.example/token          -   evil.example
        ghcr.io                 https://ghcr.io.evil.example/token  -   ghcr.io.evil.example
        ghcr.io                 https://evilghcr.io/token           -   evilghcr.io
        ghcr.io                 https://auth.docker.io/token        -   auth.docker.io
        docker.io               https://auth.docker.io:8443/token   -   auth.docker.io:8443
        docker.io.evil.example  https://auth.docker.io/token        -   auth.docker.io
        docker.io:444           https://auth.docker.io/token        -   auth.docker.io
        ghcr.io                 http://ghcr.io/token                -   plain
        ghcr.io                 https://user:pw@ghcr.io/token       -   user
        ghcr.io                 https://ghcr.io@evil.example/token  -   user
        ghcr.io                 file:///etc/passwd                  -   URL
        ghcr.io                 /token                              -   URL
        ghcr.io                 https://169.254.169.254/latest      -   169.254.169.254
        r.example               https://auth.example:8443/t         auth.example  auth.example:8443
        r.example               https://sub.auth.example/t          auth.example  sub.auth.example
        r.example               https://evil.example/t              /   evil.example
        r.example               https://evil.example/t              auth.example@evil.example  evil
        127.0.0.1:5000          http://auth.example/t               auth.example:443  auth.example
        127.0.0.1:5000          http://localhost:5001/t             -   localhost:5001
        127.0.0.1:5000          http://auth.example/t               https://auth.example  auth
        127.0.0.1:5000          http://auth.example:81/t  https://auth.example:81  auth.example:81
        127.0.0.1:5000          https://auth.example/t              http://auth.example   auth
    ";

    #[test]
    fn other_realms_are_refused_by_name() {
        for line in REFUSED.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [registry, realm, allowed, expected] = words[..] else {
                panic!("{line}")
            };
            let allowed = Some(allowed).filter(|allowed| *allowed != "-");
            match allows(registry, realm, allowed) {
                Err(AuthError::Refused { message }) => {
                    assert!(message.contains(expected), "{line}: {message}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_says_how_to_allow_the_service() {
        let refused = allows("r.example", "https://auth.example/token", None);
        let message = refused.unwrap_err().to_string();
        assert!(
            message.ends_with("--token-service auth.example"),
            "{message}"
        );
    }
}
