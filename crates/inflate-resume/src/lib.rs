//! Decoding a gzip stream from the middle.
//!
//! Deflate can be resumed at any block boundary, given three things: the bit at which the block
//! starts, the 32 KiB of output before it, and the bytes from there on. [`Inflater`] reports the
//! first while it decodes a whole stream, hands out the second, and starts again from both.
//! [`window_references`] says which bytes of a window the data after a boundary refers to, so that
//! the rest need not be kept.
//!
//! A gzip stream is a sequence of members. Header and trailer of each (CRC-32, length) are
//! verified when the stream is decoded from its start; a resumed member cannot be, since its CRC
//! covers bytes that were not seen: its caller holds digests of its own.
//!
//! What follows the last member decides as Go's reader (and so containerd) does: nothing may
//! follow but another member. Zero padding and other trailing bytes are an error.
//!
//! This crate is the only place where the C-shaped codec interface is called, in the private
//! module `stream`; everything public is safe.

mod references;
mod stream;

use thiserror::Error;

pub use references::{HEAD_LIMIT, References, window_references};
use stream::{Flow, Outcome, Stream, Wrapper};

/// How far back deflate can refer.
pub const WINDOW_SIZE: usize = 32 * 1024;

/// Bytes of a gzip member after its deflate data: CRC-32 and length.
const TRAILER_SIZE: usize = 8;

/// A stream that is not gzip, or not whole.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InflateError {
    #[error("gzip data is corrupted: {0}")]
    Corrupt(String),
    #[error("gzip stream is cut short")]
    Truncated,
    #[error("no memory to decode gzip data")]
    Memory,
}

/// Where a block starts, as a place to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Offset of the byte that holds the first bit of the block.
    pub compressed_offset: u64,
    /// Bits of that byte that belong to what came before (0 to 7).
    pub bits: u8,
    /// The block is the first of a gzip member: nothing before it can be referred to.
    pub member_start: bool,
}

/// Why [`Inflater::inflate`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All input was taken.
    InputEmpty,
    /// The output buffer is full.
    OutputFull,
    /// A block starts here that is worth resuming at. Only when boundaries were asked for.
    Boundary(Boundary),
}

/// What one call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub consumed: usize,
    pub produced: usize,
    pub stop: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of a member's header.
    BetweenMembers,
    /// In a member that is decoded from its header on.
    Member,
    /// Before the byte whose upper bits start a resumed member's block.
    FirstByte { bits: u8 },
    /// In a member that was resumed, without its header.
    Resumed,
    /// In the trailer of a resumed member, which cannot be verified.
    Trailer { left: usize },
}

/// Decodes a gzip stream, from its start or from a boundary.
#[derive(Debug)]
pub struct Inflater {
    stream: Stream,
    state: State,
    /// Whether to stop at block boundaries.
    boundaries: bool,
    /// Compressed bytes taken so far, as an offset in the whole stream.
    compressed_offset: u64,
    /// Output of the present member so far.
    member_output: u64,
}

impl Inflater {
    /// Decodes a stream from its first byte and stops at every block boundary.
    pub fn with_boundaries() -> Result<Self, InflateError> {
        Self::from_start(true)
    }

    /// Decodes a stream from its first byte.
    pub fn new() -> Result<Self, InflateError> {
        Self::from_start(false)
    }

    fn from_start(boundaries: bool) -> Result<Self, InflateError> {
        Ok(Self {
            stream: Stream::new(Wrapper::Gzip)?,
            state: State::BetweenMembers,
            boundaries,
            compressed_offset: 0,
            member_output: 0,
        })
    }

    /// Decodes from a block that starts after the low `bits` bits of the first byte given to
    /// [`Inflater::inflate`]. `window` is the output before it; `None` at the start of a member.
    pub fn resume(bits: u8, window: Option<&[u8; WINDOW_SIZE]>) -> Result<Self, InflateError> {
        if bits > 7 {
            return Err(InflateError::Corrupt(
                "more than seven bits before a block".to_owned(),
            ));
        }
        let mut stream = Stream::new(Wrapper::Raw)?;
        if let Some(window) = window {
            stream.set_window(window)?;
        }
        let state = if bits == 0 {
            State::Resumed
        } else {
            State::FirstByte { bits }
        };
        Ok(Self {
            stream,
            state,
            boundaries: false,
            compressed_offset: 0,
            member_output: 0,
        })
    }

    /// Takes from `input` and writes to `output` until one of them is used up or a boundary is
    /// reached. At least one of them must not be empty.
    pub fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, InflateError> {
        let mut consumed = 0;
        let mut produced = 0;
        loop {
            let step = self.step(&input[consumed..], &mut output[produced..])?;
            consumed += step.consumed;
            produced += step.produced;
            self.compressed_offset += step.consumed as u64;
            if let Some(boundary) = step.boundary {
                return Ok(Progress {
                    consumed,
                    produced,
                    stop: Stop::Boundary(boundary),
                });
            }
            if produced == output.len() && self.wants_output() {
                return Ok(Progress {
                    consumed,
                    produced,
                    stop: Stop::OutputFull,
                });
            }
            if consumed == input.len() && !step.moved_on {
                return Ok(Progress {
                    consumed,
                    produced,
                    stop: Stop::InputEmpty,
                });
            }
        }
    }

    /// Says whether the stream may end here: after a whole member.
    pub fn finish(&self) -> Result<(), InflateError> {
        match self.state {
            State::BetweenMembers if self.compressed_offset > 0 => Ok(()),
            _ => Err(InflateError::Truncated),
        }
    }

    /// Compressed bytes taken so far.
    pub fn compressed_offset(&self) -> u64 {
        self.compressed_offset
    }

    /// Writes the last output of the present member to the end of `window`, zeros before it, and
    /// returns how much there was: nothing at the start of a member.
    pub fn copy_window(&self, window: &mut [u8; WINDOW_SIZE]) -> usize {
        self.stream.copy_window(window)
    }

    fn wants_output(&self) -> bool {
        matches!(self.state, State::Member | State::Resumed)
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, InflateError> {
        match self.state {
            State::BetweenMembers => self.start_member(input),
            State::FirstByte { bits } => self.take_first_byte(bits, input),
            State::Trailer { left } => Ok(self.skip_trailer(left, input)),
            State::Member | State::Resumed => self.decode(input, output),
        }
    }

    fn start_member(&mut self, input: &[u8]) -> Result<Step, InflateError> {
        if input.is_empty() {
            return Ok(Step::default());
        }
        self.stream.reset(Wrapper::Gzip)?;
        self.state = State::Member;
        self.member_output = 0;
        Ok(Step {
            moved_on: true,
            ..Step::default()
        })
    }

    fn take_first_byte(&mut self, bits: u8, input: &[u8]) -> Result<Step, InflateError> {
        let Some(&byte) = input.first() else {
            return Ok(Step::default());
        };
        self.stream.prime(8 - bits, byte >> bits)?;
        self.state = State::Resumed;
        Ok(Step {
            consumed: 1,
            moved_on: true,
            ..Step::default()
        })
    }

    fn skip_trailer(&mut self, left: usize, input: &[u8]) -> Step {
        let consumed = left.min(input.len());
        self.state = match left - consumed {
            0 => State::BetweenMembers,
            left => State::Trailer { left },
        };
        Step {
            consumed,
            moved_on: consumed == left,
            ..Step::default()
        }
    }

    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, InflateError> {
        let flow = if self.boundaries {
            Flow::StopAtBlocks
        } else {
            Flow::Straight
        };
        let result = self.stream.inflate(input, output, flow)?;
        let mut step = Step {
            consumed: result.consumed,
            produced: result.produced,
            ..Step::default()
        };
        self.member_output += result.produced as u64;
        match result.outcome {
            Outcome::MemberEnd => {
                step.moved_on = true;
                self.state = match self.state {
                    State::Resumed => State::Trailer { left: TRAILER_SIZE },
                    _ => State::BetweenMembers,
                };
            }
            Outcome::BlockStart { unused_bits } => {
                let bit = (self.compressed_offset + result.consumed as u64) * 8 - unused_bits;
                step.boundary = Some(Boundary {
                    compressed_offset: bit / 8,
                    bits: (bit % 8) as u8,
                    member_start: self.member_output == 0,
                });
            }
            Outcome::Inside => {}
        }
        Ok(step)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    consumed: usize,
    produced: usize,
    boundary: Option<Boundary>,
    /// The state changed: there may be more to do without new input.
    moved_on: bool,
}

#[cfg(test)]
mod tests;
