//! Why a map of keys is not a credential. Messages name keys and never repeat a value; an unknown
//! key is repeated only when it looks like a name and came with a value: a user name and a password
//! in a list, where names of keys belong, are keys without values.

use reference::Registry;

use crate::suggestion;

/// Longest unknown key that a message repeats: a token pasted as a key is mostly longer.
const SHOWN_KEY_LIMIT: usize = 32;
/// What keys of services start with that are written in capitals, as names are.
const TOKEN_PREFIXES: [&str; 2] = ["AKIA", "ASIA"];

/// Why a map of keys is not a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A key that is not on the list, and may be repeated.
    #[error("credential key {key:?} is not known")]
    UnknownKey { key: String },
    /// One that may be a secret itself.
    #[error("one of the credential's keys is not the name of a key")]
    NotKey { meant: Option<&'static str> },
    /// A value that is not a JSON text.
    #[error("credential key {key} must have a text as its value")]
    NotText { key: &'static str },
    #[error("credential key {key} is empty")]
    Empty { key: &'static str },
    #[error("credential key {key} is longer than {limit} bytes")]
    TooLong { key: &'static str, limit: usize },
    /// Half of a credential.
    #[error("credential key {given} needs {missing} beside it")]
    Missing {
        given: &'static str,
        missing: &'static str,
    },
    /// Two keys that cannot both be meant.
    #[error("credential keys {first} and {second} exclude each other")]
    Conflict {
        first: &'static str,
        second: &'static str,
    },
    /// A key of one service for the registry of another.
    #[error("credential key {key} is for {service} and {registry} is not that")]
    WrongRegistry {
        key: &'static str,
        service: &'static str,
        registry: Registry,
    },
    #[error("credential key {key} {problem}")]
    Malformed {
        key: &'static str,
        problem: Malformed,
    },
}

/// What is wrong with a value, without the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("holds a colon, which no user name may")]
    ColonInUser,
    #[error("holds a control character")]
    ControlCharacter,
    #[error("holds a space or a line break")]
    Whitespace,
    #[error("is not an AWS access key id")]
    AwsAccessKeyId,
    #[error("is not an AWS region")]
    AwsRegion,
    #[error("is not the ARN of an IAM role")]
    AwsRoleArn,
    #[error("is not a role session name")]
    AwsSessionName,
    #[error("is not the id of an application, which is a GUID")]
    AzureClientId,
    #[error("is neither the id of a tenant, which is a GUID, nor one of its domains")]
    AzureTenant,
    #[error("is a path or something else than the JSON of a service account")]
    PathNotJson,
    #[error("is not the JSON of a service account")]
    NotServiceAccountJson,
    #[error("lacks the client_email or private_key of a service account")]
    IncompleteServiceAccount,
    #[error("is of type {0}, which is not supported")]
    UnsupportedKey(&'static str),
    #[error("names in {0} another cloud or host than Google's own")]
    ForeignGoogle(&'static str),
    #[error("names a file, an address or a program in credential_source, which is not followed")]
    CredentialSource,
    #[error("names no provider of a workload identity pool in audience")]
    FederationAudience,
    #[error("is not a name of a node identity: small letters, digits and hyphens")]
    NodeName,
    #[error("names in subject_token_type another sort of token than jwt or id_token")]
    SubjectTokenType,
}

impl CredentialError {
    /// Of a key that is not on the list.
    pub(crate) fn unknown(key: &str, has_value: bool) -> Self {
        if has_value && is_name(key) {
            let key = key.to_owned();
            return Self::UnknownKey { key };
        }
        // Only how it is written differs, so that this tells nothing of it.
        let meant = suggestion::known_as(key).filter(|_| has_value);
        Self::NotKey { meant }
    }

    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { key } => {
                suggestion::for_key(key).map(|known| format!("did you mean {known}?"))
            }
            Self::NotKey { meant: Some(known) } => Some(format!("did you mean {known}?")),
            Self::NotKey { meant: None } => Some(
                "keys are names such as USERNAME and PASSWORD, in capitals: give the user name and \
                 the password as their values"
                    .to_owned(),
            ),
            Self::NotText { .. } => Some("put the value in quotes".to_owned()),
            Self::Empty { key } => Some(format!(
                "is the variable set? A shell replaces $names by their values, as in $oauthtoken: \
                 put {key} in single quotes",
            )),
            Self::Conflict { .. } => Some("give the keys of one credential only".to_owned()),
            Self::WrongRegistry { .. } => Some(
                "if this credential is truly for that registry, give it as REGISTRY_USERNAME and \
                 REGISTRY_PASSWORD"
                    .to_owned(),
            ),
            Self::Malformed { problem, .. } => problem.hint().map(str::to_owned),
            Self::Missing { .. } | Self::TooLong { .. } => None,
        }
    }
}

impl Malformed {
    /// What to do about it, where that is not plain from the message.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::PathNotJson => Some("give what is in the file, not where it is"),
            Self::Whitespace => Some("was a line break copied along with it?"),
            Self::CredentialSource => {
                Some("take credential_source out, and give the token itself in GCP_SUBJECT_TOKEN")
            }
            Self::UnsupportedKey(_) => {
                Some("make a key for a service account that may read the registry")
            }
            _ => None,
        }
    }
}

fn is_name(key: &str) -> bool {
    let named = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    key.len() <= SHOWN_KEY_LIMIT
        && key.starts_with(|first: char| first.is_ascii_uppercase())
        && key.bytes().all(named)
        && !TOKEN_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}
