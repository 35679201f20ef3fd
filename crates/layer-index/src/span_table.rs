//! Section B: where decoding can start, and what each span must decode to.

use crate::column::{Reader, split};
use crate::error::{BuildError, IndexError};
use crate::index::{Codec, Header};
use crate::limits::{MAX_SPAN, MAX_SPANS, MAX_SPARSE_WINDOW_FRAME, MAX_WINDOW_FRAME};
use crate::long_column::LongColumn;
use crate::scratch::{Piece, Scratch};
use crate::span::Span;

const COLUMNS: usize = 4;

/// The window frame of a checkpoint: where it is in section C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowFrame {
    pub(crate) offset: u64,
    /// 0 is no window.
    pub(crate) length: u32,
    pub(crate) digest: [u8; 16],
}

/// A checkpoint without its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) compressed_offset: u64,
    pub(crate) bits: u8,
    pub(crate) first_span: usize,
    pub(crate) window: WindowFrame,
}

/// The digest by which a window frame is checked.
pub(crate) fn frame_digest(frame: &[u8]) -> [u8; 16] {
    let digest = blake3::hash(frame);
    digest.as_bytes()[..16]
        .try_into()
        .expect("half of 32 bytes")
}

/// Where decoding can start, of a layer that is being indexed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewStart {
    pub(crate) compressed_offset: u64,
    pub(crate) first_span: u32,
    pub(crate) bits: u8,
    /// Kept aside; of no length where there is none.
    pub(crate) window: Piece,
}

/// What the spans decode to, in their order. Made by itself, so that another thread may do it.
#[derive(Debug)]
pub struct SpanDigests {
    column: LongColumn,
    count: u64,
}

impl SpanDigests {
    pub fn new(scratch: &Scratch) -> Self {
        Self {
            column: LongColumn::new(scratch),
            count: 0,
        }
    }

    /// Adds the BLAKE3 of the next span.
    pub fn push(&mut self, digest: &[u8; 32]) -> Result<(), BuildError> {
        self.column.open().raw(digest);
        self.count += 1;
        self.column.settle()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// The columns of the section. `spans` are their lengths.
pub(crate) fn encode(
    starts: &[NewStart],
    spans: LongColumn,
    digests: SpanDigests,
    scratch: &Scratch,
) -> Result<[LongColumn; COLUMNS], BuildError> {
    let (mut places, mut windows) = (LongColumn::new(scratch), LongColumn::new(scratch));
    let span_count = u32::try_from(digests.count).expect("at most MAX_SPANS");
    let mut offset = 0;
    places.open().number(starts.len() as u64);
    for (number, start) in starts.iter().enumerate() {
        let next = starts.get(number + 1);
        let end = next.map_or(span_count, |next| next.first_span);
        let open = places.open();
        open.number(start.compressed_offset - offset);
        open.number(u64::from(start.bits));
        open.number(u64::from(end - start.first_span));
        open.number(u64::from(start.window.length()));
        places.settle()?;
        if start.window.length() > 0 {
            let frame = scratch.read(start.window).map_err(BuildError::Write)?;
            windows.open().raw(&frame_digest(&frame));
            windows.settle()?;
        }
        offset = start.compressed_offset;
    }
    Ok([places, windows, spans, digests.column])
}

/// Reads and checks the table. `windows` is how long all of section C is.
pub(crate) fn decode(
    section: &[u8],
    header: &Header,
    windows: u64,
) -> Result<(Vec<Start>, Vec<Span>), IndexError> {
    let [mut places, mut digests, mut lengths, mut span_digests] = split::<COLUMNS>(section)?;
    let count: u64 = places.number()?;
    if count > MAX_SPANS {
        return Err(IndexError::Limit("too many checkpoints"));
    }
    let (mut starts, mut spans) = (Vec::new(), Vec::new());
    let (mut offset, mut uncompressed_offset, mut window_offset) = (0_u64, 0_u64, 0_u64);
    for checkpoint in 0..count {
        let mut start = read_start(&mut places, offset, window_offset)?;
        start.first_span = spans.len();
        let span_count = places.number()?;
        start.window.length = window_length(&mut places, header.codec)?;
        if start.window.length > 0 {
            start.window.digest = digests.array()?;
        }
        offset = start.compressed_offset;
        window_offset += u64::from(start.window.length);
        if span_count == 0
            || span_count > MAX_SPANS - spans.len() as u64
            || offset >= header.compressed_size
        {
            return Err(IndexError::Corrupt(
                "a checkpoint without spans or outside the layer",
            ));
        }
        for _ in 0..span_count {
            let span = Span {
                uncompressed_offset,
                length: lengths.narrow()?,
                checkpoint: u32::try_from(checkpoint).expect("at most MAX_SPANS"),
                digest: span_digests.array()?,
            };
            if span.length == 0 || span.length > MAX_SPAN {
                return Err(IndexError::Corrupt("a span of a bad length"));
            }
            uncompressed_offset = span.end();
            spans.push(span);
        }
        starts.push(start);
    }
    [places, digests, lengths, span_digests]
        .into_iter()
        .try_for_each(Reader::end)?;
    if uncompressed_offset != header.uncompressed_size || window_offset != windows {
        return Err(IndexError::Corrupt("spans or windows do not add up"));
    }
    Ok((starts, spans))
}

fn read_start(
    places: &mut Reader<'_>,
    offset: u64,
    window_offset: u64,
) -> Result<Start, IndexError> {
    let compressed_offset = places.number()?.checked_add(offset);
    let bits: u8 = places.narrow()?;
    match compressed_offset {
        Some(compressed_offset) if bits < 8 => Ok(Start {
            compressed_offset,
            bits,
            first_span: 0,
            window: WindowFrame {
                offset: window_offset,
                length: 0,
                digest: [0; 16],
            },
        }),
        _ => Err(IndexError::Corrupt("a checkpoint at an impossible place")),
    }
}

fn window_length(places: &mut Reader<'_>, codec: Codec) -> Result<u32, IndexError> {
    let length = places.narrow()?;
    let most = match codec {
        Codec::Zstd => MAX_SPARSE_WINDOW_FRAME,
        Codec::Tar | Codec::Gzip => MAX_WINDOW_FRAME,
    };
    if length > most {
        return Err(IndexError::Limit("a window is too long"));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Column, join};

    /// A table of two checkpoints, of which the second claims `spans` spans.
    fn table(spans: u64) -> Vec<u8> {
        let [mut places, digests, mut lengths, mut span_digests] =
            [(); COLUMNS].map(|()| Column::default());
        places.number(2);
        for (offset, spans) in [(0, 1), (5, spans)] {
            for number in [offset, 0, spans, 0] {
                places.number(number);
            }
            lengths.number(10);
            span_digests.raw(&[0; 32]);
        }
        join(&[places, digests, lengths, span_digests])
    }

    #[test]
    fn a_count_of_spans_is_never_trusted() {
        let header = Header {
            layer_digest: String::new(),
            diff_id: String::new(),
            codec: Codec::Gzip,
            compressed_size: 9,
            uncompressed_size: 20,
            entry_count: 0,
            span_count: 2,
        };
        assert!(decode(&table(1), &header, 0).is_ok());
        for spans in [0, 2, MAX_SPANS, u64::MAX - 1, u64::MAX] {
            assert!(decode(&table(spans), &header, 0).is_err(), "{spans} spans");
        }
    }
}
