//! Compressed bytes in, verified spans out.

use std::fmt;
use std::ops::Range;

use inflate_resume::{Inflate, Place};

use crate::error::DecodeError;
use crate::index::{Codec, LayerIndex};
use crate::span::{Checkpoint, Window};
use crate::zstd_stream::ZstdStream;

/// Decodes and verifies a run of spans from compressed bytes that arrive in pieces.
#[derive(Debug)]
pub struct SpanDecoder {
    index: LayerIndex,
    codec: State,
    next_span: usize,
    last_span: usize,
    /// As long as the current span once that has begun, of which so much is decoded.
    decoded: Vec<u8>,
    filled: usize,
    /// Where in the layer the next compressed byte is.
    position: u64,
    /// The compressed bytes from the checkpoint that was started from up to the next one.
    group: Range<u64>,
}

enum State {
    Plain,
    /// Entered at a block; its first byte has to come before the decoder can be made.
    GzipBlock {
        bits: u8,
        window: Window,
    },
    Gzip(Inflate),
    Zstd(Box<ZstdStream>),
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
            (Codec::Zstd, window) => zstd(window),
        };
        let group = index.compressed_range(checkpoint.span, checkpoint.span);
        Self {
            index,
            codec,
            next_span: checkpoint.span,
            last_span,
            decoded: Vec::new(),
            filled: 0,
            position: checkpoint.compressed_offset,
            group,
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
            self.position += skip as u64;
        }
        while !self.is_complete() {
            let skipped = self.before_group(compressed);
            let wanted = self.of_group(&compressed[skipped..]);
            let consumed = skipped + self.decode(wanted)?;
            compressed = &compressed[consumed..];
            self.position += consumed as u64;
            if self.filled == self.span_length() {
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
        self.decoded.resize(self.span_length(), 0);
        let room = &mut self.decoded[self.filled..];
        let (consumed, produced) = match &mut self.codec {
            State::Plain => {
                let count = room.len().min(input.len());
                room[..count].copy_from_slice(&input[..count]);
                (count, count)
            }
            State::Gzip(inflate) => gzip(inflate, input, room).map_err(undecodable)?,
            State::Zstd(stream) => {
                let decoded = stream.decode(input, room);
                decoded.map_err(|error| undecodable(error.to_string()))?
            }
            State::GzipBlock { .. } => (0, 0),
            State::Failed => return Err(undecodable("no decoder".to_owned())),
        };
        self.filled += produced;
        Ok(consumed)
    }

    fn hand_out(&mut self, each: Sink<'_>) -> Result<(), DecodeError> {
        let span = self.next_span;
        if *blake3::hash(&self.decoded).as_bytes() != self.index.spans()[span].digest {
            return Err(DecodeError::Mismatch { span });
        }
        each(span, &self.decoded).map_err(DecodeError::Sink)?;
        self.filled = 0;
        self.next_span += 1;
        let spans = self.index.spans();
        let next = spans.get(self.next_span).map(|span| span.checkpoint);
        if self.is_bound_to_group() && !self.is_complete() && next != Some(spans[span].checkpoint) {
            self.enter_group()?;
        }
        Ok(())
    }

    /// A window has only what is used until the next checkpoint, so decoding starts anew there.
    fn is_bound_to_group(&self) -> bool {
        matches!(&self.codec, State::Zstd(stream) if stream.is_entered())
    }

    fn enter_group(&mut self) -> Result<(), DecodeError> {
        let checkpoint = self.index.checkpoint(self.next_span)?;
        self.group = self
            .index
            .compressed_range(checkpoint.span, checkpoint.span);
        self.codec = zstd(&checkpoint.window);
        Ok(())
    }

    /// How many of these bytes lead up to the group without making any output.
    fn before_group(&self, compressed: &[u8]) -> usize {
        let before = self.group.start.saturating_sub(self.position);
        usize::try_from(before).map_or(compressed.len(), |before| before.min(compressed.len()))
    }

    /// The part of what comes then that is decoded by the decoder there is.
    fn of_group<'a>(&self, compressed: &'a [u8]) -> &'a [u8] {
        let start = self.position.max(self.group.start);
        let length = usize::try_from(self.group.end.saturating_sub(start));
        match length {
            Ok(length) if self.is_bound_to_group() => &compressed[..length.min(compressed.len())],
            _ => compressed,
        }
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

fn zstd(window: &Window) -> State {
    let stream = match window {
        Window::Sparse(window) => ZstdStream::at_block(window),
        Window::Empty | Window::Full(_) => ZstdStream::at_frame(),
    };
    stream.map_or(State::Failed, |stream| State::Zstd(Box::new(stream)))
}
