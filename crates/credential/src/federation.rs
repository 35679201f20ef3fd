//! What the JSON of a Google external account says: which workload identity pool believes a token
//! of another issuer, and which service account it then speaks for. Where the JSON wants to have
//! that token fetched from is not followed.

use serde::de::IgnoredAny;

use crate::error::Malformed;
use crate::service_account::{SUPPORTED_UNIVERSE, is_email};

/// Where Google's JSON says that tokens are exchanged.
const TOKEN_URLS: [&str; 1] = ["https://sts.googleapis.com/v1/token"];
const IMPERSONATION_PREFIX: &str =
    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/";
const IMPERSONATION_SUFFIX: &str = ":generateAccessToken";

/// The full resource name of a provider starts so.
const AUDIENCE_PREFIX: &str = "//iam.googleapis.com/projects/";
/// Longest audience; the parts of a real one are bounded to some 150 bytes together.
const AUDIENCE_LIMIT: usize = 512;

/// What our own issuer's tokens are.
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Tokens that a person can have in hand. The others are signed requests to another cloud.
const SUBJECT_TOKEN_TYPES: [&str; 2] = [JWT, "urn:ietf:params:oauth:token-type:id_token"];

/// A workload identity pool of Google's that believes another issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcpFederation {
    /// The resource name of the pool's provider.
    pub audience: String,
    pub subject_token_type: String,
    /// The mail address of the service account that is spoken for, if any.
    pub service_account: Option<String>,
}

#[derive(serde::Deserialize)]
struct ExternalAccount {
    audience: Option<String>,
    subject_token_type: Option<String>,
    token_url: Option<String>,
    service_account_impersonation_url: Option<String>,
    credential_source: Option<IgnoredAny>,
    workforce_pool_user_project: Option<IgnoredAny>,
    universe_domain: Option<String>,
}

/// Reads an external account's JSON.
pub(crate) fn read(json: &str) -> Result<GcpFederation, Malformed> {
    let account: ExternalAccount =
        serde_json::from_str(json).map_err(|_| Malformed::NotServiceAccountJson)?;
    if account.credential_source.is_some() {
        return Err(Malformed::CredentialSource);
    }
    if account.workforce_pool_user_project.is_some() {
        return Err(Malformed::UnsupportedKey(
            "external_account for a workforce",
        ));
    }
    let is_foreign = |domain: &String| domain != SUPPORTED_UNIVERSE;
    if account.universe_domain.as_ref().is_some_and(is_foreign) {
        return Err(Malformed::ForeignGoogle("universe_domain"));
    }
    let is_foreign = |url: &String| !TOKEN_URLS.contains(&url.as_str());
    if account.token_url.as_ref().is_some_and(is_foreign) {
        return Err(Malformed::ForeignGoogle("token_url"));
    }
    let audience = account.audience.filter(|audience| is_audience(audience));
    let subject_token_type = account
        .subject_token_type
        .filter(|name| SUBJECT_TOKEN_TYPES.contains(&name.as_str()));
    let url = account.service_account_impersonation_url;
    Ok(GcpFederation {
        audience: audience.ok_or(Malformed::FederationAudience)?,
        subject_token_type: subject_token_type.ok_or(Malformed::SubjectTokenType)?,
        service_account: url.as_deref().map(impersonated).transpose()?,
    })
}

/// The resource name of a provider, in the form that Google compares.
pub(crate) fn audience_of(provider: &str) -> String {
    if provider.starts_with("projects/") {
        return format!("//iam.googleapis.com/{provider}");
    }
    provider
        .strip_prefix("https:")
        .unwrap_or(provider)
        .to_owned()
}

/// Where an account is spoken for, in the words of Google's JSON.
pub(crate) fn url_of(account: &str) -> String {
    format!("{IMPERSONATION_PREFIX}{account}{IMPERSONATION_SUFFIX}")
}

fn is_audience(audience: &str) -> bool {
    audience.len() <= AUDIENCE_LIMIT
        && audience.starts_with(AUDIENCE_PREFIX)
        && audience.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The account that a URL of Google's stands for. Its host is not used, and must be Google's.
fn impersonated(url: &str) -> Result<String, Malformed> {
    url.strip_prefix(IMPERSONATION_PREFIX)
        .and_then(|rest| rest.strip_suffix(IMPERSONATION_SUFFIX))
        .filter(|account| is_email(account))
        .map(str::to_owned)
        .ok_or(Malformed::ForeignGoogle(
            "service_account_impersonation_url",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{"type":"external_account",
        "audience":"//iam.googleapis.com/projects/7/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
        "token_url":"https://sts.googleapis.com/v1/token",
        "service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/puller@acme.iam.gserviceaccount.com:generateAccessToken"}"#;

    #[test]
    fn an_external_account_is_read() {
        let federation = read(SAMPLE).unwrap();
        let account = federation.service_account.as_deref();
        assert_eq!(account, Some("puller@acme.iam.gserviceaccount.com"));
        assert!(federation.audience.ends_with("/providers/x"));
        let direct = SAMPLE.replace("service_account_impersonation_url", "x");
        assert_eq!(read(&direct).unwrap().service_account, None);
    }

    #[test]
    fn what_leads_elsewhere_is_refused_by_name() {
        let with = |from: &str, to: &str| SAMPLE.replacen(from, to, 1);
        let source = |source: &str| with("{", &format!(r#"{{"credential_source":{source},"#));
        let foreign = Malformed::ForeignGoogle;
        let impersonation = foreign("service_account_impersonation_url");
        let table = [
            (
                source(r#"{"file":"/etc/shadow"}"#),
                Malformed::CredentialSource,
            ),
            (
                source(r#"{"url":"http://169.254.169.254/"}"#),
                Malformed::CredentialSource,
            ),
            (
                source(r#"{"executable":{"command":"/bin/sh"}}"#),
                Malformed::CredentialSource,
            ),
            (
                source(r#"{"environment_id":"aws1"}"#),
                Malformed::CredentialSource,
            ),
            (
                with("sts.googleapis.com", "sts.googleapis.com.evil.com"),
                foreign("token_url"),
            ),
            (with("https://sts", "http://sts"), foreign("token_url")),
            (
                with("iamcredentials.googleapis.com", "evil.com"),
                impersonation,
            ),
            (with("puller@", "a/../b@"), impersonation),
            (with("puller@", "a?b=@"), impersonation),
            (
                with("\"token_url\"", "\"universe_domain\""),
                foreign("universe_domain"),
            ),
            (
                with("{", "{\"workforce_pool_user_project\":\"p\","),
                Malformed::UnsupportedKey("external_account for a workforce"),
            ),
            (with("\"audience\"", "\"x\""), Malformed::FederationAudience),
            (with("//iam", "//evil"), Malformed::FederationAudience),
            (with("type:jwt", "type:saml2"), Malformed::SubjectTokenType),
            ("{".to_owned(), Malformed::NotServiceAccountJson),
        ];
        for (text, expected) in table {
            assert_eq!(read(&text).unwrap_err(), expected, "{text}");
        }
    }
}
