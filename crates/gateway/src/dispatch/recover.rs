//! After a start: what an earlier run of the gateway had begun comes to its end, and what waited
//! waits again.

use std::time::Duration;

use control_store::{AfterAttempt, Task, TaskOutcome, TaskState};
use jiff::{SignedDuration, Timestamp};

use super::failure::{end_without_result, not_started};
use super::life::Life;
use super::persist::persist;
use super::task::LiveTask;
use crate::gateway::Gateway;
use crate::problem::Problem;

/// Tasks that are read at once.
const PAGE: u32 = 500;
/// How long a caller that went away may take to come back, before its task is cancelled: clients
/// try for up to two minutes.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often order is looked after; containers whose credential was removed end so soon.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often what ended long ago is forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(10);
/// How long tasks and containers that ended can be asked about.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Tasks that are forgotten in one transaction, which others wait for.
const FORGET_AT_ONCE: u32 = 500;

impl Gateway {
    /// Takes up what an earlier run left, and keeps order from then on.
    pub async fn resume(&self) -> Result<(), Problem> {
        let store = self.store();
        for container in store.open_containers().await? {
            let reason = "the gateway was restarted";
            store.end_container(container.id, None, reason).await?;
        }
        let mut after = None;
        loop {
            let page = store.open_tasks(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for task in page {
                self.resume_task(task).await?;
            }
        }
        tokio::spawn(keep_order(self.clone()));
        Ok(())
    }

    /// An attempt that was running is lost with its container; the task goes on if it may.
    async fn resume_task(&self, mut task: Task) -> Result<(), Problem> {
        if task.state == TaskState::Running {
            let lost = end_without_result(TaskOutcome::Lost, "the gateway was restarted");
            let is_last = task.attempts > task.retries;
            let then = if is_last {
                AfterAttempt::End(lost)
            } else {
                AfterAttempt::TryAgain {
                    outcome: lost.outcome,
                    available_at: Timestamp::now(),
                }
            };
            self.store()
                .end_attempt(task.id, task.attempts, then)
                .await?;
            if is_last {
                return Ok(());
            }
            task.state = TaskState::Pending;
        }
        let pool = match self.pool(task.workspace, task.stub).await {
            Ok(pool) => pool,
            Err(problem) => {
                // One that cannot be read does not keep the others from going on.
                let end = not_started(&problem.message);
                self.store().finish_task(task.id, end).await?;
                return Ok(());
            }
        };
        let live = LiveTask::new(task);
        live.accepted();
        let secrets = self.current_secrets(&pool.stub).await.ok();
        let admission = pool.admit_again(secrets.as_ref());
        let life = Life {
            gateway: self.clone(),
            pool,
            task: live,
            input: None,
            _claim: None,
        };
        tokio::spawn(life.resume(admission));
        Ok(())
    }
}

/// What ended long ago is forgotten beside it, which may wait for a disk.
async fn keep_order(gateway: Gateway) {
    tokio::spawn(forget(gateway.clone()));
    let mut sweeps = tokio::time::interval(SWEEP_EVERY);
    loop {
        sweeps.tick().await;
        gateway.dispatch().sweep(PATIENCE);
        gateway.call_off().await;
    }
}

async fn forget(gateway: Gateway) {
    let mut times = tokio::time::interval(FORGET_EVERY);
    loop {
        times.tick().await;
        let (store, before) = (gateway.store(), Timestamp::now() - REMEMBERED);
        while let Ok(1..) = persist(|| store.forget_tasks(before, FORGET_AT_ONCE)).await {}
        // What cannot be forgotten now is so the next time.
        let _ = persist(|| store.forget_containers(before)).await;
    }
}
