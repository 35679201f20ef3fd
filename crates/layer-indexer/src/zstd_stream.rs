//! A zstd stream decoded block by block, so that it can be entered between them.
//!
//! The library decodes; the walker beside it only says where blocks end. A walker that loses its
//! way costs the entrances, and nothing else.

use layer_index::{Builder, Scratch};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};
use zstd_resume::{Unit, Walker};

use crate::error::IndexerError;
use crate::stream::{Entrance, Step};
use crate::zstd_checkpoints::{CheckpointFinder, Mark, Message};

/// The largest window a zstd frame may ask for: 128 MiB, the reference decoder's own default.
const WINDOW_LOG_MAX: u32 = 27;

pub(crate) struct ZstdStream {
    decoder: Decoder<'static>,
    between_frames: bool,
    finder: CheckpointFinder,
    /// Nothing once it has lost its way.
    walker: Option<Walker>,
    /// Bytes that were walked over and are not decoded yet.
    walked: usize,
    /// A block that others follow ends with them.
    ends_block: bool,
    /// All output of what was decoded has been taken.
    is_flushed: bool,
    produced: u64,
}

impl ZstdStream {
    pub(crate) fn start(scratch: &Scratch) -> Result<Self, IndexerError> {
        let failed = |error: std::io::Error| IndexerError::Stream(error.to_string());
        let mut decoder = Decoder::new().map_err(failed)?;
        let limit = DParameter::WindowLogMax(WINDOW_LOG_MAX);
        decoder.set_parameter(limit).map_err(failed)?;
        Ok(Self {
            decoder,
            between_frames: true,
            finder: CheckpointFinder::start(scratch),
            walker: Some(Walker::new()),
            walked: 0,
            ends_block: false,
            is_flushed: true,
            produced: 0,
        })
    }

    pub(crate) fn step(&mut self, input: &[u8], room: &mut [u8]) -> Result<Step, IndexerError> {
        let known = self.walk(input);
        let mut source = InBuffer::around(&input[..known]);
        let mut target = OutBuffer::around(&mut *room);
        let hint = self.decoder.run(&mut source, &mut target);
        let hint = hint.map_err(|error| IndexerError::Stream(error.to_string()))?;
        let (consumed, produced) = (source.pos(), target.pos());
        self.walked = self.walked.saturating_sub(consumed);
        if consumed + produced > 0 {
            self.between_frames = hint == 0;
        }
        self.produced += produced as u64;
        // A room that is not full has all that there was.
        self.is_flushed = produced < room.len();
        let at_block = self.ends_block && self.walked == 0 && self.is_flushed;
        let entrance = match (hint, at_block) {
            (0, _) => Entrance::Free,
            (_, true) => Entrance::FrameBlock,
            _ => Entrance::None,
        };
        if entrance != Entrance::None {
            self.ends_block = false;
        }
        Ok(Step {
            consumed,
            produced,
            entrance,
        })
    }

    /// How much of the input may be decoded before somebody looks again.
    fn walk(&mut self, input: &[u8]) -> usize {
        let Some(walker) = &mut self.walker else {
            return input.len();
        };
        if self.walked == 0 && self.is_flushed {
            let Ok(step) = walker.walk(input) else {
                self.walker = None;
                self.finder.send(Message::Lost);
                return input.len();
            };
            self.walked = step.consumed;
            self.ends_block = matches!(&step.unit, Some(Unit::Block(block)) if !block.is_last);
            match step.unit {
                Some(Unit::Header(header)) => {
                    let uncompressed = self.produced;
                    self.finder.send(Message::Frame(header, uncompressed));
                }
                Some(Unit::Block(block)) => self.finder.send(Message::Block(block)),
                None => {}
            }
        }
        self.walked.min(input.len())
    }

    pub(crate) fn may_end(&self) -> bool {
        self.between_frames
    }

    /// What has been decoded, before the next mark that follows it.
    pub(crate) fn decoded(&self, part: &[u8]) {
        self.finder.send(Message::Decoded(part.to_vec()));
    }

    /// Says that a checkpoint is wanted between the last block and the next one.
    pub(crate) fn mark(&self, mark: Mark) {
        self.finder.send(Message::Mark(mark));
    }

    /// Tells what became of the marks.
    pub(crate) fn finish(self, builder: &mut Builder) -> Result<(), IndexerError> {
        let found = self.finder.finish()?;
        for (checkpoint, window) in found.windows {
            builder.window(checkpoint, window);
        }
        for checkpoint in found.refused {
            builder.forget(checkpoint);
        }
        Ok(())
    }
}
