//! A trace as a file.
//!
//! ```text
//! 0   8   "HFTRACE" and version 1
//! 8   32  the key: what the trace is of
//! 40  1   number of runs, oldest first
//!         of each run: 4 bytes number of touches, then layer, span and milliseconds of each
//! end 32  SHA-256 of everything before it
//! ```
//!
//! Numbers are of 4 bytes, little endian.

use sha2::{Digest as _, Sha256};

use super::{KEPT_RUNS, MAX_TOUCHES, Touch, TraceKey};

const MAGIC: &[u8; 8] = b"HFTRACE\x01";
const DIGEST_BYTES: usize = 32;
const TOUCH_BYTES: usize = 12;

/// The longest file.
pub(super) const MAX_BYTES: u64 =
    (8 + DIGEST_BYTES + 1 + KEPT_RUNS * (4 + MAX_TOUCHES * TOUCH_BYTES) + DIGEST_BYTES) as u64;

pub(super) fn encode(key: &TraceKey, runs: &[Vec<Touch>]) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &key.0].concat();
    bytes.push(u8::try_from(runs.len()).expect("few runs are kept"));
    for run in runs {
        let count = u32::try_from(run.len()).expect("a run is bounded");
        bytes.extend(count.to_le_bytes());
        for touch in run {
            for number in [touch.layer, touch.span, touch.at_ms] {
                bytes.extend(number.to_le_bytes());
            }
        }
    }
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    bytes
}

/// The runs, if every byte of the file is as it was written for this key.
pub(super) fn decode(key: &TraceKey, bytes: &[u8]) -> Option<Vec<Vec<Touch>>> {
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
    if Sha256::digest(content)[..] != digest[..] {
        return None;
    }
    let rest = content.strip_prefix(MAGIC)?.strip_prefix(&key.0)?;
    let (count, mut rest) = rest.split_first()?;
    if usize::from(*count) > KEPT_RUNS {
        return None;
    }
    let mut runs = Vec::new();
    for _ in 0..*count {
        let touches = take_number(&mut rest)?;
        let touches = usize::try_from(touches)
            .ok()
            .filter(|n| *n <= MAX_TOUCHES)?;
        let run = (0..touches).map(|_| take_touch(&mut rest));
        runs.push(run.collect::<Option<Vec<_>>>()?);
    }
    rest.is_empty().then_some(runs)
}

fn take_touch(rest: &mut &[u8]) -> Option<Touch> {
    Some(Touch {
        layer: take_number(rest)?,
        span: take_number(rest)?,
        at_ms: take_number(rest)?,
    })
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}
