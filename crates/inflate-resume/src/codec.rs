//! The one place that calls zlib's C-shaped interface.
//!
//! Invariants: the stream is boxed, since zlib keeps its address; `next_in` and `next_out` point
//! into slices only during a call; the stream is initialised from construction to drop.
#![allow(
    unsafe_code,
    reason = "zlib-rs offers block stops and bit priming only in C's shape"
)]

use std::fmt;

use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_OK, Z_STREAM_END, inflate, inflateEnd, inflateGetDictionary,
    inflateInit2_, inflatePrime, inflateReset2, inflateSetDictionary, z_stream, zlibVersion,
};

use crate::{WINDOW_SIZE, Window};

/// Window bits that make zlib read a gzip header and check the trailer.
const GZIP: i32 = 15 + 16;

/// Window bits for deflate without header and trailer.
const RAW: i32 = -15;

/// A member entered in the middle ends with CRC-32 and length, which cannot be checked then.
const TRAILER_BYTES: usize = 8;

/// Why a stream does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a gzip stream: {0}")]
pub struct InflateError(String);

/// Where decoding stands after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside a block: more input or more room is needed.
    Inside,
    /// Between two blocks. The next block starts in the last byte consumed when `unused_bits`, the
    /// number of its high bits that belong to the block, is not 0.
    Block { unused_bits: u8 },
    /// After a member. Another may follow.
    MemberEnd,
}

/// What one call of [`Inflate::step`] did.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub consumed: usize,
    pub produced: usize,
    pub place: Place,
}

/// A decoder of concatenated gzip members.
pub struct Inflate {
    stream: Box<z_stream>,
    member: Member,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    /// From its header on: zlib checks the trailer.
    Whole,
    /// Entered at a block: its trailer will be skipped.
    Partial,
    /// In the trailer of a partial member, with so many bytes to go.
    Trailer { left: usize },
    /// Between members.
    Ended,
}

// SAFETY: the zlib state is reached through `stream` alone and holds no thread-bound resource.
unsafe impl Send for Inflate {}

impl fmt::Debug for Inflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflate")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl Inflate {
    /// Starts where a member's header is.
    pub fn at_member() -> Self {
        Self {
            stream: new_stream(GZIP),
            member: Member::Whole,
        }
    }

    /// Starts at a block: the low `bits` bits of the first input byte belong to what came before.
    /// `first` is that byte; input for the next step begins after it when `bits` is not 0.
    pub fn at_block(bits: u8, first: u8, window: &Window) -> Self {
        let mut stream = new_stream(RAW);
        if bits > 0 {
            let (count, value) = (i32::from(8 - bits), i32::from(first) >> bits);
            // SAFETY: the stream was initialised by `new_stream`.
            let code = unsafe { inflatePrime(&raw mut *stream, count, value) };
            assert_eq!(code, Z_OK, "fewer than 8 bits fit an empty bit buffer");
        }
        let length = u32::try_from(WINDOW_SIZE).expect("32 KiB fits");
        // SAFETY: the stream is initialised and the window is as long as said.
        let code = unsafe { inflateSetDictionary(&raw mut *stream, window.as_ptr(), length) };
        assert_eq!(
            code, Z_OK,
            "a raw stream takes a dictionary before its first block"
        );
        Self {
            stream,
            member: Member::Partial,
        }
    }

    /// Decodes until the input is used up, the output is full, or a block or member ends.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, InflateError> {
        match self.member {
            Member::Trailer { left } => Ok(self.skip_trailer(input, left)),
            Member::Ended => {
                self.next_member();
                self.inflate(input, output)
            }
            Member::Whole | Member::Partial => self.inflate(input, output),
        }
    }

    /// True between members: the input may end here.
    pub fn may_end(&self) -> bool {
        self.member == Member::Ended
    }

    /// The last output, right-aligned: what a block that starts here may refer to.
    pub fn window(&mut self) -> Box<Window> {
        let mut window = Box::new([0; WINDOW_SIZE]);
        let mut length = 0;
        // SAFETY: the stream is initialised and the buffer holds the largest dictionary there is.
        let code = unsafe {
            inflateGetDictionary(
                &raw const *self.stream,
                window.as_mut_ptr(),
                &raw mut length,
            )
        };
        assert_eq!(code, Z_OK, "an initialised stream tells its dictionary");
        let length = usize::try_from(length).map_or(WINDOW_SIZE, |length| length.min(WINDOW_SIZE));
        window.copy_within(..length, WINDOW_SIZE - length);
        window[..WINDOW_SIZE - length].fill(0);
        window
    }

    fn next_member(&mut self) {
        // SAFETY: the stream is initialised.
        let code = unsafe { inflateReset2(&raw mut *self.stream, GZIP) };
        assert_eq!(code, Z_OK, "an initialised stream can be reset");
        self.member = Member::Whole;
    }

    fn skip_trailer(&mut self, input: &[u8], left: usize) -> Step {
        let consumed = input.len().min(left);
        let left = left - consumed;
        self.member = if left == 0 {
            Member::Ended
        } else {
            Member::Trailer { left }
        };
        let place = if left == 0 {
            Place::MemberEnd
        } else {
            Place::Inside
        };
        Step {
            consumed,
            produced: 0,
            place,
        }
    }

    fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, InflateError> {
        let (room_in, room_out) = (length_of(input), length_of(output));
        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = room_in;
        self.stream.next_out = output.as_mut_ptr();
        self.stream.avail_out = room_out;
        // SAFETY: the stream is initialised; the pointers and lengths describe the two slices,
        // which outlive the call.
        let code = unsafe { inflate(&raw mut *self.stream, Z_BLOCK) };
        let consumed = (room_in - self.stream.avail_in) as usize;
        let produced = (room_out - self.stream.avail_out) as usize;
        self.stream.next_in = std::ptr::null();
        self.stream.next_out = std::ptr::null_mut();
        match code {
            Z_OK | Z_BUF_ERROR => Ok(Step {
                consumed,
                produced,
                place: self.place(),
            }),
            Z_STREAM_END if self.member == Member::Partial => {
                let trailer = self.skip_trailer(&input[consumed..], TRAILER_BYTES);
                Ok(Step {
                    consumed: consumed + trailer.consumed,
                    produced,
                    ..trailer
                })
            }
            Z_STREAM_END => {
                self.member = Member::Ended;
                Ok(Step {
                    consumed,
                    produced,
                    place: Place::MemberEnd,
                })
            }
            _ => Err(InflateError(self.message(code))),
        }
    }

    /// zlib tells the place by flags in `data_type`: 128 after a block or a header, 64 inside the
    /// last block, and the count of unused bits below.
    fn place(&self) -> Place {
        let flags = self.stream.data_type;
        if flags & 128 == 0 || flags & 64 != 0 {
            return Place::Inside;
        }
        Place::Block {
            unused_bits: u8::try_from(flags & 7).expect("three bits fit"),
        }
    }

    fn message(&self, code: i32) -> String {
        if self.stream.msg.is_null() {
            return format!("code {code}");
        }
        // SAFETY: zlib's messages are static and end with a zero.
        let text = unsafe { std::ffi::CStr::from_ptr(self.stream.msg) };
        text.to_string_lossy().into_owned()
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: the stream was initialised by `new_stream` and is not used afterwards.
        unsafe { inflateEnd(&raw mut *self.stream) };
    }
}

#[expect(
    clippy::unnecessary_box_returns,
    reason = "zlib keeps the address of the stream"
)]
fn new_stream(window_bits: i32) -> Box<z_stream> {
    let mut stream = Box::<z_stream>::default();
    let size = i32::try_from(size_of::<z_stream>()).expect("the struct is small");
    // SAFETY: a default stream asks zlib to use its own allocator; the size is the struct's own.
    let code = unsafe { inflateInit2_(&raw mut *stream, window_bits, zlibVersion(), size) };
    assert_eq!(code, Z_OK, "zlib initialises unless memory is exhausted");
    stream
}

/// A slice longer than zlib's counter is used in part; the caller loops anyway.
fn length_of(slice: &[u8]) -> u32 {
    u32::try_from(slice.len()).unwrap_or(u32::MAX)
}
