//! Where a root key comes from, as it is written: the one grammar of all sources.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use dial::DialPolicy;
use vault::{KeeperProgram, KeySource, RootKey};

use crate::aws::{KmsKey, KmsService, KmsSettings};
use crate::given::{Given, GivenError};
use crate::transit::{TransitKey, TransitService, TransitSettings};

const AWS_KMS: &str = "aws-kms:";
const VAULT_TRANSIT: &str = "vault-transit:";

/// A bundle of a few authorities, not another system's store.
const CA_MAX_BYTES: u64 = 256 * 1024;

/// How a source is written, for people.
const GRAMMAR: &str = "a root key is credential:NAME, fd:NUMBER, \
                       aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID, \
                       vault-transit:https://HOST[:PORT]/MOUNT/NAME or the path of a file";

/// Where a root key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootKeySource {
    /// What a process of ours reads.
    Kept(KeySource),
    AwsKms(KmsKey),
    VaultTransit(TransitKey),
}

/// What the operator says of the services.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    pub aws_kms: Option<KmsSettings>,
    pub vault_transit: Option<TransitSettings>,
    /// Where connections may go, and the proxies.
    pub dial: DialPolicy,
}

/// What names no source, or one that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error(transparent)]
    Kept(#[from] vault::SourceError),
    #[error("root key {text:?} {problem}")]
    NoKey { text: String, problem: &'static str },
    #[error("root key {text} has no credential")]
    NoCredential {
        text: String,
        /// Where it is named.
        section: &'static str,
        field: &'static str,
    },
    #[error("{section} of the configuration: {problem}")]
    Settings {
        section: &'static str,
        problem: String,
    },
    #[error(transparent)]
    Given(#[from] GivenError),
}

impl SourceError {
    pub fn hint(&self) -> String {
        match self {
            Self::NoCredential { section, field, .. } => format!(
                "name the file or the credential of systemd that it is in, as `{field}` under \
                 [{section}] in the configuration; none is looked for elsewhere"
            ),
            Self::Settings { .. } | Self::Given(_) => "README.md has an example".to_owned(),
            Self::Kept(_) | Self::NoKey { .. } => GRAMMAR.to_owned(),
        }
    }
}

impl ServiceSettings {
    /// What is said of the service of this key.
    pub(crate) fn kms_of(&self, key: &KmsKey) -> Result<&KmsSettings, SourceError> {
        let missing = || SourceError::NoCredential {
            text: RootKeySource::AwsKms(key.clone()).to_string(),
            section: crate::aws::SECTION,
            field: "credentials",
        };
        self.aws_kms.as_ref().ok_or_else(missing)
    }

    pub(crate) fn transit_of(&self, key: &TransitKey) -> Result<&TransitSettings, SourceError> {
        let missing = || SourceError::NoCredential {
            text: RootKeySource::VaultTransit(key.clone()).to_string(),
            section: crate::transit::SECTION,
            field: "token",
        };
        self.vault_transit.as_ref().ok_or_else(missing)
    }
}

impl RootKeySource {
    /// Reads what `GRAMMAR` says. `credentials` is where the service manager said that its
    /// credentials are.
    pub fn parse(text: &Path, credentials: Option<&Path>) -> Result<Self, SourceError> {
        // A path that is no text has none of these in front.
        let words = text.to_str().unwrap_or_default();
        if let Some(arn) = words.strip_prefix(AWS_KMS) {
            let key = KmsKey::parse(arn);
            return key
                .map(Self::AwsKms)
                .map_err(|problem| no_key(words, problem));
        }
        if let Some(url) = words.strip_prefix(VAULT_TRANSIT) {
            let key = TransitKey::parse(url).map(Self::VaultTransit);
            return key.map_err(|problem| no_key(words, problem));
        }
        Ok(Self::Kept(KeySource::parse(text, credentials)?))
    }

    /// As it is typed, also where that is no text.
    pub fn typed(&self) -> OsString {
        match self {
            Self::Kept(source) => source.typed(),
            Self::AwsKms(_) | Self::VaultTransit(_) => self.to_string().into(),
        }
    }

    /// What the service of this key is asked with, where it has one.
    pub fn credential<'a>(
        &self,
        settings: &'a ServiceSettings,
    ) -> Result<Option<&'a Given>, SourceError> {
        match self {
            Self::Kept(_) => Ok(None),
            Self::AwsKms(key) => settings.kms_of(key).map(|kms| Some(&kms.credentials)),
            Self::VaultTransit(key) => settings.transit_of(key).map(|transit| Some(&transit.token)),
        }
    }

    /// The key's holder. Nothing is sent, and no process started, yet.
    pub fn root_key(
        &self,
        keeper: KeeperProgram,
        settings: &ServiceSettings,
    ) -> Result<RootKey, SourceError> {
        Ok(match self {
            Self::Kept(source) => RootKey::kept_by(keeper, source),
            Self::AwsKms(key) => RootKey::in_service(Arc::new(KmsService::new(key, settings)?)),
            Self::VaultTransit(key) => {
                RootKey::in_service(Arc::new(TransitService::new(key, settings)?))
            }
        })
    }
}

impl fmt::Display for RootKeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(source) => source.fmt(formatter),
            Self::AwsKms(key) => write!(formatter, "{AWS_KMS}{}", key.arn()),
            Self::VaultTransit(key) => write!(formatter, "{VAULT_TRANSIT}{key}"),
        }
    }
}

/// The certificates in a file, if one is named.
pub(crate) fn authorities(
    section: &'static str,
    file: Option<&Path>,
) -> Result<Vec<Vec<u8>>, SourceError> {
    let Some(path) = file else {
        return Ok(Vec::new());
    };
    let problem = |problem: &dyn fmt::Display| SourceError::Settings {
        section,
        problem: format!("ca_file {}: {problem}", path.display()),
    };
    let mut pem = Vec::new();
    let file = File::open(path).map_err(|error| problem(&error))?;
    let read = file.take(CA_MAX_BYTES + 1).read_to_end(&mut pem);
    if read.map_err(|error| problem(&error))? as u64 > CA_MAX_BYTES {
        return Err(problem(&"is longer than any"));
    }
    Ok(vec![pem])
}

fn no_key(text: &str, problem: &'static str) -> SourceError {
    SourceError::NoKey {
        text: text.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn sources_are_read_and_shown_as_they_are_typed() {
        let arn = |front: &str| format!("aws-kms:{front}:key/{ID}");
        for text in [
            "/etc/holdfast/root.key",
            "aws-kms",
            "credential:root",
            "fd:3",
            "vault-transit:https://vault.example:8200/transit/holdfast",
            "vault-transit:https://[fd00::1]:8200/team/a/transit/hold_fast.1",
            "vault-transit:http://127.0.0.1:8100/transit/holdfast",
            &arn("arn:aws:kms:eu-west-1:123456789012"),
            &arn("arn:aws-cn:kms:cn-north-1:123456789012"),
            &arn("arn:aws-us-gov:kms:us-gov-west-1:123456789012"),
            &format!(
                "aws-kms:arn:aws:kms:eu-west-1:123456789012:key/mrk-{}",
                "a".repeat(32)
            ),
        ] {
            let source = RootKeySource::parse(Path::new(text), None);
            let source = source.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(source.to_string(), text);
            assert_eq!(source.typed(), OsString::from(text));
        }
    }

    #[test]
    fn what_names_no_source_is_refused_with_the_grammar() {
        let host = format!("aws-kms:arn:aws:kms:evil.example/:123456789012:key/{ID}");
        for text in [
            "aws-kms:",
            "aws-kms:alias/holdfast",
            &format!("aws-kms:{ID}"),
            "aws-kms:arn:aws:kms:eu-west-1:123456789012:alias/holdfast",
            &format!("aws-kms:arn:aws:s3:eu-west-1:123456789012:key/{ID}"),
            &format!("aws-kms:arn:moon:kms:eu-west-1:123456789012:key/{ID}"),
            &format!("aws-kms:arn:aws:kms:eu-west-1:12345678901:key/{ID}"),
            &format!("aws-kms:arn:aws:kms::123456789012:key/{ID}"),
            "aws-kms:arn:aws:kms:eu-west-1:123456789012:key/",
            "aws-kms:arn:aws:kms:eu-west-1:123456789012:key/a b",
            "aws-kms:arn:aws:kms:eu-west-1:123456789012:key/a:b",
            &host,
            "credential:a/b",
            "fd:0",
            "vault-transit:",
            "vault-transit:https://vault.example/holdfast",
            "vault-transit:https://vault.example/transit/",
            "vault-transit:https://vault.example/transit/a%2fb",
            "vault-transit:https://vault.example/transit/holdfast?x",
            "vault-transit:https://user@vault.example/transit/holdfast",
            "vault-transit:http://vault.example/transit/holdfast",
            "vault-transit:ftp://127.0.0.1/transit/holdfast",
        ] {
            let error = RootKeySource::parse(Path::new(text), None).unwrap_err();
            assert!(error.hint().contains("aws-kms:arn:"), "{text}: {error}");
        }
    }
}
