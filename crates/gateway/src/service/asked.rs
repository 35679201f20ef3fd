//! Whether a connection has asked for anything, so that one that does not is not waited for.
//!
//! Until a few bytes have said which protocol it speaks nobody else limits the time, and one that
//! speaks HTTP/2 may go on for ever without a request.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::codegen::Service;

/// What answers one connection, and notes that it was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked<S> {
    service: S,
    has_asked: Arc<AtomicBool>,
}

/// The other half: what was noted of a connection that somebody else serves.
#[derive(Debug)]
pub(super) struct Asking(Arc<AtomicBool>);

impl<S> Asked<S> {
    pub(super) fn new(service: S) -> (Self, Asking) {
        let has_asked = Arc::new(AtomicBool::new(false));
        let asking = Asking(Arc::clone(&has_asked));
        (Self { service, has_asked }, asking)
    }
}

impl Asking {
    /// Comes back when nothing was asked in time, and else never.
    pub(super) async fn says_nothing(self, timeout: Duration) {
        tokio::time::sleep(timeout).await;
        if self.0.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }
}

impl<S: Service<R>, R> Service<R> for Asked<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.has_asked.store(true, Ordering::Relaxed);
        self.service.call(request)
    }
}
