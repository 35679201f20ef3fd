//! Bytes in JSON as hexadecimal: for what need not be UTF-8, and for secrets, which then never
//! contain what a parser would have to unescape into a buffer of its own.

use std::fmt;

use credential::{ExposeSecret, SecretString};
use frames::hex;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

/// Bytes that are no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HexBytes(pub(crate) Vec<u8>);

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = deserializer.deserialize_str(Hexadecimal)?;
        Ok(Self(std::mem::take(&mut *bytes)))
    }
}

/// The one place where a secret is written down.
#[derive(Clone)]
pub(crate) struct WireSecret(pub(crate) SecretString);

impl fmt::Debug for WireSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WireSecret(redacted)")
    }
}

impl WireSecret {
    /// Bytes that it takes in JSON.
    pub(crate) fn wire_length(&self) -> usize {
        self.0.expose_secret().len() * 2
    }
}

impl Serialize for WireSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.expose_secret().as_bytes()))
    }
}

impl<'de> Deserialize<'de> for WireSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = deserializer.deserialize_str(Hexadecimal)?;
        match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Ok(Self(text.into())),
            Err(error) => {
                error.into_bytes().zeroize();
                Err(D::Error::custom("a secret is not text"))
            }
        }
    }
}

struct Hexadecimal;

impl Visitor<'_> for Hexadecimal {
    type Value = Zeroizing<Vec<u8>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("hexadecimal text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        // Not serde's own error: that one would quote the text.
        from_hex(text).ok_or_else(|| E::custom("not hexadecimal"))
    }
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    // Of its length from the beginning, so that the buffer is never copied to make it so.
    let mut bytes = Zeroizing::new(vec![0; text.len() / 2]);
    hex::decode_into(text, &mut bytes).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_there_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&hex::encode(&all)).as_deref(), Some(&all));
        for wrong in ["0", "0g", "0A", "é", "00 1"] {
            assert!(from_hex(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_and_not_quoted_in_errors() {
        let secret = WireSecret("hunter2\"\\\n".to_owned().into());
        assert!(!format!("{secret:?}").contains("hunter2"));
        let json = serde_json::to_string(&secret).unwrap();
        assert!(!json.contains('\\') && json.len() == secret.wire_length() + 2);
        let back: WireSecret = serde_json::from_str(&json).unwrap();
        assert_eq!(back.0.expose_secret(), secret.0.expose_secret());
        for wrong in ["\"hunter2\"", "\"ff\"", "7"] {
            let error = serde_json::from_str::<WireSecret>(wrong)
                .unwrap_err()
                .to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
