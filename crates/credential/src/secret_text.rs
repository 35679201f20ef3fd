//! A text that goes from a parser into a [`SecretString`].

use std::fmt;

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, Visitor};

/// A text of a document, kept as a secret. Copies that the parser makes to resolve escapes are out
/// of reach.
pub(crate) struct SecretText(pub(crate) SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = SecretText;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(SecretString::from(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}
