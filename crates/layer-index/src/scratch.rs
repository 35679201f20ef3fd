//! What of an index is too much for memory while it is made: kept aside, and read back in the end.
//!
//! A layer may have gigabytes of windows and metadata, and whoever indexes it has 64 MiB. Where the
//! bytes are kept is the caller's affair: a file without a name, or memory where layers are small.

use std::fmt;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What can be kept in: a file, or a cursor over memory.
pub trait Room: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> Room for T {}

/// A place for pieces. Clones share it, so that several threads may keep theirs.
#[derive(Clone)]
pub struct Scratch(Arc<Mutex<Kept>>);

struct Kept {
    room: Box<dyn Room>,
    end: u64,
    /// Where the room's cursor is, which reading moves.
    position: u64,
}

/// Bytes that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    offset: u64,
    length: u32,
}

impl Piece {
    pub(crate) const EMPTY: Self = Self {
        offset: 0,
        length: 0,
    };

    pub fn length(self) -> u32 {
        self.length
    }
}

impl Scratch {
    /// Begins at the start of `room`, whatever is there.
    pub fn new(room: impl Room + 'static) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            room: Box::new(room),
            end: 0,
            position: u64::MAX,
        })))
    }

    pub fn in_memory() -> Self {
        Self::new(Cursor::new(Vec::new()))
    }

    pub fn keep(&self, bytes: &[u8]) -> io::Result<Piece> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = kept.end;
        kept.go_to(offset)?;
        kept.room.write_all(bytes)?;
        kept.end += u64::from(length);
        kept.position = kept.end;
        Ok(Piece { offset, length })
    }

    pub fn read(&self, piece: Piece) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; piece.length as usize];
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.go_to(piece.offset)?;
        kept.room.read_exact(&mut bytes)?;
        kept.position = piece.offset + u64::from(piece.length);
        Ok(bytes)
    }
}

impl Kept {
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if self.position != offset {
            // Until it is there nobody knows where it is.
            self.position = u64::MAX;
            self.room.seek(SeekFrom::Start(offset))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Scratch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_in_any_order() {
        let scratch = Scratch::in_memory();
        let other = scratch.clone();
        let first = scratch.keep(b"first").unwrap();
        let none = other.keep(b"").unwrap();
        assert_eq!(scratch.read(first).unwrap(), b"first");
        let second = other.keep(b"second").unwrap();
        assert_eq!(scratch.read(second).unwrap(), b"second");
        assert_eq!(other.read(none).unwrap(), b"");
        assert_eq!(other.read(first).unwrap(), b"first");
    }
}
