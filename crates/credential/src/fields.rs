//! [`Credential`]: a kind and its fields. Built complete or not at all; says nothing in `Debug`
//! but its kind.

use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::expiry;
use crate::federation::GcpFederation;
use crate::known_keys;

/// The user name under which Google takes an access token as a password.
pub(crate) const GOOGLE_TOKEN_USER: &str = "oauth2accesstoken";
/// The user name under which Google takes a service account's JSON as a password.
pub(crate) const GOOGLE_JSON_USER: &str = "_json_key";

/// What sort of credential it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialKind {
    Public,
    Basic,
    Token,
    Aws,
    Gcp,
    Azure,
}

impl CredentialKind {
    pub const ALL: [Self; 6] = [
        Self::Public,
        Self::Basic,
        Self::Token,
        Self::Aws,
        Self::Gcp,
        Self::Azure,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Basic => "basic",
            Self::Token => "token",
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a user gave for a registry.
#[derive(Clone)]
pub struct Credential {
    fields: Fields,
}

/// What a [`Credential`] holds, by kind.
#[derive(Clone)]
pub enum Fields {
    /// Nothing: an anonymous pull, by choice.
    Public,
    Basic {
        username: String,
        password: SecretString,
    },
    /// A token that is exchanged like a password under `username`; without a user name a bearer
    /// token that is ready to be sent.
    Token {
        username: Option<String>,
        token: SecretString,
    },
    Aws(AwsFields),
    AwsKeyless(AwsKeyless),
    Gcp(GcpFields),
    Azure(AzureFields),
    Node(NodeFields),
}

/// The identity of the machine that runs this program, by the name under which its operator grants
/// it. Holds no secret.
#[derive(Clone)]
pub struct NodeFields {
    /// The cloud whose registries it is for.
    pub kind: CredentialKind,
    pub name: String,
}

/// A role of AWS that trusts our own issuer. Holds no secret.
#[derive(Clone)]
pub struct AwsKeyless {
    pub role_arn: String,
    pub role_session_name: Option<String>,
    /// As given. A private ECR registry's own region counts for more.
    pub region: Option<String>,
}

/// Keys of an AWS principal, and the role it takes on, if any.
#[derive(Clone)]
pub struct AwsFields {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: Option<SecretString>,
    /// As given. A private ECR registry's own region counts for more.
    pub region: Option<String>,
    pub role_arn: Option<String>,
    pub external_id: Option<SecretString>,
    pub role_session_name: Option<String>,
}

/// A token with an hour to live, a service account's key, another issuer's token that Google
/// believes, or that it believes our own issuer.
#[derive(Clone)]
pub enum GcpFields {
    AccessToken {
        token: SecretString,
        project_id: Option<String>,
    },
    ServiceAccount {
        json: SecretString,
        project_id: Option<String>,
    },
    Federated {
        federation: GcpFederation,
        subject_token: SecretString,
        project_id: Option<String>,
    },
    /// Holds no secret.
    Keyless {
        federation: GcpFederation,
        project_id: Option<String>,
    },
}

/// A service principal. With a secret and without a tenant it can still log in to a registry by
/// itself.
#[derive(Clone)]
pub struct AzureFields {
    pub client_id: String,
    pub secret: AzureSecret,
    pub tenant_id: Option<String>,
}

/// What shows that somebody is a service principal.
#[derive(Clone)]
pub enum AzureSecret {
    ClientSecret(SecretString),
    /// A token of another issuer that the principal trusts.
    FederatedToken(SecretString),
    /// Nothing: the principal trusts our own issuer.
    Keyless,
}

impl Credential {
    pub fn new(fields: Fields) -> Self {
        Self { fields }
    }

    /// No credential: an anonymous pull.
    pub fn public() -> Self {
        Self::new(Fields::Public)
    }

    pub fn basic(username: String, password: SecretString) -> Self {
        Self::new(Fields::Basic { username, password })
    }

    /// A bearer token that the registry takes as it is. For a token that is exchanged under the
    /// user name of its service, see [`crate::from_token`].
    pub fn registry_token(token: SecretString) -> Self {
        Self::new(Fields::Token {
            username: None,
            token,
        })
    }

    pub fn kind(&self) -> CredentialKind {
        match &self.fields {
            Fields::Public => CredentialKind::Public,
            Fields::Basic { .. } => CredentialKind::Basic,
            Fields::Token { .. } => CredentialKind::Token,
            Fields::Aws(_) | Fields::AwsKeyless(_) => CredentialKind::Aws,
            Fields::Gcp(_) => CredentialKind::Gcp,
            Fields::Azure(_) => CredentialKind::Azure,
            Fields::Node(node) => node.kind,
        }
    }

    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// User name and password for a token exchange or a Basic header, for kinds that have them.
    /// What must first be traded at a cloud has none, nor has a bearer token.
    pub fn basic_parts(&self) -> Option<(&str, &SecretString)> {
        match &self.fields {
            Fields::Basic { username, password } => Some((username, password)),
            Fields::Token { username, token } => Some((username.as_deref()?, token)),
            Fields::Gcp(GcpFields::AccessToken { token, .. }) => Some((GOOGLE_TOKEN_USER, token)),
            Fields::Azure(azure) => match (&azure.secret, &azure.tenant_id) {
                (AzureSecret::ClientSecret(secret), None) => Some((&azure.client_id, secret)),
                _ => None,
            },
            Fields::Public
            | Fields::Aws(_)
            | Fields::AwsKeyless(_)
            | Fields::Gcp(_)
            | Fields::Node(_) => None,
        }
    }

    /// Whether it holds no secret: its cloud trusts tokens of our own issuer, or the machine.
    pub fn is_keyless(&self) -> bool {
        self.absent_secret().is_some() || matches!(self.fields, Fields::Node(_))
    }

    /// The keys whose absence has a token of our own issuer shown: whoever forgot them did not
    /// mean it.
    pub fn absent_secret(&self) -> Option<&'static str> {
        match &self.fields {
            Fields::AwsKeyless(_) => Some("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            Fields::Gcp(GcpFields::Keyless { .. }) => Some(known_keys::GCP_SUBJECT_TOKEN),
            Fields::Azure(azure) => matches!(azure.secret, AzureSecret::Keyless)
                .then_some(known_keys::AZURE_CLIENT_SECRET),
            _ => None,
        }
    }

    /// Whether its cloud makes something else of it before a registry sees anything.
    pub fn is_traded(&self) -> bool {
        match &self.fields {
            Fields::Aws(_) | Fields::AwsKeyless(_) | Fields::Node(_) => true,
            Fields::Gcp(gcp) => !matches!(gcp, GcpFields::AccessToken { .. }),
            Fields::Azure(azure) => azure.tenant_id.is_some(),
            Fields::Public | Fields::Basic { .. } | Fields::Token { .. } => false,
        }
    }

    /// The token to send as it is, for a credential that is one.
    pub fn bearer(&self) -> Option<&SecretString> {
        match &self.fields {
            Fields::Token {
                username: None,
                token,
            } => Some(token),
            _ => None,
        }
    }

    /// When the credential itself says that it dies: a JWT's `exp`, an ECR password's
    /// `expiration`. Unverified, so good for warning and renewing early, for nothing else.
    pub fn not_after(&self) -> Option<Timestamp> {
        match &self.fields {
            Fields::Basic { password, .. } => expiry::of_secret(password),
            Fields::Token { token, .. } | Fields::Gcp(GcpFields::AccessToken { token, .. }) => {
                expiry::of_secret(token)
            }
            Fields::Gcp(GcpFields::Federated { subject_token, .. }) => {
                expiry::of_secret(subject_token)
            }
            Fields::Azure(AzureFields {
                secret: AzureSecret::FederatedToken(token),
                ..
            }) => expiry::of_secret(token),
            Fields::Public
            | Fields::Aws(_)
            | Fields::AwsKeyless(_)
            | Fields::Gcp(_)
            | Fields::Azure(_)
            | Fields::Node(_) => None,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credential({}, redacted)", self.kind())
    }
}

/// Names of fields can be read off the type; values, user names too, are for nobody's log.
macro_rules! redacted {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )+};
}

redacted!(
    Fields,
    AwsFields,
    AwsKeyless,
    GcpFields,
    AzureFields,
    AzureSecret,
    NodeFields
);
