//! One who knocks for all who wait: while the source does not answer, one flight at a time asks
//! it, and when it answers everybody goes on. A registry that comes back is not stormed.

use std::sync::{Mutex as StdMutex, PoisonError};

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::Instant;

use crate::blob::BlobError;

#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The last failure, while there has been no success since.
    closed: StdMutex<Option<BlobError>>,
    knocking: Mutex<()>,
    opened: Notify,
}

/// The right to ask; while the gate is closed only one flight has it.
pub(super) type Pass<'a> = Option<MutexGuard<'a, ()>>;

impl Gate {
    /// Waits for the right to ask, until `deadline`; then says what is wrong.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Pass<'_>, BlobError> {
        if self.closed().is_none() {
            return Ok(None);
        }
        match tokio::time::timeout_at(deadline, self.knocking.lock()).await {
            Ok(pass) => Ok(self.closed().is_some().then_some(pass)),
            Err(_) => Err(self.closed().unwrap_or_else(|| BlobError::Transient {
                message: "the registry does not answer".to_owned(),
                retry_after: None,
            })),
        }
    }

    /// The right to ask where nobody has to wait for it.
    pub(super) fn enter_if_open(&self) -> Result<Pass<'_>, BlobError> {
        self.closed().map_or(Ok(None), Err)
    }

    /// An attempt failed. True when this is news: the first failure, or one of another kind.
    pub(super) fn close(&self, error: &BlobError) -> bool {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_denied = |error: &BlobError| matches!(error, BlobError::Denied { .. });
        let is_news = closed
            .as_ref()
            .is_none_or(|before| is_denied(before) != is_denied(error));
        *closed = Some(error.clone());
        is_news
    }

    /// An attempt succeeded. True when the gate had been closed.
    pub(super) fn open(&self) -> bool {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let was_closed = closed.take().is_some();
        drop(closed);
        if was_closed {
            self.opened.notify_waiters();
        }
        was_closed
    }

    /// Waits, without knocking, until the gate is open: for who is in nobody's way.
    pub(super) async fn opened(&self) {
        loop {
            let opened = self.opened.notified();
            if self.closed().is_none() {
                return;
            }
            opened.await;
        }
    }

    fn closed(&self) -> Option<BlobError> {
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
