//! Decoding from the middle of a gzip stream: from every checkpoint as from the start.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use inflate_resume::{Inflate, WINDOW_SIZE, Window, referenced};

use crate::gzip_walk::{self, Decoded, Mark, Pieces};

/// What a decoder in a fetch is given: pieces of a body, room for a span.
const LARGE: Pieces = Pieces {
    input_bytes: 16 << 10,
    output_bytes: 64 << 10,
};
/// Pieces that end anywhere.
const SMALL: Pieces = Pieces {
    input_bytes: 61,
    output_bytes: 509,
};

/// The first byte says what the rest is: a stream as it is, content to be compressed in blocks, or
/// blocks that are entered with a hostile checkpoint.
pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    match kind % 3 {
        0 => drop(check_stream(rest)),
        1 => check_content(rest),
        _ => check_hostile(rest),
    }
}

fn check_stream(compressed: &[u8]) -> Decoded {
    let (decoded, marks) = gzip_walk::walk(compressed, LARGE);
    for mark in &marks {
        check_mark(mark, compressed, &decoded);
    }
    let again = gzip_walk::walk(compressed, SMALL).0;
    check_same(&decoded, &again);
    decoded
}

/// Two decodings of the same bytes: the same output as far as both got. A step that fails loses the
/// output that it had made, so that only the ends may differ.
#[track_caller]
fn check_same(one: &Decoded, other: &Decoded) {
    let length = one.output.len().min(other.output.len());
    assert!(
        one.output[..length] == other.output[..length],
        "other bytes"
    );
    assert_eq!(
        one.error.is_some(),
        other.error.is_some(),
        "{:?} {:?}",
        one.error,
        other.error
    );
    assert_eq!(one.complete, other.complete);
    if one.complete {
        assert_eq!(one.output.len(), other.output.len());
    }
}

fn check_mark(mark: &Mark, compressed: &[u8], whole: &Decoded) {
    let expected = &whole.output[mark.uncompressed..];
    let input = &compressed[mark.compressed..];
    let resumed = match &mark.window {
        None => gzip_walk::decode(&mut Inflate::at_member(), input, SMALL, |_, _, _, _| {}),
        Some(window) => {
            let mut window = window.clone();
            if let Ok(referenced) = referenced(mark.bits, input) {
                assert!(referenced.count() <= WINDOW_SIZE);
                referenced.sparsify(&mut window);
            } else {
                assert!(whole.error.is_some(), "a good stream has good blocks");
            }
            gzip_walk::decode_blocks(mark.bits, &window, input, SMALL)
        }
    };
    let length = expected.len().min(resumed.output.len());
    assert!(
        resumed.output[..length] == expected[..length],
        "other bytes after {}",
        mark.uncompressed
    );
    if whole.complete && !input.is_empty() {
        assert!(
            resumed.complete,
            "{:?} after {}",
            resumed.error, mark.uncompressed
        );
        assert_eq!(resumed.output.len(), expected.len());
    }
}

/// Level, length of a block, and the content.
fn check_content(rest: &[u8]) {
    let [level, block, content @ ..] = rest else {
        return;
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(u32::from(level % 10)));
    for part in content.chunks(usize::from(*block) + 1) {
        encoder.write_all(part).expect("memory takes everything");
        encoder.flush().expect("memory takes everything");
    }
    let compressed = encoder.finish().expect("memory takes everything");
    let decoded = check_stream(&compressed);
    assert!(decoded.complete && decoded.output == content);
}

/// Bits, sixteen bytes of a window that repeats them, and blocks.
fn check_hostile(rest: &[u8]) {
    let Some((checkpoint, blocks)) = rest.split_at_checked(17) else {
        return;
    };
    let bits = checkpoint[0] % 8;
    let mut window: Window = [0; WINDOW_SIZE];
    for (at, byte) in window.iter_mut().enumerate() {
        *byte = checkpoint[1 + at % 16].wrapping_add(at.to_le_bytes()[1]);
    }
    let decoded = gzip_walk::decode_blocks(bits, &window, blocks, LARGE);
    check_same(
        &decoded,
        &gzip_walk::decode_blocks(bits, &window, blocks, SMALL),
    );
    match referenced(bits, blocks) {
        Ok(referenced) => referenced.sparsify(&mut window),
        Err(error) => assert!(decoded.error.is_some(), "{error}"),
    }
    let sparse = gzip_walk::decode_blocks(bits, &window, blocks, LARGE);
    check_same(&decoded, &sparse);
    assert_eq!(decoded.output.len(), sparse.output.len());
}
