//! The stored form: the one place where a credential is written out, to be sealed at once.
//!
//! ```json
//! {"version":1,"kind":"basic","fields":{"username":"…","password":"…"}}
//! ```
//!
//! Absent fields are left out; unknown versions, kinds and fields are refused, so that an older
//! program never half-reads what a newer one wrote. Beta9's `{registry,type,credentials}` is read
//! too, through [`crate::detect`] and its rules. Buffers are sized beforehand and wiped; copies
//! that a JSON parser makes to resolve escapes are out of reach.

use std::collections::BTreeMap;
use std::io;

use reference::Registry;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::detect::{detect, wipe};
use crate::error::CredentialError;
use crate::federation::GcpFederation;
use crate::fields::{
    AwsFields, AwsKeyless, AzureFields, AzureSecret, Credential, CredentialKind, Fields, GcpFields,
    NodeFields,
};
use crate::keyless::is_node_name;
use crate::secret_text::SecretText;

const VERSION: u64 = 1;
/// Longest stored form that is read: two long values with every byte escaped, and the rest.
const TEXT_LIMIT: usize = 1024 * 1024;
/// Stands in place of a secret, where there is none.
const KEYLESS: (&str, &str) = ("keyless", "yes");
/// The field of a credential that is the machine's identity.
const NODE: &str = "node_identity";
/// What beta9 writes where it could not tell the kind.
const BETA9_UNKNOWN: &str = "unknown";

/// Why a stored text is not a credential. Messages never repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredCredentialError {
    #[error("stored credential is longer than {TEXT_LIMIT} bytes")]
    TooLong,
    #[error("stored credential is not of a known form")]
    NotStoredForm,
    #[error("stored credential has version {version}, and this program reads up to {VERSION}")]
    UnsupportedVersion { version: u64 },
    #[error("stored credential is of a kind that is not known")]
    UnknownKind,
    #[error("stored {kind} credential lacks field {field}")]
    MissingField {
        kind: CredentialKind,
        field: &'static str,
    },
    #[error("stored {kind} credential has fields that are not known")]
    UnknownField { kind: CredentialKind },
    #[error("stored beta9 credential names a registry that does not parse")]
    Beta9Registry,
    #[error("stored beta9 credential is not usable")]
    Beta9(#[source] CredentialError),
}

impl Credential {
    /// The versioned form that is sealed.
    pub fn to_stored(&self) -> SecretString {
        let fields: BTreeMap<&str, &str> = entries(self.fields()).into_iter().collect();
        let form = StoredForm {
            version: VERSION,
            kind: self.kind().as_str(),
            fields,
        };
        // Measured first, so that no half-written buffer is left behind by growing.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &form).expect("texts serialise, and counting is safe");
        let mut bytes = Vec::with_capacity(length.0);
        serde_json::to_writer(&mut bytes, &form).expect("texts serialise, and memory is at hand");
        SecretString::from(String::from_utf8(bytes).expect("JSON is UTF-8"))
    }

    /// Reads the stored form, or beta9's.
    pub fn from_stored(stored: &SecretString) -> Result<Self, StoredCredentialError> {
        let text = stored.expose_secret();
        if text.len() > TEXT_LIMIT {
            return Err(StoredCredentialError::TooLong);
        }
        let not_stored = |_| StoredCredentialError::NotStoredForm;
        let probe: Probe = serde_json::from_str(text).map_err(not_stored)?;
        match (probe.version, probe.credentials) {
            (Some(VERSION), None) => {
                let form: OwnForm = serde_json::from_str(text).map_err(not_stored)?;
                from_own(form)
            }
            (Some(version), None) => Err(StoredCredentialError::UnsupportedVersion { version }),
            (None, Some(_)) => {
                let form: Beta9Form = serde_json::from_str(text).map_err(not_stored)?;
                from_beta9(form)
            }
            _ => Err(StoredCredentialError::NotStoredForm),
        }
    }
}

#[derive(Serialize)]
struct StoredForm<'a> {
    version: u64,
    kind: &'static str,
    fields: BTreeMap<&'a str, &'a str>,
}

/// Enough to tell which form it is.
#[derive(serde::Deserialize)]
struct Probe {
    version: Option<u64>,
    credentials: Option<IgnoredAny>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnForm {
    #[serde(rename = "version")]
    _version: u64,
    kind: String,
    fields: BTreeMap<String, SecretText>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Beta9Form {
    registry: String,
    #[serde(rename = "type")]
    kind: String,
    credentials: BTreeMap<String, Value>,
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Names and values of all fields that are there.
fn entries(fields: &Fields) -> Vec<(&'static str, &str)> {
    match fields {
        Fields::Public => Vec::new(),
        Fields::Basic { username, password } => {
            vec![
                ("username", username),
                ("password", password.expose_secret()),
            ]
        }
        Fields::Token { username, token } => {
            let mut entries = vec![("token", token.expose_secret())];
            entries.extend(username.as_deref().map(|username| ("username", username)));
            entries
        }
        Fields::Aws(aws) => aws_entries(aws),
        Fields::AwsKeyless(aws) => {
            let more = [
                ("role_session_name", &aws.role_session_name),
                ("region", &aws.region),
            ];
            let more = more.into_iter();
            let mut entries = vec![KEYLESS, ("role_arn", aws.role_arn.as_str())];
            entries.extend(more.filter_map(|(name, text)| Some((name, text.as_deref()?))));
            entries
        }
        Fields::Gcp(gcp) => gcp_entries(gcp),
        Fields::Node(node) => vec![KEYLESS, (NODE, node.name.as_str())],
        Fields::Azure(azure) => {
            let secret = match &azure.secret {
                AzureSecret::ClientSecret(secret) => ("client_secret", secret.expose_secret()),
                AzureSecret::FederatedToken(token) => ("federated_token", token.expose_secret()),
                AzureSecret::Keyless => KEYLESS,
            };
            let mut entries = vec![("client_id", azure.client_id.as_str()), secret];
            let tenant = azure.tenant_id.as_deref();
            entries.extend(tenant.map(|tenant| ("tenant_id", tenant)));
            entries
        }
    }
}

fn gcp_entries(gcp: &GcpFields) -> Vec<(&'static str, &str)> {
    let mut entries = Vec::new();
    let project_id = match gcp {
        GcpFields::AccessToken { token, project_id } => {
            entries.push(("access_token", token.expose_secret()));
            project_id
        }
        GcpFields::ServiceAccount { json, project_id } => {
            entries.push(("service_account_json", json.expose_secret()));
            project_id
        }
        GcpFields::Federated {
            federation,
            subject_token,
            project_id,
        } => {
            entries.push(("subject_token", subject_token.expose_secret()));
            entries.extend(federation_entries(federation));
            project_id
        }
        GcpFields::Keyless {
            federation,
            project_id,
        } => {
            entries.push(KEYLESS);
            entries.extend(federation_entries(federation));
            project_id
        }
    };
    entries.extend(project_id.as_deref().map(|project| ("project_id", project)));
    entries
}

fn federation_entries(federation: &GcpFederation) -> Vec<(&'static str, &str)> {
    let mut entries = vec![
        ("subject_token_type", federation.subject_token_type.as_str()),
        ("audience", federation.audience.as_str()),
    ];
    let account = federation.service_account.as_deref();
    entries.extend(account.map(|account| ("service_account", account)));
    entries
}

fn aws_entries(aws: &AwsFields) -> Vec<(&'static str, &str)> {
    let mut entries = vec![
        ("access_key_id", aws.access_key_id.as_str()),
        ("secret_access_key", aws.secret_access_key.expose_secret()),
    ];
    let plain = [
        ("region", &aws.region),
        ("role_arn", &aws.role_arn),
        ("role_session_name", &aws.role_session_name),
    ];
    let sealed = [
        ("session_token", &aws.session_token),
        ("external_id", &aws.external_id),
    ];
    entries.extend(
        plain
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_deref()?))),
    );
    entries.extend(
        sealed
            .into_iter()
            .filter_map(|(name, text)| Some((name, text.as_ref()?.expose_secret()))),
    );
    entries
}

fn from_own(form: OwnForm) -> Result<Credential, StoredCredentialError> {
    let kind = CredentialKind::from_name(&form.kind).ok_or(StoredCredentialError::UnknownKind)?;
    let mut taken = Taken {
        kind,
        fields: form.fields,
    };
    let fields = match kind {
        CredentialKind::Aws | CredentialKind::Gcp | CredentialKind::Azure if taken.is_node() => {
            Fields::Node(NodeFields {
                kind,
                name: taken.node_name()?,
            })
        }
        CredentialKind::Public => Fields::Public,
        CredentialKind::Basic => Fields::Basic {
            username: taken.required_text("username")?,
            password: taken.required("password")?,
        },
        CredentialKind::Token => Fields::Token {
            username: taken.text("username"),
            token: taken.required("token")?,
        },
        CredentialKind::Aws if taken.is_keyless() => Fields::AwsKeyless(AwsKeyless {
            role_arn: taken.required_text("role_arn")?,
            role_session_name: taken.text("role_session_name"),
            region: taken.text("region"),
        }),
        CredentialKind::Aws => Fields::Aws(taken.aws()?),
        CredentialKind::Gcp => Fields::Gcp(taken.gcp()?),
        CredentialKind::Azure => Fields::Azure(taken.azure()?),
    };
    if taken.fields.is_empty() {
        Ok(Credential::new(fields))
    } else {
        Err(StoredCredentialError::UnknownField { kind })
    }
}

/// The fields of a stored form that are still to be used.
struct Taken {
    kind: CredentialKind,
    fields: BTreeMap<String, SecretText>,
}

impl Taken {
    fn optional(&mut self, field: &str) -> Option<SecretString> {
        self.fields.remove(field).map(|text| text.0)
    }

    fn text(&mut self, field: &str) -> Option<String> {
        self.optional(field)
            .map(|text| text.expose_secret().to_owned())
    }

    fn required(&mut self, field: &'static str) -> Result<SecretString, StoredCredentialError> {
        let kind = self.kind;
        self.optional(field)
            .ok_or(StoredCredentialError::MissingField { kind, field })
    }

    fn required_text(&mut self, field: &'static str) -> Result<String, StoredCredentialError> {
        self.required(field)
            .map(|text| text.expose_secret().to_owned())
    }

    /// Whether it says that it holds no secret. Then it may have none.
    fn is_keyless(&mut self) -> bool {
        let (name, value) = KEYLESS;
        let is_said = |text: &SecretText| text.0.expose_secret() == value;
        let keyless = self.fields.get(name).is_some_and(is_said);
        if keyless {
            self.fields.remove(name);
        }
        keyless
    }

    /// Whether it is the machine's identity, which has a secret as little as any keyless one.
    fn is_node(&self) -> bool {
        self.fields.contains_key(NODE)
    }

    fn node_name(&mut self) -> Result<String, StoredCredentialError> {
        let name = self.required_text(NODE)?;
        if self.is_keyless() && is_node_name(&name) {
            return Ok(name);
        }
        Err(StoredCredentialError::NotStoredForm)
    }

    fn federation(&mut self) -> Result<GcpFederation, StoredCredentialError> {
        Ok(GcpFederation {
            audience: self.required_text("audience")?,
            subject_token_type: self.required_text("subject_token_type")?,
            service_account: self.text("service_account"),
        })
    }

    fn aws(&mut self) -> Result<AwsFields, StoredCredentialError> {
        Ok(AwsFields {
            access_key_id: self.required_text("access_key_id")?,
            secret_access_key: self.required("secret_access_key")?,
            session_token: self.optional("session_token"),
            region: self.text("region"),
            role_arn: self.text("role_arn"),
            external_id: self.optional("external_id"),
            role_session_name: self.text("role_session_name"),
        })
    }

    fn azure(&mut self) -> Result<AzureFields, StoredCredentialError> {
        Ok(AzureFields {
            client_id: self.required_text("client_id")?,
            secret: match self.optional("federated_token") {
                None if self.is_keyless() => AzureSecret::Keyless,
                Some(token) => AzureSecret::FederatedToken(token),
                None => AzureSecret::ClientSecret(self.required("client_secret")?),
            },
            tenant_id: self.text("tenant_id"),
        })
    }

    fn gcp(&mut self) -> Result<GcpFields, StoredCredentialError> {
        let project_id = self.text("project_id");
        if self.is_keyless() {
            let federation = self.federation()?;
            return Ok(GcpFields::Keyless {
                federation,
                project_id,
            });
        }
        if let Some(token) = self.optional("access_token") {
            return Ok(GcpFields::AccessToken { token, project_id });
        }
        if let Some(subject_token) = self.optional("subject_token") {
            return Ok(GcpFields::Federated {
                federation: self.federation()?,
                subject_token,
                project_id,
            });
        }
        let json = self.required("service_account_json")?;
        Ok(GcpFields::ServiceAccount { json, project_id })
    }
}

fn from_beta9(form: Beta9Form) -> Result<Credential, StoredCredentialError> {
    let known = form.kind == BETA9_UNKNOWN || CredentialKind::from_name(&form.kind).is_some();
    let registry = Registry::parse(&form.registry);
    let detected = match (known, &registry) {
        (false, _) => Err(StoredCredentialError::UnknownKind),
        (true, Err(_)) => Err(StoredCredentialError::Beta9Registry),
        (true, Ok(registry)) => {
            detect(registry, &form.credentials).map_err(StoredCredentialError::Beta9)
        }
    };
    wipe(form.credentials);
    detected.map(|detected| detected.credential)
}
