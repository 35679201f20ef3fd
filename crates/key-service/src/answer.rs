//! What went wrong on the way to a service, in the words of the vault.

use dial::DialError;
use vault::KeyServiceError;

use crate::given::GivenError;

pub(crate) fn of_dial(error: &DialError) -> KeyServiceError {
    let message = error.to_string();
    match error {
        DialError::Unreachable { .. } | DialError::Interrupted { .. } => {
            KeyServiceError::Unreachable { message }
        }
        DialError::Tls { .. } | DialError::NotTls { .. } => KeyServiceError::Untrusted { message },
        _ => KeyServiceError::Unusable { message },
    }
}

pub(crate) fn no_credential(error: &GivenError) -> KeyServiceError {
    KeyServiceError::BadCredential {
        message: error.to_string(),
    }
}
