//! The mount process's source of room in the cache: its parent, who owns the directory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use image_fs::Room;
use tokio::sync::mpsc;

use crate::wire::{self, Frame, ToParent};

/// How long the parent may take: it deletes large files meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Asks in threads that may block; those that write into the cache are.
#[derive(Debug)]
pub(super) struct RemoteRoom {
    /// Weak, so that the socket can close while writers still wait.
    frames: mpsc::WeakSender<Frame>,
    waiting: Mutex<HashMap<u64, SyncSender<bool>>>,
    next: AtomicU64,
}

impl RemoteRoom {
    pub(super) fn new(frames: mpsc::WeakSender<Frame>) -> Self {
        Self {
            frames,
            waiting: Mutex::default(),
            next: AtomicU64::default(),
        }
    }

    /// The parent's answer to question `id`.
    pub(super) fn answer(&self, id: u64, granted: bool) {
        if let Some(sender) = self.waiting().remove(&id) {
            let _ = sender.try_send(granted);
        }
    }

    fn want_room(&self, disk_full: Option<u64>) -> bool {
        self.ask(|id| ToParent::WantRoom { id, disk_full })
    }

    /// No answer is no room: what is read is then served and not kept.
    fn ask(&self, question: impl FnOnce(u64) -> ToParent) -> bool {
        let id = self.next.fetch_add(1, Relaxed);
        let Ok(frame) = wire::encode(&question(id)) else {
            return false;
        };
        let (sender, receiver) = sync_channel(1);
        self.waiting().insert(id, sender);
        let frames = self.frames.upgrade();
        let is_sent = frames.is_some_and(|frames| frames.try_send(frame).is_ok());
        let granted = is_sent && receiver.recv_timeout(ANSWER_TIMEOUT).unwrap_or(false);
        self.waiting().remove(&id);
        granted
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, SyncSender<bool>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room for RemoteRoom {
    fn is_within_limit(&self) -> bool {
        self.want_room(None)
    }

    fn make(&self, bytes: u64) -> bool {
        self.want_room(Some(bytes))
    }

    fn has_spare(&self, bytes: u64) -> bool {
        self.ask(|id| ToParent::WantSpare { id, bytes })
    }
}
