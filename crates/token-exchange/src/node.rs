//! The identity of the machine that this program runs on, as its cloud's metadata service has it.
//!
//! Used where an operator has granted it by name, and never for want of something else: whoever
//! asks names it, and who opens the credential says whether it is granted. What a metadata service
//! gives goes where a key of the same cloud would: it takes on a role whose sessions are for one
//! repository, or is exchanged for a token for one. Of AWS the second version of the service alone
//! is asked, which wants a token of its own before it says anything.

use bytes::Bytes;
use credential::auth::AuthError;
use credential::{CredentialKind, SecretString};
use dial::header::{HeaderName, HeaderValue};
use dial::{MetadataClient, Method, Request};
use serde_json::Value;

use crate::clouds::Clouds;
use crate::reply::{self, Times, Token};
use crate::wire;
use aws_api::Keys;

/// Longest answer that is read. A token of Azure for a member of many groups is below 20 KiB.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// For how long a token of the metadata service itself is good: for the two questions after it.
const SESSION_SECONDS: HeaderValue = HeaderValue::from_static("60");
const SESSION_PATH: &str = "/latest/api/token";
const SESSION_LIFE: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const SESSION: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";
/// Longest name of a role, by AWS's rules.
const MAX_ROLE_BYTES: usize = 64;

const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: HeaderValue = HeaderValue::from_static("Google");
const GOOGLE_PATH: &str = "/computeMetadata/v1/instance/service-accounts/";
/// The account that a machine has unless another is named.
const DEFAULT_ACCOUNT: &str = "default";

const AZURE_PATH: &str = "/metadata/identity/oauth2/token";
const AZURE_VERSION: &str = "2018-02-01";
const AZURE_METADATA: HeaderName = HeaderName::from_static("metadata");
/// For registries alone.
const AZURE_RESOURCE: &str = "https://containerregistry.azure.net/";

/// An identity that this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeIdentity {
    /// The role of an instance of EC2.
    Aws {
        /// The role that its keys take on, for one repository each time.
        role_arn: String,
    },
    /// A service account of a machine of Google's.
    Google {
        /// By its address; the machine's own where it is not said.
        service_account: Option<String>,
    },
    /// A managed identity of a machine of Azure's.
    Azure {
        /// Which of several.
        client_id: Option<String>,
        /// The tenant that the registry is in, where it wants to be told.
        tenant_id: Option<String>,
    },
}

impl NodeIdentity {
    /// Whose registries it is for.
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Aws { .. } => CredentialKind::Aws,
            Self::Google { .. } => CredentialKind::Gcp,
            Self::Azure { .. } => CredentialKind::Azure,
        }
    }

    /// For who finds that it is of another cloud than the registry.
    pub(crate) fn is_no(&self, cloud: &str) -> AuthError {
        let message = format!(
            "the granted node identity is of {}, not of {cloud}",
            self.kind()
        );
        AuthError::Refused { message }
    }
}

/// The keys of the instance's role.
pub(crate) async fn aws_keys(clouds: &Clouds) -> Result<Keys, AuthError> {
    let service = Service::of(clouds)?;
    let ask = service.client.request(Method::PUT, SESSION_PATH);
    let session = service
        .text(ask.header(SESSION_LIFE, SESSION_SECONDS))
        .await?;
    let mut session = HeaderValue::from_str(&session).map_err(|_| service.unusable())?;
    session.set_sensitive(true);
    let get = |path: &str| {
        let request = service.client.request(Method::GET, path);
        request.header(SESSION, session.clone())
    };
    let role = service.text(get(ROLES_PATH)).await?;
    let role = Some(role.as_str()).filter(|role| is_role(role));
    let role = role.ok_or_else(|| service.unusable())?;
    let body = service.body(get(&format!("{ROLES_PATH}{role}"))).await?;
    read_keys(&body).ok_or_else(|| service.unusable())
}

/// An access token of a service account of the machine.
pub(crate) async fn google_token(
    clouds: &Clouds,
    service_account: Option<&str>,
    scope: &str,
) -> Result<Token, AuthError> {
    let service = Service::of(clouds)?;
    let account = service_account.unwrap_or(DEFAULT_ACCOUNT);
    let path = format!("{GOOGLE_PATH}{account}/token");
    let mut request = service
        .client
        .request(Method::GET, &path)
        .header(FLAVOR, GOOGLE);
    request.url.query_pairs_mut().append_pair("scopes", scope);
    let (sent, answer) = (clouds.now(), service.ask(request).await?);
    // Whoever else is at that address does not say so.
    if answer.flavor != Some(GOOGLE) {
        return Err(service.unusable());
    }
    let times = Times {
        sent,
        answered: None,
    };
    reply::read(&answer.body, times).ok_or_else(|| service.unusable())
}

/// An access token of a managed identity of the machine, for registries.
pub(crate) async fn azure_token(
    clouds: &Clouds,
    client_id: Option<&str>,
) -> Result<SecretString, AuthError> {
    let service = Service::of(clouds)?;
    let request = service.client.request(Method::GET, AZURE_PATH);
    let mut request = request.header(AZURE_METADATA, HeaderValue::from_static("true"));
    request
        .url
        .query_pairs_mut()
        .append_pair("api-version", AZURE_VERSION)
        .append_pair("resource", AZURE_RESOURCE)
        .extend_pairs(client_id.map(|id| ("client_id", id)));
    let body: Value = serde_json::from_slice(&service.body(request).await?).unwrap_or_default();
    let token = body.get("access_token").and_then(Value::as_str);
    let token = token.and_then(reply::usable);
    token.ok_or_else(|| service.unusable())
}

/// The metadata service that is being asked.
struct Service {
    client: MetadataClient,
}

struct Answered {
    body: Bytes,
    flavor: Option<HeaderValue>,
}

impl Service {
    fn of(clouds: &Clouds) -> Result<Self, AuthError> {
        let client = clouds.metadata()?;
        Ok(Self { client })
    }

    async fn text(&self, request: Request) -> Result<String, AuthError> {
        let body = self.body(request).await?;
        let text = std::str::from_utf8(&body).ok().map(str::trim);
        let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        let text = text.filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| self.unusable())
    }

    async fn body(&self, request: Request) -> Result<Bytes, AuthError> {
        Ok(self.ask(request).await?.body)
    }

    async fn ask(&self, request: Request) -> Result<Answered, AuthError> {
        let response = self.client.send(request).await;
        let response = response.map_err(|error| match wire::from_dial(&error) {
            AuthError::Unreachable { message } => AuthError::Unreachable {
                message: format!(
                    "the metadata service of this machine: {message}; in a container it may be \
                     more hops away than it answers over"
                ),
            },
            other => other,
        })?;
        let status = response.status.as_u16();
        let flavor = response.headers.get(FLAVOR).cloned();
        if status != 200 {
            return Err(self.refusal(status, response.retry_after()));
        }
        let body = response.read_bounded(MAX_REPLY_BYTES).await;
        let body = body.map_err(|error| wire::from_dial(&error))?;
        Ok(Answered { body, flavor })
    }

    /// What it says beside is read by nobody: it may hold what was asked for.
    #[expect(clippy::unused_self, reason = "read beside its other answers")]
    fn refusal(&self, status: u16, retry_after: Option<std::time::Duration>) -> AuthError {
        let service = "the metadata service of this machine";
        match status {
            400 | 404 => AuthError::NoPermission {
                message: format!("{service} has no such identity (status {status})"),
            },
            401 | 403 => AuthError::NoPermission {
                message: format!("{service} is switched off or refuses (status {status})"),
            },
            429 => AuthError::RateLimited {
                retry_after,
                message: format!("{service} is limiting requests"),
            },
            408 | 410 | 500.. => AuthError::Unreachable {
                message: format!("{service} answered with status {status}"),
            },
            _ => AuthError::Refused {
                message: format!("{service} gives no identity (status {status})"),
            },
        }
    }

    #[expect(clippy::unused_self, reason = "read beside its other answers")]
    fn unusable(&self) -> AuthError {
        AuthError::Unreachable {
            message: "the metadata service of this machine gave no usable identity".to_owned(),
        }
    }
}

/// What AWS takes as a name of a role; it becomes part of a path.
fn is_role(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    (1..=MAX_ROLE_BYTES).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.bytes().all(|byte| byte == b'.')
}

fn read_keys(body: &[u8]) -> Option<Keys> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| reply::usable(body.get(name)?.as_str()?);
    if body.get("Code").is_some_and(|code| code != "Success") {
        return None;
    }
    let id = body.get("AccessKeyId")?.as_str()?;
    let is_id = |id: &str| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Some(Keys {
        access_key_id: Some(id).filter(|id| is_id(id))?.to_owned(),
        secret_access_key: text("SecretAccessKey")?,
        session_token: Some(text("Token")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_are_no_paths() {
        for name in ["puller", "a.b@c_d-e+f=g,h"] {
            assert!(is_role(name), "{name}");
        }
        let long = "a".repeat(MAX_ROLE_BYTES + 1);
        for name in [
            "", ".", "..", "a/b", "a?b", "a#b", "a b", "a\nb", "ä", &long,
        ] {
            assert!(!is_role(name), "{name}");
        }
    }

    #[test]
    fn keys_are_whole_or_none() {
        let good = r#"{"Code":"Success","AccessKeyId":"ASIAX","SecretAccessKey":"s","Token":"t"}"#;
        assert!(read_keys(good.as_bytes()).is_some());
        for bad in [
            good.replace("Success", "Failed"),
            good.replace("\"Token\":\"t\"", "\"Token\":\"\""),
            good.replace("ASIAX", "AS/IA"),
            good.replace(":\"s\"", ":\"s\\n\""),
            good.replace("SecretAccessKey", "Other"),
            "<html>".to_owned(),
            String::new(),
        ] {
            assert!(read_keys(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
