//! Columns of numbers and byte strings: LEB128 out, bounded LEB128 in.

use crate::error::IndexError;

/// A column being written.
#[derive(Debug, Default)]
pub(crate) struct Column(Vec<u8>);

impl Column {
    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    pub(crate) fn signed(&mut self, value: i64) {
        self.number((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A column being read. Running out is an error, never a panic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

const RAN_OUT: IndexError = IndexError::Corrupt("a column ends too early");

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn number(&mut self) -> Result<u64, IndexError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.raw(1)?[0];
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(IndexError::Corrupt("a number is too long"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, IndexError> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A number that has to fit a smaller type.
    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, IndexError> {
        T::try_from(self.number()?).map_err(|_| IndexError::Corrupt("a number is out of range"))
    }

    /// A length-prefixed byte string of at most `max` bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> Result<&'a [u8], IndexError> {
        let length: usize = self.narrow()?;
        if length > max {
            return Err(IndexError::Limit("a byte string is too long"));
        }
        self.raw(length)
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], IndexError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RAN_OUT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        Ok(self
            .raw(N)?
            .try_into()
            .expect("raw returns the length asked for"))
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, IndexError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64_le(&mut self) -> Result<u64, IndexError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What must be there when a column has been read: nothing.
    pub(crate) fn end(self) -> Result<(), IndexError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(IndexError::Corrupt("a column has a rest"))
        }
    }
}

/// Packs columns into one section: each with its length before it.
pub(crate) fn join(columns: &[Column]) -> Vec<u8> {
    let mut joined = Column::default();
    for column in columns {
        joined.bytes(column.as_slice());
    }
    joined.0
}

/// Takes a section apart again.
pub(crate) fn split<const N: usize>(section: &[u8]) -> Result<[Reader<'_>; N], IndexError> {
    let mut reader = Reader::new(section);
    let mut columns = [Reader::new(&[]); N];
    for column in &mut columns {
        *column = Reader::new(reader.bytes(usize::MAX)?);
    }
    reader.end()?;
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut column = Column::default();
        let unsigned = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX, -1_000_000_000];
        for value in unsigned {
            column.number(value);
        }
        for value in signed {
            column.signed(value);
        }
        let mut reader = Reader::new(column.as_slice());
        for value in unsigned {
            assert_eq!(reader.number().expect("there"), value);
        }
        for value in signed {
            assert_eq!(reader.signed().expect("there"), value);
        }
        assert!(reader.end().is_ok());
        assert!(reader.number().is_err());
        assert!(Reader::new(&[0xff; 11]).number().is_err());
    }
}
