//! The least that a reader on a worker is given: an auth only where it cannot read without one, and
//! never one that is the whole identity, unless the workspace has said so.

use credential::auth::{
    AuthError, AuthRequest, AuthSource, LocationRequest, ReadFrom, RegistryAuth,
};
use reference::Digest;
use token_exchange::Rung;

use super::{Lease, SecretHolder, lock};

impl Lease {
    /// An auth for who reads these blobs on a worker. There is none where each of them is at a
    /// signed location: a mount of ours would have asked for those and for nothing more.
    pub async fn auth_for_worker(
        &self,
        blobs: &[Digest],
        request: AuthRequest<'_>,
    ) -> Result<RegistryAuth, AuthError> {
        for digest in blobs {
            let found = self.location(LocationRequest {
                registry: request.registry,
                repository: request.repository,
                digest,
                refused: None,
            });
            if !matches!(found.await?, ReadFrom::Location(_)) {
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

    pub(super) fn check_may_hold(
        &self,
        holder: &SecretHolder,
        rung: Rung,
    ) -> Result<(), AuthError> {
        let may_hold = lock(&holder.settings).registry.workers_may_hold_password;
        if !rung.is_whole_identity() || may_hold {
            return Ok(());
        }
        Err(AuthError::Refused {
            message: format!(
                "{} takes nothing less than the whole identity of {}, which no worker is given: \
                 it reads through the broker",
                self.image.registry(),
                holder.scope
            ),
        })
    }
}
