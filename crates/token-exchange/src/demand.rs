//! What a registry demands, read from its challenges.

use registry_client::Challenge;

/// What has to be sent to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// It lets everybody in, at least at its door.
    Nothing,
    Basic,
    Token(TokenDemand),
}

/// Where a token is had, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenDemand {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    /// Of the repository that was asked for, when the challenge was about one.
    pub(crate) scope: Option<String>,
}

/// The demand of a registry's door. Some answer 401 there and leave the challenge out.
pub(crate) fn of_door(status: u16, challenges: &[Challenge]) -> Option<Demand> {
    let is_silent = status == 401 && challenges.is_empty();
    read(status, challenges).or_else(|| is_silent.then_some(Demand::Basic))
}

/// The demand of a reply with this status; a refusal without a challenge states none. A registry
/// that offers both a token service and Basic gets a token: less of the credential travels.
pub(crate) fn read(status: u16, challenges: &[Challenge]) -> Option<Demand> {
    if (200..300).contains(&status) {
        return Some(Demand::Nothing);
    }
    let token = challenges
        .iter()
        .filter(|challenge| challenge.scheme == "bearer")
        .find_map(|challenge| Some((challenge, challenge.param("realm")?)));
    if let Some((challenge, realm)) = token {
        let text = |name| challenge.param(name).filter(|value| !value.is_empty());
        return Some(Demand::Token(TokenDemand {
            realm: realm.to_owned(),
            service: text("service").map(str::to_owned),
            scope: text("scope").and_then(pull_only),
        }));
    }
    let basic = challenges
        .iter()
        .any(|challenge| challenge.scheme == "basic");
    basic.then_some(Demand::Basic)
}

/// The first repository of a challenge's scope, with `pull` as its only action: more than that is
/// never asked for, whatever the registry suggests.
fn pull_only(scope: &str) -> Option<String> {
    scope.split(' ').find_map(|part| {
        let (kind, rest) = part.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let pulls = actions
            .split(',')
            .any(|action| action == "pull" || action == "*");
        let repository = kind == "repository" && pulls && is_name(name);
        repository.then(|| format!("repository:{name}:pull"))
    })
}

/// A name may hold a host and a port; beyond that, nothing that shapes a query.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    !name.is_empty() && name.len() <= 512 && name.bytes().all(known)
}

/// Whether a refusal says that the token is good and does not allow enough.
pub(crate) fn is_insufficient(challenges: &[Challenge]) -> bool {
    challenges
        .iter()
        .any(|challenge| challenge.param("error") == Some("insufficient_scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(status: u16, header: &str) -> Option<Demand> {
        read(status, &registry_client::challenge::parse([header]))
    }

    #[test]
    fn demands_are_read() {
        let token = |service: Option<&str>, scope: Option<&str>| {
            Some(Demand::Token(TokenDemand {
                realm: "https://a/t".to_owned(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            }))
        };
        let cases = [
            (200, "", Some(Demand::Nothing)),
            (401, "", None),
            (403, "", None),
            (401, "Negotiate", None),
            (401, "Negotiate, Basic realm=x", Some(Demand::Basic)),
            (401, "Bearer realm=\"https://a/t\"", token(None, None)),
            (
                401,
                "Basic realm=x, Bearer realm=\"https://a/t\",service=s",
                token(Some("s"), None),
            ),
            (
                401,
                "Bearer realm=\"https://a/t\",service=\"\",scope=\"\"",
                token(None, None),
            ),
            (401, "Bearer service=s", None),
            (
                401,
                "Bearer realm=\"https://a/t\",scope=\"repository:h:5000/a/b:pull,push\"",
                token(None, Some("repository:h:5000/a/b:pull")),
            ),
            (
                401,
                "Bearer realm=\"https://a/t\",scope=\"registry:catalog:*\"",
                token(None, None),
            ),
            (
                401,
                "Bearer realm=\"https://a/t\",scope=\"repository:a&b:pull\"",
                token(None, None),
            ),
        ];
        for (status, header, expected) in cases {
            assert_eq!(demand(status, header), expected, "{status} {header}");
        }
        assert_eq!(of_door(401, &[]), Some(Demand::Basic));
        assert_eq!(of_door(403, &[]), None);
    }
}
