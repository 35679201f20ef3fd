//! The blocks of a frame, one after the other: how much each decodes to, and what it refers to.

use std::ops::Range;

use crate::sequences::{self, FIRST_REPEATS, Repeats, Sequence, Tables};
use crate::tables::{TableKind, TableUse, TableUses};
use crate::walker::{Block, BlockKind, FrameHeader};
use crate::{Entrance, FormatError, MAX_BLOCK_BYTES, TableWatch};

const ENDS_EARLY: FormatError = FormatError("a block that ends too early");

/// Where in a frame's output a block takes bytes from: a range of it.
pub type Referred = Range<u64>;

/// How much a block decodes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    pub bytes: usize,
}

/// A frame that is followed from its start.
#[derive(Debug)]
pub struct Frame {
    header: FrameHeader,
    tables: Tables,
    has_literal_table: bool,
    repeats: Repeats,
    position: u64,
}

impl Frame {
    pub fn new(header: FrameHeader) -> Self {
        Self {
            header,
            tables: Tables::default(),
            has_literal_table: false,
            repeats: FIRST_REPEATS,
            position: 0,
        }
    }

    /// How much output the blocks so far make.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What decoding starts with after the blocks so far, apart from the bytes referred to.
    pub fn entrance(&self) -> Option<Entrance> {
        Entrance::new(self.header, self.repeats)
    }

    /// Reads the next block. `each` is told where it takes bytes from, in the frame's output, and
    /// `watches` of the tables that it takes. After an error nothing more can be told of the frame.
    pub fn block<'a>(
        &mut self,
        block: &Block,
        watches: impl Iterator<Item = &'a mut TableWatch>,
        mut each: impl FnMut(Referred),
    ) -> Result<BlockSize, FormatError> {
        let mut uses = TableUses::default();
        let bytes = match block.kind {
            BlockKind::Raw | BlockKind::Repeated => block.size,
            BlockKind::Compressed => self.compressed(&block.content, &mut uses, &mut each)?,
        };
        self.position += bytes as u64;
        for watch in watches {
            watch.see(uses);
        }
        Ok(BlockSize { bytes })
    }

    fn compressed(
        &mut self,
        content: &[u8],
        uses: &mut TableUses,
        each: &mut dyn FnMut(Referred),
    ) -> Result<usize, FormatError> {
        let literals = Literals::read(content)?;
        uses.set(TableKind::Literals, literals.table);
        match literals.table {
            TableUse::Earlier if !self.has_literal_table => {
                return Err(FormatError("a table that is not there"));
            }
            TableUse::Own => self.has_literal_table = true,
            _ => {}
        }
        let section = content.get(literals.section_bytes..).ok_or(ENDS_EARLY)?;
        let (start, window) = (self.position, self.header.window_bytes);
        let (mut used, mut produced) = (0, 0);
        let mut sequence = |sequence: Sequence| {
            used += sequence.literals as usize;
            let before = produced + sequence.literals as usize;
            produced = before + sequence.length as usize;
            if used > literals.bytes || produced > MAX_BLOCK_BYTES {
                return Err(FormatError("a block that is too long"));
            }
            let position = start + before as u64;
            let offset = u64::from(sequence.offset);
            let from = position.checked_sub(offset).filter(|_| offset <= window);
            let from = from.ok_or(FormatError("an offset from before its window"))?;
            each(from..from + u64::from(sequence.length).min(offset));
            Ok(())
        };
        sequences::read(
            section,
            &mut self.tables,
            &mut self.repeats,
            uses,
            &mut sequence,
        )?;
        let bytes = produced + literals.bytes - used;
        if bytes > MAX_BLOCK_BYTES {
            return Err(FormatError("a block that is too long"));
        }
        Ok(bytes)
    }
}

/// What the header of the literals says.
struct Literals {
    /// How many there are.
    bytes: usize,
    /// Where the sequences begin.
    section_bytes: usize,
    table: TableUse,
}

impl Literals {
    fn read(content: &[u8]) -> Result<Self, FormatError> {
        let kind = content.first().ok_or(ENDS_EARLY)? & 3;
        let (bytes, section_bytes) = match kind {
            0 => {
                let (header_bytes, bytes) = plain_header(content)?;
                (bytes, header_bytes + bytes)
            }
            1 => {
                let (header_bytes, bytes) = plain_header(content)?;
                (bytes, header_bytes + 1)
            }
            _ => compressed_header(content)?,
        };
        if bytes > MAX_BLOCK_BYTES {
            return Err(FormatError("a block that is too long"));
        }
        let table = match kind {
            2 => TableUse::Own,
            3 => TableUse::Earlier,
            _ => TableUse::None,
        };
        Ok(Self {
            bytes,
            section_bytes,
            table,
        })
    }
}

/// Length of the header and of the literals, where these are not compressed.
fn plain_header(content: &[u8]) -> Result<(usize, usize), FormatError> {
    match (content[0] >> 2) & 3 {
        0 | 2 => Ok((1, usize::from(content[0] >> 3))),
        1 => Ok((2, number(content, 2)? >> 4)),
        _ => Ok((3, number(content, 3)? >> 4)),
    }
}

/// Number of literals, and length of the header and of what they are compressed to.
fn compressed_header(content: &[u8]) -> Result<(usize, usize), FormatError> {
    let (header_bytes, bits) = match (content[0] >> 2) & 3 {
        0 | 1 => (3, 10),
        2 => (4, 14),
        _ => (5, 18),
    };
    let sizes = number(content, header_bytes)? >> 4;
    let mask = (1 << bits) - 1;
    Ok((sizes & mask, header_bytes + ((sizes >> bits) & mask)))
}

fn number(content: &[u8], bytes: usize) -> Result<usize, FormatError> {
    let digits = content.get(..bytes).ok_or(ENDS_EARLY)?.iter().rev();
    Ok(digits.fold(0, |value, byte| (value << 8) | usize::from(*byte)))
}
