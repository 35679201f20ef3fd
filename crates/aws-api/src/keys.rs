//! What a request is signed with.

use std::fmt;

use credential::{AwsFields, SecretString};

/// Keys of a principal, or of a session.
#[derive(Clone)]
pub struct Keys {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: Option<SecretString>,
}

impl From<&AwsFields> for Keys {
    fn from(fields: &AwsFields) -> Self {
        Self {
            access_key_id: fields.access_key_id.clone(),
            secret_access_key: fields.secret_access_key.clone(),
            session_token: fields.session_token.clone(),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys(redacted)")
    }
}
