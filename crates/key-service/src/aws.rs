//! A root key in AWS KMS.
//!
//! The key is named by its ARN: an alias may point to another key tomorrow. AWS's own rotation of a
//! key's material is nothing that its users see, so that a key has one version here. A replica of a
//! multi-Region key opens what the others have wrapped, and counts as the same key.

use std::fmt;
use std::path::PathBuf;

use aws_api::{AwsError, Keys, Kms};
use credential::SecretString;
use credential::hosts::aws_suffix;
use dial::{AddressPolicy, HttpClient, Url};
use jiff::Timestamp;
use vault::{KeyService, KeyServiceError, ServiceAnswer, WrapContext};
use zeroize::Zeroizing;

use crate::answer;
use crate::asking;
use crate::given::{Given, GivenError};
use crate::source::{RootKeySource, ServiceSettings, SourceError};

/// The section of the configuration.
pub(crate) const SECTION: &str = "aws_kms";
const ACCOUNT_DIGITS: usize = 12;
/// Longest name of a region; the longest that there is has 14.
const REGION_MAX_BYTES: usize = 32;
/// A UUID, or `mrk-` and 32 digits.
const KEY_ID_MAX_BYTES: usize = 64;

/// The name of a key, which is its ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    arn: String,
    partition: String,
    region: String,
    account: String,
    id: String,
    suffix: &'static str,
}

/// What the operator says of KMS.
#[derive(Clone, Debug)]
pub struct KmsSettings {
    pub credentials: Given,
    /// Where it answers, if not at its public name.
    pub endpoint: Option<String>,
    /// Who signs the certificate of that, besides the system's authorities: a file of PEM.
    pub ca_file: Option<PathBuf>,
}

impl KmsKey {
    /// Reads `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`.
    pub(crate) fn parse(arn: &str) -> Result<Self, &'static str> {
        let is_label = |text: &str, max_bytes: usize| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !text.is_empty() && text.len() <= max_bytes && text.bytes().all(plain)
        };
        let no_arn = "is not the ARN of a key of KMS";
        let parts: Vec<_> = arn.split(':').collect();
        let ["arn", partition, "kms", region, account, resource] = parts[..] else {
            return Err(no_arn);
        };
        if resource.starts_with("alias/") {
            return Err("is an alias, which may point to another key tomorrow");
        }
        let id = resource.strip_prefix("key/").ok_or(no_arn)?;
        let suffix = aws_suffix(partition).ok_or("is of no known partition of AWS")?;
        let digits = account.bytes().all(|byte| byte.is_ascii_digit());
        let is_arn = is_label(region, REGION_MAX_BYTES) && is_label(id, KEY_ID_MAX_BYTES);
        if !is_arn || account.len() != ACCOUNT_DIGITS || !digits {
            return Err(no_arn);
        }
        Ok(Self {
            arn: arn.to_owned(),
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            id: id.to_owned(),
            suffix,
        })
    }

    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Where its region answers, by AWS's own naming.
    fn host(&self) -> String {
        format!("kms.{}{}", self.region, self.suffix)
    }

    /// A multi-Region key is one key, wherever it is asked.
    fn identity(&self) -> String {
        if self.id.starts_with("mrk-") {
            let (partition, account) = (&self.partition, &self.account);
            return format!("aws-kms:{partition}:{account}:{}", self.id);
        }
        format!("aws-kms:{}", self.arn)
    }
}

/// A key, the way to its service and what opens it.
#[derive(Debug)]
pub(crate) struct KmsService {
    key: KmsKey,
    host: String,
    http: HttpClient,
    credentials: Given,
}

impl KmsService {
    pub(crate) fn new(key: &KmsKey, settings: &ServiceSettings) -> Result<Self, SourceError> {
        let kms = settings.kms_of(key)?;
        let endpoint = kms.endpoint.as_deref();
        let (host, addresses) = match endpoint.map(parse_endpoint).transpose()? {
            Some(endpoint) => endpoint,
            // An endpoint inside of a private network has the public name there.
            None => (key.host(), AddressPolicy::default().configured_by_user()),
        };
        let ca_file = kms.ca_file.as_deref();
        let http = asking::client(SECTION, &settings.dial, ca_file, &addresses)?;
        Ok(Self {
            key: key.clone(),
            host,
            http,
            credentials: kms.credentials.clone(),
        })
    }

    fn kms(&self) -> Kms<'_> {
        Kms {
            host: &self.host,
            region: &self.key.region,
            key: &self.key.arn,
        }
    }

    /// Read again for each question: a session's keys end, and others take their place.
    async fn keys(&self) -> Result<Keys, KeyServiceError> {
        let given = self.credentials.clone();
        let read = asking::blocking(move || given.read_aws_keys());
        read.await
            .map_err(|error: GivenError| answer::no_credential(&error))
    }
}

impl KeyService for KmsService {
    fn source(&self) -> String {
        RootKeySource::AwsKms(self.key.clone()).to_string()
    }

    fn identity(&self) -> String {
        self.key.identity()
    }

    fn newest(&self) -> ServiceAnswer<'_, u32> {
        Box::pin(std::future::ready(Ok(1)))
    }

    fn seal<'a>(
        &'a self,
        _version: u32,
        context: &'a WrapContext,
        plain: &'a [u8],
    ) -> ServiceAnswer<'a, Vec<u8>> {
        Box::pin(asking::patiently(move || async move {
            let (keys, way) = (self.keys().await?, (&self.http, &Timestamp::now as _));
            let pairs = context.pairs();
            let sealed = self.kms().encrypt(way, &keys, &pairs, plain).await;
            sealed.map_err(told)
        }))
    }

    fn open<'a>(
        &'a self,
        _version: u32,
        context: &'a WrapContext,
        sealed: &'a [u8],
    ) -> ServiceAnswer<'a, Option<Zeroizing<Vec<u8>>>> {
        Box::pin(asking::patiently(move || async move {
            let (keys, way) = (self.keys().await?, (&self.http, &Timestamp::now as _));
            let pairs = context.pairs();
            let opened = self.kms().decrypt(way, &keys, &pairs, sealed).await;
            opened.map_err(told)
        }))
    }
}

/// A host with an optional port, in TLS, and how far one reaches by naming it.
fn parse_endpoint(text: &str) -> Result<(String, AddressPolicy), SourceError> {
    let problem = || unusable(format!("endpoint {text:?} is not https://HOST[:PORT]"));
    let url = Url::parse(text).map_err(|_| problem())?;
    let host = url.host_str().ok_or_else(problem)?;
    let with_port = url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let plain = [
        format!("https://{with_port}"),
        format!("https://{with_port}/"),
    ];
    if !plain.contains(&text.to_ascii_lowercase()) {
        return Err(problem());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = AddressPolicy::for_host(bare).configured_by_user();
    Ok((with_port, addresses))
}

fn unusable(problem: String) -> SourceError {
    SourceError::Settings {
        section: SECTION,
        problem,
    }
}

fn told(error: AwsError) -> KeyServiceError {
    let message = error.to_string();
    match error {
        AwsError::Dial(error) => answer::of_dial(&error),
        AwsError::BadKeys { .. } => KeyServiceError::BadCredential { message },
        AwsError::NotAllowed { .. } => KeyServiceError::Denied { message },
        AwsError::RateLimited { .. } => KeyServiceError::RateLimited { message },
        AwsError::Unavailable { .. } => KeyServiceError::Unreachable { message },
        AwsError::Refused { name, .. } => match name.as_str() {
            "NotFoundException" => KeyServiceError::Missing {
                message: "KMS has no such key".to_owned(),
            },
            "DisabledException" => KeyServiceError::Disabled {
                message: "the key is disabled in KMS".to_owned(),
            },
            "KMSInvalidStateException" => KeyServiceError::Disabled {
                message: "the key cannot be used as it is in KMS, such as when it awaits its \
                          deletion"
                    .to_owned(),
            },
            _ => KeyServiceError::Unusable { message },
        },
        _ => KeyServiceError::Unusable { message },
    }
}

/// Lines `NAME=VALUE` of AWS's own names, in either case, below one heading in brackets or none.
pub(crate) fn read_keys(text: &str) -> Result<Keys, &'static str> {
    let (mut id, mut secret, mut token, mut headings) = (None, None, None, 0);
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') && line.ends_with(']') {
            headings += 1;
            continue;
        }
        let (name, value) = line
            .split_once('=')
            .ok_or("has a line that is no NAME=VALUE")?;
        let slot = match name.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            _ => return Err("names something else than the keys and the token of AWS"),
        };
        let value = value.trim();
        let is_visible = value.bytes().all(|byte| byte.is_ascii_graphic());
        if value.is_empty() || !is_visible || slot.replace(value).is_some() {
            return Err("has no value for a name, one that no header carries, or two");
        }
    }
    let (Some(id), Some(secret), 0..=1) = (id, secret, headings) else {
        return Err("does not hold aws_access_key_id and aws_secret_access_key once");
    };
    Ok(Keys {
        access_key_id: id.to_owned(),
        secret_access_key: SecretString::from(secret.to_owned()),
        session_token: token.map(|token| SecretString::from(token.to_owned())),
    })
}

impl fmt::Display for KmsKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.arn)
    }
}

#[cfg(test)]
mod tests {
    use credential::ExposeSecret;

    use super::*;

    #[test]
    fn each_partition_has_its_own_hosts() {
        for (arn, host) in [
            ("aws:kms:eu-west-1", "kms.eu-west-1.amazonaws.com"),
            ("aws-cn:kms:cn-north-1", "kms.cn-north-1.amazonaws.com.cn"),
            (
                "aws-us-gov:kms:us-gov-west-1",
                "kms.us-gov-west-1.amazonaws.com",
            ),
            (
                "aws-eusc:kms:eusc-de-east-1",
                "kms.eusc-de-east-1.amazonaws.eu",
            ),
        ] {
            let key = KmsKey::parse(&format!("arn:{arn}:123456789012:key/1-2")).unwrap();
            assert_eq!(key.host(), host);
        }
    }

    #[test]
    fn replicas_of_a_key_are_one_key_and_others_are_not() {
        let identity = |region: &str, id: &str| {
            let key = KmsKey::parse(&format!("arn:aws:kms:{region}:123456789012:key/{id}"));
            key.unwrap().identity()
        };
        let (here, there) = ("eu-west-1", "us-east-1");
        assert_eq!(identity(here, "mrk-12"), identity(there, "mrk-12"));
        assert_ne!(identity(here, "mrk-12"), identity(here, "mrk-13"));
        assert_ne!(identity(here, "12"), identity(there, "12"));
    }

    #[test]
    fn keys_are_read_from_lines_and_nothing_else_is_obeyed() {
        let read = |text: &str| read_keys(text);
        let keys = read(
            "# of the service\n[default]\naws_access_key_id = AKID\n\
             AWS_SECRET_ACCESS_KEY=s/+=\naws_session_token = t==\n",
        );
        let keys = keys.unwrap();
        assert_eq!(keys.access_key_id, "AKID");
        assert_eq!(keys.secret_access_key.expose_secret(), "s/+=");
        assert_eq!(keys.session_token.unwrap().expose_secret(), "t==");
        let right = "aws_access_key_id=a\naws_secret_access_key=canary\n";
        assert!(read(right).is_ok());
        for wrong in [
            "",
            "aws_access_key_id=a",
            "aws_secret_access_key=canary",
            "canary",
            &format!("{right}credential_process=/bin/canary"),
            &format!("{right}role_arn=canary"),
            &format!("{right}aws_session_token="),
            &format!("{right}aws_access_key_id=canary"),
            &format!("[a]\n{right}[b]\n"),
            "aws_access_key_id=a\naws_secret_access_key=can\u{7}ary",
        ] {
            let error = read(wrong).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn an_endpoint_is_a_host_in_tls() {
        for (text, expected) in [
            ("https://kms.internal", Some("kms.internal")),
            ("https://kms.internal/", Some("kms.internal")),
            ("https://127.0.0.1:5000", Some("127.0.0.1:5000")),
            ("https://[::1]:5000", Some("[::1]:5000")),
            ("http://kms.internal", None),
            ("https://kms.internal/path", None),
            ("https://kms.internal?x", None),
            ("https://user@kms.internal", None),
            ("kms.internal", None),
            ("", None),
        ] {
            let host = parse_endpoint(text).ok().map(|(host, _)| host);
            assert_eq!(host.as_deref(), expected, "{text}");
        }
    }
}
