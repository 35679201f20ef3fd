//! A credential from names of environment variables, with the environment handed in.

use std::collections::BTreeMap;

use credential::{CredentialError, Detected};
use reference::Registry;
use serde_json::Value;

/// Why names and an environment make no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyNamesError {
    /// A name that the environment does not have.
    #[error("credential key {name} is not set in the environment")]
    NotSet { name: String },
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// Takes the named variables out of `environment` and reads the credential that they make.
pub fn from_key_names(
    registry: &Registry,
    names: &[&str],
    environment: &BTreeMap<String, String>,
) -> Result<Detected, KeyNamesError> {
    let mut keys = BTreeMap::new();
    for name in names {
        let value = environment
            .get(*name)
            .ok_or_else(|| KeyNamesError::NotSet {
                name: dial::quoted(name.as_bytes(), 80),
            })?;
        keys.insert((*name).to_owned(), Value::String(value.clone()));
    }
    let detected = credential::detect(registry, &keys);
    credential::wipe(keys);
    Ok(detected?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use credential::ExposeSecret;

    #[test]
    fn the_named_keys_alone_make_the_credential() {
        let registry = Registry::parse("registry.example").expect("registry");
        let environment = [
            ("USERNAME", "u"),
            ("PASSWORD", "p"),
            ("GITHUB_TOKEN", "other"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = BTreeMap::from(environment);
        let detected =
            from_key_names(&registry, &["USERNAME", "PASSWORD"], &environment).expect("credential");
        let (username, password) = detected.credential.basic_parts().expect("basic");
        assert_eq!((username, password.expose_secret()), ("u", "p"));
        let error = from_key_names(&registry, &["USERNAME", "NOT_SET"], &environment);
        let expected = KeyNamesError::NotSet {
            name: "NOT_SET".to_owned(),
        };
        assert_eq!(error.map(|_| ()), Err(expected));
    }
}
