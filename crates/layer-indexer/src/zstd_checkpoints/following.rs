//! One frame, followed from its start, and the checkpoints in it.

use layer_index::{BuildError, Piece, Scratch, SparseWindow};
use zstd_resume::{Block, Entrance, FormatError, Frame, FrameHeader, Referred, TableWatch};

use super::budget::Budget;
use super::history::History;
use super::used::Used;
use super::{Found, Mark};
use crate::error::IndexerError;

/// Checkpoints are at least so far from each other: a megabyte is decoded in the time that it takes
/// to make a window ready.
const GROUP_BYTES: u64 = 1 << 20;

/// Windows that stay as they are until it is known whether their checkpoints stay. More are packed
/// all the same, and unpacked where that was too early. Each takes up to 8 MiB.
const UNPACKED_MAX: usize = 2;

/// What they are written to together. More is packed, too: beside two windows of zstd there is no
/// memory for it.
const UNPACKED_MAX_BYTES: usize = 4 << 20;

/// Places that may still prove to be none. All of them look at each block, of which there may be
/// millions; few streams have more than one of them.
const UNSETTLED_MAX: usize = 512;

/// A frame that is not understood, or refers to what is not there.
#[derive(Debug)]
pub(super) struct Unfollowable;

impl From<FormatError> for Unfollowable {
    fn from(_: FormatError) -> Self {
        Self
    }
}

pub(super) struct Following {
    scratch: Scratch,
    frame: Frame,
    /// Where the frame begins in the decoded layer.
    start: u64,
    window_bytes: usize,
    /// In order. The last one's window still grows.
    places: Vec<Place>,
    referred: Vec<Referred>,
}

/// What is a checkpoint, unless it is given up.
struct Place {
    mark: Mark,
    entrance: Entrance,
    /// Whether blocks after the mark take tables of before.
    watch: TableWatch,
    window: Window,
}

enum Window {
    Unpacked(Used),
    Packed(Piece),
}

impl Place {
    fn unpacked(&self) -> Option<&Used> {
        match &self.window {
            Window::Unpacked(used) => Some(used),
            Window::Packed(_) => None,
        }
    }

    /// Decoding cannot start here, or takes more than a window may have.
    fn is_none(&self) -> bool {
        self.watch.is_broken() || self.unpacked().is_some_and(Used::is_overfull)
    }
}

impl Following {
    pub(super) fn new(header: FrameHeader, start: u64, scratch: &Scratch) -> Self {
        Self {
            scratch: scratch.clone(),
            frame: Frame::new(header),
            start,
            window_bytes: usize::try_from(header.window_bytes).unwrap_or(usize::MAX),
            places: Vec::new(),
            referred: Vec::new(),
        }
    }

    /// Takes a mark at the end of the last block. Says no if none is wanted there.
    pub(super) fn mark(&mut self, mark: Mark, budget: &Budget) -> bool {
        let last = self.places.last();
        let last = last.map_or(self.start, |last| last.mark.uncompressed);
        let unpacked = self.places.iter().filter_map(Place::unpacked);
        let oldest = self.places.len().checked_sub(UNSETTLED_MAX);
        let are_few = oldest.is_none_or(|oldest| self.places[oldest].watch.is_settled());
        let is_wanted = are_few
            && mark.uncompressed == self.start + self.frame.position()
            && mark.uncompressed >= last + GROUP_BYTES
            && budget.covers(unpacked.map(Used::size_bytes).sum());
        let Some(entrance) = self.frame.entrance().filter(|_| is_wanted) else {
            return false;
        };
        self.places.push(Place {
            mark,
            entrance,
            watch: TableWatch::new(),
            window: Window::Unpacked(Used::new(self.window_bytes)),
        });
        true
    }

    /// Reads the next block. The last checkpoint needs what it takes from before it.
    pub(super) fn block(&mut self, block: &Block, history: &History) -> Result<(), Unfollowable> {
        let last = self.places.last().map(|last| last.mark.uncompressed);
        let last = last.unwrap_or(self.start);
        let recent = self.recent();
        let (referred, start) = (&mut self.referred, self.start);
        let watches = self.places[recent..]
            .iter_mut()
            .map(|place| &mut place.watch);
        self.frame.block(block, watches, |range| {
            if range.start + start < last {
                referred.push(range.start + start..(range.end + start).min(last));
            }
        })?;
        let Some(Window::Unpacked(used)) = self.places.last_mut().map(|place| &mut place.window)
        else {
            return Ok(());
        };
        for range in self.referred.drain(..) {
            let [first, second] = history.get(&range).ok_or(Unfollowable)?;
            used.add(last - range.start, first);
            used.add(last - range.start - first.len() as u64, second);
        }
        Ok(())
    }

    /// Those before are settled and packed.
    fn recent(&self) -> usize {
        self.places.len().saturating_sub(UNSETTLED_MAX)
    }

    /// Gives up checkpoints that proved to be none, and packs windows that grow no more.
    pub(super) fn settle(
        &mut self,
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<(), IndexerError> {
        while let Some(at) = self.places[self.recent()..].iter().position(Place::is_none) {
            self.give_up(self.recent() + at, budget, found)?;
        }
        let recent = self.recent();
        let unpacked = self.places[recent..].iter().filter_map(Place::unpacked);
        let mut surplus = unpacked.clone().count();
        let mut bytes: usize = unpacked.map(Used::size_bytes).sum();
        for at in recent..self.places.len().saturating_sub(1) {
            let Some(used) = self.places[at].unpacked() else {
                continue;
            };
            let used_bytes = used.size_bytes();
            // A window has all that is needed when it is known that the next checkpoint stays.
            let stays = self.places[at..at + 2]
                .iter()
                .all(|it| it.watch.is_settled());
            if stays || surplus > UNPACKED_MAX || bytes > UNPACKED_MAX_BYTES {
                self.places[at].pack(budget, &self.scratch)?;
                surplus -= 1;
                bytes -= used_bytes;
            }
        }
        Ok(())
    }

    /// Ends the frame. Checkpoints at its end that are not paid for are given up.
    pub(super) fn end(
        mut self,
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<(), IndexerError> {
        loop {
            for place in &mut self.places {
                place.pack(budget, &self.scratch)?;
            }
            let Some(last) = self.places.len().checked_sub(1) else {
                break;
            };
            if budget.covers(0) {
                break;
            }
            self.places[last].unpack(self.window_bytes, budget, &self.scratch)?;
            self.give_up(last, budget, found)?;
            self.settle(budget, found)?;
        }
        for place in self.places {
            if let Window::Packed(packed) = place.window {
                found.windows.push((place.mark.checkpoint, packed));
            }
        }
        Ok(())
    }

    /// Takes a checkpoint away. The one before needs what it needed; from the start of the frame on
    /// nothing is needed.
    fn give_up(
        &mut self,
        at: usize,
        budget: &mut Budget,
        found: &mut Found,
    ) -> Result<(), IndexerError> {
        let mut removed = self.places.remove(at);
        let mark = removed.mark;
        found.refused.push(mark.checkpoint);
        let needed = removed.unpack(self.window_bytes, budget, &self.scratch)?;
        let Some(before) = at.checked_sub(1).map(|before| &mut self.places[before]) else {
            return Ok(());
        };
        let apart = mark.uncompressed - before.mark.uncompressed;
        let used = before.unpack(self.window_bytes, budget, &self.scratch)?;
        for (distance, bytes) in needed.runs() {
            // What lies between the two is decoded on the way.
            if let Some(distance) = (distance as u64).checked_sub(apart) {
                used.add(distance, bytes);
            }
        }
        Ok(())
    }

    /// Nothing is known of what follows.
    pub(super) fn refuse_all(self, budget: &mut Budget, found: &mut Found) {
        for place in self.places {
            if let Window::Packed(packed) = place.window {
                budget.return_window(packed.length() as usize);
            }
            found.refused.push(place.mark.checkpoint);
        }
    }
}

impl Place {
    fn pack(&mut self, budget: &mut Budget, scratch: &Scratch) -> Result<(), IndexerError> {
        if let Window::Unpacked(used) = &self.window {
            let packed = used.window(self.entrance).pack()?;
            budget.spend(used.size_bytes(), packed.len());
            let kept = scratch.keep(&packed).map_err(BuildError::Write)?;
            self.window = Window::Packed(kept);
        }
        Ok(())
    }

    fn unpack(
        &mut self,
        window_bytes: usize,
        budget: &mut Budget,
        scratch: &Scratch,
    ) -> Result<&mut Used, IndexerError> {
        if let Window::Packed(kept) = self.window {
            let packed = scratch.read(kept).map_err(BuildError::Write)?;
            let window = SparseWindow::unpack(&packed);
            let window = window.map_err(|error| IndexerError::Process(error.to_string()))?;
            let mut used = Used::new(window_bytes);
            for (distance, bytes) in window.runs() {
                used.add(distance as u64, bytes);
            }
            budget.return_window(packed.len());
            self.window = Window::Unpacked(used);
        }
        match &mut self.window {
            Window::Unpacked(used) => Ok(used),
            Window::Packed(_) => Err(IndexerError::Process("a window stays packed".to_owned())),
        }
    }
}
