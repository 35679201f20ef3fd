//! The unsafe room: one zlib-rs inflate stream behind a safe face.
//!
//! Invariants: `raw` is initialised from [`Stream::new`] until drop; its input and output pointers
//! are set before each call from slices that outlive the call and are cleared after it; it lives
//! in a box and never moves.
#![allow(unsafe_code)] // The resume interface of the codec exists only in C's shape.

use std::ffi::{CStr, c_int};
use std::fmt;
use std::mem::size_of;

use libz_rs_sys as zlib;

use crate::{InflateError, WINDOW_SIZE};

/// What surrounds the deflate data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapper {
    Gzip,
    Raw,
}

impl Wrapper {
    /// zlib's "window bits": 15, plus 16 for gzip, negated for raw deflate.
    fn window_bits(self) -> c_int {
        match self {
            Self::Gzip => 15 + 16,
            Self::Raw => -15,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Straight,
    StopAtBlocks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Inside,
    /// A further block starts `unused_bits` bits before the end of what was consumed.
    BlockStart {
        unused_bits: u64,
    },
    MemberEnd,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Inflated {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
    pub(crate) outcome: Outcome,
}

pub(crate) struct Stream {
    raw: Box<zlib::z_stream>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").finish_non_exhaustive()
    }
}

// SAFETY: the stream owns all that it points to between calls (its pointers to input and output
// are cleared), has no thread affinity, and `&Stream` only reads.
unsafe impl Send for Stream {}
// SAFETY: as above; the only method on `&Stream` copies out of the window.
unsafe impl Sync for Stream {}

impl Stream {
    pub(crate) fn new(wrapper: Wrapper) -> Result<Self, InflateError> {
        let mut raw = Box::new(zlib::z_stream::default());
        let size = c_int::try_from(size_of::<zlib::z_stream>()).expect("a struct of 112 bytes");
        // SAFETY: `raw` is a valid stream with the default allocator set; version and size are
        // those that the library itself was built with.
        let code = unsafe {
            zlib::inflateInit2_(
                &raw mut *raw,
                wrapper.window_bits(),
                zlib::zlibVersion(),
                size,
            )
        };
        check(code, &raw)?;
        Ok(Self { raw })
    }

    pub(crate) fn reset(&mut self, wrapper: Wrapper) -> Result<(), InflateError> {
        // SAFETY: `raw` was initialised in `new`.
        let code = unsafe { zlib::inflateReset2(&raw mut *self.raw, wrapper.window_bits()) };
        check(code, &self.raw)
    }

    /// Puts the low `count` bits of `value` before the next input byte.
    pub(crate) fn prime(&mut self, count: u8, value: u8) -> Result<(), InflateError> {
        // SAFETY: `raw` was initialised in `new`.
        let code = unsafe {
            zlib::inflatePrime(&raw mut *self.raw, c_int::from(count), c_int::from(value))
        };
        check(code, &self.raw)
    }

    pub(crate) fn set_window(&mut self, window: &[u8; WINDOW_SIZE]) -> Result<(), InflateError> {
        let size = u32::try_from(WINDOW_SIZE).expect("32 KiB");
        // SAFETY: `raw` was initialised in `new`; the pointer and length are those of one array.
        let code = unsafe { zlib::inflateSetDictionary(&raw mut *self.raw, window.as_ptr(), size) };
        check(code, &self.raw)
    }

    /// Writes the window to the end of `window`, zeros before it, and returns its length.
    pub(crate) fn copy_window(&self, window: &mut [u8; WINDOW_SIZE]) -> usize {
        let mut length = 0;
        // SAFETY: `raw` was initialised in `new`; the window is at most 32 KiB, the array's size.
        let code = unsafe {
            zlib::inflateGetDictionary(&raw const *self.raw, window.as_mut_ptr(), &raw mut length)
        };
        let length = if code == zlib::Z_OK {
            (length as usize).min(WINDOW_SIZE)
        } else {
            0
        };
        window[length..].fill(0);
        window.rotate_right(WINDOW_SIZE - length);
        length
    }

    pub(crate) fn inflate(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        flow: Flow,
    ) -> Result<Inflated, InflateError> {
        let input_size = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let output_size = u32::try_from(output.len()).unwrap_or(u32::MAX);
        self.raw.next_in = input.as_ptr();
        self.raw.avail_in = input_size;
        self.raw.next_out = output.as_mut_ptr();
        self.raw.avail_out = output_size;
        let flush = match flow {
            Flow::Straight => zlib::Z_NO_FLUSH,
            Flow::StopAtBlocks => zlib::Z_BLOCK,
        };
        // SAFETY: `raw` was initialised in `new`; the pointers and lengths are those of the two
        // slices, which outlive the call and do not overlap (one is borrowed mutably).
        let code = unsafe { zlib::inflate(&raw mut *self.raw, flush) };
        let consumed = (input_size - self.raw.avail_in) as usize;
        let produced = (output_size - self.raw.avail_out) as usize;
        self.raw.next_in = std::ptr::null();
        self.raw.avail_in = 0;
        self.raw.next_out = std::ptr::null_mut();
        self.raw.avail_out = 0;
        let outcome = match code {
            zlib::Z_STREAM_END => Outcome::MemberEnd,
            // No progress was possible: not an error, more input or output is needed.
            zlib::Z_BUF_ERROR => Outcome::Inside,
            code => {
                check(code, &self.raw)?;
                outcome_inside(self.raw.data_type)
            }
        };
        Ok(Inflated {
            consumed,
            produced,
            outcome,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: `raw` was initialised in `new` and is not used after this.
        unsafe { zlib::inflateEnd(&raw mut *self.raw) };
    }
}

/// `data_type` holds the unused bits (low six), 64 in the last block, 128 right at a boundary.
fn outcome_inside(data_type: c_int) -> Outcome {
    const LAST_BLOCK: c_int = 64;
    const AT_BOUNDARY: c_int = 128;
    if data_type & (LAST_BLOCK | AT_BOUNDARY) == AT_BOUNDARY {
        Outcome::BlockStart {
            unused_bits: u64::from((data_type & 63).unsigned_abs()),
        }
    } else {
        Outcome::Inside
    }
}

fn check(code: c_int, raw: &zlib::z_stream) -> Result<(), InflateError> {
    match code {
        zlib::Z_OK => Ok(()),
        zlib::Z_MEM_ERROR => Err(InflateError::Memory),
        zlib::Z_NEED_DICT => Err(InflateError::Corrupt(
            "a preset dictionary is asked for".to_owned(),
        )),
        _ => Err(InflateError::Corrupt(message(raw))),
    }
}

fn message(raw: &zlib::z_stream) -> String {
    if raw.msg.is_null() {
        return "invalid stream".to_owned();
    }
    // SAFETY: a non-null `msg` points to a static string of the library, ended by a zero byte.
    let text = unsafe { CStr::from_ptr(raw.msg) };
    text.to_string_lossy().into_owned()
}
