//! How many there are of everything that is under way, counted when somebody asks.

use std::sync::Arc;

use control_store::TaskState;

use super::Dispatch;
use super::placement::Candidate;
use crate::lock::lock;

/// What is under way at one moment, or nearly: each part is counted for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Census {
    pub(crate) calls_waiting: usize,
    pub(crate) calls_running: usize,
    pub(crate) containers_starting: usize,
    pub(crate) containers_idle: usize,
    pub(crate) containers_busy: usize,
    pub(crate) containers_ending: usize,
    pub(crate) workers_open: usize,
    pub(crate) workers_draining: usize,
    pub(crate) capacity_millicores: u64,
    pub(crate) capacity_bytes: u64,
    /// Of workers that get new containers.
    pub(crate) free_millicores: u64,
    pub(crate) free_bytes: u64,
}

impl Dispatch {
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        let tasks: Vec<_> = lock(&self.tasks).values().cloned().collect();
        for task in tasks {
            match task.state() {
                TaskState::Pending => census.calls_waiting += 1,
                TaskState::Running => census.calls_running += 1,
                TaskState::Ended => {}
            }
        }
        let pools: Vec<_> = lock(&self.pools).values().map(Arc::clone).collect();
        for pool in pools {
            pool.count(&mut census);
        }
        let containers = lock(&self.containers);
        let ending = containers.values().filter(|one| !one.takes_calls());
        census.containers_ending = ending.count();
        drop(containers);
        for worker in self.workers.candidates() {
            census.add(&worker);
        }
        census
    }
}

impl Census {
    fn add(&mut self, worker: &Candidate) {
        self.capacity_millicores += u64::from(worker.total.cpu_millicores);
        self.capacity_bytes = self
            .capacity_bytes
            .saturating_add(worker.total.memory_bytes);
        if worker.is_draining {
            self.workers_draining += 1;
            return;
        }
        self.workers_open += 1;
        self.free_millicores += u64::from(worker.free_cpu());
        self.free_bytes = self.free_bytes.saturating_add(worker.free_memory());
    }
}
