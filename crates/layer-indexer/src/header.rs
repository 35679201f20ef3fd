//! The fixed fields of a member's headers, read so strictly that no two readers can differ.
//!
//! A member is a chain: long names and extended headers, then the header of the member itself.
//! `tar-core` follows the chain; here every header of it is read again. Go's reader, GNU tar and
//! `tar-core` agree on all that passes: a number is digits and an end, or base 256 within 63 bits,
//! and nothing is said twice in two ways.

use crate::error::IndexerError;
use crate::pax::Records;

const BLOCK: usize = 512;

const MAGIC: std::ops::Range<usize> = 257..263;
/// With the version that follows it. Where it is another, Go's reader takes the prefix of a name
/// and `tar-core` does not, or the device numbers.
const VERSIONED_MAGIC: std::ops::Range<usize> = 257..265;
const VERSIONED: [&[u8]; 2] = [b"ustar\x0000", b"ustar  \0"];
const USTAR: &[u8] = b"ustar\0";
const GNU: &[u8] = b"ustar ";

/// Fields that are numbers in every format.
const NUMBERS: [(&str, usize, usize); 5] = [
    ("mode", 100, 8),
    ("user id", 108, 8),
    ("group id", 116, 8),
    ("size", 124, 12),
    ("checksum", 148, 8),
];

/// Fields that are numbers where there is a magic.
const DEVICES: [(&str, usize, usize); 2] = [("device number", 329, 8), ("device number", 337, 8)];

/// Fields that Go's reader takes for numbers in GNU's format. Where they are none it reads the
/// rest of the header as another format.
const GNU_TIMES: [(&str, usize, usize); 2] = [("access time", 345, 12), ("change time", 357, 12)];

/// A longer prefix would be read over two of star's fields.
const STAR_TRAILER: (usize, &[u8]) = (508, b"tar\0");

/// The numbers of the header that describes the member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    pub(crate) device: (u64, u64),
    /// The map of a sparse file that stands in front of its content.
    pub(crate) map_bytes: u64,
}

impl Fields {
    /// `headers` is the whole chain, as `tar-core` consumed it.
    pub(crate) fn read(headers: &[u8], records: &Records) -> Result<Self, IndexerError> {
        let mut at = 0;
        loop {
            let block = block(headers, at)?;
            check(block)?;
            let kind = block[156];
            if !matches!(kind, b'L' | b'K' | b'x') {
                let map = headers.len() - at - BLOCK;
                return Self::of_member(block, map);
            }
            let size = usize::try_from(number(block, NUMBERS[3])?).map_err(|_| broken())?;
            let content = headers.get(at + BLOCK..).and_then(|rest| rest.get(..size));
            check_extension(kind, content.ok_or_else(broken)?, records)?;
            at += BLOCK + size.next_multiple_of(BLOCK);
        }
    }

    fn of_member(block: &[u8], map: usize) -> Result<Self, IndexerError> {
        let [mode, uid, gid, size, _] = NUMBERS.map(|field| number(block, field));
        let has_devices = &block[MAGIC] == USTAR || &block[MAGIC] == GNU;
        let device = match DEVICES.map(|field| number(block, field)) {
            [major, minor] if has_devices => (major?, minor?),
            _ => (0, 0),
        };
        let map_bytes = if block[156] == b'S' { 0 } else { map as u64 };
        Ok(Self {
            mode: u32::try_from(mode? & 0o7777).expect("twelve bits"),
            uid: uid?,
            gid: gid?,
            size: size?,
            mtime: signed(block, ("time", 136, 12))?,
            device,
            map_bytes,
        })
    }
}

fn block(headers: &[u8], at: usize) -> Result<&[u8], IndexerError> {
    let rest = headers.get(at..).ok_or_else(broken)?;
    rest.get(..BLOCK).ok_or_else(broken)
}

fn check(block: &[u8]) -> Result<(), IndexerError> {
    if block.iter().all(|byte| *byte == 0) {
        return Err(refused("a zero block between headers"));
    }
    NUMBERS
        .iter()
        .try_for_each(|field| number(block, *field).map(drop))?;
    signed(block, ("time", 136, 12))?;
    let magic = &block[MAGIC];
    if magic.starts_with(b"ustar") && !VERSIONED.contains(&&block[VERSIONED_MAGIC]) {
        return Err(refused("a header of an unknown version"));
    }
    if magic == USTAR || magic == GNU {
        DEVICES
            .iter()
            .try_for_each(|field| number(block, *field).map(drop))?;
    }
    if magic == GNU {
        GNU_TIMES
            .iter()
            .try_for_each(|field| signed(block, *field).map(drop))?;
    }
    if magic == USTAR && &block[STAR_TRAILER.0..] == STAR_TRAILER.1 {
        return Err(refused("a header in the format of star"));
    }
    Ok(())
}

/// Go's reader takes GNU's long name where GNU tar takes the record of the extended header.
fn check_extension(kind: u8, content: &[u8], records: &Records) -> Result<(), IndexerError> {
    let (what, record) = match kind {
        b'L' => ("name", records.has_path),
        b'K' => ("link target", records.has_link_path),
        _ if content.last().is_none_or(|last| *last == b'\n') => return Ok(()),
        _ => return Err(refused("an extended header with more than records in it")),
    };
    if record {
        return Err(refused(&format!(
            "a member with two long forms of its {what}"
        )));
    }
    let text = content.strip_suffix(&[0]).unwrap_or(content);
    if text.is_empty() || text.contains(&0) {
        return Err(refused(&format!(
            "a long {what} that is empty or has a zero byte in it"
        )));
    }
    Ok(())
}

/// Digits between spaces and an end, or base 256.
fn number(block: &[u8], field: (&str, usize, usize)) -> Result<u64, IndexerError> {
    let value = signed(block, field)?;
    u64::try_from(value).map_err(|_| refused(&format!("{} that is negative", field.0)))
}

/// Only times may be negative: by two's complement in base 256.
fn signed(block: &[u8], (what, at, length): (&str, usize, usize)) -> Result<i64, IndexerError> {
    let bytes = &block[at..at + length];
    let number = match bytes[0] {
        0x80 | 0xff => base_256(bytes),
        _ => octal(bytes),
    };
    number.ok_or_else(|| refused(&format!("{what} that is no number")))
}

fn base_256(bytes: &[u8]) -> Option<i64> {
    let is_negative = bytes[0] == 0xff;
    let fill = if is_negative { 0xff } else { 0 };
    let (high, low) = bytes[1..].split_at((bytes.len() - 1).saturating_sub(8));
    let mut wide = [fill; 8];
    wide[8 - low.len()..].copy_from_slice(low);
    let value = i64::from_be_bytes(wide);
    let fits = high.iter().all(|byte| *byte == fill) && (value < 0) == is_negative;
    fits.then_some(value)
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let is_end = |byte: &u8| matches!(byte, 0 | b' ');
    let start = bytes
        .iter()
        .position(|byte| *byte != b' ')
        .unwrap_or(bytes.len());
    let digits = bytes[start..]
        .iter()
        .take_while(|byte| (b'0'..=b'7').contains(*byte));
    let (digits, end) = bytes[start..].split_at(digits.count());
    let fold = |sum: i64, digit: &u8| sum.checked_mul(8)?.checked_add(i64::from(digit - b'0'));
    end.iter()
        .all(is_end)
        .then(|| digits.iter().try_fold(0, fold))?
}

fn broken() -> IndexerError {
    refused("headers that do not add up")
}

fn refused(what: &str) -> IndexerError {
    IndexerError::Archive(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_one_way_only() {
        for (bytes, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"00000644", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x00000644\0", None),
            (b"+000644\0", None),
            (b"0000648\0", None),
            (b"0644\0x\0\0", None),
            (b"-000644\0", None),
            (b"\xc0\0\0\0\0\0\x01\0", None),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            let found = signed(bytes, ("number", 0, bytes.len())).ok();
            assert_eq!(found, expected, "{bytes:?}");
        }
    }
}
