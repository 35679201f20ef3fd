//! Who may read with a lease.

use ids::WorkerId;

/// Who reads, and alone may: a container on a worker, or a command on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseReader {
    pub worker: Option<WorkerId>,
    pub container: String,
}

impl LeaseReader {
    pub(crate) fn for_vault(&self) -> vault::LeaseReader<'_> {
        vault::LeaseReader {
            worker: self.worker,
            container: &self.container,
        }
    }

    /// This process.
    pub fn own() -> Self {
        Self {
            worker: None,
            container: format!("process-{}", std::process::id()),
        }
    }
}
