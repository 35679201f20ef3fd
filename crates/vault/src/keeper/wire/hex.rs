//! Bytes in JSON as hexadecimal: keys, ids, and paths, which need not be UTF-8.
//!
//! Text of hexadecimal digits has no escapes, so that the parser hands it out where it lies.

use std::ffi::OsString;
use std::fmt;
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::error::VaultError;

/// The kernel takes no longer path.
const PATH_MAX_BYTES: usize = 4096;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Exactly this many bytes. Zeroed when dropped.
pub(crate) struct Hex<const N: usize>(pub(crate) Zeroizing<[u8; N]>);

impl<const N: usize> Hex<N> {
    pub(crate) fn of(bytes: &[u8; N]) -> Self {
        Self(Zeroizing::new(*bytes))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(self.0.as_slice()))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Digits(PhantomData))
    }
}

struct Digits<const N: usize>(PhantomData<[u8; N]>);

impl<const N: usize> Visitor<'_> for Digits<N> {
    type Value = Hex<N>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} hexadecimal digits", 2 * N)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let mut bytes = Zeroizing::new([0; N]);
        if text.len() == 2 * N && from_hex(text, bytes.as_mut_slice()) {
            return Ok(Hex(bytes));
        }
        // Not serde's own error: that one would quote the text.
        Err(E::custom("not hexadecimal, or not of this length"))
    }
}

/// An absolute path: the keeper has another working directory.
pub(crate) struct HexPath(PathBuf);

impl HexPath {
    pub(crate) fn absolute(path: &Path) -> Result<Self, VaultError> {
        let absolute = std::path::absolute(path).and_then(|path| {
            is_path(path.as_os_str().as_bytes())
                .then_some(path)
                .ok_or_else(|| std::io::ErrorKind::InvalidFilename.into())
        });
        absolute.map(Self).map_err(|source| VaultError::Io {
            subject: path.display().to_string(),
            source,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Serialize for HexPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(self.0.as_os_str().as_bytes()))
    }
}

impl<'de> Deserialize<'de> for HexPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PathDigits)
    }
}

struct PathDigits;

impl Visitor<'_> for PathDigits {
    type Value = HexPath;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an absolute path in hexadecimal")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let refused = || E::custom("not an absolute path");
        if text.len() > 2 * PATH_MAX_BYTES {
            return Err(refused());
        }
        let mut bytes = vec![0; text.len() / 2];
        if !from_hex(text, &mut bytes) || !is_path(&bytes) {
            return Err(refused());
        }
        Ok(HexPath(OsString::from_vec(bytes).into()))
    }
}

fn is_path(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'/') && bytes.len() <= PATH_MAX_BYTES && !bytes.contains(&0)
}

fn to_hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Fills the bytes from as many pairs of digits; says whether the text is just that.
fn from_hex(text: &str, bytes: &mut [u8]) -> bool {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != bytes.len() {
        return false;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return false;
        };
        *byte = (high << 4) | low;
    }
    true
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}
