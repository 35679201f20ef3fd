//! A stream taken apart: headers are read, blocks are kept whole, the rest is passed over.

use crate::{FormatError, MAX_BLOCK_BYTES};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

const MAGIC_BYTES: usize = 4;
const SKIPPABLE_HEADER_BYTES: usize = 8;
const BLOCK_HEADER_BYTES: usize = 3;
const CHECKSUM_BYTES: u64 = 4;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// How far back its blocks refer at most.
    pub window_bytes: u64,
    pub has_checksum: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// The output itself.
    Raw,
    /// One byte that is repeated.
    Repeated,
    Compressed,
}

/// A block with its content, which is at most [`MAX_BLOCK_BYTES`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub kind: BlockKind,
    /// Length of the content, or of the output if that is one repeated byte.
    pub size: usize,
    pub content: Vec<u8>,
    pub is_last: bool,
}

/// What ends after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    Header(FrameHeader),
    Block(Block),
}

/// What one call of [`Walker::walk`] did.
#[derive(Clone, Debug)]
pub struct Walked {
    pub consumed: usize,
    /// What the last consumed byte completed.
    pub unit: Option<Unit>,
}

/// Reads a stream of frames that arrives in pieces.
#[derive(Debug)]
pub struct Walker {
    place: Place,
    /// Bytes of the header that is being read.
    header: Vec<u8>,
    has_checksum: bool,
}

#[derive(Debug)]
enum Place {
    /// In a header that is at least so long.
    FrameHeader(usize),
    BlockHeader,
    /// The block, and how much of its content is still to come.
    Block(Block, usize),
    /// In bytes of no interest.
    Skip(u64),
}

impl Walker {
    /// Starts where a frame does.
    pub fn new() -> Self {
        Self {
            place: Place::FrameHeader(MAGIC_BYTES),
            header: Vec::new(),
            has_checksum: false,
        }
    }

    /// Goes on to the end of the input, or of a header or block if that comes first.
    pub fn walk(&mut self, input: &[u8]) -> Result<Walked, FormatError> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let (taken, unit) = match &mut self.place {
                Place::FrameHeader(wanted) => {
                    let wanted = *wanted;
                    self.frame_header(wanted, rest)?
                }
                Place::BlockHeader => self.block_header(rest)?,
                Place::Block(..) => self.block_content(rest),
                Place::Skip(_) => (self.skip(rest), None),
            };
            consumed += taken;
            if unit.is_some() || consumed == input.len() {
                return Ok(Walked { consumed, unit });
            }
        }
    }

    fn frame_header(
        &mut self,
        wanted: usize,
        rest: &[u8],
    ) -> Result<(usize, Option<Unit>), FormatError> {
        let taken = self.collect(wanted, rest);
        if self.header.len() < wanted {
            return Ok((taken, None));
        }
        let longer = header_bytes(&self.header)?;
        if longer > wanted {
            self.place = Place::FrameHeader(longer);
            return Ok((taken, None));
        }
        let header = std::mem::take(&mut self.header);
        if !header.starts_with(&MAGIC) {
            self.place = Place::Skip(little_endian(&header[MAGIC_BYTES..]));
            return Ok((taken, None));
        }
        let parsed = parse_header(&header[MAGIC_BYTES..])?;
        self.has_checksum = parsed.has_checksum;
        self.place = Place::BlockHeader;
        Ok((taken, Some(Unit::Header(parsed))))
    }

    fn block_header(&mut self, rest: &[u8]) -> Result<(usize, Option<Unit>), FormatError> {
        let taken = self.collect(BLOCK_HEADER_BYTES, rest);
        if self.header.len() < BLOCK_HEADER_BYTES {
            return Ok((taken, None));
        }
        let fields = little_endian(&self.header);
        self.header.clear();
        let size = usize::try_from(fields >> 3).expect("21 bits fit");
        let kind = match (fields >> 1) & 3 {
            0 => BlockKind::Raw,
            1 => BlockKind::Repeated,
            2 => BlockKind::Compressed,
            _ => return Err(FormatError("a block of an unknown kind")),
        };
        if size > MAX_BLOCK_BYTES {
            return Err(FormatError("a block that is too long"));
        }
        let left = match kind {
            BlockKind::Repeated => 1,
            BlockKind::Raw | BlockKind::Compressed => size,
        };
        let block = Block {
            kind,
            size,
            content: Vec::with_capacity(left),
            is_last: fields & 1 == 1,
        };
        self.place = Place::Block(block, left);
        let unit = if left == 0 {
            self.block_content(&[]).1
        } else {
            None
        };
        Ok((taken, unit))
    }

    fn block_content(&mut self, rest: &[u8]) -> (usize, Option<Unit>) {
        let Place::Block(block, left) = &mut self.place else {
            return (0, None);
        };
        let taken = rest.len().min(*left);
        block.content.extend_from_slice(&rest[..taken]);
        *left -= taken;
        if *left > 0 {
            return (taken, None);
        }
        let next = match (block.is_last, self.has_checksum) {
            (false, _) => Place::BlockHeader,
            (true, true) => Place::Skip(CHECKSUM_BYTES),
            (true, false) => Place::FrameHeader(MAGIC_BYTES),
        };
        match std::mem::replace(&mut self.place, next) {
            Place::Block(block, _) => (taken, Some(Unit::Block(block))),
            _ => (taken, None),
        }
    }

    fn skip(&mut self, rest: &[u8]) -> usize {
        let Place::Skip(left) = &mut self.place else {
            return 0;
        };
        let taken = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
        *left -= taken as u64;
        if *left == 0 {
            self.place = Place::FrameHeader(MAGIC_BYTES);
        }
        taken
    }

    /// Takes of `rest` what the header lacks.
    fn collect(&mut self, wanted: usize, rest: &[u8]) -> usize {
        let taken = rest.len().min(wanted.saturating_sub(self.header.len()));
        self.header.extend_from_slice(&rest[..taken]);
        taken
    }
}

impl Default for Walker {
    fn default() -> Self {
        Self::new()
    }
}

/// How long a header is, as far as its first bytes tell.
fn header_bytes(header: &[u8]) -> Result<usize, FormatError> {
    if header.starts_with(&MAGIC) {
        let Some(descriptor) = header.get(MAGIC_BYTES) else {
            return Ok(MAGIC_BYTES + 1);
        };
        let fields = Fields::of(*descriptor);
        return Ok(MAGIC_BYTES + 1 + fields.window + fields.dictionary + fields.content);
    }
    let is_skippable = header[0] & 0xf0 == 0x50 && header[1..MAGIC_BYTES] == SKIPPABLE_MAGIC;
    if is_skippable {
        Ok(SKIPPABLE_HEADER_BYTES)
    } else {
        Err(FormatError("something else than a frame"))
    }
}

/// Lengths of the fields of a frame header.
struct Fields {
    window: usize,
    dictionary: usize,
    content: usize,
}

impl Fields {
    fn of(descriptor: u8) -> Self {
        let is_single_segment = descriptor & 0x20 != 0;
        Self {
            window: usize::from(!is_single_segment),
            dictionary: [0, 1, 2, 4][usize::from(descriptor & 3)],
            content: match descriptor >> 6 {
                0 => usize::from(is_single_segment),
                power => 1 << power,
            },
        }
    }
}

/// A frame header without its magic, as long as its first byte says.
fn parse_header(header: &[u8]) -> Result<FrameHeader, FormatError> {
    let (descriptor, rest) = (header[0], &header[1..]);
    let fields = Fields::of(descriptor);
    let (window, rest) = rest.split_at(fields.window);
    let (dictionary, content) = rest.split_at(fields.dictionary);
    if descriptor & 0x08 != 0 {
        return Err(FormatError("a reserved bit"));
    }
    if little_endian(dictionary) != 0 {
        return Err(FormatError("a dictionary"));
    }
    let window_bytes = match window {
        [descriptor] => window_bytes(*descriptor),
        // The window is the whole content. Two bytes count from 256 on.
        _ => little_endian(content) + if fields.content == 2 { 256 } else { 0 },
    };
    Ok(FrameHeader {
        window_bytes,
        has_checksum: descriptor & 0x04 != 0,
    })
}

/// What a window descriptor stands for.
pub(crate) fn window_bytes(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

fn little_endian(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |value, byte| (value << 8) | u64::from(*byte))
}
