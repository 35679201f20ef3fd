//! From a map of keys, or a bare token, to a [`Credential`]. The order of decisions is written down
//! in the crate doc, and each row of its table is a row of a test.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reference::Registry;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroize;

use crate::aws;
use crate::azure;
use crate::error::{CredentialError, Malformed};
use crate::federation;
use crate::fields::{
    AwsFields, AwsKeyless, AzureFields, AzureSecret, Credential, CredentialKind, Fields,
    GOOGLE_TOKEN_USER, GcpFields,
};
use crate::hints::{self, Hint};
use crate::hosts::Service;
use crate::known_keys::{self as keys, Family};
use crate::service_account::{self, ServiceAccount, Sort};
use crate::token_user::token_username;

/// Longest value. A service account is near 2.5 KiB, a JWT with many groups rarely over 16 KiB.
pub(crate) const VALUE_LIMIT: usize = 64 * 1024;
/// Longest user name; a registry's own limits are far below.
const USERNAME_LIMIT: usize = 1024;

/// What [`detect`] found.
#[derive(Debug, Clone)]
pub struct Detected {
    pub credential: Credential,
    pub kind: CredentialKind,
    /// The keys that were given, in the order of [`crate::KNOWN_KEYS`]. All of them are used.
    pub used_keys: Vec<&'static str>,
    pub hints: Vec<Hint>,
    /// When the credential itself says that it dies.
    pub not_after: Option<Timestamp>,
}

/// Reads a credential for a registry from a map of keys to JSON texts.
pub fn detect(
    registry: &Registry,
    keys: &BTreeMap<String, Value>,
) -> Result<Detected, CredentialError> {
    let given = Given::read(keys)?;
    let fields = match given.family()? {
        None => Fields::Public,
        Some(family) => {
            given.check_service(family, registry)?;
            given.fields(family, registry)?
        }
    };
    let used_keys = given.values.iter().map(|(key, _, _)| *key).collect();
    Ok(complete(registry, fields, used_keys))
}

/// Reads a token that came without a name, for the service at this registry: under the service's
/// user name where there is a convention, and at an unknown registry as a ready bearer token.
pub fn from_token(
    registry: &Registry,
    username: Option<&str>,
    token: &SecretString,
) -> Result<Detected, CredentialError> {
    let mut keys = vec![(keys::REGISTRY_TOKEN, token.expose_secret())];
    keys.extend(username.map(|username| (keys::REGISTRY_USERNAME, username)));
    detect_texts(registry, &keys)
}

/// Reads a user name and a password. At some registries a user name says what the password is.
pub fn from_password(
    registry: &Registry,
    username: &str,
    password: &SecretString,
) -> Result<Detected, CredentialError> {
    let password = password.expose_secret();
    let keys = [(keys::USERNAME, username), (keys::PASSWORD, password)];
    detect_texts(registry, &keys)
}

/// Reads the key of a service account of Google's, as it is in the file that Google made.
pub fn from_service_account(
    registry: &Registry,
    json: &SecretString,
) -> Result<Detected, CredentialError> {
    let key = keys::GOOGLE_APPLICATION_CREDENTIALS;
    detect_texts(registry, &[(key, json.expose_secret())])
}

/// Reads texts by their keys.
pub(crate) fn detect_texts(
    registry: &Registry,
    keys: &[(&str, &str)],
) -> Result<Detected, CredentialError> {
    let keys = keys.iter();
    let keys = keys.map(|(key, text)| ((*key).to_owned(), Value::String((*text).to_owned())));
    let keys = keys.collect();
    let detected = detect(registry, &keys);
    wipe(keys);
    detected
}

/// Drops a map of keys with its texts overwritten.
pub fn wipe(keys: BTreeMap<String, Value>) {
    for value in keys.into_values() {
        if let Value::String(mut text) = value {
            text.zeroize();
        }
    }
}

pub(crate) fn complete(
    registry: &Registry,
    fields: Fields,
    used_keys: Vec<&'static str>,
) -> Detected {
    let credential = Credential::new(fields);
    let kind = credential.kind();
    let hints = hints::of(registry, &credential);
    let not_after = credential.not_after();
    Detected {
        credential,
        kind,
        used_keys,
        hints,
        not_after,
    }
}

/// The given keys: known, each with a text that is not empty, in the order of the list of keys.
struct Given<'a> {
    values: Vec<(&'static str, Family, &'a str)>,
}

impl<'a> Given<'a> {
    fn read(map: &'a BTreeMap<String, Value>) -> Result<Self, CredentialError> {
        // All keys are looked at before any value, so that a typo is named before what it causes.
        if let Some((key, value)) = map.iter().find(|(key, _)| keys::find(key).is_none()) {
            let has_value = value.as_str() != Some("");
            return Err(CredentialError::unknown(key, has_value));
        }
        let known = keys::KNOWN_KEYS.into_iter();
        let given = known.filter_map(|(key, family)| Some((key, family, map.get(key)?)));
        let read = |(key, family, value)| Ok((key, family, read_value(key, value)?));
        Ok(Self {
            values: given.map(read).collect::<Result<_, _>>()?,
        })
    }

    fn family(&self) -> Result<Option<Family>, CredentialError> {
        let Some((first, family, _)) = self.values.first() else {
            return Ok(None);
        };
        match self.values.iter().find(|(_, other, _)| other != family) {
            Some((second, _, _)) => Err(CredentialError::Conflict { first, second }),
            None => Ok(Some(*family)),
        }
    }

    /// Refuses keys of one service for the registry of another.
    fn check_service(&self, family: Family, registry: &Registry) -> Result<(), CredentialError> {
        let here = Service::of(registry);
        let (service, good) = match family {
            Family::Plain | Family::Docker | Family::Registry => return Ok(()),
            Family::Aws => (
                "Amazon ECR",
                matches!(here, Service::Ecr(_) | Service::EcrPublic),
            ),
            Family::Gcp => ("Google's registries", here == Service::Google),
            Family::Azure => ("Azure Container Registry", here == Service::Azure),
            Family::Ngc => ("nvcr.io", here == Service::Ngc),
            Family::Github => ("ghcr.io", here == Service::Github),
            Family::DockerHub => ("Docker Hub", here == Service::DockerHub),
            Family::Gitlab => ("registry.gitlab.com", here == Service::Gitlab),
            Family::Quay => ("quay.io", here == Service::Quay),
        };
        let key = self.values.first().map_or("", |(key, _, _)| key);
        if good {
            return Ok(());
        }
        let registry = registry.clone();
        Err(CredentialError::WrongRegistry {
            key,
            service,
            registry,
        })
    }

    fn fields(&self, family: Family, registry: &Registry) -> Result<Fields, CredentialError> {
        match family {
            Family::Plain => self.basic(registry, keys::USERNAME, keys::PASSWORD),
            Family::Docker => self.basic(registry, keys::DOCKER_USERNAME, keys::DOCKER_PASSWORD),
            Family::Registry => self.registry(registry),
            Family::Aws => self.aws(),
            Family::Gcp => self.gcp(),
            Family::Azure => self.azure(),
            Family::Ngc => self.token(registry, None, keys::NGC_API_KEY),
            Family::Github => self.token(registry, Some(keys::GITHUB_USERNAME), keys::GITHUB_TOKEN),
            Family::DockerHub => self.docker_hub(registry),
            Family::Gitlab => self.token(registry, Some(keys::GITLAB_USERNAME), keys::GITLAB_TOKEN),
            Family::Quay => self.token(registry, Some(keys::QUAY_USERNAME), keys::QUAY_TOKEN),
        }
    }

    fn basic(
        &self,
        registry: &Registry,
        user: &'static str,
        password: &'static str,
    ) -> Result<Fields, CredentialError> {
        let username = self.username(user)?.ok_or_else(|| self.missing(user))?;
        let key = password;
        let password = self.secret(key).ok_or_else(|| self.missing(key))?;
        if ServiceAccount::is_announced_by(&username) && Service::of(registry) == Service::Google {
            let malformed = |problem| CredentialError::Malformed { key, problem };
            let json = service_account::as_json(password.expose_secret()).map_err(malformed)?;
            service_account::sort_of(&json).map_err(malformed)?;
            let project_id = service_account::read(&json).map_err(malformed)?.project_id;
            return Ok(Fields::Gcp(GcpFields::ServiceAccount { json, project_id }));
        }
        Ok(Fields::Basic { username, password })
    }

    fn registry(&self, registry: &Registry) -> Result<Fields, CredentialError> {
        let (password, token) = (keys::REGISTRY_PASSWORD, keys::REGISTRY_TOKEN);
        self.exclude(password, token)?;
        if self.get(token).is_none() {
            return self.basic(registry, keys::REGISTRY_USERNAME, password);
        }
        self.token(registry, Some(keys::REGISTRY_USERNAME), token)
    }

    fn docker_hub(&self, registry: &Registry) -> Result<Fields, CredentialError> {
        let (password, token) = (keys::DOCKERHUB_PASSWORD, keys::DOCKERHUB_TOKEN);
        self.exclude(password, token)?;
        match self.get(token) {
            Some(_) => self.token(registry, Some(keys::DOCKERHUB_USERNAME), token),
            None => self.basic(registry, keys::DOCKERHUB_USERNAME, password),
        }
    }

    /// A token under the user name that was given, else under the service's own.
    fn token(
        &self,
        registry: &Registry,
        user: Option<&'static str>,
        token: &'static str,
    ) -> Result<Fields, CredentialError> {
        let given = user.map(|key| self.username(key)).transpose()?.flatten();
        let text = self.get(token).ok_or_else(|| self.missing(token))?;
        check_token(token, text)?;
        let username = match given {
            Some(username) => Some(username),
            None => token_username(registry, text).map(str::to_owned),
        };
        if let (None, Some(user), true) = (&username, user, needs_user(registry)) {
            return Err(self.missing(user));
        }
        let token = SecretString::from(text.to_owned());
        let google = username.as_deref() == Some(GOOGLE_TOKEN_USER);
        if google && Service::of(registry) == Service::Google {
            return Ok(Fields::Gcp(GcpFields::AccessToken {
                token,
                project_id: None,
            }));
        }
        Ok(Fields::Token { username, token })
    }

    fn aws(&self) -> Result<Fields, CredentialError> {
        let (id, secret) = (keys::AWS_ACCESS_KEY_ID, keys::AWS_SECRET_ACCESS_KEY);
        let of_keys = [id, secret, keys::AWS_SESSION_TOKEN, keys::AWS_EXTERNAL_ID];
        if of_keys.iter().all(|key| self.get(key).is_none()) {
            return self.aws_keyless();
        }
        let access_key_id = self.checked(id, aws::check_access_key_id)?;
        let access_key_id = access_key_id.ok_or_else(|| self.missing(id))?;
        let secret_text = self.get(secret).ok_or_else(|| self.missing(secret))?;
        check_token(secret, secret_text)?;
        let session_token = self.secret(keys::AWS_SESSION_TOKEN);
        if access_key_id.starts_with(aws::TEMPORARY_KEY_PREFIX) && session_token.is_none() {
            return Err(CredentialError::Missing {
                given: id,
                missing: keys::AWS_SESSION_TOKEN,
            });
        }
        let role_arn = self.checked(keys::AWS_ROLE_ARN, aws::check_role_arn)?;
        for of_role in [keys::AWS_EXTERNAL_ID, keys::AWS_ROLE_SESSION_NAME] {
            if role_arn.is_none() && self.get(of_role).is_some() {
                let missing = keys::AWS_ROLE_ARN;
                return Err(CredentialError::Missing {
                    given: of_role,
                    missing,
                });
            }
        }
        Ok(Fields::Aws(AwsFields {
            access_key_id,
            secret_access_key: SecretString::from(secret_text.to_owned()),
            session_token,
            region: self.checked(keys::AWS_REGION, aws::check_region)?,
            role_arn,
            external_id: self.secret(keys::AWS_EXTERNAL_ID),
            role_session_name: self
                .checked(keys::AWS_ROLE_SESSION_NAME, aws::check_session_name)?,
        }))
    }

    /// A role without keys.
    fn aws_keyless(&self) -> Result<Fields, CredentialError> {
        let role_arn = self.checked(keys::AWS_ROLE_ARN, aws::check_role_arn)?;
        let missing = match self.get(keys::AWS_ROLE_SESSION_NAME) {
            Some(_) => keys::AWS_ROLE_ARN,
            None => keys::AWS_ACCESS_KEY_ID,
        };
        Ok(Fields::AwsKeyless(AwsKeyless {
            role_arn: role_arn.ok_or_else(|| self.missing(missing))?,
            role_session_name: self
                .checked(keys::AWS_ROLE_SESSION_NAME, aws::check_session_name)?,
            region: self.checked(keys::AWS_REGION, aws::check_region)?,
        }))
    }

    fn gcp(&self) -> Result<Fields, CredentialError> {
        let (file, token) = (keys::GOOGLE_APPLICATION_CREDENTIALS, keys::GCP_ACCESS_TOKEN);
        self.exclude(file, token)?;
        self.exclude(token, keys::GCP_SUBJECT_TOKEN)?;
        let project_id = self.checked(keys::GCP_PROJECT_ID, check_plain)?;
        if let Some(value) = self.get(file) {
            let malformed = |problem| CredentialError::Malformed { key: file, problem };
            let json = service_account::as_json(value).map_err(malformed)?;
            return match service_account::sort_of(&json).map_err(malformed)? {
                Sort::ServiceAccount => self.service_account(json, project_id),
                Sort::ExternalAccount => self.federated(&json, project_id),
            };
        }
        if self.get(keys::GCP_SUBJECT_TOKEN).is_some() {
            return Err(self.missing(file));
        }
        let text = self.get(token).ok_or_else(|| self.missing(token))?;
        check_token(token, text)?;
        let token = SecretString::from(text.to_owned());
        Ok(Fields::Gcp(GcpFields::AccessToken { token, project_id }))
    }

    fn service_account(
        &self,
        json: SecretString,
        project_id: Option<String>,
    ) -> Result<Fields, CredentialError> {
        let key = keys::GOOGLE_APPLICATION_CREDENTIALS;
        let malformed = |problem| CredentialError::Malformed { key, problem };
        let account = service_account::read(&json).map_err(malformed)?;
        if self.get(keys::GCP_SUBJECT_TOKEN).is_some() {
            return Err(CredentialError::Conflict {
                first: key,
                second: keys::GCP_SUBJECT_TOKEN,
            });
        }
        let project_id = project_id.or(account.project_id);
        Ok(Fields::Gcp(GcpFields::ServiceAccount { json, project_id }))
    }

    fn federated(
        &self,
        json: &SecretString,
        project_id: Option<String>,
    ) -> Result<Fields, CredentialError> {
        let (key, token) = (
            keys::GOOGLE_APPLICATION_CREDENTIALS,
            keys::GCP_SUBJECT_TOKEN,
        );
        let malformed = |problem| CredentialError::Malformed { key, problem };
        let federation = federation::read(json.expose_secret()).map_err(malformed)?;
        let Some(text) = self.get(token) else {
            return Ok(Fields::Gcp(GcpFields::Keyless {
                federation,
                project_id,
            }));
        };
        check_token(token, text)?;
        Ok(Fields::Gcp(GcpFields::Federated {
            federation,
            subject_token: SecretString::from(text.to_owned()),
            project_id,
        }))
    }

    fn azure(&self) -> Result<Fields, CredentialError> {
        let (id, tenant) = (keys::AZURE_CLIENT_ID, keys::AZURE_TENANT_ID);
        let (secret, token) = (keys::AZURE_CLIENT_SECRET, keys::AZURE_FEDERATED_TOKEN);
        let client_id = self.checked(id, azure::check_client_id)?;
        let client_id = client_id.ok_or_else(|| self.missing(id))?;
        self.exclude(secret, token)?;
        let tenant_id = self.checked(tenant, azure::check_tenant)?;
        let secret = if let Some(text) = self.get(token) {
            check_token(token, text)?;
            if tenant_id.is_none() {
                return Err(self.missing(tenant));
            }
            AzureSecret::FederatedToken(SecretString::from(text.to_owned()))
        } else {
            match self.secret(secret) {
                Some(given) => AzureSecret::ClientSecret(given),
                None if tenant_id.is_some() => AzureSecret::Keyless,
                None => return Err(self.missing(secret)),
            }
        };
        Ok(Fields::Azure(AzureFields {
            client_id,
            secret,
            tenant_id,
        }))
    }

    fn get(&self, wanted: &str) -> Option<&'a str> {
        self.values
            .iter()
            .find(|(key, _, _)| *key == wanted)
            .map(|(_, _, text)| *text)
    }

    fn secret(&self, key: &str) -> Option<SecretString> {
        self.get(key)
            .map(|text| SecretString::from(text.to_owned()))
    }

    fn username(&self, key: &'static str) -> Result<Option<String>, CredentialError> {
        self.checked(key, check_username)
    }

    fn checked(
        &self,
        key: &'static str,
        check: impl Fn(&str) -> Result<(), Malformed>,
    ) -> Result<Option<String>, CredentialError> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        check(text).map_err(|problem| CredentialError::Malformed { key, problem })?;
        Ok(Some(text.to_owned()))
    }

    fn exclude(&self, first: &'static str, second: &'static str) -> Result<(), CredentialError> {
        match (self.get(first), self.get(second)) {
            (Some(_), Some(_)) => Err(CredentialError::Conflict { first, second }),
            _ => Ok(()),
        }
    }

    fn missing(&self, missing: &'static str) -> CredentialError {
        let given = self.values.first().map_or("", |(key, _, _)| key);
        CredentialError::Missing { given, missing }
    }
}

fn read_value<'a>(key: &'static str, value: &'a Value) -> Result<&'a str, CredentialError> {
    let text = value.as_str().ok_or(CredentialError::NotText { key })?;
    if text.trim().is_empty() {
        return Err(CredentialError::Empty { key });
    }
    if text.len() > VALUE_LIMIT {
        return Err(CredentialError::TooLong {
            key,
            limit: VALUE_LIMIT,
        });
    }
    if key.ends_with("USERNAME") && text.len() > USERNAME_LIMIT {
        return Err(CredentialError::TooLong {
            key,
            limit: USERNAME_LIMIT,
        });
    }
    Ok(text)
}

/// Services where a token without its user name is half a credential.
fn needs_user(registry: &Registry) -> bool {
    matches!(Service::of(registry), Service::DockerHub | Service::Gitlab)
}

fn check_username(text: &str) -> Result<(), Malformed> {
    if text.contains(':') {
        return Err(Malformed::ColonInUser);
    }
    check_controls(text)
}

fn check_controls(text: &str) -> Result<(), Malformed> {
    if text.chars().any(char::is_control) {
        Err(Malformed::ControlCharacter)
    } else {
        Ok(())
    }
}

fn check_plain(text: &str) -> Result<(), Malformed> {
    if text.chars().any(char::is_whitespace) {
        Err(Malformed::Whitespace)
    } else {
        check_controls(text)
    }
}

pub(crate) fn check_token(key: &'static str, text: &str) -> Result<(), CredentialError> {
    check_plain(text).map_err(|problem| CredentialError::Malformed { key, problem })
}
