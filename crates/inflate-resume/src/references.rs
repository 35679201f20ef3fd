//! Which bytes of a window does the data after a block boundary refer to?
//!
//! Answered by walking the tokens of the first 32 KiB of output: only lengths and distances are
//! followed, nothing is decoded into a buffer. A match that starts before the boundary refers to
//! the window directly; a copy of a copy needs no tracking, since the first copy already named the
//! bytes. The walk ends after 32 KiB of output or at the end of the member; if its input ends
//! first, or makes no sense, the whole window counts as used.

use std::ops::Range;
use std::sync::OnceLock;

use crate::WINDOW_SIZE;

/// Compressed bytes after a boundary that are worth looking at. Incompressible data needs a little
/// more than 32 KiB for 32 KiB of output; empty blocks beyond that are somebody's joke.
pub const HEAD_LIMIT: usize = 48 * 1024;

/// Blocks that are worth looking at, by the same thought: setting one up costs as much as many
/// tokens.
const MAX_BLOCKS: usize = 256;

static FIXED_CODES: OnceLock<(Code, Code)> = OnceLock::new();

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum References {
    /// It could not be told: keep everything.
    Unknown,
    /// These bytes of the window, ascending, not touching.
    Ranges(Vec<Range<u16>>),
}

/// Walks `compressed`, which starts with the byte that holds the first bit of a block, of which
/// `bits` bits belong to what came before.
pub fn window_references(compressed: &[u8], bits: u8) -> References {
    let mut walker = Walker::new(compressed, bits);
    match walker.walk() {
        Some(()) => References::Ranges(walker.used.ranges()),
        None => References::Unknown,
    }
}

/// One bit per window byte.
struct Used {
    words: Vec<u64>,
}

impl Used {
    fn mark(&mut self, start: usize, end: usize) {
        for position in start..end {
            self.words[position / 64] |= 1 << (position % 64);
        }
    }

    fn ranges(&self) -> Vec<Range<u16>> {
        let mut ranges: Vec<Range<u16>> = Vec::new();
        for (number, &word) in self.words.iter().enumerate() {
            let mut left = word;
            let mut base = number * 64;
            while left != 0 {
                let skip = left.trailing_zeros();
                let end = skip + (!(left >> skip)).trailing_zeros();
                push_range(&mut ranges, base + skip as usize, base + end as usize);
                base += end as usize;
                left = left.checked_shr(end).unwrap_or(0);
            }
        }
        ranges
    }
}

fn push_range(ranges: &mut Vec<Range<u16>>, start: usize, end: usize) {
    let to_u16 = |position: usize| u16::try_from(position).expect("at most 32 Ki");
    match ranges.last_mut() {
        Some(last) if usize::from(last.end) == start => last.end = to_u16(end),
        _ => ranges.push(to_u16(start)..to_u16(end)),
    }
}

struct Walker<'a> {
    input: &'a [u8],
    position: usize,
    buffer: u64,
    buffered: u32,
    output: usize,
    used: Used,
}

const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];
const LENGTH_EXTRA: [u8; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_EXTRA: [u8; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
const CODE_LENGTH_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
const END_OF_BLOCK: u16 = 256;

impl<'a> Walker<'a> {
    fn new(input: &'a [u8], bits: u8) -> Self {
        let used = Used {
            words: vec![0; WINDOW_SIZE / 64],
        };
        let mut walker = Self {
            input,
            position: 0,
            buffer: 0,
            buffered: 0,
            output: 0,
            used,
        };
        // Fewer than eight bits: there is a byte for them or the walk fails at once.
        let _ = walker.take(u32::from(bits & 7));
        walker
    }

    /// `None` when the input ends or is invalid.
    fn walk(&mut self) -> Option<()> {
        for _ in 0..MAX_BLOCKS {
            let last = self.take(1)? == 1;
            self.block()?;
            if last || self.output >= WINDOW_SIZE {
                return Some(());
            }
        }
        None
    }

    fn block(&mut self) -> Option<()> {
        match self.take(2)? {
            0 => self.stored(),
            1 => {
                let (literals, distances) = FIXED_CODES.get_or_init(fixed_codes);
                self.tokens(literals, distances)
            }
            2 => {
                let (literals, distances) = self.dynamic_codes()?;
                self.tokens(&literals, &distances)
            }
            _ => None,
        }
    }

    fn refill(&mut self) {
        if let Some(bytes) = self.input.get(self.position..self.position + 8) {
            let word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            self.buffer |= word << self.buffered;
            let taken = (63 - self.buffered) / 8;
            self.position += taken as usize;
            self.buffered += taken * 8;
            return;
        }
        while self.buffered <= 56 && self.position < self.input.len() {
            self.buffer |= u64::from(self.input[self.position]) << self.buffered;
            self.position += 1;
            self.buffered += 8;
        }
    }

    /// At most 32 bits.
    fn take(&mut self, count: u32) -> Option<u32> {
        if self.buffered < count {
            self.refill();
            if self.buffered < count {
                return None;
            }
        }
        let value = self.buffer & ((1u64 << count) - 1);
        self.drop_bits(count);
        u32::try_from(value).ok()
    }

    fn drop_bits(&mut self, count: u32) {
        self.buffer >>= count;
        self.buffered -= count;
    }

    fn stored(&mut self) -> Option<()> {
        self.drop_bits(self.buffered % 8);
        let length = self.take(16)?;
        let inverse = self.take(16)?;
        if length ^ inverse != 0xffff {
            return None;
        }
        // Bytes that are in the bit buffer already belong to the block.
        let mut left = length as usize;
        while left > 0 && self.buffered >= 8 {
            self.drop_bits(8);
            left -= 1;
        }
        self.output += length as usize;
        if left > 0 {
            // What a refill put above the counted bits is part of what is skipped.
            self.buffer = 0;
            self.position = self.position.checked_add(left)?;
        }
        (self.output >= WINDOW_SIZE || self.position <= self.input.len()).then_some(())
    }

    fn tokens(&mut self, literals: &Code, distances: &Code) -> Option<()> {
        while self.output < WINDOW_SIZE {
            // One refill holds a whole token: 15 + 5 + 15 + 13 bits.
            self.refill();
            let symbol = literals.decode(self)?;
            if symbol < END_OF_BLOCK {
                self.output += 1;
                continue;
            }
            if symbol == END_OF_BLOCK {
                return Some(());
            }
            let symbol = usize::from(symbol - END_OF_BLOCK - 1);
            let length = usize::from(*LENGTH_BASE.get(symbol)?)
                + self.take(u32::from(LENGTH_EXTRA[symbol]))? as usize;
            let symbol = usize::from(distances.decode(self)?);
            let distance = usize::from(*DISTANCE_BASE.get(symbol)?)
                + self.take(u32::from(DISTANCE_EXTRA[symbol]))? as usize;
            if let Some(before) = distance
                .checked_sub(self.output)
                .filter(|&before| before > 0)
            {
                let start = WINDOW_SIZE - before;
                self.used.mark(start, (start + length).min(WINDOW_SIZE));
            }
            self.output += length;
        }
        Some(())
    }

    fn dynamic_codes(&mut self) -> Option<(Code, Code)> {
        let literal_count = self.take(5)? as usize + 257;
        let distance_count = self.take(5)? as usize + 1;
        let code_count = self.take(4)? as usize + 4;
        let mut lengths = [0; 19];
        for &symbol in &CODE_LENGTH_ORDER[..code_count] {
            lengths[symbol] = u8::try_from(self.take(3)?).ok()?;
        }
        let code = Code::new(&lengths)?;
        let mut lengths = Vec::with_capacity(320);
        while lengths.len() < literal_count + distance_count {
            self.code_lengths(&code, &mut lengths)?;
        }
        if lengths.len() != literal_count + distance_count {
            return None;
        }
        let (literals, distances) = lengths.split_at(literal_count);
        Some((Code::new(literals)?, Code::new(distances)?))
    }

    fn code_lengths(&mut self, code: &Code, lengths: &mut Vec<u8>) -> Option<()> {
        self.refill();
        let (value, count) = match code.decode(self)? {
            symbol @ 0..=15 => (u8::try_from(symbol).ok()?, 1),
            16 => (*lengths.last()?, 3 + self.take(2)?),
            17 => (0, 3 + self.take(3)?),
            _ => (0, 11 + self.take(7)?),
        };
        lengths.extend(std::iter::repeat_n(value, count as usize));
        Some(())
    }
}

/// Bits of a code that one table look-up decodes; longer ones are rare and go bit by bit.
const TABLE_BITS: u32 = 10;
const MAX_CODE: usize = 15;

/// A canonical prefix code.
struct Code {
    /// By the next bits: symbol × 16 + length, or 0 for a longer code.
    table: Vec<u16>,
    counts: [u16; MAX_CODE + 1],
    /// Symbols in order of their codes.
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0u16; MAX_CODE + 1];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;
        let mut code = 0u32;
        let mut next = [0u32; MAX_CODE + 1];
        let mut start = [0u16; MAX_CODE + 1];
        for length in 1..=MAX_CODE {
            code = (code + u32::from(counts[length - 1])) << 1;
            next[length] = code;
            start[length] = start[length - 1] + counts[length - 1];
            if code + u32::from(counts[length]) > 1 << length {
                return None;
            }
        }
        let mut symbols = vec![0u16; lengths.len()];
        let mut table = vec![0u16; 1 << TABLE_BITS];
        for (symbol, &length) in lengths
            .iter()
            .enumerate()
            .filter(|(_, length)| **length > 0)
        {
            let symbol = u16::try_from(symbol).ok()?;
            let size = usize::from(length);
            symbols[usize::from(start[size])] = symbol;
            start[size] += 1;
            fill(
                &mut table,
                next[size],
                u32::from(length),
                symbol * 16 + u16::from(length),
            );
            next[size] += 1;
        }
        Some(Self {
            table,
            counts,
            symbols,
        })
    }

    fn decode(&self, walker: &mut Walker<'_>) -> Option<u16> {
        let index = usize::try_from(walker.buffer & ((1 << TABLE_BITS) - 1)).ok()?;
        let entry = self.table[index];
        let length = u32::from(entry % 16);
        if entry == 0 {
            return self.decode_slowly(walker);
        }
        if length > walker.buffered {
            return None;
        }
        walker.drop_bits(length);
        Some(entry / 16)
    }

    fn decode_slowly(&self, walker: &mut Walker<'_>) -> Option<u16> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for length in 1..=MAX_CODE {
            code |= walker.take(1)?;
            let count = u32::from(self.counts[length]);
            if code < first + count {
                return self.symbols.get((index + code - first) as usize).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// Enters a code of at most `TABLE_BITS` bits, whose bits come in reverse, under every tail.
fn fill(table: &mut [u16], code: u32, length: u32, entry: u16) {
    if length > TABLE_BITS {
        return;
    }
    let reversed = code.reverse_bits() >> (32 - length);
    let mut index = reversed as usize;
    while index < table.len() {
        table[index] = entry;
        index += 1 << length;
    }
}

fn fixed_codes() -> (Code, Code) {
    let mut lengths = [8u8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    let literals = Code::new(&lengths).expect("the code of the standard");
    let distances = Code::new(&[5; 30]).expect("the code of the standard");
    (literals, distances)
}
