//! Which places between blocks of zstd become checkpoints, and what of their windows is used: on
//! another thread.
//!
//! A place is marked where a span begins. It can be a checkpoint if no block after it takes a table
//! of before, which is known some blocks later; and it becomes one if its window is paid for. Each
//! compressed byte pays a little, so that places are far from each other where much is referred to.
//! A checkpoint that is given up again leaves what it refers to with the one before it; the start
//! of a frame needs nothing.

mod budget;
mod following;
mod history;
mod used;

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use layer_index::limits::MAX_ZSTD_WINDOW;
use layer_index::{Piece, Scratch};
use zstd_resume::{Block, FrameHeader};

use self::budget::Budget;
use self::following::Following;
use self::history::History;
use crate::error::IndexerError;

/// Messages on their way: decoded bytes are the longest, with about 300 KiB.
const QUEUE: usize = 12;

/// A place where a checkpoint is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) checkpoint: usize,
    /// Where it is in the decoded layer.
    pub(crate) uncompressed: u64,
}

#[derive(Debug)]
pub(crate) enum Message {
    /// A frame, and where it begins in the decoded layer.
    Frame(FrameHeader, u64),
    Block(Block),
    Decoded(Vec<u8>),
    Mark(Mark),
    /// Of the frame that has begun and of all after it nothing more will be told.
    Lost,
}

/// What became of the marks.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Checkpoints, and where their packed windows are kept.
    pub(crate) windows: Vec<(usize, Piece)>,
    pub(crate) refused: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct CheckpointFinder {
    messages: SyncSender<Message>,
    thread: JoinHandle<Result<Found, IndexerError>>,
}

impl CheckpointFinder {
    pub(crate) fn start(scratch: &Scratch) -> Self {
        let (messages, incoming) = sync_channel::<Message>(QUEUE);
        let mut finder = Finder::new(scratch);
        let thread = std::thread::spawn(move || {
            incoming.into_iter().try_for_each(|it| finder.take(it))?;
            finder.give_up();
            Ok(finder.found)
        });
        Self { messages, thread }
    }

    /// A thread that has failed tells why in `finish`.
    pub(crate) fn send(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    pub(crate) fn finish(self) -> Result<Found, IndexerError> {
        drop(self.messages);
        let failed = |_| IndexerError::Process("the checkpoint thread panicked".to_owned());
        self.thread.join().map_err(failed)?
    }
}

struct Finder {
    scratch: Scratch,
    /// Nothing where a frame is not followed.
    following: Option<Following>,
    history: History,
    budget: Budget,
    found: Found,
}

impl Finder {
    fn new(scratch: &Scratch) -> Self {
        Self {
            scratch: scratch.clone(),
            following: None,
            history: History::default(),
            budget: Budget::default(),
            found: Found::default(),
        }
    }

    fn take(&mut self, message: Message) -> Result<(), IndexerError> {
        match message {
            Message::Frame(header, start) => self.begin(header, start),
            Message::Block(block) => self.block(&block)?,
            Message::Decoded(span) => self.history.push(&span),
            Message::Mark(mark) => {
                let following = self.following.as_mut();
                if !following.is_some_and(|following| following.mark(mark, &self.budget)) {
                    self.found.refused.push(mark.checkpoint);
                }
            }
            Message::Lost => self.give_up(),
        }
        Ok(())
    }

    fn begin(&mut self, header: FrameHeader, start: u64) {
        self.give_up();
        let is_small = header.window_bytes <= MAX_ZSTD_WINDOW;
        self.following = is_small.then(|| Following::new(header, start, &self.scratch));
        self.history
            .keep(if is_small { header.window_bytes } else { 0 });
    }

    fn block(&mut self, block: &Block) -> Result<(), IndexerError> {
        self.budget.earn(block.content.len());
        let Some(following) = &mut self.following else {
            return Ok(());
        };
        if following.block(block, &self.history).is_err() {
            self.give_up();
            return Ok(());
        }
        following.settle(&mut self.budget, &mut self.found)?;
        match self.following.take_if(|_| block.is_last) {
            Some(following) => following.end(&mut self.budget, &mut self.found),
            None => Ok(()),
        }
    }

    /// Nothing is known of the rest of the frame, and so of what its checkpoints would need.
    fn give_up(&mut self) {
        if let Some(following) = self.following.take() {
            following.refuse_all(&mut self.budget, &mut self.found);
        }
    }
}

#[cfg(test)]
mod tests {
    use zstd_resume::{Frame, Unit, Walker};

    use super::*;

    /// Lines that compress to a third.
    fn content() -> String {
        let mut state = 88_172_645_463_325_252_u64;
        let mut line = |number: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("line {number} of many has {state:x}\n")
        };
        (0..200_000).map(&mut line).collect()
    }

    /// Marks the end of each block. At the last one the way is lost, or not.
    fn find(is_lost: bool) -> (Found, usize) {
        let content = content();
        let layer = zstd::encode_all(content.as_bytes(), 3).expect("encodes");
        let (mut walker, mut rest) = (Walker::new(), layer.as_slice());
        let (finder, mut frame, mut marks) =
            (CheckpointFinder::start(&Scratch::in_memory()), None, 0);
        while !rest.is_empty() {
            let walked = walker.walk(rest).expect("a stream");
            rest = &rest[walked.consumed..];
            match walked.unit {
                Some(Unit::Header(header)) => {
                    frame = Some(Frame::new(header));
                    finder.send(Message::Frame(header, 0));
                }
                Some(Unit::Block(block)) if is_lost && block.is_last => finder.send(Message::Lost),
                Some(Unit::Block(block)) => {
                    let frame = frame.as_mut().expect("a header comes first");
                    let start = usize::try_from(frame.position()).expect("short");
                    let size = frame.block(&block, [].iter_mut(), |_| {});
                    let end = start + size.expect("a block").bytes;
                    finder.send(Message::Block(block));
                    finder.send(Message::Decoded(content.as_bytes()[start..end].to_vec()));
                    marks += 1;
                    finder.send(Message::Mark(Mark {
                        checkpoint: marks,
                        uncompressed: end as u64,
                    }));
                }
                None => {}
            }
        }
        (finder.finish().expect("finds"), marks)
    }

    #[test]
    fn a_frame_that_is_lost_has_no_checkpoints() {
        let (found, marks) = find(false);
        assert!(!found.windows.is_empty());
        assert_eq!(found.windows.len() + found.refused.len(), marks);
        let (mut found, marks) = find(true);
        assert!(found.windows.is_empty());
        found.refused.sort_unstable();
        assert_eq!(found.refused, (1..=marks).collect::<Vec<_>>());
    }
}
