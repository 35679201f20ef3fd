//! Compressed bytes in, verified spans out.

use std::fmt;

use inflate_resume::{Inflate, Place};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use crate::error::{DecodeError, IndexError};
use crate::index::{Codec, LayerIndex};
use crate::span::{Checkpoint, Window};

/// The largest window a zstd frame may ask for: 128 MiB, the reference decoder's own default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Decodes and verifies a run of spans from compressed bytes that arrive in pieces.
#[derive(Debug)]
pub struct SpanDecoder {
    index: LayerIndex,
    codec: State,
    next_span: usize,
    last_span: usize,
    decoded: Vec<u8>,
}

enum State {
    Plain,
    /// Entered at a block; its first byte has to come before the decoder can be made.
    GzipBlock {
        bits: u8,
        window: Window,
    },
    Gzip(Inflate),
    Zstd(Box<ZstdDecoder<'static>>),
    Failed,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::GzipBlock { .. } => "GzipBlock",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
            Self::Failed => "Failed",
        })
    }
}

/// Where verified spans go.
type Sink<'a> = &'a mut dyn FnMut(usize, &[u8]) -> std::io::Result<()>;

impl SpanDecoder {
    pub(crate) fn new(index: LayerIndex, checkpoint: &Checkpoint, last_span: usize) -> Self {
        let codec = match (index.header().codec, &checkpoint.window) {
            (Codec::Tar, _) => State::Plain,
            (Codec::Gzip, Window::Empty) => State::Gzip(Inflate::at_member()),
            (Codec::Gzip, window) => State::GzipBlock {
                bits: checkpoint.bits,
                window: window.clone(),
            },
            (Codec::Zstd, _) => zstd_decoder().map_or(State::Failed, State::Zstd),
        };
        Self {
            index,
            codec,
            next_span: checkpoint.span,
            last_span,
            decoded: Vec::new(),
        }
    }

    /// Takes the next compressed bytes. Bytes after the last span are ignored.
    pub fn push(&mut self, mut compressed: &[u8], each: Sink<'_>) -> Result<(), DecodeError> {
        if let State::GzipBlock { bits, window } = &self.codec
            && let (Some(first), Window::Full(window)) = (compressed.first(), window)
        {
            let skip = usize::from(*bits > 0);
            self.codec = State::Gzip(Inflate::at_block(*bits, *first, window));
            compressed = &compressed[skip..];
        }
        while !self.is_complete() {
            let consumed = self.decode(compressed)?;
            compressed = &compressed[consumed..];
            if self.decoded.len() == self.span_length() {
                self.hand_out(each)?;
            } else if compressed.is_empty() || consumed == 0 {
                break;
            }
        }
        Ok(())
    }

    /// True when the last span has been handed out: no more bytes are needed.
    pub fn is_complete(&self) -> bool {
        self.next_span > self.last_span
    }

    /// Says whether every span was handed out.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.is_complete() {
            return Ok(());
        }
        Err(DecodeError::Truncated {
            span: self.next_span,
        })
    }

    fn span_length(&self) -> usize {
        self.index.spans()[self.next_span].length as usize
    }

    /// Decodes into the rest of the current span. Returns how many bytes it took.
    fn decode(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let span = self.next_span;
        let undecodable = |reason: String| DecodeError::Undecodable { span, reason };
        let filled = self.decoded.len();
        let length = self.span_length();
        self.decoded.resize(length, 0);
        let room = &mut self.decoded[filled..];
        let (consumed, produced) = match &mut self.codec {
            State::Plain => {
                let count = room.len().min(input.len());
                room[..count].copy_from_slice(&input[..count]);
                (count, count)
            }
            State::Gzip(inflate) => gzip(inflate, input, room).map_err(undecodable)?,
            State::Zstd(decoder) => zstd(decoder, input, room).map_err(undecodable)?,
            State::GzipBlock { .. } => (0, 0),
            State::Failed => return Err(undecodable("no decoder".to_owned())),
        };
        self.decoded.truncate(filled + produced);
        Ok(consumed)
    }

    fn hand_out(&mut self, each: Sink<'_>) -> Result<(), DecodeError> {
        let span = self.next_span;
        if *blake3::hash(&self.decoded).as_bytes() != self.index.spans()[span].digest {
            return Err(DecodeError::Mismatch { span });
        }
        each(span, &self.decoded).map_err(DecodeError::Sink)?;
        self.decoded.clear();
        self.next_span += 1;
        Ok(())
    }
}

/// Steps until the room is full or the input is used up.
fn gzip(inflate: &mut Inflate, input: &[u8], room: &mut [u8]) -> Result<(usize, usize), String> {
    let (mut consumed, mut produced) = (0, 0);
    loop {
        let step = inflate
            .step(&input[consumed..], &mut room[produced..])
            .map_err(|error| error.to_string())?;
        consumed += step.consumed;
        produced += step.produced;
        let stuck = step.consumed + step.produced == 0 && step.place == Place::Inside;
        if produced == room.len() || consumed == input.len() || stuck {
            return Ok((consumed, produced));
        }
    }
}

fn zstd(
    decoder: &mut ZstdDecoder<'static>,
    input: &[u8],
    room: &mut [u8],
) -> Result<(usize, usize), String> {
    let mut source = InBuffer::around(input);
    let mut target = OutBuffer::around(room);
    loop {
        let before = (source.pos(), target.pos());
        decoder
            .run(&mut source, &mut target)
            .map_err(|error| error.to_string())?;
        let full = target.pos() == target.capacity();
        if full || before == (source.pos(), target.pos()) {
            return Ok((source.pos(), target.pos()));
        }
    }
}

fn zstd_decoder() -> Result<Box<ZstdDecoder<'static>>, IndexError> {
    let mut decoder = ZstdDecoder::new()?;
    let window = zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
    decoder.set_parameter(window)?;
    Ok(Box::new(decoder))
}
