//! The sequences of a block: how many literals, and how much is copied from how far back.

use crate::FormatError;
use crate::bits::BackwardBits;
use crate::fse::{Code, Kind, State, Table};
use crate::tables::{TableKind, TableUse, TableUses};

/// Offsets that sequences may repeat, the last one first.
pub(crate) type Repeats = [u32; 3];

/// What frames start with.
pub(crate) const FIRST_REPEATS: Repeats = [1, 4, 8];

pub(crate) const LITERAL_LENGTHS: Kind = Kind {
    code: literal_length,
    symbols: 36,
    log_max: 9,
    known: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1,
        1, 1, -1, -1, -1, -1,
    ],
    known_log: 6,
};

pub(crate) const OFFSETS: Kind = Kind {
    code: offset,
    symbols: 32,
    log_max: 8,
    known: &[
        1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
    ],
    known_log: 5,
};

pub(crate) const MATCH_LENGTHS: Kind = Kind {
    code: match_length,
    symbols: 53,
    log_max: 9,
    known: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
    known_log: 6,
};

/// Bits added to the codes of literal lengths from 16 on.
const LITERAL_LENGTH_BITS: [u8; 20] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
const LITERAL_LENGTH_BASES: [u32; 20] = [
    16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
    65536,
];

/// Bits added to the codes of match lengths from 32 on.
const MATCH_LENGTH_BITS: [u8; 21] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
const MATCH_LENGTH_BASES: [u32; 21] = [
    35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387,
    32771, 65539,
];

fn literal_length(symbol: u8) -> Code {
    coded(symbol, 16, &LITERAL_LENGTH_BASES, &LITERAL_LENGTH_BITS, 0)
}

fn match_length(symbol: u8) -> Code {
    coded(symbol, 32, &MATCH_LENGTH_BASES, &MATCH_LENGTH_BITS, 3)
}

/// Symbols below `plain` are numbers from `least` on, the others are in the lists.
fn coded(symbol: u8, plain: u8, bases: &[u32], bits: &[u8], least: u32) -> Code {
    let Some(listed) = symbol.checked_sub(plain) else {
        return Code {
            base: u32::from(symbol) + least,
            extra_bits: 0,
        };
    };
    let listed = usize::from(listed);
    Code {
        base: bases[listed],
        extra_bits: bits[listed],
    }
}

fn offset(symbol: u8) -> Code {
    Code {
        base: 1 << symbol,
        extra_bits: symbol,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) literals: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// The tables that the next block may take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    literal_lengths: Option<Table>,
    offsets: Option<Table>,
    match_lengths: Option<Table>,
}

/// Reads the section of sequences, and hands out one after the other.
pub(crate) fn read(
    section: &[u8],
    tables: &mut Tables,
    repeats: &mut Repeats,
    uses: &mut TableUses,
    each: &mut dyn FnMut(Sequence) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let (count, rest) = read_count(section)?;
    if count == 0 {
        return match rest {
            [] => Ok(()),
            _ => Err(FormatError("bytes after a block's end")),
        };
    }
    let (modes, mut rest) = rest.split_first().ok_or(ENDS_EARLY)?;
    if modes & 3 != 0 {
        return Err(FormatError("a reserved bit"));
    }
    for (kind, codes, mode, table) in [
        (
            TableKind::LiteralLengths,
            &LITERAL_LENGTHS,
            modes >> 6,
            &mut tables.literal_lengths,
        ),
        (
            TableKind::Offsets,
            &OFFSETS,
            (modes >> 4) & 3,
            &mut tables.offsets,
        ),
        (
            TableKind::MatchLengths,
            &MATCH_LENGTHS,
            (modes >> 2) & 3,
            &mut tables.match_lengths,
        ),
    ] {
        let (table_use, length) = read_table(mode, codes, rest, table)?;
        uses.set(kind, table_use);
        rest = &rest[length..];
    }
    decode(rest, count, tables, repeats, each)
}

const ENDS_EARLY: FormatError = FormatError("a block that ends too early");
const NO_TABLE: FormatError = FormatError("a table that is not there");

fn read_count(section: &[u8]) -> Result<(u32, &[u8]), FormatError> {
    match *section {
        [first @ ..=0x7f, ref rest @ ..] => Ok((u32::from(first), rest)),
        [0xff, low, high, ref rest @ ..] => {
            Ok((u32::from(low) + (u32::from(high) << 8) + 0x7f00, rest))
        }
        [high @ 0x80..=0xfe, low, ref rest @ ..] => {
            Ok(((u32::from(high - 0x80) << 8) + u32::from(low), rest))
        }
        _ => Err(ENDS_EARLY),
    }
}

/// Makes the table that a block says, and tells how long its description was.
fn read_table(
    mode: u8,
    kind: &Kind,
    bytes: &[u8],
    table: &mut Option<Table>,
) -> Result<(TableUse, usize), FormatError> {
    let (read, length) = match mode {
        0 => (Table::known(kind)?, 0),
        1 => {
            let symbol = bytes.first().ok_or(ENDS_EARLY)?;
            (Table::single(kind, *symbol)?, 1)
        }
        2 => Table::read(kind, bytes)?,
        _ if table.is_some() => return Ok((TableUse::Earlier, 0)),
        _ => return Err(NO_TABLE),
    };
    *table = Some(read);
    Ok((TableUse::Own, length))
}

fn decode<'a>(
    bytes: &[u8],
    count: u32,
    tables: &'a Tables,
    repeats: &mut Repeats,
    each: &mut dyn FnMut(Sequence) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut bits = BackwardBits::new(bytes)?;
    let mut start = |table: &'a Option<Table>| {
        let table = table.as_ref().ok_or(NO_TABLE)?;
        State::start(table, &mut bits)
    };
    let mut literals = start(&tables.literal_lengths)?;
    let mut offset = start(&tables.offsets)?;
    let mut length = start(&tables.match_lengths)?;
    for left in (0..count).rev() {
        let value = number(offset.code(), &mut bits)?;
        let match_bytes = number(length.code(), &mut bits)?;
        let literal_bytes = number(literals.code(), &mut bits)?;
        each(Sequence {
            literals: literal_bytes,
            offset: resolve(value, literal_bytes == 0, repeats)?,
            length: match_bytes,
        })?;
        if left > 0 {
            literals.advance(&mut bits)?;
            length.advance(&mut bits)?;
            offset.advance(&mut bits)?;
        }
    }
    if bits.is_at_end() {
        Ok(())
    } else {
        Err(FormatError("bits after the last sequence"))
    }
}

fn number(code: Code, bits: &mut BackwardBits<'_>) -> Result<u32, FormatError> {
    let added = bits.read(u32::from(code.extra_bits))?;
    Ok(code.base + added)
}

/// Values up to 3 repeat an earlier offset; without literals before, another one.
fn resolve(value: u32, no_literals: bool, repeats: &mut Repeats) -> Result<u32, FormatError> {
    let [first, second, third] = *repeats;
    let offset = match (value, no_literals) {
        (1, false) => return Ok(first),
        (2, false) | (1, true) => {
            *repeats = [second, first, third];
            return Ok(second);
        }
        (3, false) | (2, true) => third,
        (3, true) => first - 1,
        (value, _) => value - 3,
    };
    if offset == 0 {
        return Err(FormatError("an offset of nothing"));
    }
    *repeats = [offset, first, second];
    Ok(offset)
}
