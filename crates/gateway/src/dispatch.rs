//! From an accepted call to its one outcome: workers, warm containers, and the lives of tasks.
//!
//! ```text
//!   call ─▶ Pool (a function) ─▶ Place in a warm Container ─▶ attempt ─▶ outcome, on disk, told
//!             │ nothing warm                ▲
//!             └─▶ start: reserve a part of a Worker, hand-off, Start ─▶ ready
//! ```
//!
//! `life` is a task's way read from top to bottom, `start` a container's; both are loops of their
//! own that wait for what they need, and whatever ends (a worker, a container, a caller's patience)
//! ends their waiting. What is here is in memory only: tasks and containers are rows of the control
//! store, by which a restart knows what was begun. Secrets and leases are made at hand-off and kept
//! nowhere.

mod attempt;
mod auth;
mod calling_off;
mod census;
mod claims;
mod connection;
mod container;
mod failure;
mod functions;
mod hand_off;
mod hearing;
mod join;
mod life;
mod output;
mod persist;
mod pieces;
mod placement;
mod pool;
mod probe;
mod reads;
mod recover;
mod remote;
mod start;
mod task;
mod traces;
mod warming;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ids::{ContainerId, StubId, TaskId};
use worker_protocol::{Delivery, Hello};

pub(crate) use census::Census;
pub(crate) use failure::Failure;
pub(crate) use hand_off::reader_of;
pub(crate) use life::Life;
pub(crate) use output::Stream;
pub(crate) use pool::Full;
pub use remote::BoundWorkers;
pub(crate) use task::{Acceptance, Follower, LiveTask, TaskEvent};
pub(crate) use warming::Onlooker;
pub use warming::Reached;
pub(crate) use worker::WorkerLink;

use claims::Claims;
use container::{Container, Gone};
use pool::Pool;
use traces::TraceTurns;
use worker::{Newcomer, ToWorkerSender, Workers};

use crate::lock::lock;

/// How long the output of a task that has ended is kept for those whose connection broke.
const OUTPUT_KEPT: Duration = Duration::from_mins(2);
/// What is kept so of all together, results included; those that ended first are forgotten first.
const KEPT_LIMIT_BYTES: usize = 256 << 20;

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    workers: Arc<Workers>,
    pub(crate) claims: Claims,
    pools: Mutex<HashMap<StubId, Arc<Pool>>>,
    tasks: Mutex<HashMap<TaskId, Arc<LiveTask>>>,
    containers: Mutex<HashMap<ContainerId, Arc<Container>>>,
    ended: Mutex<EndedTasks>,
    traces: TraceTurns,
}

/// Tasks that ended and have output, the first first, and what is kept of them all.
#[derive(Debug, Default)]
struct EndedTasks {
    tasks: VecDeque<Ended>,
    kept_bytes: usize,
}

/// A task that ended, and what is kept of it in memory.
#[derive(Debug)]
struct Ended {
    id: TaskId,
    at: Instant,
    kept_bytes: usize,
}

impl Dispatch {
    /// The pool of a function, made by whoever calls it first.
    pub(crate) fn pool(&self, stub: control_store::Stub) -> Arc<Pool> {
        let mut pools = lock(&self.pools);
        let pool = pools
            .entry(stub.id)
            .or_insert_with(|| Arc::new(Pool::new(stub)));
        Arc::clone(pool)
    }

    pub(crate) fn known_pool(&self, stub: StubId) -> Option<Arc<Pool>> {
        lock(&self.pools).get(&stub).cloned()
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<Arc<LiveTask>> {
        lock(&self.tasks).get(&id).cloned()
    }

    fn container(&self, id: ContainerId) -> Option<Arc<Container>> {
        lock(&self.containers).get(&id).cloned()
    }

    fn add_task(&self, task: &Arc<LiveTask>) {
        lock(&self.tasks).insert(task.id, Arc::clone(task));
    }

    /// A task has ended: what it printed is kept for a while, and what printed nothing is in the
    /// store with all that there is of it.
    fn let_go(&self, task: &LiveTask) {
        let kept_bytes = task.kept_bytes();
        if kept_bytes == 0 {
            lock(&self.tasks).remove(&task.id);
            return;
        }
        let mut ended = lock(&self.ended);
        ended.kept_bytes += kept_bytes;
        ended.tasks.push_back(Ended {
            id: task.id,
            at: Instant::now(),
            kept_bytes,
        });
        drop(ended);
        self.forget_ended();
    }

    /// Forgets what ended first, until what is kept is neither old nor too much.
    fn forget_ended(&self) {
        let mut ended = lock(&self.ended);
        while let Some(first) = ended.tasks.front()
            && (ended.kept_bytes > KEPT_LIMIT_BYTES || first.at.elapsed() > OUTPUT_KEPT)
        {
            lock(&self.tasks).remove(&first.id);
            ended.kept_bytes -= first.kept_bytes;
            ended.tasks.pop_front();
        }
    }

    fn add(&self, container: &Arc<Container>) {
        container.link.gets(&container.delivery);
        lock(&self.containers).insert(container.id, Arc::clone(container));
    }

    fn remove(&self, id: ContainerId) {
        lock(&self.containers).remove(&id);
    }

    /// A worker is there. One that is attached already has come back, over another connection.
    fn attach(&self, who: Newcomer, hello: &Hello, sender: ToWorkerSender) -> Arc<WorkerLink> {
        let (link, earlier) = self.workers.attach(who, hello, sender);
        if let Some(earlier) = earlier {
            self.lost(&earlier);
        }
        link
    }

    /// The container that was given over this link by this delivery.
    fn delivered(&self, link: &WorkerLink, delivery: &Delivery) -> Option<Arc<Container>> {
        let id = delivery.container.parse().ok()?;
        let container = self.container(id)?;
        let is_own = container.link.is(link) && container.delivery == *delivery;
        is_own.then_some(container)
    }

    /// A worker is no longer attached: what it had has ended.
    fn lost(&self, link: &WorkerLink) {
        self.workers.detach(link);
        let containers: Vec<_> = lock(&self.containers).values().cloned().collect();
        for container in containers {
            if container.link.is(link) {
                container.has_ended(Gone::worker_lost());
            }
        }
    }

    /// Stops a container that is under way: it gets no more calls, and has a moment for those it
    /// has.
    pub(crate) async fn stop(&self, record: &control_store::ContainerRecord) {
        let Some(container) = self.container(record.id) else {
            return;
        };
        if let Some(pool) = self.known_pool(record.stub) {
            pool.closed(record.id);
        }
        start::end(&container, start::STOP_GRACE).await;
    }

    /// Makes room where a container is wanted: lets the one go that has been idle for longest, of
    /// all functions.
    fn let_idle_go(&self) {
        let pools: Vec<_> = lock(&self.pools).values().cloned().collect();
        let longest = pools.iter().max_by_key(|pool| pool.longest_idle());
        if let Some(pool) = longest {
            pool.let_longest_idle_go();
        }
    }

    /// Cancels what nobody waits for any more, and forgets pools that have nothing.
    fn sweep(&self, patience: Duration) {
        self.forget_ended();
        for task in lock(&self.tasks).values() {
            if task.is_abandoned(patience) {
                tracing::info!(task = %task.id, "cancelled, since nobody waits for it");
                task.cancel();
            }
        }
        // Who else has a pool is about to use it.
        lock(&self.pools).retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_empty());
    }
}
