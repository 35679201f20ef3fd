//! Content digests as registries write them.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseReferenceError;

/// A digest whose algorithm is known and whose hex has the right length and case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:…` or `sha512:…`.
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        let hex_length = |algorithm: &str| match algorithm {
            "sha256" => Some(64),
            "sha512" => Some(128),
            _ => None,
        };
        let is_hex = |hex: &str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.split_once(':') {
            Some((algorithm, hex)) if hex_length(algorithm) == Some(hex.len()) && is_hex(hex) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(ParseReferenceError::Digest {
                digest: text.chars().take(160).collect(),
            }),
        }
    }

    /// The digest that a SHA-256 computation gave.
    pub fn sha256(bytes: [u8; 32]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn algorithm(&self) -> &str {
        self.parts().0
    }

    pub fn hex(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').expect("a parsed digest has a colon")
    }
}

impl FromStr for Digest {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
