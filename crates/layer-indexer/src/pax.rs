//! What an extended header says, read strictly: a number that is none is an error.
//!
//! Of the attributes only `SCHILY.xattr.` is taken, as containerd does.

use layer_index::{Mtime, Xattr};
use tar_core::PaxExtensions;
use tar_core::parse::ParsedEntry;

use crate::error::IndexerError;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const NANOSECOND_DIGITS: usize = 9;

/// The records that decide over header fields.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Mtime>,
    /// Sorted by name; the last of two with one name counts.
    pub(crate) xattrs: Vec<Xattr>,
}

impl Records {
    pub(crate) fn read(parsed: &ParsedEntry<'_>) -> Result<Self, IndexerError> {
        let mut records = Self::default();
        let mut sparse = false;
        for extension in PaxExtensions::new(parsed.pax.unwrap_or_default()) {
            let extension = extension.map_err(|error| IndexerError::Archive(error.to_string()))?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"size" => records.size = number(value, "size")?,
                b"uid" => records.uid = number(value, "uid")?,
                b"gid" => records.gid = number(value, "gid")?,
                b"mtime" => records.mtime = Some(time(value)?),
                key if key.starts_with(b"GNU.sparse.") => sparse = true,
                key => {
                    if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                        records.set_xattr(name, value);
                    }
                }
            }
        }
        if sparse {
            // The parser has taken the map off the content already.
            records.size = None;
        }
        Ok(records)
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) {
        match self
            .xattrs
            .binary_search_by(|(known, _)| known.as_ref().cmp(name))
        {
            Ok(at) => self.xattrs[at].1 = value.into(),
            Err(at) => self.xattrs.insert(at, (name.into(), value.into())),
        }
    }
}

/// An empty value takes the record back.
fn number(value: &[u8], what: &str) -> Result<Option<u64>, IndexerError> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    let number = text.and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| malformed(what, value))
}

/// Seconds with a fraction, possibly negative. The fraction is cut to nanoseconds.
fn time(value: &[u8]) -> Result<Mtime, IndexerError> {
    let error = || malformed("mtime", value);
    let text = std::str::from_utf8(value).map_err(|_| error())?;
    let (negative, text) = text
        .strip_prefix('-')
        .map_or((false, text), |text| (true, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(error());
    }
    let seconds: i64 = whole.parse().map_err(|_| error())?;
    let padded: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(NANOSECOND_DIGITS)
        .collect();
    let nanoseconds: u32 = padded.parse().map_err(|_| error())?;
    Ok(match (negative, nanoseconds) {
        (false, nanoseconds) => Mtime {
            seconds,
            nanoseconds,
        },
        (true, 0) => Mtime {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, nanoseconds) => Mtime {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

fn malformed(what: &str, value: &[u8]) -> IndexerError {
    IndexerError::Archive(format!(
        "{what} {:?} is no number",
        String::from_utf8_lossy(value)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
            ("5.5", 5, 500_000_000),
            ("5.1234567899", 5, 123_456_789),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.000000001", -1, 999_999_999),
        ] {
            let read = time(text.as_bytes()).expect(text);
            assert_eq!(
                read,
                Mtime {
                    seconds,
                    nanoseconds
                },
                "{text}"
            );
        }
        for text in ["", "-", ".5", "1e9", "1.x", " 1", "99999999999999999999"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }
}
