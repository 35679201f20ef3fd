//! The registry as a source of layer bytes, and its errors by what waiting would do.

use std::ops::Range;

use credential::auth::AuthError;
use futures::StreamExt;
use image_fs::{BlobError, BlobSource, BoxFuture, PieceSink};
use reference::Digest;
use registry_client::{RegistryClient, RegistryError};

#[derive(Debug)]
pub(super) struct RegistryBlobs {
    pub(super) client: RegistryClient,
    pub(super) repository: String,
}

impl BlobSource for RegistryBlobs {
    fn read<'a>(
        &'a self,
        layer: &'a str,
        size: u64,
        range: Range<u64>,
        pieces: PieceSink<'a>,
    ) -> BoxFuture<'a, Result<(), BlobError>> {
        Box::pin(async move {
            let digest = Digest::parse(layer).map_err(|error| BlobError::Final {
                message: error.to_string(),
            })?;
            let opening = self
                .client
                .blob_range_stream(&self.repository, &digest, size, range);
            let mut coming = opening.await.map_err(|error| blob_error(&error))?;
            while let Some(piece) = coming.next().await {
                pieces(piece.map_err(|error| blob_error(&error))?);
            }
            Ok(())
        })
    }

    fn distrust(&self, layer: &str) {
        if let Ok(digest) = Digest::parse(layer) {
            self.client.distrust_location(&self.repository, &digest);
        }
    }
}

/// A refused credential may be replaced while a read waits, and some registries say "not found"
/// for "not yours". A certificate may be renewed, a proxy's error page may go away.
fn blob_error(error: &RegistryError) -> BlobError {
    let message = match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    };
    match error {
        RegistryError::Auth(AuthError::BadCredential { .. } | AuthError::NoPermission { .. })
        | RegistryError::Denied { .. } => BlobError::Denied { message },
        RegistryError::Auth(AuthError::Tls { .. })
        | RegistryError::Tls { .. }
        | RegistryError::Protocol { .. } => BlobError::Transient {
            message,
            retry_after: None,
        },
        RegistryError::NotFound { .. } | RegistryError::Corrupt { .. } => {
            BlobError::Missing { message }
        }
        error if error.is_transient() => BlobError::Transient {
            message,
            retry_after: error.retry_after(),
        },
        _ => BlobError::Final { message },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn errors_by_what_waiting_would_do() {
        let text = || "text".to_owned();
        let (subject, registry) = (text, text);
        let retry_after = Some(Duration::from_secs(3));
        let auth = RegistryError::Auth;
        let cases = [
            (auth(AuthError::BadCredential { message: text() }), "denied"),
            (auth(AuthError::NoPermission { message: text() }), "denied"),
            (RegistryError::NotFound { subject: subject() }, "missing"),
            (
                RegistryError::Denied {
                    subject: subject(),
                    status: 403,
                    message: text(),
                },
                "denied",
            ),
            (
                auth(AuthError::Unreachable { message: text() }),
                "transient",
            ),
            (auth(AuthError::Tls { message: text() }), "transient"),
            (
                RegistryError::RateLimited {
                    registry: registry(),
                    retry_after,
                },
                "transient",
            ),
            (
                RegistryError::Unreachable {
                    registry: registry(),
                    message: text(),
                },
                "transient",
            ),
            (
                RegistryError::Protocol {
                    registry: registry(),
                    message: text(),
                },
                "transient",
            ),
            (
                RegistryError::Corrupt {
                    subject: subject(),
                    message: text(),
                },
                "missing",
            ),
            (auth(AuthError::Revoked { message: text() }), "final"),
            (auth(AuthError::Refused { message: text() }), "final"),
            (auth(AuthError::Internal { message: text() }), "final"),
            (
                RegistryError::Refused {
                    message: text(),
                    hint: None,
                },
                "final",
            ),
            (
                RegistryError::Unsupported {
                    subject: subject(),
                    message: text(),
                },
                "final",
            ),
        ];
        for (error, expected) in cases {
            let kind = match blob_error(&error) {
                BlobError::Transient { .. } => "transient",
                BlobError::Denied { .. } => "denied",
                BlobError::Missing { .. } => "missing",
                BlobError::Final { .. } => "final",
            };
            assert_eq!(kind, expected, "{error:?}");
        }
        let limited = RegistryError::RateLimited {
            registry: registry(),
            retry_after,
        };
        assert!(matches!(
            blob_error(&limited),
            BlobError::Transient {
                retry_after: Some(_),
                ..
            }
        ));
    }
}
