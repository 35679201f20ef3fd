//! Google service account keys: the JSON that the user pastes, read before it is kept. Nothing in
//! it is ever followed as an address, file or program.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::Malformed;
use crate::fields::GOOGLE_JSON_USER;
use crate::secret_text::SecretText;

/// The key of a service account itself.
const SERVICE_ACCOUNT: &str = "service_account";
/// Who is believed by a workload identity pool.
const EXTERNAL_ACCOUNT: &str = "external_account";
/// Google's own cloud; keys of sovereign ones are for other registries.
pub(crate) const SUPPORTED_UNIVERSE: &str = "googleapis.com";
/// Where Google's keys say that tokens come from.
const TOKEN_URIS: [&str; 3] = [
    "https://oauth2.googleapis.com/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
];
/// Longest mail address, and what service accounts' are made of.
const EMAIL_LIMIT: usize = 254;
/// The user name under which Google takes the base64 of a service account's JSON as a password.
const GOOGLE_BASE64_USER: &str = "_json_key_base64";

/// A key that speaks for a service account of Google's.
pub struct ServiceAccount {
    pub client_email: String,
    /// PKCS#8 in PEM.
    pub private_key: SecretString,
    /// Which of the account's keys it is.
    pub private_key_id: Option<String>,
    pub project_id: Option<String>,
}

/// Which of Google's JSON files it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    ServiceAccount,
    ExternalAccount,
}

#[derive(serde::Deserialize)]
struct Probe {
    #[serde(rename = "type")]
    sort: Option<String>,
}

#[derive(serde::Deserialize)]
struct KeyFile {
    client_email: Option<String>,
    private_key: Option<SecretText>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
    universe_domain: Option<String>,
    project_id: Option<String>,
}

impl ServiceAccount {
    /// Reads a key, given as JSON or as the base64 of it.
    pub fn read(text: &SecretString) -> Result<Self, Malformed> {
        let json = as_json(text.expose_secret())?;
        match sort_of(&json)? {
            Sort::ServiceAccount => read(&json),
            Sort::ExternalAccount => Err(Malformed::UnsupportedKey(EXTERNAL_ACCOUNT)),
        }
    }

    /// Whether this user name says that the password is such a key.
    pub fn is_announced_by(username: &str) -> bool {
        matches!(username, GOOGLE_JSON_USER | GOOGLE_BASE64_USER)
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServiceAccount(redacted)")
    }
}

pub(crate) fn sort_of(json: &SecretString) -> Result<Sort, Malformed> {
    // Errors of the parser are not passed on: they can quote what they stumbled over.
    let probe: Probe =
        serde_json::from_str(json.expose_secret()).map_err(|_| Malformed::NotServiceAccountJson)?;
    match probe.sort.as_deref() {
        Some(SERVICE_ACCOUNT) => Ok(Sort::ServiceAccount),
        Some(EXTERNAL_ACCOUNT) => Ok(Sort::ExternalAccount),
        Some("authorized_user") => Err(Malformed::UnsupportedKey("authorized_user")),
        Some("impersonated_service_account") => {
            Err(Malformed::UnsupportedKey("impersonated_service_account"))
        }
        _ => Err(Malformed::NotServiceAccountJson),
    }
}

pub(crate) fn read(json: &SecretString) -> Result<ServiceAccount, Malformed> {
    let key: KeyFile =
        serde_json::from_str(json.expose_secret()).map_err(|_| Malformed::NotServiceAccountJson)?;
    let client_email = key.client_email.filter(|email| is_email(email));
    let private_key = key.private_key.map(|key| key.0);
    let private_key = private_key.filter(|key| !key.expose_secret().trim().is_empty());
    let (Some(client_email), Some(private_key)) = (client_email, private_key) else {
        return Err(Malformed::IncompleteServiceAccount);
    };
    let is_foreign = |domain: &String| domain != SUPPORTED_UNIVERSE;
    if key.universe_domain.as_ref().is_some_and(is_foreign) {
        return Err(Malformed::ForeignGoogle("universe_domain"));
    }
    let is_foreign = |uri: &String| !TOKEN_URIS.contains(&uri.as_str());
    if key.token_uri.as_ref().is_some_and(is_foreign) {
        return Err(Malformed::ForeignGoogle("token_uri"));
    }
    let present = |text: &String| !text.is_empty();
    Ok(ServiceAccount {
        client_email,
        private_key,
        private_key_id: key.private_key_id.filter(present),
        project_id: key.project_id.filter(present),
    })
}

/// The JSON itself, of JSON or the base64 of it.
pub(crate) fn as_json(value: &str) -> Result<SecretString, Malformed> {
    let value = value.trim();
    if value.starts_with('{') {
        return Ok(SecretString::from(value.to_owned()));
    }
    // A path of the right letters and length is valid base64 too, but not of a JSON object.
    let joined = Zeroizing::new(value.split_ascii_whitespace().collect::<String>());
    let decoded = STANDARD.decode(joined.as_bytes()).map(Zeroizing::new);
    let text = decoded
        .as_ref()
        .ok()
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text.map(str::trim) {
        Some(text) if text.starts_with('{') => Ok(SecretString::from(text.to_owned())),
        _ => Err(Malformed::PathNotJson),
    }
}

/// A name, an `@` and a domain of what may stand in a path as it is.
pub(crate) fn is_email(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(allowed);
    text.len() <= EMAIL_LIMIT
        && text
            .split_once('@')
            .is_some_and(|(name, domain)| is_part(name) && is_part(domain))
}

#[cfg(test)]
pub(crate) const SAMPLE: &str = r#"{"type":"service_account","project_id":"acme",
    "private_key":"-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n",
    "client_email":"puller@acme.iam.gserviceaccount.com",
    "token_uri":"https://oauth2.googleapis.com/token"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<ServiceAccount, Malformed> {
        ServiceAccount::read(&SecretString::from(text.to_owned()))
    }

    #[test]
    fn json_and_its_base64_are_the_same_key() {
        let spaced = format!("\n {SAMPLE} \n");
        let encoded = STANDARD.encode(SAMPLE);
        let wrapped = format!("{}\n{}\n", &encoded[..76], &encoded[76..]);
        for text in [SAMPLE, &spaced, &encoded, &wrapped] {
            assert_eq!(as_json(text).unwrap().expose_secret(), SAMPLE);
            let account = check(text).unwrap();
            assert_eq!(account.client_email, "puller@acme.iam.gserviceaccount.com");
            assert!(account.private_key.expose_secret().contains("\nCANARY\n"));
            assert_eq!(account.project_id.as_deref(), Some("acme"));
        }
    }

    #[test]
    fn what_is_no_key_is_named() {
        let with = |from: &str, to: &str| SAMPLE.replace(from, to);
        let table = [
            ("/home/me/key.json".to_owned(), Malformed::PathNotJson),
            ("key.json".to_owned(), Malformed::PathNotJson),
            ("abcd".to_owned(), Malformed::PathNotJson),
            (String::new(), Malformed::PathNotJson),
            ("{".to_owned(), Malformed::NotServiceAccountJson),
            ("{}".to_owned(), Malformed::NotServiceAccountJson),
            (
                with("service_account", "external_account"),
                Malformed::UnsupportedKey("external_account"),
            ),
            (
                with("service_account", "authorized_user"),
                Malformed::UnsupportedKey("authorized_user"),
            ),
            (
                with("service_account", "other"),
                Malformed::NotServiceAccountJson,
            ),
            (
                with("\"private_key\"", "\"x\""),
                Malformed::IncompleteServiceAccount,
            ),
            (
                with("puller@acme.iam.gserviceaccount.com", " "),
                Malformed::IncompleteServiceAccount,
            ),
            (with("puller@", "a/b@"), Malformed::IncompleteServiceAccount),
            (
                with("oauth2.googleapis.com", "oauth2.googleapis.com.evil.com"),
                Malformed::ForeignGoogle("token_uri"),
            ),
            (
                with("https:", "http:"),
                Malformed::ForeignGoogle("token_uri"),
            ),
            (
                with("\"token_uri\":", "\"universe_domain\":"),
                Malformed::ForeignGoogle("universe_domain"),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(check(&text).unwrap_err(), expected, "{text}");
        }
    }
}
