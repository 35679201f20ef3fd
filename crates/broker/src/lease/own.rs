//! What the process reads with that has opened the vault: to resolve an image, to index it, and to
//! have the registry's word for it. It is given to nobody, so that nothing is on record as given.

use std::fmt;
use std::sync::Arc;

use credential::auth::{AuthFuture, AuthRequest, AuthSource};

use super::{Asker, Lease};

struct OwnSource(Arc<Lease>);

impl Lease {
    /// For this process alone: whatever the registry asks for, up to the password.
    pub fn own_source(self: &Arc<Self>) -> Arc<dyn AuthSource> {
        Arc::new(OwnSource(Arc::clone(self)))
    }
}

impl AuthSource for OwnSource {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(self.0.answer(Asker::Own, request))
    }
}

impl fmt::Debug for OwnSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("OwnSource").field(&self.0).finish()
    }
}
