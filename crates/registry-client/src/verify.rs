//! Digests of bytes, whole or as they come.

use std::fmt::Write as _;

use reference::Digest;
use sha2::{Digest as _, Sha256, Sha512};

/// A hash under way, by the algorithm of the digest that it will be compared with.
#[derive(Debug)]
pub(crate) enum Hasher {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub(crate) fn for_digest(digest: &Digest) -> Self {
        match digest.algorithm() {
            "sha512" => Self::Sha512(Box::default()),
            _ => Self::Sha256(Box::default()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn matches(self, expected: &Digest) -> bool {
        let hex = match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
        };
        hex == expected.hex()
    }
}

/// Whether `bytes` have this digest.
pub(crate) fn matches(bytes: &[u8], expected: &Digest) -> bool {
    let mut hasher = Hasher::for_digest(expected);
    hasher.update(bytes);
    hasher.matches(expected)
}

/// The SHA-256 digest of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_verify() {
        let sha512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for text in [sha512, sha256] {
            let digest = Digest::parse(text).expect("digest");
            assert!(matches(b"abc", &digest));
            assert!(!matches(b"abd", &digest));
        }
        assert_eq!(super::sha256(b"abc").as_str(), sha256);
    }
}
