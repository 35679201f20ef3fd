//! Which problem the trouble with a registry, an image or a disk is.
//!
//! `unavailable` is said of what may be over in a moment, since clients ask again by themselves; of
//! what somebody must mend first it is never said, but for a full disk.

use broker::BrokerError;
use credential::auth::AuthError;
use credential::{CredentialError, RegistryScope};
use image::ImageError;
use image_store::StoreError;
use layer_indexer::IndexerError;
use registry_client::RegistryError;

use super::{Kind, Problem};

const MAKE_ROOM: &str = "make room on the disk of the data directory";

/// The registry's answer to the credential of a scope.
pub(super) fn of_credential(scope: RegistryScope, source: AuthError) -> Problem {
    let problem = Problem::from(source.clone());
    if problem.kind == Kind::Internal {
        return problem;
    }
    let message = format!("credential for {scope}: {source}");
    let hint = match source {
        // Of the scope, whose settings count before those of wider ones.
        AuthError::Tls { .. } => Some(format!(
            "if it has its own authority: `holdfast login {scope} --ca-file FILE`"
        )),
        source => BrokerError::Auth { scope, source }.hint(),
    };
    Problem::told(problem.kind, &message).hint_if(hint)
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let kind = match &error {
            AuthError::BadCredential { .. }
            | AuthError::NoPermission { .. }
            | AuthError::Revoked { .. }
            | AuthError::Refused { .. }
            | AuthError::Tls { .. } => Kind::Denied,
            AuthError::RateLimited { .. } | AuthError::Unreachable { .. } => Kind::Unavailable,
            _ => return Self::internal(&error),
        };
        Self::told(kind, &error).hint_if(error.hint().map(str::to_owned))
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let kind = match error {
            RegistryError::Auth(error) => return error.into(),
            RegistryError::NotFound { .. } => Kind::NotFound,
            RegistryError::Denied { .. }
            | RegistryError::Refused { .. }
            | RegistryError::Tls { .. } => Kind::Denied,
            RegistryError::RateLimited { .. } | RegistryError::Unreachable { .. } => {
                Kind::Unavailable
            }
            RegistryError::Corrupt { .. }
            | RegistryError::Unsupported { .. }
            | RegistryError::Protocol { .. } => Kind::Unsupported,
            _ => return Self::internal(&error),
        };
        Self::told(kind, &error).hint_if(error.hint())
    }
}

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        let kind = match error {
            ImageError::Registry(error) => return error.into(),
            ImageError::Store(error) => return error.into(),
            ImageError::Malformed { .. } | ImageError::TooLarge { .. } => Kind::Unsupported,
            ImageError::Layer { ref source, .. } => match source {
                IndexerError::Digest { .. }
                | IndexerError::Stream(_)
                | IndexerError::Archive(_)
                | IndexerError::Limit(_) => Kind::Unsupported,
                IndexerError::Read(_) => Kind::Unavailable,
                IndexerError::Write(_) => {
                    return Self::told(Kind::Unavailable, &error).hint(MAKE_ROOM);
                }
                IndexerError::Process(_) => return Self::internal(&error),
            },
            ImageError::Cache(_) | ImageError::NoCache | ImageError::NotWhole { .. } => {
                return Self::internal(&error);
            }
        };
        Self::told(kind, &error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            error if error.is_disk_full() => {
                Self::new(Kind::Unavailable, "the gateway's disk is full").hint(MAKE_ROOM)
            }
            StoreError::TooLarge { .. } => Self::new(Kind::TooLarge, error),
            StoreError::OtherObject { .. } => Self::invalid(error),
            _ => Self::internal(&error),
        }
    }
}

impl From<CredentialError> for Problem {
    fn from(error: CredentialError) -> Self {
        let hint = error.hint();
        Self::invalid(error).hint_if(hint)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_a_registry_says_is_told_harmlessly_and_what_is_ours_is_not() {
        let said = |message: &str| message.to_owned();
        let table = [
            (
                AuthError::BadCredential {
                    message: said("no\u{1b}[2J\nentry"),
                },
                Kind::Denied,
                "no\\u{1b}[2J entry",
            ),
            (
                AuthError::Unreachable {
                    message: said("gone"),
                },
                Kind::Unavailable,
                "gone",
            ),
            (
                AuthError::Internal {
                    message: said("/var/lib"),
                },
                Kind::Internal,
                "the gateway failed",
            ),
        ];
        for (error, kind, message) in table {
            let problem = Problem::from(ImageError::from(RegistryError::from(error)));
            assert_eq!((problem.kind, &*problem.message), (kind, message));
        }
    }

    #[test]
    fn a_full_disk_is_told_and_may_be_over() {
        let io = |kind: io::ErrorKind| StoreError::Io {
            path: "/var/lib/holdfast/tmp".to_owned(),
            source: kind.into(),
        };
        let full = Problem::from(io(io::ErrorKind::StorageFull));
        assert_eq!(full.kind, Kind::Unavailable);
        assert_eq!(full.hint.as_deref(), Some(MAKE_ROOM));
        let other = Problem::from(io(io::ErrorKind::PermissionDenied));
        assert_eq!(other.kind, Kind::Internal);
        assert!(!other.message.contains("/var"), "{other}");
    }
}
