//! Google's registries: a service account's key, or the token of an issuer that a workload identity
//! pool believes, another's or our own, becomes an access token that may read.
//!
//! The hosts are Google's own, from a table: whatever address stands in the user's JSON was
//! compared with it and is not used. The key itself goes nowhere: it signs. An access token opens
//! what its account may read, and the registries' token services exchange it for one for a
//! repository.

mod assertion;
mod federation;
mod key;

use std::str::FromStr as _;

use credential::auth::AuthError;
use credential::{
    Credential, CredentialKind, Fields, GcpFederation, GcpFields, Malformed, SecretString, Service,
    ServiceAccount,
};
use dial::Url;

use super::{PresentFuture, Presented, Provider};
use crate::asker::Pass;
use crate::clouds::Clouds;
use crate::identity::OpensCredential;
use crate::login::Login;
use crate::node::{self, NodeIdentity};
use crate::reply::Token;

const TOKEN_HOST: &str = "oauth2.googleapis.com";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const EXCHANGE_HOST: &str = "sts.googleapis.com";
const EXCHANGE_URL: &str = "https://sts.googleapis.com/v1/token";
const ACCOUNTS_HOST: &str = "iamcredentials.googleapis.com";
const ACCOUNTS_URL: &str = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/";

/// The least that pulls from both of Google's registries.
const READ_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

/// The user name under which Google's registries take an access token as a password.
const TOKEN_USER: &str = "oauth2accesstoken";

/// What becomes an access token at Google.
pub(super) enum Google<'a> {
    ServiceAccount(ServiceAccount),
    Federated {
        federation: &'a GcpFederation,
        /// A token that was given as a value.
        subject_token: &'a SecretString,
    },
    Keyless {
        federation: &'a GcpFederation,
        /// Our own issuer, whom the pool believes.
        issuer: &'a dyn OpensCredential,
    },
    /// The machine, by the name under which its identity is granted.
    Node {
        name: &'a str,
        opener: &'a dyn OpensCredential,
    },
}

impl<'a> Google<'a> {
    /// Nothing for a credential that Google makes nothing of.
    pub(super) fn new(
        credential: &'a Credential,
        login: &'a Login,
    ) -> Result<Option<Self>, AuthError> {
        let registry = &login.endpoint.registry;
        let is_google = Service::of(registry) == Service::Google;
        let google = match credential.fields() {
            Fields::Basic { username, password } if ServiceAccount::is_announced_by(username) => {
                if !is_google {
                    return Ok(None);
                }
                Self::of_key(password)?
            }
            Fields::Gcp(GcpFields::ServiceAccount { json, .. }) => Self::of_key(json)?,
            Fields::Gcp(GcpFields::Federated {
                federation,
                subject_token,
                ..
            }) => Self::Federated {
                federation,
                subject_token,
            },
            Fields::Gcp(GcpFields::Keyless { federation, .. }) => Self::Keyless {
                federation,
                issuer: &*login.identity.credential,
            },
            Fields::Node(node) if node.kind == CredentialKind::Gcp => Self::Node {
                name: &node.name,
                opener: &*login.identity.credential,
            },
            _ => return Ok(None),
        };
        if is_google {
            return Ok(Some(google));
        }
        let service = Service::of(registry).name();
        Err(AuthError::Refused {
            message: format!(
                "Google's keys are for Google's registries, and {registry} is {service}"
            ),
        })
    }

    fn of_key(json: &SecretString) -> Result<Self, AuthError> {
        let key = ServiceAccount::read(json).map_err(not_a_key)?;
        Ok(Self::ServiceAccount(key))
    }

    async fn ask(&self, clouds: &Clouds) -> Result<Presented, AuthError> {
        let token = match self {
            Self::ServiceAccount(account) => key::exchange(clouds, account).await?,
            Self::Federated {
                federation,
                subject_token,
            } => federation::exchange(clouds, federation, subject_token).await?,
            Self::Keyless { federation, issuer } => {
                let token = issuer.identity_token(&federation.audience).await?;
                federation::exchange(clouds, federation, &token).await?
            }
            Self::Node { name, opener } => match opener.node_identity(name).await? {
                NodeIdentity::Google { service_account } => {
                    let account = service_account.as_deref();
                    node::google_token(clouds, account, READ_SCOPE).await?
                }
                other => return Err(other.is_no("Google")),
            },
        };
        Ok(presented(token))
    }
}

impl Provider for Google<'_> {
    fn present<'a>(&'a self, clouds: &'a Clouds) -> PresentFuture<'a> {
        Box::pin(self.ask(clouds))
    }
}

fn presented(token: Token) -> Presented {
    Presented {
        pass: Pass::Password {
            username: TOKEN_USER.to_owned(),
            password: token.secret,
        },
        not_after: Some(token.not_after),
        is_renewable: true,
    }
}

fn not_a_key(problem: Malformed) -> AuthError {
    let hint = problem.hint().map(|hint| format!("; {hint}"));
    AuthError::Refused {
        message: format!(
            "the service account's key {problem}{}",
            hint.unwrap_or_default()
        ),
    }
}

fn url(text: &str) -> Result<Url, AuthError> {
    Url::from_str(text).map_err(|_| AuthError::Internal {
        message: "no address for Google's services".to_owned(),
    })
}
