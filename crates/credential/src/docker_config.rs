//! Logins that docker, podman and Kubernetes keep: `config.json`, `auth.json`, `.dockercfg`, and
//! Secrets of type `dockerconfigjson` or `dockercfg`. Text to values; opens and runs nothing.
//!
//! ```text
//! {"auths": {KEY: {"auth": base64("user:password")        one credential, in the file
//!                 | "username", "password"
//!                 | "identitytoken" | "registrytoken"},
//!            KEY: {}},                                    in the store
//!  "credHelpers": {KEY: "name"},                          in the helper docker-credential-name
//!  "credsStore": "name"}                                  where all others are
//! ```
//!
//! What cannot be used is an error of its own entry, beside the others. Messages never repeat what
//! an entry holds.

mod key;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use reference::Registry;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::detect::{Detected, VALUE_LIMIT, check_token, detect_texts};
use crate::docker_helper::HelperName;
use crate::error::CredentialError;
use crate::fields::Credential;
use crate::known_keys as keys;
use crate::scope::{ParseScopeError, RegistryScope};
use crate::secret_text::SecretText;

pub use key::{scope_of, server_of, shown_key};

/// Longest file. Kubernetes keeps no Secret over 1 MiB, and no person has a longer file.
pub const TEXT_LIMIT: usize = 1024 * 1024;

/// The user name that stands for "the password is an identity token".
pub const IDENTITY_TOKEN_USER: &str = "<token>";

/// As docker writes it and as others do, who leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a file holds.
#[derive(Debug)]
pub struct DockerConfig {
    /// Of several for one scope, the one that docker itself would take comes first.
    pub logins: Vec<DockerLogin>,
    /// The helper that knows of more, which only it can list.
    pub store: Option<HelperName>,
}

/// One entry of a file.
#[derive(Debug)]
pub struct DockerLogin {
    /// The registry as the file names it, for people to see.
    pub key: String,
    pub found: Result<Found, DockerLoginError>,
}

/// An entry that can be used.
#[derive(Debug)]
pub struct Found {
    pub scope: RegistryScope,
    pub source: Source,
}

/// Where the credential of an entry is.
#[derive(Debug)]
pub enum Source {
    File(Detected),
    Helper {
        name: HelperName,
        /// What the helper knows it by: the file's key.
        server: String,
    },
}

/// Why a text is not a file of logins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    #[error("longer than {TEXT_LIMIT} bytes")]
    TooLong,
    #[error("neither a docker configuration nor a Kubernetes Secret of one")]
    NotDockerConfig,
    #[error("the Kubernetes Secret holds no .dockerconfigjson that is base64 of one")]
    NotDockerSecret,
}

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerLoginError {
    #[error("is a pattern, and a scope is one host with its paths")]
    Pattern,
    #[error("is a token of Docker Desktop's own, for no registry")]
    DesktopToken,
    #[error(transparent)]
    Scope(#[from] ParseScopeError),
    #[error("auth is not base64 of a user name, a colon and a password")]
    NotUserAndPassword,
    #[error("holds no credential, and no helper is named that does")]
    Empty,
    #[error("names a helper by something else than letters, digits, dots, dashes and underscores")]
    HelperName,
    #[error("is what holdfast gives docker, which is here already")]
    OwnHelper,
    #[error("holds no credential, and a helper that a Kubernetes Secret names is not run")]
    HelperOfSecret,
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("{by} is for the same scope and comes first")]
    Superseded { by: String },
}

impl DockerConfig {
    /// Reads any of the forms, which differ by their fields.
    pub fn parse(text: &SecretString) -> Result<Self, DockerConfigError> {
        let text = text.expose_secret();
        if text.len() > TEXT_LIMIT {
            return Err(DockerConfigError::TooLong);
        }
        // Errors of the parser are not passed on: they can quote what they stumbled over.
        let not_config = |_| DockerConfigError::NotDockerConfig;
        let mut form: Form = serde_json::from_str(text).map_err(not_config)?;
        if let Some(inner) = form.kubernetes() {
            let config = inner?;
            return Ok(config.read(&Helpers::Ignored));
        }
        if form.is_config() {
            let helpers = Helpers::of(&form);
            return Ok(form.read(&helpers));
        }
        let bare = bare(text).unwrap_or_default();
        Ok(bare.read(&Helpers::none()))
    }
}

impl DockerLogin {
    /// What a helper has for a server that it listed.
    pub fn in_helper(name: &HelperName, server: &str) -> Self {
        let found = scope_of(server).map(|scope| Found {
            scope,
            source: Source::Helper {
                name: name.clone(),
                server: server.to_owned(),
            },
        });
        Self {
            key: shown_key(server),
            found,
        }
    }
}

/// Leaves each scope to the first login that is for it.
pub fn keep_first_of_each_scope(logins: &mut [DockerLogin]) {
    let mut first: BTreeMap<RegistryScope, String> = BTreeMap::new();
    for login in logins {
        let Ok(found) = &login.found else { continue };
        if let Some(by) = first.get(&found.scope) {
            let by = by.clone();
            login.found = Err(DockerLoginError::Superseded { by });
        } else {
            first.insert(found.scope.clone(), login.key.clone());
        }
    }
}

/// The name under which docker asks this program.
const OWN_HELPER: &str = "holdfast";

/// A user name and a password as docker and its helpers have them.
pub(crate) fn login(
    registry: &Registry,
    username: &str,
    password: &str,
) -> Result<Detected, CredentialError> {
    let texts = [
        (keys::DOCKER_USERNAME, username),
        (keys::DOCKER_PASSWORD, password),
    ];
    detect_texts(registry, &texts)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
    /// Of a Secret.
    data: Option<SecretData>,
    /// Of a Secret as a person writes it, not base64.
    string_data: Option<SecretData>,
    /// Of a Secret's data alone.
    #[serde(rename = ".dockerconfigjson")]
    config: Option<SecretText>,
    #[serde(rename = ".dockercfg")]
    bare: Option<SecretText>,
}

#[derive(Default, Deserialize)]
struct SecretData {
    #[serde(rename = ".dockerconfigjson")]
    config: Option<SecretText>,
    #[serde(rename = ".dockercfg")]
    bare: Option<SecretText>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<SecretText>,
    username: Option<SecretText>,
    password: Option<SecretText>,
    identitytoken: Option<SecretText>,
    registrytoken: Option<SecretText>,
}

/// The programs that a file names, by key.
enum Helpers {
    Named {
        by_key: BTreeMap<String, String>,
        store: Option<String>,
    },
    /// What comes from elsewhere starts no program of this machine.
    Ignored,
}

impl Helpers {
    fn of(form: &Form) -> Self {
        Self::Named {
            by_key: form.cred_helpers.clone().unwrap_or_default(),
            store: form.creds_store.clone().filter(|name| !name.is_empty()),
        }
    }

    fn none() -> Self {
        Self::Named {
            by_key: BTreeMap::new(),
            store: None,
        }
    }

    /// The helper that has this key to itself.
    fn own(&self, key: &str) -> Option<Result<HelperName, DockerLoginError>> {
        let Self::Named { by_key, .. } = self else {
            return None;
        };
        by_key.get(key).map(|name| helper_name(name))
    }

    /// Where an entry is that holds nothing.
    fn store(&self) -> Result<HelperName, DockerLoginError> {
        match self {
            Self::Named { store, .. } => helper_name(store.as_deref().unwrap_or_default()),
            Self::Ignored => Err(DockerLoginError::HelperOfSecret),
        }
    }

    fn has_store(&self) -> bool {
        matches!(self, Self::Named { store: Some(_), .. } | Self::Ignored)
    }
}

fn helper_name(name: &str) -> Result<HelperName, DockerLoginError> {
    match HelperName::parse(name) {
        // What it gives is made of what is sealed here, and must not take its place.
        Some(name) if name.as_str() == OWN_HELPER => Err(DockerLoginError::OwnHelper),
        name => name.ok_or(DockerLoginError::HelperName),
    }
}

impl Form {
    fn is_config(&self) -> bool {
        self.auths.is_some() || self.cred_helpers.is_some() || self.creds_store.is_some()
    }

    /// The configuration in a Secret, if this is one.
    fn kubernetes(&mut self) -> Option<Result<Form, DockerConfigError>> {
        let alone = SecretData {
            config: self.config.take(),
            bare: self.bare.take(),
        };
        let data = self.data.take().or(alone.is_any().then_some(alone));
        let written = self.string_data.take();
        (data.is_some() || written.is_some()).then(|| {
            let inner = written.as_ref().and_then(SecretData::plain);
            let inner = inner.or_else(|| data.as_ref()?.decoded());
            inner.ok_or(DockerConfigError::NotDockerSecret)
        })
    }

    fn read(self, helpers: &Helpers) -> DockerConfig {
        let auths = self.auths.unwrap_or_default();
        let of_helpers = self.cred_helpers.unwrap_or_default();
        let keys: BTreeSet<&String> = auths.keys().chain(of_helpers.keys()).collect();
        let read = |key: &String| {
            let entry = auths.get(key).and_then(Option::as_ref);
            DockerLogin {
                key: shown_key(key),
                found: find(key, entry, helpers),
            }
        };
        let mut logins: Vec<(bool, DockerLogin)> = keys
            .into_iter()
            .map(|key| {
                let login = read(key);
                let is_own = login
                    .found
                    .as_ref()
                    .is_ok_and(|found| key::is_own(key, &found.scope));
                (!is_own, login)
            })
            .collect();
        logins.sort_by_key(|(is_other, _)| *is_other);
        let mut logins: Vec<DockerLogin> = logins.into_iter().map(|(_, login)| login).collect();
        keep_first_of_each_scope(&mut logins);
        let store = helpers.has_store().then(|| helpers.store().ok());
        DockerConfig {
            logins,
            store: store.flatten(),
        }
    }
}

impl SecretData {
    fn is_any(&self) -> bool {
        self.config.is_some() || self.bare.is_some()
    }

    fn plain(&self) -> Option<Form> {
        self.inner(|text| Some(Zeroizing::new(text.to_owned())))
    }

    fn decoded(&self) -> Option<Form> {
        self.inner(text_of_base64)
    }

    fn inner(&self, decode: impl Fn(&str) -> Option<Zeroizing<String>>) -> Option<Form> {
        if let Some(config) = &self.config {
            let text = decode(config.0.expose_secret())?;
            return serde_json::from_str(&text).ok().filter(Form::is_config);
        }
        bare(&decode(self.bare.as_ref()?.0.expose_secret())?)
    }
}

/// The form of `.dockercfg`: the entries alone.
fn bare(text: &str) -> Option<Form> {
    let auths: BTreeMap<String, Option<Entry>> = serde_json::from_str(text).ok()?;
    let holds = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| !entry.is_empty());
    auths.values().any(holds).then(|| Form {
        auths: Some(auths),
        ..Form::default()
    })
}

fn find(key: &str, entry: Option<&Entry>, helpers: &Helpers) -> Result<Found, DockerLoginError> {
    let scope = scope_of(key)?;
    let helper = |name: HelperName| Source::Helper {
        name,
        server: key.to_owned(),
    };
    if let Some(own) = helpers.own(key) {
        let source = helper(own?);
        return Ok(Found { scope, source });
    }
    let held = entry.filter(|entry| !entry.is_empty());
    let source = match held {
        Some(entry) => Source::File(entry.credential(scope.registry())?),
        None if helpers.has_store() => helper(helpers.store()?),
        None => return Err(DockerLoginError::Empty),
    };
    Ok(Found { scope, source })
}

impl Entry {
    fn is_empty(&self) -> bool {
        let texts = [
            &self.auth,
            &self.username,
            &self.password,
            &self.identitytoken,
            &self.registrytoken,
        ];
        texts
            .into_iter()
            .all(|text| filled(text.as_ref()).is_none())
    }

    fn credential(&self, registry: &Registry) -> Result<Detected, DockerLoginError> {
        if let Some(token) = filled(self.registrytoken.as_ref()) {
            return Ok(ready_token(token)?);
        }
        // Beside an identity token `auth` has the user name alone.
        if let Some(token) = filled(self.identitytoken.as_ref()) {
            return Ok(login(registry, IDENTITY_TOKEN_USER, token)?);
        }
        let Some(auth) = filled(self.auth.as_ref()) else {
            let username = filled(self.username.as_ref()).unwrap_or_default();
            let password = filled(self.password.as_ref()).unwrap_or_default();
            return Ok(login(registry, username, password)?);
        };
        let text = text_of_base64(auth).ok_or(DockerLoginError::NotUserAndPassword)?;
        // Passwords hold colons, user names do not.
        let (username, password) = text
            .split_once(':')
            .ok_or(DockerLoginError::NotUserAndPassword)?;
        // Old clients padded passwords with zeros.
        Ok(login(registry, username, password.trim_matches('\0'))?)
    }
}

fn filled(text: Option<&SecretText>) -> Option<&str> {
    let text = text?.0.expose_secret();
    (!text.is_empty()).then_some(text)
}

/// A token that the registry takes as it is.
fn ready_token(token: &str) -> Result<Detected, CredentialError> {
    let key = keys::REGISTRY_TOKEN;
    if token.len() > VALUE_LIMIT {
        let limit = VALUE_LIMIT;
        return Err(CredentialError::TooLong { key, limit });
    }
    check_token(key, token)?;
    let credential = Credential::registry_token(SecretString::from(token.to_owned()));
    Ok(Detected {
        kind: credential.kind(),
        used_keys: vec![key],
        hints: Vec::new(),
        not_after: credential.not_after(),
        credential,
    })
}

fn text_of_base64(text: &str) -> Option<Zeroizing<String>> {
    let joined = Zeroizing::new(text.split_ascii_whitespace().collect::<String>());
    let bytes = BASE64.decode(joined.as_bytes()).ok()?;
    match String::from_utf8(bytes) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            None
        }
    }
}

#[cfg(test)]
mod tests;
