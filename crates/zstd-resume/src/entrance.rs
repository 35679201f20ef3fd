//! What decoding is started with at a block: bytes that make a decoder believe in a frame of its
//! own.

use crate::FormatError;
use crate::sequences::Repeats;
use crate::walker::{FrameHeader, window_bytes};

const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A dictionary with an identity and tables, which no block uses. Each is the shortest that
/// decoders take: two symbols of one bit for literals, and one symbol that takes all states for the
/// others.
const DICTIONARY_START: [u8; 16] = [
    0x37, 0xa4, 0x30, 0xec, 1, 0, 0, 0, 0x80, 0x10, 0xf0, 0x03, 0xf0, 0x03, 0xf0, 0x03,
];

/// A place between two blocks of a frame, apart from the bytes before it that are referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrance {
    window_descriptor: u8,
    has_checksum: bool,
    repeats: Repeats,
}

impl Entrance {
    /// Nothing if no window is as large.
    pub(crate) fn new(header: FrameHeader, repeats: Repeats) -> Option<Self> {
        let enough = |descriptor: &u8| window_bytes(*descriptor) >= header.window_bytes;
        Some(Self {
            window_descriptor: (0..=u8::MAX).find(enough)?,
            has_checksum: header.has_checksum,
            repeats,
        })
    }

    /// The same, from where it was written down. Offsets are at least 1 and within the window.
    pub fn from_parts(
        window_descriptor: u8,
        has_checksum: bool,
        repeats: [u32; 3],
    ) -> Result<Self, FormatError> {
        let most = window_bytes(window_descriptor);
        let is_good = |offset: &u32| *offset > 0 && u64::from(*offset) <= most;
        if !repeats.iter().all(is_good) {
            return Err(FormatError("an offset from before its window"));
        }
        Ok(Self {
            window_descriptor,
            has_checksum,
            repeats,
        })
    }

    pub fn window_descriptor(&self) -> u8 {
        self.window_descriptor
    }

    /// How far back the blocks refer at most.
    pub fn window_bytes(&self) -> u64 {
        window_bytes(self.window_descriptor)
    }

    /// True when four bytes follow the frame's last block that decoding from here does not check.
    pub fn has_checksum(&self) -> bool {
        self.has_checksum
    }

    pub fn repeats(&self) -> [u32; 3] {
        self.repeats
    }

    /// What to decode before the first block.
    pub fn frame_header(&self) -> [u8; 6] {
        let [a, b, c, d] = FRAME_MAGIC;
        [a, b, c, d, 0, self.window_descriptor]
    }

    /// The dictionary to decode with. `length` bytes before the place are all that is referred to;
    /// `fill` is given that many zeros, or more, of which the last is the byte before the place.
    pub fn dictionary(&self, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut dictionary = DICTIONARY_START.to_vec();
        for offset in self.repeats {
            dictionary.extend_from_slice(&offset.to_le_bytes());
        }
        // A decoder takes no offset to repeat that leads out of the dictionary.
        let furthest = self.repeats.into_iter().max().unwrap_or(0) as usize;
        let start = dictionary.len();
        dictionary.resize(start + length.max(furthest), 0);
        fill(&mut dictionary[start..]);
        dictionary
    }
}
