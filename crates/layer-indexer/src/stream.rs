//! The compressed stream, whatever its codec: bytes in, bytes out, and the places where decoding
//! could start.

use inflate_resume::{Inflate, Place, WINDOW_SIZE};
use layer_index::{Builder, Codec, Scratch};

use crate::error::IndexerError;
use crate::zstd_checkpoints::Mark;
use crate::zstd_stream::ZstdStream;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

/// What detection needs to see.
pub(crate) const MAGIC_BYTES: usize = 4;

/// The codec of a stream that begins so. What is no compressed stream is a plain archive.
pub(crate) fn detect(start: &[u8]) -> Codec {
    if start.starts_with(&GZIP_MAGIC) {
        return Codec::Gzip;
    }
    let skippable = start.len() >= MAGIC_BYTES
        && start[0] & 0xf0 == 0x50
        && start[1..MAGIC_BYTES] == ZSTD_SKIPPABLE_MAGIC;
    if start.starts_with(&ZSTD_MAGIC) || skippable {
        Codec::Zstd
    } else {
        Codec::Tar
    }
}

/// Where decoding could start again after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    None,
    /// Between members, frames or plain bytes: nothing before is needed.
    Free,
    /// At a deflate block: the window before is needed, and the last byte's high bits.
    Block {
        unused_bits: u8,
    },
    /// At a block of a zstd frame: what is needed is found out later, if it can be one.
    FrameBlock,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
    pub(crate) entrance: Entrance,
}

pub(crate) enum Stream {
    Tar,
    Gzip(Inflate),
    Zstd(Box<ZstdStream>),
}

impl Stream {
    pub(crate) fn new(codec: Codec, scratch: &Scratch) -> Result<Self, IndexerError> {
        Ok(match codec {
            Codec::Tar => Self::Tar,
            Codec::Gzip => Self::Gzip(Inflate::at_member()),
            Codec::Zstd => Self::Zstd(Box::new(ZstdStream::start(scratch)?)),
        })
    }

    pub(crate) fn step(&mut self, input: &[u8], room: &mut [u8]) -> Result<Step, IndexerError> {
        match self {
            Self::Tar => {
                let count = room.len().min(input.len());
                room[..count].copy_from_slice(&input[..count]);
                Ok(Step {
                    consumed: count,
                    produced: count,
                    entrance: Entrance::Free,
                })
            }
            Self::Gzip(inflate) => gzip(inflate, input, room),
            Self::Zstd(stream) => stream.step(input, room),
        }
    }

    /// Says whether the stream may end here.
    pub(crate) fn may_end(&self) -> bool {
        match self {
            Self::Tar => true,
            Self::Gzip(inflate) => inflate.may_end(),
            Self::Zstd(stream) => stream.may_end(),
        }
    }

    /// The output before the current place, for a block entrance.
    pub(crate) fn window(&mut self) -> Option<Box<[u8; WINDOW_SIZE]>> {
        match self {
            Self::Gzip(inflate) => Some(inflate.window()),
            Self::Tar | Self::Zstd(_) => None,
        }
    }

    /// What has been decoded, part by part.
    pub(crate) fn decoded(&self, part: &[u8]) {
        if let Self::Zstd(stream) = self {
            stream.decoded(part);
        }
    }

    /// Says that a span begins at the block of a frame which comes next.
    pub(crate) fn mark(&self, mark: Mark) {
        if let Self::Zstd(stream) = self {
            stream.mark(mark);
        }
    }

    /// Tells what became of the marks.
    pub(crate) fn finish(self, builder: &mut Builder) -> Result<(), IndexerError> {
        match self {
            Self::Zstd(stream) => stream.finish(builder),
            Self::Tar | Self::Gzip(_) => Ok(()),
        }
    }
}

fn gzip(inflate: &mut Inflate, input: &[u8], room: &mut [u8]) -> Result<Step, IndexerError> {
    let step = inflate.step(input, room);
    let step = step.map_err(|error| IndexerError::Stream(error.to_string()))?;
    let entrance = match step.place {
        Place::Inside => Entrance::None,
        Place::MemberEnd => Entrance::Free,
        Place::Block { unused_bits } => Entrance::Block { unused_bits },
    };
    Ok(Step {
        consumed: step.consumed,
        produced: step.produced,
        entrance,
    })
}
