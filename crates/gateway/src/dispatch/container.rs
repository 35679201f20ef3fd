//! One container as the control plane sees it: where it runs, what it may read, and its open calls.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use broker::Lease;
use bytes::Bytes;
use ids::ContainerId;
use reference::Digest;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use worker_protocol::ended::Cause;
use worker_protocol::output::Stream as WireStream;
use worker_protocol::{
    Call, CallResult, Cancel, Delivery, Ended, Exception, MAX_READS_PER_CONTAINER, Output, Ready,
    Stop, Warming, to_worker,
};

use super::failure::cut;
use super::output::Stream;
use super::task::LiveTask;
use super::traces::Traced;
use super::worker::{WorkerGone, WorkerLink};
use crate::foreign;
use crate::lock::lock;

/// Things that a worker says of a container while it starts: it takes it, and it is ready.
const EVENTS_LENGTH: usize = 4;

/// Longest reason of an end: a message and what caused it.
pub(super) const REASON_LIMIT_BYTES: usize = 2 << 10;

/// The versions of named secrets that a container was given, by name.
pub(crate) type SecretVersions = Vec<(String, u32)>;

/// What of a container's beginning a worker says.
#[derive(Debug)]
pub(super) enum Event {
    Taken,
    Ready(Ready),
    /// Of an image that is warmed: how far it is.
    Warming(Warming),
}

/// What a mount may ask to read with.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) registry: reference::Registry,
    pub(super) repository: String,
    /// Where the indexes of its layers are kept under.
    pub(super) origin: String,
    /// The layers of its image, whose indexes it may have.
    pub(super) layers: Vec<Digest>,
    /// How many bytes each has.
    pub(super) sizes_bytes: Vec<u64>,
    /// What it reads with; nothing where it reads nothing.
    pub(super) lease: Option<Arc<Lease>>,
}

/// What a container may ask for.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) reading: Reading,
    /// The code, where the image has not got it.
    pub(super) code: Option<File>,
    pub(super) secrets: SecretVersions,
    /// What its start is foretold by, and foretells.
    pub(super) traced: Traced,
}

/// A container on a worker.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(super) delivery: Delivery,
    pub(super) link: Arc<WorkerLink>,
    pub(super) given: Given,
    calls: Mutex<HashMap<String, OpenCall>>,
    events: mpsc::Sender<Event>,
    /// It was told to end.
    is_stopping: AtomicBool,
    /// It gets no more calls.
    is_draining: AtomicBool,
    /// Why it is stopped, where that is told to its callers.
    called_off: OnceLock<String>,
    gone: OnceLock<Gone>,
    is_gone: CancellationToken,
    /// It was said what its start has read.
    pub(super) has_touched: AtomicBool,
    /// Turns of what is read for it.
    pub(super) reads: Arc<Semaphore>,
}

/// What makes a container.
#[derive(Debug)]
pub(super) struct NewContainer {
    pub(super) id: ContainerId,
    pub(super) number: u32,
    pub(super) link: Arc<WorkerLink>,
    pub(super) given: Given,
}

#[derive(Debug)]
struct OpenCall {
    nonce: Bytes,
    task: Arc<LiveTask>,
    reply: oneshot::Sender<CallResult>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gone {
    pub(crate) cause: GoneCause,
    pub(crate) reason: String,
    /// Of its program, where that ended: 128 and the signal, if one killed it.
    pub(crate) exit_code: i32,
    pub(crate) exception: Option<Exception>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoneCause {
    WorkerLost,
    /// What it reads with was taken back.
    CalledOff,
    Said(Cause),
}

impl Container {
    pub(super) fn new(new: NewContainer) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS_LENGTH);
        let container = Self {
            id: new.id,
            delivery: Delivery {
                container: new.id.to_string(),
                number: new.number,
            },
            link: new.link,
            given: new.given,
            calls: Mutex::default(),
            events,
            is_stopping: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            called_off: OnceLock::new(),
            gone: OnceLock::new(),
            is_gone: CancellationToken::new(),
            has_touched: AtomicBool::new(false),
            reads: Arc::new(Semaphore::new(MAX_READS_PER_CONTAINER)),
        };
        (Arc::new(container), receiver)
    }

    /// Gives the container a call; its result comes unless the container ends before.
    pub(super) async fn call(
        &self,
        call: Call,
        task: Arc<LiveTask>,
    ) -> Result<oneshot::Receiver<CallResult>, WorkerGone> {
        let (reply, result) = oneshot::channel();
        let open = OpenCall {
            nonce: call.nonce.clone(),
            task,
            reply,
        };
        self.calls().insert(call.attempt.clone(), open);
        // Looked at after the call is open, so that an end at this moment finds it.
        if self.is_gone.is_cancelled() {
            self.calls().clear();
        }
        self.link.send(to_worker::Message::Call(call)).await?;
        Ok(result)
    }

    /// Asks for the end of a call.
    pub(super) async fn cancel(&self, attempt: String) -> Result<(), WorkerGone> {
        let cancel = Cancel {
            container: self.delivery.container.clone(),
            attempt,
        };
        self.link.send(to_worker::Message::Cancel(cancel)).await
    }

    /// Asks for the end of the container, when its calls have ended or after this time.
    pub(super) async fn stop(&self, grace_ms: u64) -> Result<(), WorkerGone> {
        self.is_stopping.store(true, Ordering::Relaxed);
        let stop = Stop {
            delivery: Some(self.delivery.clone()),
            grace_ms,
        };
        self.link.send(to_worker::Message::Stop(stop)).await
    }

    /// Something of the beginning; more than there can be is not listened to.
    pub(super) fn begins(&self, event: Event) {
        let _ = self.events.try_send(event);
    }

    pub(super) fn printed(&self, output: &Output) {
        let stream = match output.stream() {
            WireStream::Stdout => Stream::Stdout,
            WireStream::Stderr | WireStream::Notice | WireStream::Unknown => Stream::Stderr,
        };
        let calls = self.calls();
        if output.attempt.is_empty() {
            // Whose it is cannot be told: all who wait may want to know.
            for call in calls.values() {
                call.task.printed(stream, &output.data);
            }
        } else if let Some(call) = calls.get(&output.attempt) {
            call.task.printed(stream, &output.data);
        }
    }

    /// The result of a call that is open and was given with this nonce; others count for nothing.
    pub(super) fn answered(&self, result: CallResult) {
        let mut calls = self.calls();
        let is_own = calls
            .get(&result.attempt)
            .is_some_and(|call| call.nonce == result.nonce);
        if !is_own {
            tracing::debug!(container = %self.id, "a result of no call came");
            return;
        }
        if let Some(call) = calls.remove(&result.attempt) {
            // Whoever called may have given up.
            let _ = call.reply.send(result);
        }
    }

    /// Forgets a call whose result nobody waits for any more.
    pub(super) fn forget(&self, attempt: &str) {
        self.calls().remove(attempt);
    }

    /// It is about to be stopped, for this reason. Says whether it was not before.
    pub(super) fn call_off(&self, reason: &str) -> bool {
        self.called_off.set(reason.to_owned()).is_ok()
    }

    /// It finishes what it does and gets nothing new.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// It has ended, for the first reason that is given; its calls hear it.
    pub(super) fn has_ended(&self, gone: Gone) {
        let gone = match self.called_off.get() {
            Some(reason) => Gone {
                cause: GoneCause::CalledOff,
                reason: reason.clone(),
                ..gone
            },
            None => gone,
        };
        let _ = self.gone.set(gone);
        self.is_gone.cancel();
        self.calls().clear();
    }

    pub(super) async fn gone(&self) -> &Gone {
        self.is_gone.cancelled().await;
        self.gone.get().expect("the reason is set before")
    }

    pub(super) fn takes_calls(&self) -> bool {
        !self.is_stopping.load(Ordering::Relaxed) && !self.is_gone.is_cancelled()
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, OpenCall>> {
        lock(&self.calls)
    }
}

impl Gone {
    pub(super) fn worker_lost() -> Self {
        Self {
            cause: GoneCause::WorkerLost,
            reason: "the worker was lost".to_owned(),
            exit_code: 0,
            exception: None,
        }
    }
}

impl From<Ended> for Gone {
    fn from(ended: Ended) -> Self {
        Self {
            cause: GoneCause::Said(ended.cause()),
            reason: cut(foreign::shown(&ended.reason), REASON_LIMIT_BYTES),
            exit_code: ended.exit_code,
            exception: ended.exception,
        }
    }
}
