//! A gate before a service: while it is closed, requests wait.

use tokio::sync::watch;

/// Open until it is closed.
pub(crate) struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Gate {
    pub(crate) fn close(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub(crate) async fn pass(&self) {
        let mut open = self.0.subscribe();
        let passed = open.wait_for(|open| *open).await.map(drop);
        passed.expect("the gate is there while somebody passes it");
    }
}
