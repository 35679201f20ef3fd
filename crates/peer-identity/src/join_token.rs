//! The token by which one worker joins, once.
//!
//! ```text
//! hfj_5d0a…    the prefix, 64 hexadecimal digits of 256 random bits, and 64 of the gateway's key
//! ```
//!
//! It tells the worker whom to trust and the gateway whom to let in. The gateway keeps its SHA-256:
//! nothing can be guessed of 256 random bits, so that a slow hash would protect nothing.

use std::fmt;

use credential::{ExposeSecret, SecretString};
use frames::hex;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::key::{Fingerprint, IdentityError};

const PREFIX: &str = "hfj_";
const RANDOM_BYTES: usize = 32;
const RANDOM_DIGITS: usize = 2 * RANDOM_BYTES;

/// What a token is known by.
pub type JoinTokenHash = [u8; 32];

/// A token that has the form of one.
pub struct JoinToken {
    text: SecretString,
    gateway: Fingerprint,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JoinToken")
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

impl JoinToken {
    /// A new token, to join the gateway that has this key.
    pub fn make(gateway: Fingerprint) -> Result<Self, IdentityError> {
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(&mut *random).map_err(IdentityError::Random)?;
        let random = hex::encode(&*random);
        let text = format!("{PREFIX}{}{gateway}", *random);
        Ok(Self {
            text: SecretString::from(text),
            gateway,
        })
    }

    /// Nothing for a text that is no token.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let (random, gateway) = digits.split_at_checked(RANDOM_DIGITS)?;
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        hex::decode_into(random, &mut *bytes).then_some(())?;
        Some(Self {
            text: SecretString::from(text),
            gateway: gateway.parse().ok()?,
        })
    }

    /// The key of the gateway that made it.
    pub fn gateway(&self) -> Fingerprint {
        self.gateway
    }

    pub fn hash(&self) -> JoinTokenHash {
        Sha256::digest(self.text.expose_secret()).into()
    }

    pub fn text(&self) -> &SecretString {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyPair;

    #[test]
    fn tokens_are_read_as_they_are_made_and_never_shown() {
        let gateway = KeyPair::make().unwrap().fingerprint();
        let token = JoinToken::make(gateway).unwrap();
        let text = token.text().expose_secret().to_owned();
        let read = JoinToken::parse(&text).unwrap();
        assert_eq!((read.gateway(), read.hash()), (gateway, token.hash()));
        let other = JoinToken::make(gateway).unwrap();
        assert_ne!(other.hash(), token.hash());
        let shown = format!("{token:?}");
        assert!(!shown.contains(&text[4..68]), "{shown}");
    }

    #[test]
    fn what_has_not_the_form_is_no_token() {
        let gateway = KeyPair::make().unwrap().fingerprint();
        let token = JoinToken::make(gateway).unwrap();
        let text = token.text().expose_secret();
        let wide = format!("hfj_{}\u{e9}{}", &text[4..67], &text[68..]);
        let table = [
            "",
            "hfj_",
            &text[1..],
            &text[..131],
            &format!("{text}0"),
            &format!("{text}\n"),
            &text.to_uppercase(),
            &text.replace("hfj_", "hf_"),
            &wide,
        ];
        for text in table {
            assert!(JoinToken::parse(text).is_none(), "{text:?}");
        }
    }
}
