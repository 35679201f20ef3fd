//! [`SecretName`]: names of secrets, and the one that belongs to a registry scope.
//!
//! ```text
//! ghcr.io            oci-registry-ghcr-io
//! a-b.io:5000        oci-registry-a--b-io_5000
//! [2001:db8::1]:80   oci-registry-_2001_db8__1__80
//! ghcr.io/acme/app   oci-registry-ghcr-io_acme-app_<16 hex of the scope's SHA-256>
//! ```
//!
//! Two scopes never share a name. In a host `.` becomes `-`, `-` becomes `--`, and `:`, `[` and `]`
//! become `_`; since a label neither starts nor ends with `-`, a single dash is a dot and a pair is
//! a dash. After the last `_` stands nothing (IPv6 without a port), at most 5 digits (a port) or
//! exactly 16 hexadecimal digits (a path), so the three cannot be taken for one another.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::scope::RegistryScope;

/// What the secret of every registry credential starts with.
const REGISTRY_PREFIX: &str = "oci-registry-";
/// Bytes of the hash: 64 bits, where a workspace holds thousands of scopes at most.
const HASH_BYTES: usize = 8;
/// Longest slug. It is for people; the hash tells scopes apart.
const SLUG_LIMIT: usize = 40;
/// Longest name: a host of 253 bytes, all of it doubled, with prefix, port, slug and hash.
const LENGTH_LIMIT: usize = 640;

/// The name of a secret within a workspace: letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// Why a text is not a secret's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "secret name must be 1 to {LENGTH_LIMIT} letters, digits, dashes, underscores and dots, \
     starting with a letter or digit"
)]
pub struct ParseSecretNameError;

impl SecretName {
    pub fn parse(text: &str) -> Result<Self, ParseSecretNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let first = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if first && text.len() <= LENGTH_LIMIT && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseSecretNameError)
        }
    }

    pub(crate) fn of_scope(scope: &RegistryScope) -> Self {
        let mut name = format!("{REGISTRY_PREFIX}{}", fold_registry(&scope_registry(scope)));
        if let Some(path) = scope.path() {
            let hash = short_hash(&scope.to_string());
            write!(name, "_{}_{hash}", slug(path)).expect("writing to a string does not fail");
        }
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a name that registry credentials have.
    pub fn is_of_registry(&self) -> bool {
        self.0.starts_with(REGISTRY_PREFIX)
    }
}

/// The registry in the form in which equal registries are equal texts.
fn scope_registry(scope: &RegistryScope) -> String {
    scope.registry().canonical()
}

fn fold_registry(registry: &str) -> String {
    let mut folded = String::with_capacity(registry.len() * 2);
    for character in registry.chars() {
        match character {
            '.' => folded.push('-'),
            '-' => folded.push_str("--"),
            ':' | '[' | ']' => folded.push('_'),
            other => folded.push(other),
        }
    }
    folded
}

/// Words of a path joined by single dashes, cut to a length.
fn slug(path: &str) -> String {
    let words = path.split(|character: char| !character.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut slug = words.join("-");
    slug.truncate(SLUG_LIMIT);
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

fn short_hash(scope: &str) -> String {
    let digest = Sha256::digest(scope.as_bytes());
    digest
        .iter()
        .take(HASH_BYTES)
        .fold(String::new(), |mut hash, byte| {
            write!(hash, "{byte:02x}").expect("writing to a string does not fail");
            hash
        })
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = ParseSecretNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn name(scope: &str) -> SecretName {
        RegistryScope::parse(scope).expect(scope).secret_name()
    }

    #[test]
    fn names_read_well() {
        let table = [
            ("gcr.io", "oci-registry-gcr-io"),
            ("registry-1.docker.io", "oci-registry-docker-io"),
            ("docker.io:443", "oci-registry-docker-io"),
            ("localhost:5000", "oci-registry-localhost_5000"),
            ("us-docker.pkg.dev", "oci-registry-us--docker-pkg-dev"),
            ("a--b.io", "oci-registry-a----b-io"),
            ("[2001:db8::1]:80", "oci-registry-_2001_db8__1__80"),
            ("[2001:db8::1:80]", "oci-registry-_2001_db8__1_80_"),
            ("[::]", "oci-registry-____"),
            ("ghcr.io/acme/app", "oci-registry-ghcr-io_acme-app_"),
            ("ghcr.io/acme__x.y---z", "oci-registry-ghcr-io_acme-x-y-z_"),
        ];
        for (scope, expected) in table {
            let name = name(scope);
            let hash_length = if scope.contains('/') {
                HASH_BYTES * 2
            } else {
                0
            };
            let (front, hash) = name.as_str().split_at(name.as_str().len() - hash_length);
            assert_eq!(front, expected, "{scope}");
            assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
            assert!(name.is_of_registry());
            assert_eq!(SecretName::parse(name.as_str()), Ok(name));
        }
    }

    #[test]
    fn the_hash_of_a_path_is_stable() {
        assert_eq!(
            name("ghcr.io/acme").as_str(),
            "oci-registry-ghcr-io_acme_036e6c92c8d4607c"
        );
    }

    #[test]
    fn names_that_beta9_confuses_are_apart() {
        let scopes = [
            "a.b.io",
            "a-b.io",
            "a--b.io",
            "b.io:5000",
            "b.io/5000",
            "b.io/a-b",
            "b.io/a.b",
            "b.io/a/b",
            "b.io/a_b",
            "b-io.io",
            "b.io.io",
        ];
        let names: HashMap<SecretName, &str> =
            scopes.iter().map(|scope| (name(scope), *scope)).collect();
        assert_eq!(names.len(), scopes.len(), "{names:?}");
    }

    #[test]
    fn what_is_not_a_name() {
        let long = "a".repeat(LENGTH_LIMIT + 1);
        for text in [
            "",
            "-a",
            ".",
            "..",
            "_a",
            "a/b",
            "a b",
            "a\n",
            "\u{e9}",
            long.as_str(),
        ] {
            assert_eq!(
                SecretName::parse(text),
                Err(ParseSecretNameError),
                "{text:?}"
            );
        }
    }

    /// Few letters, so that near collisions are common.
    fn any_scope() -> impl Strategy<Value = String> {
        let host = prop_oneof![
            "[ab0](-{0,3}[ab0]){0,2}(\\.[ab0](-{0,3}[ab0]){0,2}){1,3}b",
            "\\[([0-9a]{1,2}:){7}[0-9a]{1,2}\\]",
            "\\[([0-9a]{1,2}:){1,3}:([0-9a]{1,2})?\\]",
        ];
        let port = prop_oneof!["", ":[1-9][0-9]{0,3}", ":443"];
        let path = prop_oneof![
            "",
            "(/[ab0](([._]|__|-{1,3})[ab0]){0,3}){1,3}",
            "/[0-9]{1,5}"
        ];
        (host, port, path).prop_map(|(host, port, path)| format!("{host}{port}{path}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn two_scopes_share_a_name_only_when_equal(
            scopes in proptest::collection::vec(any_scope(), 200)
        ) {
            let mut seen = HashMap::new();
            for text in scopes {
                let scope = RegistryScope::parse(&text).expect(&text);
                prop_assert!(SecretName::parse(scope.secret_name().as_str()).is_ok());
                if let Some(other) = seen.insert(scope.secret_name(), scope.clone()) {
                    prop_assert_eq!(scope, other);
                }
            }
        }

        #[test]
        fn a_registry_can_be_read_back_from_its_name(text in any_scope()) {
            let scope = RegistryScope::parse(&text).expect(&text);
            let registry = scope_registry(&scope);
            prop_assert_eq!(unfold_registry(&fold_registry(&registry)), registry);
        }
    }

    /// The inverse of [`fold_registry`]: that there is one is the proof that it confuses nothing.
    fn unfold_registry(folded: &str) -> String {
        if let Some(rest) = folded.strip_prefix('_') {
            let with_port = || {
                let (address, port) = rest.rsplit_once("__").expect("a port follows ]:");
                (address, format!(":{port}"))
            };
            let bare = rest
                .strip_suffix('_')
                .map(|address| (address, String::new()));
            let (address, port) = bare.unwrap_or_else(with_port);
            return format!("[{}]{port}", address.replace('_', ":").replace('-', "."));
        }
        folded
            .replace("--", "\0")
            .replace('-', ".")
            .replace('\0', "-")
            .replace('_', ":")
    }
}
