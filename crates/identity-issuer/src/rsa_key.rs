//! An RSA key that signs as RS256 (RFC 7518), the one algorithm that all clouds take.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Tags and forms of DER.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const LONG_LENGTH: u8 = 0x80;

/// A private key. Wiped when dropped.
pub struct RsaKey(RsaKeyPair);

/// These bytes are no RSA key that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no RSA key of 2048 bits or more, as PKCS#8")]
pub struct NoKey;

impl RsaKey {
    /// A new key of 2048 bits, which is what all clouds take.
    pub fn generate() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).expect("there is memory for a key"))
    }

    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NoKey> {
        RsaKeyPair::from_pkcs8(der).map(Self).map_err(|_| NoKey)
    }

    pub(crate) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let der: Pkcs8V1Der<'_> = self.0.as_der().expect("a key that was made has this form");
        Zeroizing::new(der.as_ref().to_vec())
    }

    /// The signature of RSASSA-PKCS1-v1_5 with SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NoKey> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = SystemRandom::new();
        let signed = self
            .0
            .sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
        signed.map(|()| signature).map_err(|_| NoKey)
    }

    pub(crate) fn public(&self) -> PublicKey {
        let parts = public_parts(self.0.public_key().as_ref());
        let (modulus, exponent) = parts.expect("the library's own encoding of a public key");
        PublicKey {
            modulus: BASE64_URL_SAFE_NO_PAD.encode(modulus),
            exponent: BASE64_URL_SAFE_NO_PAD.encode(exponent),
        }
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RsaKey(redacted)")
    }
}

/// The half that everybody may have, in the words of JSON web keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) modulus: String,
    pub(crate) exponent: String,
}

impl PublicKey {
    /// The thumbprint of RFC 7638, so that one id is never two keys.
    pub(crate) fn id(&self) -> String {
        // In the order of the RFC, which is that of the alphabet.
        let canonical = format!(
            r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
            self.exponent, self.modulus
        );
        let hash = digest::digest(&digest::SHA256, canonical.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(hash)
    }

    pub(crate) fn to_jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.id(),
            "n": self.modulus,
            "e": self.exponent,
        })
    }
}

/// Modulus and exponent of a PKCS#1 `RSAPublicKey`.
fn public_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, []) = element(SEQUENCE, der)? else {
        return None;
    };
    let (modulus, rest) = element(INTEGER, sequence)?;
    let (exponent, []) = element(INTEGER, rest)? else {
        return None;
    };
    Some((unsigned(modulus), unsigned(exponent)))
}

/// What is in the first element, which must be this one, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    if length < LONG_LENGTH {
        return rest.split_at_checked(usize::from(length));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(length - LONG_LENGTH))?;
    let length = digits.iter().try_fold(0_usize, |sum, digit| {
        sum.checked_mul(256)?.checked_add(usize::from(*digit))
    })?;
    rest.split_at_checked(length)
}

/// Without the zero that says that a number is positive.
fn unsigned(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        // RFC 7638, section 3.1.
        let key = PublicKey {
            modulus: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFx\
                      uhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_R\
                      N5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL\
                      5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBn\
                      iIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
                .to_owned(),
            exponent: "AQAB".to_owned(),
        };
        assert_eq!(key.id(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn public_halves_are_read_or_nothing_is() {
        let key = RsaKey::generate().public();
        assert_eq!(key.exponent, "AQAB");
        assert_eq!(key.modulus.len(), 342);
        let good = [0x30, 0x07, 0x02, 0x02, 0x00, 0x8f, 0x02, 0x01, 0x03];
        assert_eq!(public_parts(&good), Some((&[0x8f][..], &[0x03][..])));
        for end in 0..good.len() {
            assert_eq!(public_parts(&good[..end]), None, "{end}");
        }
        for bad in [
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..],
            &[0x30, 0xff, 0x01],
            &[0x30, 0x80],
            &[0x31, 0x00],
        ] {
            assert_eq!(public_parts(bad), None);
        }
    }

    #[test]
    fn keys_are_read_back_and_not_shown() {
        let key = RsaKey::generate();
        let again = RsaKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(format!("{key:?}"), "RsaKey(redacted)");
        assert_eq!(RsaKey::from_pkcs8(b"CANARY").unwrap_err(), NoKey);
    }
}
