//! Leave to begin: a container may be made before it is known that it may run.
//!
//! Whoever asks for a launch may still be asking a registry. Until leave is given nothing of the
//! image runs, nothing is asked of its auth source, and no port of its is heard; where it is
//! refused, all goes again.

use std::sync::Arc;

use credential::auth::{
    AuthFuture, AuthRequest, AuthSource, LocationFuture, LocationRequest, ReadFuture, ReadRequest,
    SharedFuture, SharedRequest,
};
use tokio::sync::watch;

use crate::error::LaunchError;

/// What a launch waits for. Clones wait for the same.
#[derive(Clone, Debug)]
pub struct Leave(watch::Receiver<bool>);

/// Gives leave. Dropping it refuses.
#[derive(Debug)]
pub struct LeaveGiver(watch::Sender<bool>);

impl LeaveGiver {
    pub fn give(self) {
        self.0.send_replace(true);
    }
}

impl Leave {
    /// For who knows already.
    pub fn given() -> Self {
        Self(watch::channel(true).1)
    }

    pub fn awaited() -> (LeaveGiver, Self) {
        let (giver, leave) = watch::channel(false);
        (LeaveGiver(giver), Self(leave))
    }

    pub(crate) fn is_given(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is given or refused.
    pub(crate) async fn wait(&self) -> Result<(), LaunchError> {
        let mut leave = self.0.clone();
        let given = leave.wait_for(|is_given| *is_given).await;
        given.map(drop).map_err(|_| LaunchError::NoLeave)
    }

    /// Returns when it is refused.
    pub(crate) async fn refused(&self) -> LaunchError {
        match self.wait().await {
            Ok(()) => std::future::pending().await,
            Err(refused) => refused,
        }
    }

    /// A source that answers nothing before there is leave.
    pub(crate) fn guard(&self, source: Arc<dyn AuthSource>) -> Arc<dyn AuthSource> {
        if self.is_given() {
            return source;
        }
        Arc::new(Guarded {
            leave: self.clone(),
            source,
        })
    }
}

#[derive(Debug)]
struct Guarded {
    leave: Leave,
    source: Arc<dyn AuthSource>,
}

impl Guarded {
    /// Never returns where it is refused: who asks is about to be ended, and has nothing to tell.
    async fn leave(&self) {
        if self.leave.wait().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl AuthSource for Guarded {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async {
            self.leave().await;
            self.source.auth(request).await
        })
    }

    fn location<'a>(&'a self, request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(async {
            self.leave().await;
            self.source.location(request).await
        })
    }

    fn shared<'a>(&'a self, request: SharedRequest<'a>) -> SharedFuture<'a> {
        Box::pin(async {
            self.leave().await;
            self.source.shared(request).await
        })
    }

    fn read<'a>(&'a self, request: ReadRequest<'a>) -> ReadFuture<'a> {
        Box::pin(async {
            self.leave().await;
            self.source.read(request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use credential::auth::Anonymous;
    use futures::FutureExt;
    use reference::Registry;

    use super::*;

    #[tokio::test]
    async fn nothing_is_asked_before_there_is_leave_or_after_it_was_refused() {
        let registry = Registry::parse("registry.test").unwrap();
        let request = || AuthRequest {
            registry: &registry,
            repository: "team/app",
            rejected: None,
        };
        let (giver, leave) = Leave::awaited();
        let source = leave.guard(Arc::new(Anonymous));
        assert!(source.auth(request()).now_or_never().is_none());
        assert!(leave.refused().now_or_never().is_none());
        giver.give();
        assert!(source.auth(request()).await.is_ok());
        assert!(leave.refused().now_or_never().is_none());
        let (giver, leave) = Leave::awaited();
        let source = leave.guard(Arc::new(Anonymous));
        drop(giver);
        assert!(source.auth(request()).now_or_never().is_none());
        assert!(matches!(leave.refused().await, LaunchError::NoLeave));
    }
}
