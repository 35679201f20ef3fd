//! Columns of any length, written with little memory, and sections made of them.

use std::io::{self, Write};

use crate::builder::ZSTD_LEVEL;
use crate::column::Column;
use crate::error::BuildError;
use crate::format::Section;
use crate::scratch::{Piece, Scratch};

/// What of a column is in memory before it is kept aside. There are about a dozen of them.
const OPEN_BYTES: usize = 256 * 1024;

/// A column being written, of which all but the end is kept aside.
#[derive(Debug)]
pub(crate) struct LongColumn {
    scratch: Scratch,
    /// What stands before all the rest, and is known last.
    head: Column,
    kept: Vec<Piece>,
    kept_bytes: u64,
    open: Column,
}

impl LongColumn {
    pub(crate) fn new(scratch: &Scratch) -> Self {
        Self {
            scratch: scratch.clone(),
            head: Column::default(),
            kept: Vec::new(),
            kept_bytes: 0,
            open: Column::default(),
        }
    }

    /// Where to write next. [`LongColumn::settle`] is called now and then.
    pub(crate) fn open(&mut self) -> &mut Column {
        &mut self.open
    }

    pub(crate) fn head(&mut self) -> &mut Column {
        &mut self.head
    }

    pub(crate) fn len(&self) -> u64 {
        (self.head.len() + self.open.len()) as u64 + self.kept_bytes
    }

    /// Keeps aside what has become too much.
    pub(crate) fn settle(&mut self) -> Result<(), BuildError> {
        if self.open.len() >= OPEN_BYTES {
            let piece = self.scratch.keep(self.open.as_slice());
            self.kept.push(piece.map_err(BuildError::Write)?);
            self.kept_bytes += self.open.len() as u64;
            self.open.clear();
        }
        Ok(())
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.head.as_slice())?;
        for piece in &self.kept {
            out.write_all(&self.scratch.read(*piece)?)?;
        }
        out.write_all(self.open.as_slice())
    }
}

/// A section, compressed and kept aside.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) section: Section,
    stored: LongColumn,
}

impl Packed {
    /// Packs columns into one section: each with its length before it, as `column::join` does.
    pub(crate) fn new(columns: &[LongColumn], scratch: &Scratch) -> Result<Self, BuildError> {
        let lengths: Vec<Column> = columns.iter().map(length).collect();
        let sizes = columns.iter().zip(&lengths);
        let raw = sizes.map(|(column, length)| column.len() + length.len() as u64);
        let raw: u64 = raw.sum();
        let target = Stored::new(scratch);
        let packed = compress(target, raw, |out| {
            for (column, length) in columns.iter().zip(&lengths) {
                out.write_all(length.as_slice())?;
                column.write_to(out)?;
            }
            Ok(())
        });
        let Stored { hash, column } = packed.map_err(BuildError::Compress)?;
        Ok(Self {
            section: Section {
                stored: column.len(),
                raw,
                digest: *hash.finalize().as_bytes(),
            },
            stored: column,
        })
    }

    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.stored.write_to(out)
    }
}

fn length(column: &LongColumn) -> Column {
    let mut length = Column::default();
    length.number(column.len());
    length
}

fn compress(
    target: Stored,
    raw: u64,
    write: impl FnOnce(&mut zstd::Encoder<'_, Stored>) -> io::Result<()>,
) -> io::Result<Stored> {
    let mut encoder = zstd::Encoder::new(target, ZSTD_LEVEL)?;
    encoder.set_pledged_src_size(Some(raw))?;
    write(&mut encoder)?;
    encoder.finish()
}

/// Compressed bytes on their way aside.
struct Stored {
    hash: blake3::Hasher,
    column: LongColumn,
}

impl Stored {
    fn new(scratch: &Scratch) -> Self {
        Self {
            hash: blake3::Hasher::new(),
            column: LongColumn::new(scratch),
        }
    }
}

impl Write for Stored {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.column.open().raw(bytes);
        self.column.settle().map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{join, split};

    /// A section of long columns is one of columns that were in memory.
    #[test]
    fn what_was_kept_aside_is_in_the_section() {
        let scratch = Scratch::in_memory();
        let (mut long, mut short) = (LongColumn::new(&scratch), LongColumn::new(&scratch));
        let mut whole = Column::default();
        whole.number(7);
        for number in 0..500_000 {
            long.open().number(number);
            long.settle().unwrap();
            whole.number(number);
        }
        long.head().number(7);
        short.open().raw(b"end");
        assert!(long.kept.len() > 3);
        let mut end = Column::default();
        end.raw(b"end");
        let raw = join(&[whole, end]);
        let packed = Packed::new(&[long, short], &scratch).unwrap();
        let mut stored = Vec::new();
        packed.write_to(&mut stored).unwrap();
        assert_eq!(packed.section.stored, stored.len() as u64);
        assert_eq!(packed.section.digest, *blake3::hash(&stored).as_bytes());
        assert_eq!(packed.section.raw, raw.len() as u64);
        let unpacked = zstd::bulk::decompress(&stored, raw.len()).unwrap();
        assert!(unpacked == raw);
        assert!(split::<2>(&unpacked).is_ok());
    }
}
