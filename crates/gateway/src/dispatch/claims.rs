//! The keys of calls that are under way: the same call, sent again, finds the first one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use control_store::IdempotencyKey;
use ids::StubId;

use super::task::LiveTask;
use crate::lock::lock;
use crate::problem::{Kind, Problem};

type Key = (StubId, IdempotencyKey);

/// All keys that are claimed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims {
    tasks: Arc<Mutex<HashMap<Key, Arc<LiveTask>>>>,
}

/// A key that is a task's own until this is dropped. By then the task is on disk, or it never will
/// be, and whoever waits for it hears so.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    key: Key,
    task: Arc<LiveTask>,
}

impl Claims {
    /// The key for this task, or the task that has it.
    pub(crate) fn claim(&self, key: Key, task: &Arc<LiveTask>) -> Result<Claim, Arc<LiveTask>> {
        let mut tasks = lock(&self.tasks);
        if let Some(first) = tasks.get(&key) {
            return Err(Arc::clone(first));
        }
        tasks.insert(key, Arc::clone(task));
        Ok(Claim {
            claims: self.clone(),
            key,
            task: Arc::clone(task),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims.tasks).remove(&self.key);
        self.task.refused_unless_decided(Problem::new(
            Kind::Unavailable,
            "the same call was being made, and was not",
        ));
    }
}
