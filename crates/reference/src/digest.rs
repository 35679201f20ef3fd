//! Content digests: `sha256` and `sha512`, exact length, lower-case hex, nothing else. A value of
//! [`Digest`] is always well formed. Does not hash.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::characters::is_lower_hex;

/// The algorithms accepted in a name, and how many hexadecimal digits each has.
const ALGORITHMS: [(&str, usize); 2] = [("sha256", 64), ("sha512", 128)];

/// The digest of a manifest or a blob, `algorithm:hex`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    #[error("digest has no ':' between algorithm and value")]
    NoSeparator,
    #[error("digest algorithm is not sha256 or sha512")]
    UnsupportedAlgorithm,
    #[error("{algorithm} digest must have {expected} hexadecimal digits, not {actual}")]
    WrongLength {
        algorithm: &'static str,
        expected: usize,
        actual: usize,
    },
    #[error("digest value must be lower-case hexadecimal")]
    NotLowerHex,
}

impl Digest {
    /// Reads `sha256:…` or `sha512:…`.
    pub fn parse(text: &str) -> Result<Self, ParseDigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(ParseDigestError::NoSeparator)?;
        let (algorithm, expected) = ALGORITHMS
            .into_iter()
            .find(|(known, _)| *known == algorithm)
            .ok_or(ParseDigestError::UnsupportedAlgorithm)?;
        if hex.len() != expected {
            let actual = hex.len();
            return Err(ParseDigestError::WrongLength {
                algorithm,
                expected,
                actual,
            });
        }
        if !hex.bytes().all(is_lower_hex) {
            return Err(ParseDigestError::NotLowerHex);
        }
        Ok(Self(text.to_owned()))
    }

    /// The digest whose SHA-256 value is `bytes`.
    pub fn sha256(bytes: [u8; 32]) -> Self {
        let mut text = String::from("sha256:");
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.halves().0
    }

    /// The value, without the algorithm.
    pub fn hex(&self) -> &str {
        self.halves().1
    }

    fn halves(&self) -> (&str, &str) {
        self.0
            .split_once(':')
            .expect("a digest holds a ':' by construction")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_digest() {
        let digest = Digest::sha256([0xab; 32]);
        assert_eq!(digest.algorithm(), "sha256");
        assert_eq!(digest.hex(), "ab".repeat(32));
        assert_eq!(Digest::parse(digest.as_str()), Ok(digest.clone()));
        let long = format!("sha512:{}", "0".repeat(128));
        assert_eq!(
            Digest::parse(&long).map(|digest| digest.to_string()),
            Ok(long)
        );
    }

    #[test]
    fn malformed_digests_are_refused() {
        let hex = "a".repeat(64);
        let wrong = |actual| ParseDigestError::WrongLength {
            algorithm: "sha256",
            expected: 64,
            actual,
        };
        let table = [
            (String::new(), ParseDigestError::NoSeparator),
            (hex.clone(), ParseDigestError::NoSeparator),
            (
                format!("sha384:{}", "a".repeat(96)),
                ParseDigestError::UnsupportedAlgorithm,
            ),
            (
                format!("SHA256:{hex}"),
                ParseDigestError::UnsupportedAlgorithm,
            ),
            (
                format!("sha256+b64:{hex}"),
                ParseDigestError::UnsupportedAlgorithm,
            ),
            (format!(":{hex}"), ParseDigestError::UnsupportedAlgorithm),
            ("sha256:".to_owned(), wrong(0)),
            (format!("sha256:{}", &hex[1..]), wrong(63)),
            (format!("sha256:{hex}a"), wrong(65)),
            (
                format!("sha256:{}", "A".repeat(64)),
                ParseDigestError::NotLowerHex,
            ),
            (
                format!("sha256:{}g", &hex[1..]),
                ParseDigestError::NotLowerHex,
            ),
            (
                format!("sha256:{}\u{e9}", &hex[2..]),
                ParseDigestError::NotLowerHex,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(Digest::parse(&text), Err(expected), "{text:?}");
        }
    }
}
