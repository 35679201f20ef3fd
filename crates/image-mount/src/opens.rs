//! How files are opened: by asking us for their bytes, or backed by a file that the kernel reads by
//! itself. Pure bookkeeping.
//!
//! Invariant: the kernel has no file open in both ways at once, which it would refuse as an error
//! of whoever opens. So a backing file counts once nobody has its file open, and for ever then. The
//! kernel tells of a close after its own books are in order, so that ours are never ahead of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use layer_index::InodeId;

/// With so many bytes in files that may be backed we are told of what is opened, since asking us
/// costs them the most. With less nobody needs to be told: a round trip for each file, which costs
/// small ones the most.
pub(crate) const TOLD_FROM: u64 = 64 << 20;

/// Where openings are told, files from here on may be backed: what a copy saves of each reading is
/// more than the round trip of an opening.
pub(crate) const BACKED_FROM: u64 = 4 << 20;

/// A file that is opened once is read once: the copy would cost more than it saves.
const OPENS_AT_LEAST: u32 = 2;

/// Files that wait to be copied; others are thought of when they are opened again.
const MAX_WAITING: usize = 64;

/// What an opening is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Nobody need be told of openings.
    Untold,
    /// Whoever closes it need not tell.
    Small,
    /// To be told of its close.
    Asking,
    /// The kernel's name of its backing file.
    Backed(u32),
}

#[derive(Debug)]
pub(crate) struct Opens {
    files: Mutex<HashMap<InodeId, Known>>,
    wanted: SyncSender<InodeId>,
    /// No file is backed any more than are already.
    is_over: AtomicBool,
    backed: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    /// Open at this moment, by asking.
    asking: u32,
    opened: u32,
    copy: Copy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Copy {
    #[default]
    None,
    Wanted,
    Refused,
    Backing(u32),
}

impl Opens {
    /// And who makes the copies hears which are wanted.
    pub(crate) fn new() -> (Self, Receiver<InodeId>) {
        let (wanted, receiver) = sync_channel(MAX_WAITING);
        let opens = Self {
            files: Mutex::default(),
            wanted,
            is_over: AtomicBool::default(),
            backed: AtomicU64::default(),
        };
        (opens, receiver)
    }

    pub(crate) fn open(&self, inode: InodeId, size_bytes: u64) -> Opening {
        let is_over = self.is_over.load(Relaxed);
        if is_over && self.backed() == 0 {
            return Opening::Untold;
        }
        if size_bytes < BACKED_FROM {
            return Opening::Small;
        }
        let mut files = self.files();
        let known = files.entry(inode).or_default();
        if let (Copy::Backing(id), 0) = (known.copy, known.asking) {
            return Opening::Backed(id);
        }
        known.asking += 1;
        known.opened = known.opened.saturating_add(1);
        let is_wanted = known.opened >= OPENS_AT_LEAST && known.copy == Copy::None && !is_over;
        if is_wanted && self.wanted.try_send(inode).is_ok() {
            known.copy = Copy::Wanted;
        }
        Opening::Asking
    }

    /// What was open by asking is so no more.
    pub(crate) fn close(&self, inode: InodeId) {
        if let Some(known) = self.files().get_mut(&inode) {
            known.asking = known.asking.saturating_sub(1);
        }
    }

    /// The copy is there.
    pub(crate) fn back(&self, inode: InodeId, id: u32) {
        self.set(inode, Copy::Backing(id));
        self.backed.fetch_add(1, Relaxed);
    }

    /// There is no copy yet: the next opening asks again.
    pub(crate) fn postpone(&self, inode: InodeId) {
        self.set(inode, Copy::None);
    }

    /// There will be none of this file.
    pub(crate) fn refuse(&self, inode: InodeId) {
        self.set(inode, Copy::Refused);
    }

    /// There will be no more of any file.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// Files that are backed.
    pub(crate) fn backed(&self) -> u64 {
        self.backed.load(Relaxed)
    }

    fn set(&self, inode: InodeId, copy: Copy) {
        self.files().entry(inode).or_default().copy = copy;
    }

    fn files(&self) -> MutexGuard<'_, HashMap<InodeId, Known>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: InodeId = InodeId(7);
    const OTHER: InodeId = InodeId(8);

    fn large(opens: &Opens, inode: InodeId) -> Opening {
        opens.open(inode, BACKED_FROM)
    }

    #[test]
    fn a_file_is_backed_once_nobody_has_it_open_by_asking() {
        let (opens, wanted) = Opens::new();
        assert_eq!(large(&opens, FILE), Opening::Asking);
        assert!(wanted.try_recv().is_err());
        assert_eq!(large(&opens, FILE), Opening::Asking);
        assert_eq!(large(&opens, FILE), Opening::Asking);
        assert_eq!(wanted.try_iter().collect::<Vec<_>>(), [FILE]);
        opens.back(FILE, 3);
        for _ in 0..3 {
            assert_eq!(large(&opens, FILE), Opening::Asking);
            opens.close(FILE);
            opens.close(FILE);
        }
        assert_eq!(large(&opens, FILE), Opening::Backed(3));
        assert_eq!(large(&opens, FILE), Opening::Backed(3));
        assert_eq!(large(&opens, OTHER), Opening::Asking);
        assert_eq!(opens.open(OTHER, BACKED_FROM - 1), Opening::Small);
        assert_eq!((opens.backed(), wanted.try_iter().count()), (1, 0));
    }

    #[test]
    fn what_is_postponed_is_asked_for_again_and_what_is_refused_is_not() {
        let (opens, wanted) = Opens::new();
        let ask = |inode| {
            large(&opens, inode);
            wanted.try_iter().count()
        };
        assert_eq!((ask(FILE), ask(FILE), ask(FILE)), (0, 1, 0));
        opens.postpone(FILE);
        assert_eq!((ask(FILE), ask(FILE)), (1, 0));
        opens.refuse(FILE);
        assert_eq!((ask(FILE), ask(FILE)), (0, 0));
    }

    #[test]
    fn where_none_can_be_backed_nobody_need_be_told() {
        let (opens, wanted) = Opens::new();
        assert_eq!(opens.open(OTHER, 1), Opening::Small);
        opens.end();
        assert_eq!(opens.open(OTHER, 1), Opening::Untold);
        assert_eq!(large(&opens, FILE), Opening::Untold);
        let (opens, others) = Opens::new();
        opens.back(FILE, 1);
        opens.end();
        assert_eq!(large(&opens, FILE), Opening::Backed(1));
        assert_eq!(large(&opens, OTHER), Opening::Asking);
        assert_eq!(large(&opens, OTHER), Opening::Asking);
        assert_eq!(
            (wanted.try_iter().count(), others.try_iter().count()),
            (0, 0)
        );
    }

    #[test]
    fn more_than_can_wait_is_thought_of_later() {
        let (opens, wanted) = Opens::new();
        let inodes = || (0..=MAX_WAITING as u64).map(InodeId);
        for inode in inodes().chain(inodes()) {
            large(&opens, inode);
        }
        assert_eq!(wanted.try_iter().count(), MAX_WAITING);
        large(&opens, InodeId(MAX_WAITING as u64));
        assert_eq!(wanted.try_iter().count(), 1);
    }
}
