//! Touches as they cross a network: in their order, of each its layer, its span, and the
//! milliseconds since the one before.
//!
//! A number is of 7 bits a byte, the lowest first; the last byte of a number has no high bit. Most
//! touches take four bytes so.

use super::{MAX_TOUCHES, Touch};

const NUMBER_BYTES: usize = 5;

/// The longest that makes sense.
const MAX_BYTES: usize = MAX_TOUCHES * 3 * NUMBER_BYTES;

/// As many as a trace may have; who is before the one before it counts as being at its time.
pub fn pack_touches(touches: &[Touch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut now_ms = 0;
    for touch in touches.iter().take(MAX_TOUCHES) {
        put(&mut bytes, touch.layer);
        put(&mut bytes, touch.span);
        put(&mut bytes, touch.at_ms.saturating_sub(now_ms));
        now_ms = now_ms.max(touch.at_ms);
    }
    bytes
}

/// The touches, if the bytes are some of a trace and no more than it may have.
pub fn unpack_touches(bytes: &[u8]) -> Option<Vec<Touch>> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let (mut rest, mut touches, mut now_ms) = (bytes, Vec::new(), 0_u32);
    while !rest.is_empty() {
        if touches.len() == MAX_TOUCHES {
            return None;
        }
        let (layer, span) = (take(&mut rest)?, take(&mut rest)?);
        now_ms = now_ms.checked_add(take(&mut rest)?)?;
        touches.push(Touch {
            layer,
            span,
            at_ms: now_ms,
        });
    }
    Some(touches)
}

fn put(bytes: &mut Vec<u8>, mut number: u32) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn take(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u64;
    for place in 0..NUMBER_BYTES {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(layer: u32, span: u32, at_ms: u32) -> Touch {
        Touch { layer, span, at_ms }
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let all = u32::MAX;
        let most = vec![touch(all, all, all); MAX_TOUCHES];
        for touches in [
            vec![],
            vec![touch(0, 0, 0)],
            vec![touch(3, 127, 5), touch(0, 128, 5), touch(1, 70_000, 30_000)],
            vec![touch(all, all, all), touch(0, 0, all)],
            most.clone(),
        ] {
            assert_eq!(unpack_touches(&pack_touches(&touches)), Some(touches));
        }
        let usual: Vec<_> = (0..1000).map(|at| touch(2, 1000 + at, at * 3)).collect();
        assert_eq!(pack_touches(&usual).len(), 4000);
        let more = [most, vec![touch(1, 1, 1)]].concat();
        assert_eq!(pack_touches(&more), pack_touches(&more[..MAX_TOUCHES]));
        let back = pack_touches(&[touch(1, 1, 9), touch(1, 2, 4), touch(1, 3, 10)]);
        let times: Vec<_> = unpack_touches(&back).unwrap();
        let times: Vec<_> = times.iter().map(|touch| touch.at_ms).collect();
        assert_eq!(times, [9, 9, 10]);
    }

    #[test]
    fn what_is_no_trace_is_not_unpacked() {
        let one = pack_touches(&[touch(300, 300, 300)]);
        for cut in 1..one.len() {
            assert_eq!(unpack_touches(&one[..cut]), None, "{cut}");
        }
        let late = pack_touches(&[touch(0, 0, u32::MAX)]);
        for bytes in [
            vec![0x80; 3],
            vec![0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0],
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
            [&late[..], &[0, 0, 1]].concat(),
            vec![0; 3 * (MAX_TOUCHES + 1)],
            vec![0; MAX_BYTES + 1],
        ] {
            assert_eq!(unpack_touches(&bytes), None, "{:?}", &bytes[..3]);
        }
    }
}
