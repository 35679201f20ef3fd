//! Who may ask the source at the same time: readers whenever there is a connection, and what nobody
//! waits for only while some are left to readers.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::DEMAND_CONNECTIONS;

#[derive(Debug)]
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    count: usize,
    freed: Arc<Notify>,
}

/// The right to one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<Notify>,
}

impl Connections {
    pub(super) fn new(count: usize) -> Self {
        let count = count.max(1);
        Self {
            permits: Arc::new(Semaphore::new(count)),
            count,
            freed: Arc::default(),
        }
    }

    /// For a reader.
    pub(super) async fn acquire(&self) -> Option<Connection> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(self.connection(permit))
    }

    /// One that readers can spare.
    pub(super) fn spare(&self) -> Option<Connection> {
        if self.permits.available_permits() <= DEMAND_CONNECTIONS {
            return None;
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(self.connection(permit))
    }

    /// Whether nobody has any.
    pub(super) fn are_free(&self) -> bool {
        self.permits.available_permits() == self.count
    }

    /// The same as `spare`, as soon as there is one and `is_due`: that is looked at whenever one
    /// becomes free.
    pub(super) async fn spare_when(&self, is_due: impl Fn() -> bool) -> Connection {
        loop {
            let freed = self.freed.notified();
            if is_due()
                && let Some(connection) = self.spare()
            {
                return connection;
            }
            freed.await;
        }
    }

    /// Something is over that was in the way of what is less urgent.
    pub(super) fn look_again(&self) {
        self.freed.notify_waiters();
    }

    fn connection(&self, permit: OwnedSemaphorePermit) -> Connection {
        Connection {
            permit: Some(permit),
            freed: Arc::clone(&self.freed),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Before those who wait look.
        drop(self.permit.take());
        self.freed.notify_waiters();
    }
}
