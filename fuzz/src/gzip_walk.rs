//! A gzip stream walked once, with the places where decoding can start again, and decoding from
//! them: what the indexer and the span decoder do, without files and indexes.

use inflate_resume::{Inflate, InflateError, Place, Step, Window};

/// Output kept of one stream: enough for several windows, little enough for a bomb.
pub(crate) const OUTPUT_MAX_BYTES: usize = 192 << 10;

/// Marks kept of one stream, 32 KiB each. An encoder may write empty blocks without end.
const MARKS_MAX: usize = 12;

/// In how large pieces input is given and output is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces {
    pub(crate) input_bytes: usize,
    pub(crate) output_bytes: usize,
}

/// A place where decoding can start.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) compressed: usize,
    pub(crate) uncompressed: usize,
    pub(crate) bits: u8,
    /// Nothing at the start of a member.
    pub(crate) window: Option<Box<Window>>,
}

/// What came of decoding.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) output: Vec<u8>,
    pub(crate) error: Option<InflateError>,
    /// The input ended where it may end.
    pub(crate) complete: bool,
}

/// Decodes until the input ends, an error, or `OUTPUT_MAX_BYTES`; `at_step` sees each step with the
/// input consumed and the output produced so far.
pub(crate) fn decode(
    inflate: &mut Inflate,
    input: &[u8],
    pieces: Pieces,
    mut at_step: impl FnMut(&mut Inflate, Step, usize, usize),
) -> Decoded {
    let mut decoded = Decoded::default();
    let mut room = vec![0; pieces.output_bytes];
    let (mut at, mut idle_steps) = (0, 0);
    while decoded.output.len() < OUTPUT_MAX_BYTES {
        if at == input.len() && inflate.may_end() {
            decoded.complete = true;
            break;
        }
        let end = input.len().min(at + pieces.input_bytes);
        let step = match inflate.step(&input[at..end], &mut room) {
            Ok(step) => step,
            Err(error) => {
                decoded.error = Some(error);
                break;
            }
        };
        at += step.consumed;
        decoded.output.extend_from_slice(&room[..step.produced]);
        at_step(inflate, step, at, decoded.output.len());
        idle_steps = match step.consumed + step.produced {
            0 => idle_steps + 1,
            _ => 0,
        };
        assert!(idle_steps < 3, "the decoder neither ends nor goes on");
        if idle_steps > 0 && step.place == Place::Inside {
            break;
        }
    }
    decoded
}

/// Decodes a stream from its start and marks the places where decoding can start again.
pub(crate) fn walk(compressed: &[u8], pieces: Pieces) -> (Decoded, Vec<Mark>) {
    let mut marks = vec![Mark {
        compressed: 0,
        uncompressed: 0,
        bits: 0,
        window: None,
    }];
    let mark = |inflate: &mut Inflate, step: Step, consumed: usize, produced: usize| {
        if marks.len() == MARKS_MAX {
            return;
        }
        let (compressed, bits, window) = match step.place {
            Place::Inside => return,
            Place::MemberEnd => (consumed, 0, None),
            Place::Block { unused_bits: 0 } => (consumed, 0, Some(inflate.window())),
            Place::Block { unused_bits } => (consumed - 1, 8 - unused_bits, Some(inflate.window())),
        };
        marks.push(Mark {
            compressed,
            uncompressed: produced,
            bits,
            window,
        });
    };
    let decoded = decode(&mut Inflate::at_member(), compressed, pieces, mark);
    (decoded, marks)
}

/// Decodes the blocks in `compressed`, the first of which starts after `bits` bits of its first
/// byte, with this window before them.
pub(crate) fn decode_blocks(
    bits: u8,
    window: &Window,
    compressed: &[u8],
    pieces: Pieces,
) -> Decoded {
    let Some(first) = compressed.first() else {
        return Decoded::default();
    };
    let mut inflate = Inflate::at_block(bits, *first, window);
    let input = &compressed[usize::from(bits > 0)..];
    decode(&mut inflate, input, pieces, |_, _, _, _| {})
}
