//! The life of a task, from its place in the line to its one outcome.
//!
//! Whatever happens to workers and containers, this comes to an end, records it once, and says so
//! after it is on disk. Attempts are numbered. Retries are for calls whose container or worker was
//! lost: what a function raised is its answer.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_store::{Accepted, AfterAttempt, Durability, NewTask, StoreError, TaskEnd};
use jiff::{SignedDuration, Timestamp};

use super::attempt::AttemptEnd;
use super::claims::Claim;
use super::failure::{cancelled, expired, not_started};
use super::output::Stream;
use super::persist::persist;
use super::pool::{Admission, Place, Pool};
use super::task::LiveTask;
use crate::gateway::Gateway;

/// How soon a result must come to be recorded together with its call: a few commits' time, for
/// which a caller does not know yet that the call is accepted.
const RECORD_AFTER: Duration = Duration::from_millis(5);
/// Pause before the second attempt, doubled before each further one.
const FIRST_RETRY_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(30);
/// Pause before it is asked again whether an attempt may begin.
const BEGIN_PAUSE: Duration = Duration::from_millis(50);
/// The number of the first attempt.
pub(super) const FIRST: u32 = 1;

/// A task on its way, with what it needs.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) gateway: Gateway,
    pub(crate) pool: Arc<Pool>,
    pub(crate) task: Arc<LiveTask>,
    /// What the caller gave, as long as it is at hand.
    pub(crate) input: Option<Bytes>,
    /// Keeps the call's key from being used twice while the task is not on disk with its end.
    pub(crate) _claim: Option<Claim>,
}

impl Life {
    /// Accepts a call and brings it to its end. Goes on when whoever called is gone.
    pub(crate) async fn run(mut self, admission: Admission, mut new: NewTask) {
        self.gateway.dispatch().add_task(&self.task);
        match &admission {
            Admission::Place(place) => {
                new.container = Some(place.container.id);
                self.task.attempt_began(FIRST, place.container.id);
            }
            // Who waits in the line may wait long, and the input is on disk.
            Admission::Ticket(_) => self.input = None,
        }
        match admission {
            Admission::Place(place) => {
                let attempt = self.call_at_once(&place, new).await;
                drop(place);
                if let Some(attempt) = attempt {
                    self.follow_up(attempt, FIRST).await;
                }
            }
            ticket @ Admission::Ticket(_) => {
                if self.write(new, Durability::Disk).await {
                    self.tell_acceptance();
                    self.go_on(ticket).await;
                }
            }
        }
        self.gateway.dispatch().let_go(&self.task);
    }

    /// Brings a task to its end that was accepted before.
    pub(super) async fn resume(mut self, admission: Admission) {
        self.gateway.dispatch().add_task(&self.task);
        self.go_on(admission).await;
        self.gateway.dispatch().let_go(&self.task);
    }

    /// Writes the task down; answers whether it is there, and not the same call's earlier one.
    async fn write(&self, new: NewTask, durability: Durability) -> bool {
        let (store, workspace) = (self.gateway.store(), self.task.task().workspace);
        match store.accept_task(workspace, new, durability).await {
            Ok(Accepted::New(_)) => true,
            Ok(Accepted::Before(first)) => {
                self.task.made_before(first);
                false
            }
            Err(error) => {
                self.task.refused(error.into());
                false
            }
        }
    }

    /// Makes a call while it is not on disk. A result that comes soon takes the call there with it;
    /// otherwise answers how the attempt went, with the call on disk.
    async fn call_at_once(&mut self, place: &Place, new: NewTask) -> Option<AttemptEnd> {
        // Whoever can make a call twice, by its key, finds it also when this process has ended.
        let unwritten = if new.key.is_none() {
            Some(new)
        } else if self.write(new, Durability::Process).await {
            None
        } else {
            return None;
        };
        let input = self.input.take();
        let mut attempt = pin!(self.attempt(place, FIRST, input));
        let mut soon = tokio::time::timeout(RECORD_AFTER, &mut attempt).await.ok();
        if let Some(attempt) = &soon
            && self.is_last(attempt, FIRST)
        {
            self.record(unwritten, attempt.end.clone()).await;
            return None;
        }
        let is_written = unwritten.is_none();
        let written = {
            let mut writing = pin!(self.put_on_disk(unwritten));
            loop {
                tokio::select! {
                    written = &mut writing => break written,
                    ended = &mut attempt, if soon.is_none() => soon = Some(ended),
                }
            }
        };
        if let Err(error) = written {
            // Nobody was told of it: its end is nobody's result.
            self.task.cancel();
            if soon.is_none() {
                attempt.await;
            }
            self.task.refused(error.into());
            if is_written {
                // Who asked for it by its id may follow it.
                let end = self.finish(cancelled()).await;
                self.task.ended(end);
            }
            return None;
        }
        self.tell_acceptance();
        Some(match soon {
            Some(attempt) => attempt,
            None => attempt.await,
        })
    }

    /// Records the end of a call that nobody was told of, and tells both.
    async fn record(&self, unwritten: Option<NewTask>, end: TaskEnd) {
        let (store, workspace) = (self.gateway.store(), self.task.task().workspace);
        let recorded = match unwritten {
            None => Ok(self.end_attempt(FIRST, end).await),
            Some(new) => {
                // What was given is not kept of a call that has ended.
                let new = NewTask {
                    input: Vec::new(),
                    ..new
                };
                let record = || store.record_call(workspace, new.clone(), end.clone());
                persist(record).await.map(|_| end.clone())
            }
        };
        match recorded {
            Ok(end) => {
                self.tell_acceptance();
                self.tell_end(end);
            }
            Err(error) => self.task.refused(error.into()),
        }
    }

    async fn put_on_disk(&self, unwritten: Option<NewTask>) -> Result<(), StoreError> {
        let (store, workspace) = (self.gateway.store(), self.task.task().workspace);
        match unwritten {
            None => store.sync().await,
            Some(new) => {
                let accepted = store.accept_task(workspace, new, Durability::Disk).await;
                accepted.map(drop)
            }
        }
    }

    /// The call is on disk, and its caller may know it.
    fn tell_acceptance(&self) {
        self.gateway.metrics().call_accepted();
        self.task.accepted();
    }

    fn tell_end(&self, end: TaskEnd) {
        self.gateway.metrics().call_ended(end.outcome);
        self.task.ended(end);
    }

    /// Ends the task as an attempt did, or goes on with the next one.
    async fn follow_up(&mut self, attempt: AttemptEnd, number: u32) {
        match self.after(attempt, number).await {
            Ok(end) => self.tell_end(end),
            Err(again) => self.go_on(again).await,
        }
    }

    async fn go_on(&mut self, first: Admission) {
        let mut admission = first;
        let end = loop {
            let begun = match self.place(admission).await {
                Ok(place) => self.begin(&place).await.map(|number| (place, number)),
                Err(end) => Err(end),
            };
            let (place, number) = match begun {
                Ok(begun) => begun,
                Err(end) => break self.finish(end).await,
            };
            let input = self.input.take();
            let attempt = self.attempt(&place, number, input).await;
            drop(place);
            match self.after(attempt, number).await {
                Ok(end) => break end,
                Err(again) => admission = again,
            }
        };
        self.tell_end(end);
    }

    /// Waits for the call's turn, unless it is cancelled or too late before.
    async fn place(&self, admission: Admission) -> Result<Place, TaskEnd> {
        let mut ticket = match admission {
            Admission::Place(place) => return Ok(place),
            Admission::Ticket(ticket) => ticket,
        };
        self.gateway.start_wanted(&self.pool);
        tokio::select! {
            turn = ticket.turn() => turn,
            () = self.task.cancelling.cancelled() => Err(cancelled()),
            () = until(self.task.task().expires_at) => Err(expired()),
            never = self.tell_trouble() => match never {},
        }
    }

    /// Tells the caller once why the call waits, should there be trouble.
    async fn tell_trouble(&self) -> Infallible {
        let reason = self.pool.trouble().await;
        let line = format!("holdfast: the call waits: {reason}; trying again\n");
        self.task.printed(Stream::Stderr, line.as_bytes());
        std::future::pending().await
    }

    /// The number of the attempt that begins, as soon as one may.
    async fn begin(&self, place: &Place) -> Result<u32, TaskEnd> {
        let (store, id) = (self.gateway.store(), place.container.id);
        loop {
            let task = self.task.task();
            if self.task.cancelling.is_cancelled() {
                return Err(cancelled());
            }
            if Timestamp::now() >= task.expires_at {
                return Err(expired());
            }
            let begun = persist(|| store.begin_attempt(task.id, id)).await;
            let begun = begun.map_err(|_| not_started("the task cannot be read"))?;
            if let Some(number) = begun {
                self.task.attempt_began(number, id);
                return Ok(number);
            }
            // Its pause is not over, also when the clock was set back.
            tokio::select! {
                () = tokio::time::sleep(BEGIN_PAUSE) => {}
                () = self.task.cancelling.cancelled() => {}
            }
        }
    }

    /// Records how an attempt went: the end of the task, or its next place in the line.
    async fn after(&self, attempt: AttemptEnd, number: u32) -> Result<TaskEnd, Admission> {
        if self.is_last(&attempt, number) {
            return Ok(self.end_attempt(number, attempt.end).await);
        }
        let (store, id) = (self.gateway.store(), self.task.id);
        let available_at = Timestamp::now() + retry_pause(number);
        let then = AfterAttempt::TryAgain {
            outcome: attempt.end.outcome,
            available_at,
        };
        let is_ours = persist(|| store.end_attempt(id, number, then.clone())).await;
        if !is_ours.unwrap_or(true) {
            return Ok(self.as_recorded(attempt.end, false).await);
        }
        self.task.waits_again(available_at);
        tokio::select! {
            () = until(available_at) => {}
            () = self.task.cancelling.cancelled() => {}
        }
        // The line may be longer than it may be for those who come new.
        let secrets = self.gateway.current_secrets(&self.pool.stub).await.ok();
        Err(self.pool.admit_again(secrets.as_ref()))
    }

    /// Whether the task ends with this attempt, of this number.
    fn is_last(&self, attempt: &AttemptEnd, number: u32) -> bool {
        let is_out_of_tries = number > self.task.task().retries;
        !attempt.may_retry || is_out_of_tries || self.task.cancelling.is_cancelled()
    }

    /// Records the end of the task as that of an attempt.
    async fn end_attempt(&self, number: u32, end: TaskEnd) -> TaskEnd {
        let (store, id) = (self.gateway.store(), self.task.id);
        let then = AfterAttempt::End(end.clone());
        let is_ours = persist(|| store.end_attempt(id, number, then.clone())).await;
        self.as_recorded(end, is_ours.unwrap_or(true)).await
    }

    /// Records an end that no attempt had.
    async fn finish(&self, end: TaskEnd) -> TaskEnd {
        let (store, id) = (self.gateway.store(), self.task.id);
        let is_ours = persist(|| store.finish_task(id, end.clone())).await;
        self.as_recorded(end, is_ours.unwrap_or(true)).await
    }

    /// This end, or the one that was recorded before it.
    async fn as_recorded(&self, end: TaskEnd, is_ours: bool) -> TaskEnd {
        if is_ours {
            return end;
        }
        let (store, task) = (self.gateway.store(), self.task.task());
        let recorded = persist(|| store.task_end(task.workspace, task.id)).await;
        recorded.ok().flatten().unwrap_or(end)
    }
}

fn retry_pause(number: u32) -> SignedDuration {
    let factor = 1_u32.checked_shl(number - 1).unwrap_or(u32::MAX);
    let pause = FIRST_RETRY_PAUSE
        .saturating_mul(factor)
        .min(LONGEST_RETRY_PAUSE);
    SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)
}

/// Waits for a time that the clock shows.
async fn until(time: Timestamp) {
    let left = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let seconds = |number| retry_pause(number).as_secs();
        assert_eq!([1, 2, 3, 5, 6, 99].map(seconds), [1, 2, 4, 16, 30, 30]);
    }
}
