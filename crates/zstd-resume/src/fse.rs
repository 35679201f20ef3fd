//! Tables of finite state entropy, for the three kinds of codes that sequences have.

use crate::FormatError;
use crate::bits::{BackwardBits, ForwardBits};

/// The largest table of any kind.
const LOG_MAX: u32 = 9;

/// Symbols of the kind that has most of them.
const SYMBOLS_MAX: usize = 53;

/// What a code stands for: a number, and how many bits are to be added to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub(crate) base: u32,
    pub(crate) extra_bits: u8,
}

/// A state: its code, and what the next state is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) code: Code,
    next_bits: u8,
    next_base: u16,
}

/// A kind of codes.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) code: fn(u8) -> Code,
    pub(crate) symbols: usize,
    pub(crate) log_max: u32,
    /// The table that everybody knows.
    pub(crate) known: &'static [i16],
    pub(crate) known_log: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    cells: Vec<Cell>,
    log: u32,
}

impl Table {
    pub(crate) fn known(kind: &Kind) -> Result<Self, FormatError> {
        Self::build(kind, kind.known, kind.known_log)
    }

    /// A table of one symbol.
    pub(crate) fn single(kind: &Kind, symbol: u8) -> Result<Self, FormatError> {
        if usize::from(symbol) >= kind.symbols {
            return Err(FormatError("an unknown code"));
        }
        let cell = Cell {
            code: (kind.code)(symbol),
            next_bits: 0,
            next_base: 0,
        };
        Ok(Self {
            cells: vec![cell],
            log: 0,
        })
    }

    /// Reads a table off the front of `bytes`. Says how long it was.
    pub(crate) fn read(kind: &Kind, bytes: &[u8]) -> Result<(Self, usize), FormatError> {
        let mut bits = ForwardBits::new(bytes);
        let log = bits.read(4)? + 5;
        if log > kind.log_max.min(LOG_MAX) {
            return Err(FormatError("a table that is too large"));
        }
        let mut shares = Vec::with_capacity(SYMBOLS_MAX);
        let mut left = 1_i32 << log;
        while left > 0 {
            let share = read_share(&mut bits, left)?;
            left -= i32::from(share).abs();
            shares.push(share);
            if share == 0 {
                read_zeros(&mut bits, &mut shares)?;
            }
            if shares.len() > kind.symbols {
                return Err(FormatError("an unknown code"));
            }
        }
        if left < 0 {
            return Err(FormatError("a table that does not add up"));
        }
        Ok((Self::build(kind, &shares, log)?, bits.bytes_read()))
    }

    /// `shares` are how many states each symbol has; -1 is one at the end.
    fn build(kind: &Kind, shares: &[i16], log: u32) -> Result<Self, FormatError> {
        let size = 1_usize << log;
        let mut symbols = vec![0_u8; size];
        let mut high = size;
        for (symbol, _) in (0_u8..).zip(shares).filter(|(_, share)| **share < 0) {
            high -= 1;
            symbols[high] = symbol;
        }
        spread(shares, &mut symbols, high)?;
        let share = |symbol: u8| usize::from(shares[usize::from(symbol)].unsigned_abs());
        let mut next: Vec<usize> = (0_u8..).zip(shares).map(|(at, _)| share(at)).collect();
        let cells = symbols.into_iter().map(|symbol| {
            let state = &mut next[usize::from(symbol)];
            let next_bits = log - state.ilog2();
            let next_base = (*state << next_bits) - size;
            *state += 1;
            Cell {
                code: (kind.code)(symbol),
                next_bits: u8::try_from(next_bits).expect("at most LOG_MAX"),
                next_base: u16::try_from(next_base).expect("less than a table's size"),
            }
        });
        let cells = cells.collect();
        Ok(Self { cells, log })
    }
}

/// How many of the `left` states the next symbol has. Small numbers take a bit less.
fn read_share(bits: &mut ForwardBits<'_>, left: i32) -> Result<i16, FormatError> {
    let above = u32::try_from(left + 1).expect("some are left");
    let width = above.ilog2() + 1;
    let (value, low) = (bits.peek(width), (1 << (width - 1)) - 1);
    let short = (1 << width) - 1 - above;
    let value = if value & low < short {
        bits.skip(width - 1)?;
        value & low
    } else {
        bits.skip(width)?;
        if value > low { value - short } else { value }
    };
    let value = i16::try_from(value).expect("at most ten bits");
    Ok(value - 1)
}

/// After a symbol without states: how many more there are, by threes.
fn read_zeros(bits: &mut ForwardBits<'_>, shares: &mut Vec<i16>) -> Result<(), FormatError> {
    loop {
        let repeat = bits.read(2)?;
        shares.extend((0..repeat).map(|_| 0));
        if repeat < 3 || shares.len() > SYMBOLS_MAX {
            return Ok(());
        }
    }
}

/// Scatters symbols over the states below `high`.
fn spread(shares: &[i16], symbols: &mut [u8], high: usize) -> Result<(), FormatError> {
    let (size, mut at) = (symbols.len(), 0);
    let step = size / 2 + size / 8 + 3;
    for (symbol, share) in (0_u8..).zip(shares) {
        for _ in 0..*share {
            symbols[at] = symbol;
            at = (at + step) % size;
            while at >= high && high > 0 {
                at = (at + step) % size;
            }
        }
    }
    if at == 0 || high == 0 {
        Ok(())
    } else {
        Err(FormatError("a table that does not add up"))
    }
}

/// Where decoding with a table stands.
#[derive(Debug)]
pub(crate) struct State<'a> {
    table: &'a Table,
    at: usize,
}

impl<'a> State<'a> {
    pub(crate) fn start(
        table: &'a Table,
        bits: &mut BackwardBits<'_>,
    ) -> Result<Self, FormatError> {
        let at = bits.read(table.log)? as usize;
        Ok(Self { table, at })
    }

    pub(crate) fn code(&self) -> Code {
        self.table.cells[self.at].code
    }

    pub(crate) fn advance(&mut self, bits: &mut BackwardBits<'_>) -> Result<(), FormatError> {
        let cell = self.table.cells[self.at];
        let added = bits.read(u32::from(cell.next_bits))? as usize;
        self.at = usize::from(cell.next_base) + added;
        Ok(())
    }
}
