//! Bytes in JSON as hexadecimal: keys, ids, and paths, which need not be UTF-8.
//!
//! Text of hexadecimal digits has no escapes, so that the parser hands it out where it lies.

use std::ffi::OsString;
use std::fmt;
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use frames::hex;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::error::VaultError;

/// The kernel takes no longer path.
const PATH_MAX_BYTES: usize = 4096;

/// Exactly this many bytes. Zeroed when dropped.
pub(crate) struct Hex<const N: usize>(pub(crate) Zeroizing<[u8; N]>);

impl<const N: usize> Hex<N> {
    pub(crate) fn of(bytes: &[u8; N]) -> Self {
        Self(Zeroizing::new(*bytes))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.as_slice()))
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
        if text.len() == 2 * N && hex::decode_into(text, bytes.as_mut_slice()) {
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
        serializer.serialize_str(&hex::encode(self.0.as_os_str().as_bytes()))
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
        if !hex::decode_into(text, &mut bytes) || !is_path(&bytes) {
            return Err(refused());
        }
        Ok(HexPath(OsString::from_vec(bytes).into()))
    }
}

fn is_path(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'/') && bytes.len() <= PATH_MAX_BYTES && !bytes.contains(&0)
}
