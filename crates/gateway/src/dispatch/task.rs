//! A task that has not ended, or ended a moment ago: what those who follow it see.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use control_store::{Task, TaskEnd, TaskState};
use ids::{ContainerId, TaskId};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::output::{OutputLog, Piece, Stream};
use crate::lock::lock;
use crate::problem::Problem;

/// A task as it is now.
#[derive(Debug)]
pub(crate) struct LiveTask {
    pub(crate) id: TaskId,
    /// Nothing of what it printed is here, should it have printed anything.
    is_output_gone: bool,
    now: Mutex<Now>,
    /// Counts changes; who follows looks after each.
    changed: watch::Sender<u64>,
    /// Nothing, as long as it is not decided: until then nobody is told of the task.
    acceptance: watch::Sender<Option<Result<Acceptance, Problem>>>,
    /// Somebody wants its end.
    pub(super) cancelling: CancellationToken,
    /// Those who follow it or wait for it.
    followers: AtomicU32,
}

/// What is on disk of a call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// This task.
    Here,
    /// The task of the same call, which was made before; this one never will be.
    Before(Box<Task>),
}

#[derive(Debug)]
struct Now {
    task: Task,
    end: Option<Arc<TaskEnd>>,
    log: OutputLog,
    /// When the last follower left; the acceptance before.
    left_at: Instant,
}

/// What a follower sees next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TaskEvent {
    /// How it stands: at once, and at each change.
    Task(Task),
    Output(Piece),
    /// The last one.
    End(Task, Arc<TaskEnd>),
}

/// Somebody who follows a task. While there is one, the task is not cancelled for want of any.
#[derive(Debug)]
pub(crate) struct Follower {
    task: Arc<LiveTask>,
    changes: watch::Receiver<u64>,
    offset: u64,
    /// What was shown last.
    shown: Option<(TaskState, u32)>,
    is_over: bool,
}

impl LiveTask {
    /// A task that is not on disk yet.
    pub(crate) fn new(task: Task) -> Arc<Self> {
        Arc::new(Self::of(task))
    }

    fn of(task: Task) -> Self {
        Self {
            id: task.id,
            is_output_gone: false,
            now: Mutex::new(Now {
                task,
                end: None,
                log: OutputLog::default(),
                left_at: Instant::now(),
            }),
            changed: watch::Sender::new(0),
            acceptance: watch::Sender::new(None),
            cancelling: CancellationToken::new(),
            followers: AtomicU32::new(0),
        }
    }

    /// A task that ended, with nothing left of its output.
    pub(crate) fn ended_before(task: Task, end: TaskEnd) -> Arc<Self> {
        let live = Self {
            is_output_gone: true,
            ..Self::of(task)
        };
        live.accepted();
        live.now().end = Some(Arc::new(end));
        Arc::new(live)
    }

    pub(crate) fn is_output_gone(&self) -> bool {
        self.is_output_gone
    }

    pub(crate) fn accepted(&self) {
        self.acceptance.send_replace(Some(Ok(Acceptance::Here)));
    }

    /// The same call was made before, as this task.
    pub(super) fn made_before(&self, first: Task) {
        let acceptance = Acceptance::Before(Box::new(first));
        self.acceptance.send_replace(Some(Ok(acceptance)));
    }

    pub(super) fn refused(&self, problem: Problem) {
        self.acceptance.send_replace(Some(Err(problem)));
    }

    pub(super) fn refused_unless_decided(&self, problem: Problem) {
        self.acceptance.send_if_modified(|acceptance| {
            let is_open = acceptance.is_none();
            if is_open {
                *acceptance = Some(Err(problem));
            }
            is_open
        });
    }

    /// Waits until the call is on disk, or never will be.
    pub(crate) async fn acceptance(&self) -> Result<Acceptance, Problem> {
        let mut acceptance = self.acceptance.subscribe();
        let decided = acceptance.wait_for(Option::is_some).await;
        let decided = decided.expect("the task holds the other side").clone();
        decided.expect("it was waited for")
    }

    pub(crate) fn task(&self) -> Task {
        self.now().task.clone()
    }

    /// Asks for the end; it comes in a moment, unless it has come by itself.
    pub(crate) fn cancel(&self) {
        self.cancelling.cancel();
    }

    /// How it ended, if it has.
    pub(crate) fn as_ended(&self) -> Option<(Task, Arc<TaskEnd>)> {
        let now = self.now();
        let end = now.end.as_ref()?;
        Some((now.task.clone(), Arc::clone(end)))
    }

    /// What of an ended task is in memory that is worth keeping for those whose connection broke:
    /// nothing where nothing was printed, since the rest is in the store.
    pub(super) fn kept_bytes(&self) -> usize {
        let now = self.now();
        let printed = now.log.kept_bytes();
        let payload = now.end.as_ref().and_then(|end| end.payload.as_ref());
        if printed == 0 {
            0
        } else {
            printed + payload.map_or(0, Vec::len)
        }
    }

    pub(super) fn printed(&self, stream: Stream, bytes: &[u8]) {
        self.now().log.push(stream, bytes);
        self.tell();
    }

    pub(super) fn attempt_began(&self, number: u32, container: ContainerId) {
        let mut now = self.now();
        now.task.state = TaskState::Running;
        now.task.attempts = number;
        now.task.container = Some(container);
        now.task.started_at = Some(Timestamp::now());
        drop(now);
        self.tell();
    }

    pub(super) fn waits_again(&self, available_at: Timestamp) {
        let mut now = self.now();
        now.task.state = TaskState::Pending;
        now.task.available_at = available_at;
        drop(now);
        self.tell();
    }

    pub(super) fn ended(&self, end: TaskEnd) {
        let mut now = self.now();
        now.task.state = TaskState::Ended;
        now.task.outcome = Some(end.outcome);
        now.task.ended_at = Some(Timestamp::now());
        now.end = Some(Arc::new(end));
        drop(now);
        self.tell();
    }

    /// Follows the task, from this offset of its output on.
    pub(crate) fn follow(self: &Arc<Self>, offset: u64) -> Follower {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower {
            changes: self.changed.subscribe(),
            task: Arc::clone(self),
            offset,
            shown: None,
            is_over: false,
        }
    }

    pub(super) fn created_at(&self) -> Timestamp {
        self.now().task.created_at
    }

    pub(super) fn state(&self) -> TaskState {
        self.now().task.state
    }

    /// Whether nobody has followed it for this long, and somebody should.
    pub(super) fn is_abandoned(&self, patience: Duration) -> bool {
        if self.followers.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let now = self.now();
        let is_open = now.end.is_none() && !self.cancelling.is_cancelled();
        is_open && !now.task.is_headless && now.left_at.elapsed() >= patience
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        lock(&self.now)
    }
}

impl Follower {
    pub(crate) fn task(&self) -> &Arc<LiveTask> {
        &self.task
    }

    /// What comes next; nothing after the end. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Option<TaskEvent> {
        while !self.is_over {
            self.changes.mark_unchanged();
            if let Some(event) = self.look() {
                return Some(event);
            }
            // The task holds the other side.
            let _ = self.changes.changed().await;
        }
        None
    }

    /// What has come by now, and nothing when there is no more of it.
    pub(crate) fn next_by_now(&mut self) -> Option<TaskEvent> {
        let is_open = !self.is_over;
        is_open.then(|| self.look()).flatten()
    }

    /// The end, when it has come.
    pub(crate) async fn end(&mut self) -> (Task, Arc<TaskEnd>) {
        loop {
            self.changes.mark_unchanged();
            if let Some(ended) = self.task.as_ended() {
                return ended;
            }
            let _ = self.changes.changed().await;
        }
    }

    fn look(&mut self) -> Option<TaskEvent> {
        let now = self.task.now();
        let stands = (now.task.state, now.task.attempts);
        let is_open = now.end.is_none();
        if self.shown.is_none() || (is_open && self.shown != Some(stands)) {
            self.shown = Some(stands);
            return Some(TaskEvent::Task(now.task.clone()));
        }
        if let Some(piece) = now.log.after(self.offset) {
            self.offset = piece.offset;
            return Some(TaskEvent::Output(piece));
        }
        let end = now.end.as_ref()?;
        self.is_over = true;
        Some(TaskEvent::End(now.task.clone(), Arc::clone(end)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.now().left_at = Instant::now();
        self.task.followers.fetch_sub(1, Ordering::Relaxed);
    }
}
