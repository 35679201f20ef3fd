//! The text of an API token, and the hash by which it is known.
//!
//! ```text
//! hf_5d0a…     the prefix and 64 hexadecimal digits: 256 random bits
//! ```
//!
//! The prefix lets scanners of repositories find tokens; the length is what `beta9` asks for at
//! least. A token is shown once and kept as its SHA-256: nothing can be guessed of 256 random bits,
//! so that a slow hash would protect nothing.

use control_store::TokenHash;
use credential::{ExposeSecret, SecretString};
use frames::hex;
use sha2::{Digest, Sha256};

const PREFIX: &str = "hf_";
const JOIN_PREFIX: &str = "hfj_";
const RANDOM_BYTES: usize = 32;

/// A new token.
pub(crate) fn make() -> Result<SecretString, getrandom::Error> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    let mut text = String::with_capacity(PREFIX.len() + 2 * RANDOM_BYTES);
    text.push_str(PREFIX);
    text.push_str(&hex::encode(&random));
    Ok(SecretString::from(text))
}

/// What a token is known by; nothing for a text that is none.
pub(crate) fn hash(text: &str) -> Option<TokenHash> {
    let digits = text.strip_prefix(PREFIX)?;
    let is_token = hex::decode_into(digits, &mut [0; RANDOM_BYTES]);
    is_token.then(|| Sha256::digest(text).into())
}

pub(crate) fn hash_of_made(token: &SecretString) -> TokenHash {
    hash(token.expose_secret()).expect("what was made is a token")
}

/// The text with the digits of whatever looks like a token or a join token left out: people mix
/// up arguments, and some texts are kept.
pub(crate) fn hidden_in(text: &str) -> String {
    let hidden = hidden_after(PREFIX, text);
    hidden_after(JOIN_PREFIX, &hidden)
}

fn hidden_after(prefix: &str, text: &str) -> String {
    let mut pieces = text.split(prefix);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out.push_str(prefix);
        let rest = piece.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
        if piece.len() - rest.len() < RANDOM_BYTES {
            out.push_str(piece);
        } else {
            out.push('…');
            out.push_str(rest);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_made_and_known_by_their_hash() {
        let (one, other) = (make().unwrap(), make().unwrap());
        assert_eq!(hash_of_made(&one), hash_of_made(&one));
        assert_ne!(hash_of_made(&one), hash_of_made(&other));
        assert!(one.expose_secret().len() >= 64, "beta9 asks for so many");
        let text = one.expose_secret();
        for none in ["", "hf_", &text[1..], &text[..66], &text.to_uppercase()] {
            assert_eq!(hash(none), None, "{none:?}");
        }
        assert_eq!(hash(&format!("{text}0")), None);
        assert_eq!(hash(&format!("{text}\n")), None);
    }

    #[test]
    fn tokens_are_hidden_in_texts() {
        let token = make().unwrap();
        let text = token.expose_secret();
        let join = text.replace(PREFIX, JOIN_PREFIX);
        for (given, expected) in [
            (format!("no secret {text}"), "no secret hf_…"),
            (
                format!("{text}, \"{join}\" or hf_x"),
                "hf_…, \"hfj_…\" or hf_x",
            ),
            (text[..40].to_owned(), "hf_…"),
            ("hf_0123 chf_rate".to_owned(), "hf_0123 chf_rate"),
            (String::new(), ""),
        ] {
            assert_eq!(hidden_in(&given), expected, "{given}");
        }
    }
}
