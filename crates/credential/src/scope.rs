//! [`RegistryScope`]: what a credential is for, and which of several is meant. Matches whole hosts
//! and whole parts of a path: `reg.io/par` says nothing about `reg.io/partial`.

use std::fmt;
use std::str::FromStr;

use reference::{ParseRegistryError, ParseRepositoryError, Reference, Registry, check_repository};

use crate::secret_name::SecretName;

/// The key under which Docker's own configuration keeps Docker Hub's credential.
pub(crate) const DOCKER_HUB_LEGACY_KEY: &str = "https://index.docker.io/v1/";
/// Longest text that is read as a scope: a host, a port and a path at their limits fit.
const TEXT_LIMIT: usize = 1024;

/// A registry and, perhaps, a prefix of its repositories.
///
/// On Docker Hub the prefix is of the full path: `docker.io/library/ubuntu` is the official image,
/// `docker.io/ubuntu` the repositories of a user of that name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryScope {
    registry: Registry,
    path: Option<String>,
}

/// Why a text is not a registry scope. Messages never repeat the text: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseScopeError {
    #[error("registry scope is empty")]
    Empty,
    #[error("registry scope is longer than {TEXT_LIMIT} bytes")]
    TooLong,
    #[error("registry scope starts with a scheme")]
    Scheme,
    #[error("registry scope does not start with a registry")]
    NoRegistry,
    #[error("registry scope ends in a tag or digest")]
    TagOrDigest,
    #[error(transparent)]
    Registry(#[from] ParseRegistryError),
    #[error(transparent)]
    Repository(#[from] ParseRepositoryError),
}

impl ParseScopeError {
    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Scheme => Some("write the registry alone, as in registry.example.com/team"),
            Self::NoRegistry => Some(
                "name the registry first: docker.io/NAME for Docker Hub, HOST:443 for a \
                      host without a dot",
            ),
            Self::TagOrDigest => Some("leave the tag or digest away: a credential is for all"),
            Self::Repository(ParseRepositoryError::UpperCase) => {
                Some("registries store repositories in lower case only; write it in lower case")
            }
            _ => None,
        }
    }
}

impl RegistryScope {
    /// Reads `registry` or `registry/path/prefix`. The registry must be named.
    pub fn parse(text: &str) -> Result<Self, ParseScopeError> {
        if text.len() > TEXT_LIMIT {
            return Err(ParseScopeError::TooLong);
        }
        if text == DOCKER_HUB_LEGACY_KEY {
            return Ok(Self::of_registry(Registry::docker_hub()));
        }
        if text.contains("://") {
            return Err(ParseScopeError::Scheme);
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        let (registry, path) = match text.split_once('/') {
            Some((registry, path)) => (registry, Some(path)),
            None => (text, None),
        };
        if path.is_some_and(|path| path.contains([':', '@'])) {
            return Err(ParseScopeError::TagOrDigest);
        }
        let registry = parse_registry(registry)?;
        path.map(check_repository).transpose()?;
        Ok(Self {
            registry,
            path: path.map(str::to_owned),
        })
    }

    /// All repositories of a registry.
    pub fn of_registry(registry: Registry) -> Self {
        Self {
            registry,
            path: None,
        }
    }

    /// The repository of one image, and those below it.
    pub fn of_image(image: &Reference) -> Self {
        let path = Some(image.repository().to_owned());
        Self {
            registry: image.registry().clone(),
            path,
        }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The prefix of repositories, without slashes at its ends.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Whether a repository falls under this scope.
    pub fn covers(&self, registry: &Registry, repository: &str) -> bool {
        let under = |path: &str| {
            let rest = repository.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.registry == *registry && self.path().is_none_or(under)
    }

    /// How many parts of a path it names. Of two scopes that cover one repository, the larger is
    /// the nearer.
    pub fn specificity(&self) -> usize {
        self.path().map_or(0, |path| path.split('/').count())
    }

    /// The name under which its credential is kept.
    pub fn secret_name(&self) -> SecretName {
        SecretName::of_scope(self)
    }
}

fn parse_registry(text: &str) -> Result<Registry, ParseScopeError> {
    if text.is_empty() {
        return Err(ParseScopeError::Empty);
    }
    // The same rule as for image names; anything else would read the two differently.
    let named = text.eq_ignore_ascii_case("localhost") || text.contains(['.', ':']);
    if named {
        Ok(Registry::parse(text)?)
    } else {
        Err(ParseScopeError::NoRegistry)
    }
}

/// The nearest of the scopes that cover a repository.
pub fn most_specific<'a>(
    scopes: impl IntoIterator<Item = &'a RegistryScope>,
    registry: &Registry,
    repository: &str,
) -> Option<&'a RegistryScope> {
    scopes
        .into_iter()
        .filter(|scope| scope.covers(registry, repository))
        .max_by_key(|scope| scope.specificity())
}

/// The form that parses back to an equal scope, the same for equal scopes.
impl fmt::Display for RegistryScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.registry.canonical())?;
        match self.path() {
            Some(path) => write!(formatter, "/{path}"),
            None => Ok(()),
        }
    }
}

impl FromStr for RegistryScope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> RegistryScope {
        RegistryScope::parse(text).expect(text)
    }

    #[test]
    fn scopes_print_in_one_form() {
        let table = [
            ("ghcr.io", "ghcr.io", 0),
            ("GHCR.io/acme", "ghcr.io/acme", 1),
            ("ghcr.io:443/acme/app", "ghcr.io/acme/app", 2),
            ("ghcr.io/acme/", "ghcr.io/acme", 1),
            ("docker.io", "docker.io", 0),
            ("index.docker.io/acme", "docker.io/acme", 1),
            ("https://index.docker.io/v1/", "docker.io", 0),
            ("localhost", "localhost", 0),
            ("LOCALHOST:5000", "localhost:5000", 0),
            ("box:5000/team", "box:5000/team", 1),
            ("box:443", "box:443", 0),
            ("[::1]:5000/a", "[::1]:5000/a", 1),
        ];
        for (text, shown, specificity) in table {
            let parsed = scope(text);
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.specificity(), specificity);
            assert_eq!(scope(shown), parsed);
        }
    }

    #[test]
    fn what_is_not_a_scope() {
        let table = [
            ("", ParseScopeError::Empty),
            ("/", ParseScopeError::Empty),
            ("/acme", ParseScopeError::Empty),
            ("acme", ParseScopeError::NoRegistry),
            ("acme/app", ParseScopeError::NoRegistry),
            ("user@ghcr", ParseScopeError::NoRegistry),
            ("https://ghcr.io", ParseScopeError::Scheme),
            ("https://index.docker.io/v2/", ParseScopeError::Scheme),
            ("ghcr.io/acme/app:v1", ParseScopeError::TagOrDigest),
            ("ghcr.io/acme/app@sha256:00", ParseScopeError::TagOrDigest),
            (
                "ghcr.io/Acme",
                ParseScopeError::Repository(ParseRepositoryError::UpperCase),
            ),
            (
                "ghcr.io//",
                ParseScopeError::Repository(ParseRepositoryError::Empty),
            ),
            (
                "ghcr.io/a//b",
                ParseScopeError::Repository(ParseRepositoryError::EmptyPart),
            ),
            (
                "ghcr.io:0",
                ParseScopeError::Registry(ParseRegistryError::Port),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(RegistryScope::parse(text), Err(expected), "{text:?}");
        }
        let long = format!("a.io/{}", "a".repeat(TEXT_LIMIT));
        assert_eq!(RegistryScope::parse(&long), Err(ParseScopeError::TooLong));
    }

    #[test]
    fn coverage_ends_at_path_boundaries() {
        let table = [
            ("reg.io", "reg.io", "any/thing", true),
            ("reg.io", "REG.IO:443", "any", true),
            ("reg.io", "reg.io:5000", "any", false),
            ("reg.io", "x.reg.io", "any", false),
            ("reg.io/par", "reg.io", "par", true),
            ("reg.io/par", "reg.io", "par/x/y", true),
            ("reg.io/par", "reg.io", "partial", false),
            ("reg.io/par", "reg.io", "par-x", false),
            ("reg.io/par", "reg.io", "x/par", false),
            ("reg.io/a/b", "reg.io", "a", false),
            ("reg.io/a/b", "other.io", "a/b", false),
            (
                "docker.io/library",
                "registry-1.docker.io",
                "library/ubuntu",
                true,
            ),
            ("docker.io/ubuntu", "docker.io", "library/ubuntu", false),
        ];
        for (text, registry, repository, expected) in table {
            let registry = Registry::parse(registry).unwrap();
            let covers = scope(text).covers(&registry, repository);
            assert_eq!(covers, expected, "{text} {registry}/{repository}");
        }
    }

    #[test]
    fn the_nearest_scope_wins() {
        let scopes = ["r.io", "r.io/a", "r.io/a/b", "r.io/a/bc/d", "s.io/a/b/c"].map(scope);
        let registry = Registry::parse("r.io").unwrap();
        let table = [
            ("a/b/c", Some("r.io/a/b")),
            ("a/b", Some("r.io/a/b")),
            ("a/bc", Some("r.io/a")),
            ("ab", Some("r.io")),
        ];
        for (repository, expected) in table {
            let found = most_specific(&scopes, &registry, repository);
            assert_eq!(
                found.map(ToString::to_string).as_deref(),
                expected,
                "{repository}"
            );
            let reversed = most_specific(scopes.iter().rev(), &registry, repository);
            assert_eq!(found, reversed);
        }
        assert_eq!(most_specific(&scopes[1..], &registry, "z"), None);
    }

    #[test]
    fn an_image_is_a_scope() {
        let image = Reference::parse("ubuntu:22.04").unwrap();
        assert_eq!(
            RegistryScope::of_image(&image).to_string(),
            "docker.io/library/ubuntu"
        );
    }
}
