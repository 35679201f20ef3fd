//! What a store gives for a stretch of a sealed layer: whatever it is, it opens to the layer's own
//! bytes or to nothing.

use std::ops::Range;

use shared_cache::{CacheSecret, Opening, Sealing, UnsealError};

/// Bytes of a change: where, and which bits.
const EDIT_BYTES: usize = 4;

/// Size, start and length of the stretch, length of a piece, and then changes to the object, or an
/// object of its own.
pub fn check(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let number = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (size, start) = (number(1), number(3));
    let range = start..start + number(5);
    let byte = |at: u64| u8::try_from(at * 31 % 251).expect("less than a byte has");
    let layer: Vec<u8> = (0..size).map(byte).collect();
    let object = match head[0] % 2 {
        0 => changed(sealed(&layer), rest),
        _ => rest.to_vec(),
    };
    let is_own = object == sealed(&layer);
    let piece = usize::from(head[7]) * 64 + 1;
    let Some(opening) = Opening::new(&key(), size, range.clone()) else {
        assert!(range.is_empty() || range.end > size);
        return;
    };
    let wanted = &layer[place(&range)];
    let (opened, result) = open(opening, &object, piece);
    assert!(wanted.starts_with(&opened), "other bytes than the layer's");
    let is_whole = opened.len() == wanted.len();
    assert!(is_whole == (result == Ok(true)), "{result:?}");
    assert!(is_whole || !is_own, "its own object does not open");
}

fn key() -> shared_cache::LayerKey {
    let secret = CacheSecret::from_text(&"07".repeat(32).into()).expect("a secret");
    secret.layer_key("registry.example/app", "sha256:00")
}

fn sealed(layer: &[u8]) -> Vec<u8> {
    let mut sealing = Sealing::new(&key(), layer.len() as u64);
    let mut sealed = Vec::new();
    let pushed = sealing.push(layer, &mut sealed);
    pushed.and_then(|()| sealing.finish()).expect("its size");
    let size = shared_cache::sealed_size(layer.len() as u64);
    assert_eq!(size, Some(sealed.len() as u64));
    sealed
}

fn changed(mut object: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(EDIT_BYTES) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]]))
            + usize::from(edit[2] & 1) * (1 << 16);
        if let Some(byte) = object.get_mut(at) {
            *byte ^= edit[3];
        }
    }
    object
}

/// What was opened of it, and whether that is all.
fn open(mut opening: Opening, object: &[u8], piece: usize) -> (Vec<u8>, Result<bool, UnsealError>) {
    let asked = opening.sealed_range();
    assert!(asked.start < asked.end);
    let came = place(&asked).start.min(object.len())..place(&asked).end.min(object.len());
    let mut opened = Vec::new();
    for piece in object[came].chunks(piece) {
        let mut take = |bytes: bytes::Bytes| opened.extend_from_slice(&bytes);
        if let Err(error) = opening.push(piece, &mut take) {
            return (opened, Err(error));
        }
    }
    let is_done = opening.is_done();
    assert_eq!(is_done, opening.sealed_range().is_empty());
    (opened, Ok(is_done))
}

fn place(range: &Range<u64>) -> Range<usize> {
    let place = |at: u64| usize::try_from(at).expect("in memory");
    place(range.start)..place(range.end)
}
