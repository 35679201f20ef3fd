//! One who knocks for all who wait: while the source does not answer, one flight at a time asks
//! it, and when it answers everybody goes on. A registry that comes back is not stormed.

use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::blob::BlobError;

#[derive(Debug, Default)]
pub(super) struct Gate {
    state: StdMutex<State>,
    knocking: Mutex<()>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last failure, while there has been no success since.
    failure: Option<BlobError>,
    /// What was asked since brings something, though it has not come to its end.
    is_answering: bool,
}

/// The right to ask; while the gate is closed only one flight has it.
pub(super) type Pass<'a> = Option<tokio::sync::MutexGuard<'a, ()>>;

impl Gate {
    /// Waits for the right to ask, until `deadline`; then says what is wrong.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Pass<'_>, BlobError> {
        if self.closed().is_none() {
            return Ok(None);
        }
        // Who knocks may be given bytes for a long time yet when the source answers.
        let let_in = async {
            tokio::select! {
                biased;
                () = self.opened() => None,
                pass = self.knocking.lock() => self.closed().is_some().then_some(pass),
            }
        };
        match tokio::time::timeout_at(deadline, let_in).await {
            Ok(pass) => Ok(pass),
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
        let is_denied = |error: &BlobError| matches!(error, BlobError::Denied { .. });
        let mut state = self.state();
        state.is_answering = false;
        let before = state.failure.replace(error.clone());
        before.is_none_or(|before| is_denied(&before) != is_denied(error))
    }

    /// An attempt succeeded. True when the gate had been closed.
    pub(super) fn open(&self) -> bool {
        let was_closed = self.state().failure.take().is_some();
        if was_closed {
            self.opened.notify_waiters();
        }
        was_closed
    }

    /// An attempt is being answered, and may be for long: nobody waits for its end. That it has
    /// succeeded is for `open` to say.
    pub(super) fn let_in(&self) {
        self.state().is_answering = true;
        self.opened.notify_waiters();
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

    /// The last failure, where it keeps anybody out.
    fn closed(&self) -> Option<BlobError> {
        let state = self.state();
        let failure = state.failure.as_ref();
        failure.filter(|_| !state.is_answering).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
