//! The least that a reader on a worker is given: an auth only where it cannot read without one.

use credential::auth::{AuthError, AuthRequest, AuthSource, LocationRequest, RegistryAuth};
use reference::Digest;

use super::Lease;

impl Lease {
    /// An auth for who reads these blobs on a worker. There is none where each of them is at a
    /// signed location: a mount of ours would have asked for those and for nothing more.
    pub async fn auth_for_worker(
        &self,
        blobs: &[Digest],
        request: AuthRequest<'_>,
    ) -> Result<RegistryAuth, AuthError> {
        for digest in blobs {
            let located = self.location(LocationRequest {
                registry: request.registry,
                repository: request.repository,
                digest,
                refused: None,
            });
            if located.await?.is_none() {
                return self.auth(request).await;
            }
        }
        Err(AuthError::Refused {
            message: format!(
                "{} sends readers of its blobs elsewhere, so that a worker needs no auth for it",
                request.registry
            ),
        })
    }
}
