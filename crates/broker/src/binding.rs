//! What is sealed: a credential, and the way it may be sent.
//!
//! ```text
//! {"version":1,"plain_http":false,"ca_pem":null,"token_service":null}   one line of JSON
//! {"version":1,"kind":"basic","fields":{…}}                             credential's stored form
//! ```
//!
//! The first line says `"workers_may_hold_password":true` where that is so. The settings of a
//! registry also stand in the control store, in the clear, where an endpoint is made from them.
//! Whoever could change them there could have the credential sent elsewhere, or to workers; so
//! they are sealed with it, and a credential is sent only where both agree. The same two lines of a
//! credential that holds no secret stand in the clear, where the vault has them bound as firmly;
//! what is sealed there is nothing.

use control_store::RegistrySettings;
use credential::{Credential, ExposeSecret, SecretString, StoredCredentialError};
use serde::{Deserialize, Serialize};
use vault::OpenedSecret;

const VERSION: u32 = 1;

/// Why an opened secret is not a bound credential. Messages never repeat the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    #[error("sealed credential is not of a known form")]
    NotBound,
    #[error("sealed credential has form {version}, and this program reads up to {VERSION}")]
    UnsupportedVersion { version: u32 },
    #[error("credential that holds a secret stands in the clear")]
    InClear,
    #[error("sealed credential does not read")]
    Credential(#[from] StoredCredentialError),
}

#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    plain_http: bool,
    ca_pem: Option<String>,
    token_service: Option<String>,
    /// Left out where it is not so, as it was before there was such a thing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    workers_may_hold_password: bool,
}

/// A credential with the settings that it was proven with.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) credential: Credential,
    pub(crate) settings: RegistrySettings,
}

impl Bound {
    pub(crate) fn to_sealed(&self) -> SecretString {
        let ca_pem = self.settings.ca_pem.as_ref();
        let line = Line {
            version: VERSION,
            plain_http: self.settings.plain_http,
            ca_pem: ca_pem.map(|pem| String::from_utf8_lossy(pem).into_owned()),
            token_service: self.settings.token_service.clone(),
            workers_may_hold_password: self.settings.workers_may_hold_password,
        };
        let line = serde_json::to_string(&line).expect("texts and bools serialise");
        let stored = self.credential.to_stored();
        let stored = stored.expose_secret();
        // Of the exact size, so that nothing is left behind by growing or shrinking.
        let mut text = String::with_capacity(line.len() + 1 + stored.len());
        text.push_str(&line);
        text.push('\n');
        text.push_str(stored);
        SecretString::from(text)
    }

    /// Of what was opened, wherever it stood.
    pub(crate) fn from_opened(opened: OpenedSecret) -> Result<Self, BindingError> {
        let Some(text) = opened.in_clear else {
            return Self::from_sealed(&opened.plaintext);
        };
        let bound = Self::from_sealed(&SecretString::from(text))?;
        if bound.credential.is_keyless() {
            return Ok(bound);
        }
        Err(BindingError::InClear)
    }

    pub(crate) fn from_sealed(sealed: &SecretString) -> Result<Self, BindingError> {
        let (line, stored) = sealed
            .expose_secret()
            .split_once('\n')
            .ok_or(BindingError::NotBound)?;
        let line: Line = serde_json::from_str(line).map_err(|_| BindingError::NotBound)?;
        if line.version != VERSION {
            return Err(BindingError::UnsupportedVersion {
                version: line.version,
            });
        }
        let mut exact = String::with_capacity(stored.len());
        exact.push_str(stored);
        Ok(Self {
            credential: Credential::from_stored(&SecretString::from(exact))?,
            settings: RegistrySettings {
                plain_http: line.plain_http,
                ca_pem: line.ca_pem.map(String::into_bytes),
                token_service: line.token_service,
                workers_may_hold_password: line.workers_may_hold_password,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(settings: RegistrySettings) -> Bound {
        let password = SecretString::from("pass\nword \"quoted\"".to_owned());
        Bound {
            credential: Credential::basic("user".to_owned(), password),
            settings,
        }
    }

    #[test]
    fn what_is_sealed_reads_back() {
        let settings = RegistrySettings {
            plain_http: true,
            ca_pem: Some(b"-----BEGIN\nCERTIFICATE-----\n".to_vec()),
            token_service: Some("auth.example:8443".to_owned()),
            workers_may_hold_password: true,
        };
        for settings in [settings, RegistrySettings::default()] {
            let sealed = bound(settings.clone()).to_sealed();
            let read = Bound::from_sealed(&sealed).unwrap();
            assert_eq!(read.settings, settings);
            let (username, password) = read.credential.basic_parts().unwrap();
            assert_eq!(username, "user");
            assert_eq!(password.expose_secret(), "pass\nword \"quoted\"");
        }
    }

    /// What was sealed before there was the setting is what is sealed without it, so that the same
    /// credential makes no new version.
    #[test]
    fn what_workers_hold_is_said_where_it_is_so() {
        let line = |workers_may_hold_password| {
            let sealed = bound(RegistrySettings {
                workers_may_hold_password,
                ..RegistrySettings::default()
            });
            let text = sealed.to_sealed();
            text.expose_secret().lines().next().map(str::to_owned)
        };
        let without = r#"{"version":1,"plain_http":false,"ca_pem":null,"token_service":null}"#;
        assert_eq!(line(false).as_deref(), Some(without));
        let with = line(true).unwrap();
        assert!(
            with.contains(r#""workers_may_hold_password":true"#),
            "{with}"
        );
    }

    #[test]
    fn other_texts_are_refused_without_being_repeated() {
        let good = bound(RegistrySettings::default()).to_sealed();
        let good = good.expose_secret();
        for text in [
            String::new(),
            "hunter2".to_owned(),
            "hunter2\nhunter2".to_owned(),
            good.replacen("\"version\":1", "\"version\":2", 1),
            good.replacen("basic", "hunter2", 1),
            good.replace('\n', " "),
        ] {
            let error = Bound::from_sealed(&SecretString::from(text.clone())).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
