//! Google service account keys: the JSON that the user pastes, checked before it is kept. Only the
//! text is kept and sent; nothing in it is ever followed as an address, file or program.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, Visitor};
use zeroize::Zeroizing;

use crate::error::Malformed;

/// The one sort of key that a registry takes as a password.
const SUPPORTED_TYPE: &str = "service_account";
/// Google's own cloud; keys of sovereign ones are for other registries.
const SUPPORTED_UNIVERSE: &str = "googleapis.com";
/// Where Google's keys say that tokens come from.
const TOKEN_URIS: [&str; 3] = [
    "https://oauth2.googleapis.com/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
];

#[derive(serde::Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    sort: Option<String>,
    client_email: Option<Text>,
    private_key: Option<Text>,
    token_uri: Option<String>,
    universe_domain: Option<String>,
    project_id: Option<String>,
}

/// What a checked key tells about itself.
#[derive(Debug)]
pub(crate) struct ServiceAccount {
    pub(crate) json: SecretString,
    pub(crate) project_id: Option<String>,
}

/// Checks a service account key, given as JSON or as the base64 of it.
pub(crate) fn check(value: &str) -> Result<ServiceAccount, Malformed> {
    let json = as_json(value.trim())?;
    // Errors of the parser are not passed on: they can quote what they stumbled over.
    let key: KeyFile =
        serde_json::from_str(json.expose_secret()).map_err(|_| Malformed::NotServiceAccountJson)?;
    match key.sort.as_deref() {
        Some(SUPPORTED_TYPE) => {}
        Some("external_account") => return Err(Malformed::UnsupportedKey("external_account")),
        Some("authorized_user") => return Err(Malformed::UnsupportedKey("authorized_user")),
        _ => return Err(Malformed::NotServiceAccountJson),
    }
    let present = |text: &Option<Text>| text.as_ref().is_some_and(|text| !text.empty);
    if !present(&key.client_email) || !present(&key.private_key) {
        return Err(Malformed::IncompleteServiceAccount);
    }
    let foreign_universe = key
        .universe_domain
        .is_some_and(|domain| domain != SUPPORTED_UNIVERSE);
    let foreign_uri = key
        .token_uri
        .is_some_and(|uri| !TOKEN_URIS.contains(&uri.as_str()));
    if foreign_universe || foreign_uri {
        return Err(Malformed::ForeignServiceAccount);
    }
    let project_id = key.project_id.filter(|project| !project.is_empty());
    Ok(ServiceAccount { json, project_id })
}

fn as_json(value: &str) -> Result<SecretString, Malformed> {
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

/// A text of which only whether it is empty is kept, so that no copy of a private key is made.
struct Text {
    empty: bool,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text {
                    empty: text.trim().is_empty(),
                })
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

#[cfg(test)]
pub(crate) const SAMPLE: &str = r#"{"type":"service_account","project_id":"acme",
    "private_key":"-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n",
    "client_email":"puller@acme.iam.gserviceaccount.com",
    "token_uri":"https://oauth2.googleapis.com/token"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_its_base64_are_the_same_key() {
        let spaced = format!("\n {SAMPLE} \n");
        let encoded = STANDARD.encode(SAMPLE);
        let wrapped = format!("{}\n{}\n", &encoded[..76], &encoded[76..]);
        for text in [SAMPLE, &spaced, &encoded, &wrapped] {
            let account = check(text).unwrap();
            assert_eq!(account.json.expose_secret(), SAMPLE);
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
            (
                with("oauth2.googleapis.com", "oauth2.googleapis.com.evil.com"),
                Malformed::ForeignServiceAccount,
            ),
            (with("https:", "http:"), Malformed::ForeignServiceAccount),
            (
                with("\"token_uri\":", "\"universe_domain\":"),
                Malformed::ForeignServiceAccount,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(check(&text).unwrap_err(), expected, "{text}");
        }
    }
}
