//! What docker and a program `docker-credential-NAME` say to each other. Pure: no program is run.
//!
//! ```text
//! get     <- server                                  -> {"ServerURL","Username","Secret"}
//! store   <- {"ServerURL","Username","Secret"}       ->
//! erase   <- server                                  ->
//! list    <-                                         -> {server: user}
//! ```
//!
//! Under the user name `<token>` the secret is an identity token. What is not known is said on
//! standard output, in words that clients compare.

use std::collections::BTreeMap;
use std::fmt;

use reference::Registry;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::detect::Detected;
use crate::docker_config;
use crate::error::CredentialError;
use crate::secret_text::SecretText;

/// What a helper prints, beside the exit code 1, when it has nothing for a server.
pub const NOT_FOUND: &str = "credentials not found in native keychain";
/// Longest name; those that exist have a dozen letters.
const NAME_LIMIT: usize = 64;
/// What every helper's program begins with.
const PROGRAM_PREFIX: &str = "docker-credential-";

/// The name of a helper, which is a part of a program's name and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperName(String);

/// Why there is no credential in what a helper said. Messages never repeat it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelperReplyError {
    #[error("gave something else than a credential")]
    NotReply,
    #[error("gave a credential that cannot be used: {0}")]
    Credential(#[from] CredentialError),
}

impl HelperName {
    /// Letters, digits, dots, dashes and underscores: nothing that is a path.
    pub fn parse(name: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !name.is_empty() && name.len() <= NAME_LIMIT && name.bytes().all(allowed);
        is_name.then(|| Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The program that is looked for on the path.
    pub fn program(&self) -> String {
        format!("{PROGRAM_PREFIX}{}", self.0)
    }
}

impl fmt::Display for HelperName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What docker has a helper keep.
#[derive(Debug)]
pub struct StoreRequest {
    pub server: String,
    pub username: SecretString,
    pub secret: SecretString,
}

#[derive(Deserialize)]
struct Store {
    #[serde(rename = "ServerURL")]
    server: String,
    #[serde(rename = "Username")]
    username: SecretText,
    #[serde(rename = "Secret")]
    secret: SecretText,
}

#[derive(Serialize)]
struct Given<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    username: SecretText,
    secret: SecretText,
}

/// Whether a helper that failed said that it has nothing.
pub fn is_not_found(output: &[u8]) -> bool {
    output.trim_ascii() == NOT_FOUND.as_bytes()
}

/// Reads the answer to `get`.
pub fn read_reply(registry: &Registry, output: &[u8]) -> Result<Detected, HelperReplyError> {
    let reply: Reply = serde_json::from_slice(output).map_err(|_| HelperReplyError::NotReply)?;
    let (username, secret) = (reply.username.0, reply.secret.0);
    let login = docker_config::login(registry, username.expose_secret(), secret.expose_secret());
    Ok(login?)
}

/// Reads what `store` is sent.
pub fn read_store(input: &[u8]) -> Result<StoreRequest, HelperReplyError> {
    let store: Store = serde_json::from_slice(input).map_err(|_| HelperReplyError::NotReply)?;
    Ok(StoreRequest {
        server: store.server,
        username: store.username.0,
        secret: store.secret.0,
    })
}

impl StoreRequest {
    /// As a credential for the registry of its server.
    pub fn credential(&self, registry: &Registry) -> Result<Detected, CredentialError> {
        let (username, secret) = (self.username.expose_secret(), self.secret.expose_secret());
        docker_config::login(registry, username, secret)
    }
}

/// The answer to `get`, for docker to read.
pub fn reply(server: &str, username: &str, secret: &SecretString) -> Zeroizing<String> {
    let given = Given {
        server,
        username,
        secret: secret.expose_secret(),
    };
    // Without growing, which would leave copies behind: each byte of a text is six at most.
    let mut text =
        Vec::with_capacity(64 + 6 * (server.len() + username.len() + given.secret.len()));
    serde_json::to_writer(&mut text, &given).expect("texts serialise, and memory is at hand");
    Zeroizing::new(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// Reads the answer to `list`: the servers, without their users.
pub fn read_list(output: &[u8]) -> Result<Vec<String>, HelperReplyError> {
    let servers: BTreeMap<String, String> =
        serde_json::from_slice(output).map_err(|_| HelperReplyError::NotReply)?;
    Ok(servers.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helpers_name_is_no_path() {
        for name in ["pass", "ecr-login", "osxkeychain", "a.b_c"] {
            assert_eq!(HelperName::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(NAME_LIMIT + 1);
        for name in ["", "../x", "a/b", "a b", "a;b", "é", "a\0b", &long] {
            assert_eq!(HelperName::parse(name), None, "{name:?}");
        }
        assert_eq!(
            HelperName::parse("pass").unwrap().program(),
            "docker-credential-pass"
        );
    }

    #[test]
    fn a_reply_is_a_credential_or_an_error_without_it() {
        let registry = Registry::parse("r.example").unwrap();
        let read = |text: &str| read_reply(&registry, text.as_bytes());
        let reply = r#"{"ServerURL":"r.example","Username":"u","Secret":"p:w"}"#;
        let detected = read(reply).unwrap();
        let (user, password) = detected.credential.basic_parts().unwrap();
        assert_eq!((user, password.expose_secret()), ("u", "p:w"));
        let token = read(r#"{"Username":"<token>","Secret":"CANARY"}"#).unwrap();
        assert_eq!(token.credential.basic_parts().unwrap().0, "<token>");
        let bad = [
            "",
            "CANARY",
            r#""CANARY""#,
            r#"{"Username":"CANARY"}"#,
            r#"{"Username":"CANARY","Secret":7}"#,
            r#"{"Username":"","Secret":"CANARY"}"#,
            r#"{"Username":"CANARY:x","Secret":"CANARY"}"#,
        ];
        for text in bad {
            let error = read(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{text}");
        }
    }

    #[test]
    fn what_is_kept_and_given_is_read_back() {
        let registry = Registry::parse("r.example").unwrap();
        let secret = SecretString::from("p\"\u{7f}\n\u{1}é".to_owned());
        let text = reply("r.example", "u", &secret);
        let kept = read_store(text.as_bytes()).unwrap();
        assert_eq!(
            (kept.server.as_str(), kept.username.expose_secret()),
            ("r.example", "u")
        );
        assert_eq!(kept.secret.expose_secret(), secret.expose_secret());
        let credential = kept.credential(&registry).unwrap().credential;
        assert_eq!(credential.basic_parts().unwrap().0, "u");
        for text in ["CANARY", r#"{"ServerURL":"CANARY","Username":"u"}"#] {
            let error = read_store(text.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("CANARY"));
        }
    }

    #[test]
    fn a_list_is_of_servers() {
        let listed = read_list(br#"{"b.example":"u","a.example":"v"}"#).unwrap();
        assert_eq!(listed, ["a.example", "b.example"]);
        assert!(read_list(b"[]").is_err());
    }

    #[test]
    fn not_found_is_told_by_its_words() {
        assert!(is_not_found(b"credentials not found in native keychain\n"));
        assert!(!is_not_found(b"credentials not found"));
    }
}
