//! What an extended header says, read strictly: a number that is none is an error.
//!
//! Of the attributes only `SCHILY.xattr.` is taken, as containerd does.

use layer_index::limits::MAX_XATTRS_PER_ENTRY;
use layer_index::{Mtime, Xattr};
use tar_core::parse::ParsedEntry;
use tar_core::{EntryType, PaxExtensions};

use crate::attributes;
use crate::error::IndexerError;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";
const NANOSECOND_DIGITS: usize = 9;

/// The records that decide over header fields.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Mtime>,
    pub(crate) has_path: bool,
    pub(crate) has_link_path: bool,
    /// Sorted by name; the last of two with one name counts.
    pub(crate) xattrs: Vec<Xattr>,
    sparse: Sparse,
}

/// What is said of a sparse file, apart from the map itself.
#[derive(Debug, Default)]
struct Sparse {
    is_mentioned: bool,
    version: [Option<u64>; 2],
    /// How many parts the map has, in the formats that have the map in records.
    parts: Option<u64>,
    sizes: u32,
}

impl Records {
    pub(crate) fn read(parsed: &ParsedEntry<'_>) -> Result<Self, IndexerError> {
        let mut records = Self::default();
        for extension in PaxExtensions::new(parsed.pax.unwrap_or_default()) {
            let extension = extension.map_err(|error| IndexerError::Archive(error.to_string()))?;
            records.take(extension.key_bytes(), extension.value_bytes())?;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), IndexerError> {
        match key {
            b"size" => self.size = number(value, "size")?,
            b"uid" => self.uid = number(value, "uid")?,
            b"gid" => self.gid = number(value, "gid")?,
            // An empty value takes the record back.
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value)?),
            // Nothing keeps these, but Go's reader reads them.
            b"atime" | b"ctime" if !value.is_empty() => drop(time(value)?),
            b"uname" | b"gname" if value.contains(&0) => return Err(malformed("a name", value)),
            b"path" | b"linkpath" => {
                if value.is_empty() || value.contains(&0) {
                    return Err(malformed("a path", value));
                }
                self.has_path |= key == b"path";
                self.has_link_path |= key == b"linkpath";
            }
            key if key.is_empty() || key.contains(&0) || key == XATTR_PREFIX => {
                return Err(malformed("a key", key));
            }
            key => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.set_xattr(name, value)?;
                } else if let Some(name) = key.strip_prefix(SPARSE_PREFIX) {
                    self.sparse.take(name, value)?;
                }
            }
        }
        Ok(())
    }

    /// `parts` is the length of the map that the parser has found, if it has found one.
    pub(crate) fn check_sparse(
        &self,
        parts: Option<usize>,
        kind: EntryType,
    ) -> Result<(), IndexerError> {
        let sparse = &self.sparse;
        let is_known = match (kind, sparse.is_mentioned, parts) {
            (EntryType::GnuSparse, false, Some(_)) | (_, false, None) => true,
            (EntryType::Regular, true, Some(parts)) => match sparse.version {
                [Some(1), Some(0)] => sparse.parts.is_none(),
                [None, None] | [Some(0), Some(0 | 1)] => sparse.parts == Some(parts as u64),
                _ => false,
            },
            _ => false,
        };
        if is_known && sparse.sizes <= 1 {
            return Ok(());
        }
        let problem = "a sparse file in a form that readers understand differently";
        Err(IndexerError::Archive(problem.to_owned()))
    }

    /// Those that no file could have anyway are dropped before they are sorted in, so that many of
    /// them cost no more than reading them.
    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), IndexerError> {
        if !attributes::has_namespace(name) {
            return Ok(());
        }
        let xattrs = &mut self.xattrs;
        match xattrs.binary_search_by(|(known, _)| known.as_ref().cmp(name)) {
            Ok(at) => xattrs[at].1 = value.into(),
            Err(_) if xattrs.len() == MAX_XATTRS_PER_ENTRY => {
                let problem = format!("a member with more than {MAX_XATTRS_PER_ENTRY} attributes");
                return Err(IndexerError::Archive(problem));
            }
            Err(at) => xattrs.insert(at, (name.into(), value.into())),
        }
        Ok(())
    }
}

impl Sparse {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), IndexerError> {
        self.is_mentioned = true;
        match name {
            b"major" => self.version[0] = number(value, "sparse version")?,
            b"minor" => self.version[1] = number(value, "sparse version")?,
            b"numblocks" => self.parts = number(value, "sparse parts")?,
            b"size" | b"realsize" => {
                self.sizes += 1;
                number(value, "sparse size")?.ok_or_else(|| malformed("sparse size", value))?;
            }
            b"offset" | b"numbytes" => {
                number(value, "sparse part")?.ok_or_else(|| malformed("sparse part", value))?;
            }
            b"map" if !value.is_empty() => {
                let mut parts = value.split(|byte| *byte == b',');
                let is_number = |part: &[u8]| matches!(number(part, "sparse part"), Ok(Some(_)));
                if !parts.all(is_number) {
                    return Err(malformed("sparse map", value));
                }
            }
            _ => {}
        }
        Ok(())
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
        "{what} {:?} cannot be used",
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
