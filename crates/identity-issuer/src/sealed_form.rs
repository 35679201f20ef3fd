//! The one form of a key set that has its private keys: what is sealed.

use std::collections::VecDeque;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::key_set::{FormerKey, KeySet, OwnKey};
use crate::rsa_key::{PublicKey, RsaKey};

const VERSION: u32 = 1;
/// More than a set of two private keys and a few public ones takes.
const ROOM_BYTES: usize = 16 * 1024;

/// A text is no key set. Repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed keys of the issuer are not of a known form")]
pub struct NoKeySet;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    current: Own,
    next: Own,
    former: VecDeque<Former>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// Base64 of PKCS#8.
    private_key: String,
    published_at_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Former {
    modulus: String,
    exponent: String,
    published_at_ms: i64,
    retired_at_ms: i64,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl KeySet {
    pub fn to_sealed(&self) -> SecretString {
        let own = |key: &OwnKey| Own {
            private_key: BASE64_STANDARD.encode(key.key.to_pkcs8()),
            published_at_ms: key.published_at.as_millisecond(),
        };
        let former = |key: &FormerKey| Former {
            modulus: key.public.modulus.clone(),
            exponent: key.public.exponent.clone(),
            published_at_ms: key.published_at.as_millisecond(),
            retired_at_ms: key.retired_at.as_millisecond(),
        };
        let form = Form {
            version: VERSION,
            current: own(&self.current),
            next: own(&self.next),
            former: self.former.iter().map(former).collect(),
        };
        // With room from the start, so that no half-written buffer is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM_BYTES));
        serde_json::to_writer(&mut *bytes, &form).expect("texts serialise, and memory is at hand");
        let text = std::str::from_utf8(&bytes).expect("JSON is UTF-8");
        let mut exact = String::with_capacity(text.len());
        exact.push_str(text);
        SecretString::from(exact)
    }

    pub fn from_sealed(sealed: &SecretString) -> Result<Self, NoKeySet> {
        let form: Form = serde_json::from_str(sealed.expose_secret()).map_err(|_| NoKeySet)?;
        if form.version != VERSION {
            return Err(NoKeySet);
        }
        let former = form.former.into_iter().map(FormerKey::try_from);
        Ok(Self {
            current: OwnKey::try_from(&form.current)?,
            next: OwnKey::try_from(&form.next)?,
            former: former.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<&Own> for OwnKey {
    type Error = NoKeySet;

    fn try_from(own: &Own) -> Result<Self, NoKeySet> {
        let der = BASE64_STANDARD.decode(&own.private_key);
        let der = Zeroizing::new(der.map_err(|_| NoKeySet)?);
        let key = RsaKey::from_pkcs8(&der).map_err(|_| NoKeySet)?;
        Ok(Self {
            public: key.public(),
            key,
            published_at: time(own.published_at_ms)?,
        })
    }
}

impl TryFrom<Former> for FormerKey {
    type Error = NoKeySet;

    fn try_from(former: Former) -> Result<Self, NoKeySet> {
        Ok(Self {
            public: PublicKey {
                modulus: former.modulus,
                exponent: former.exponent,
            },
            published_at: time(former.published_at_ms)?,
            retired_at: time(former.retired_at_ms)?,
        })
    }
}

fn time(milliseconds: i64) -> Result<Timestamp, NoKeySet> {
    Timestamp::from_millisecond(milliseconds).map_err(|_| NoKeySet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_back() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let set = KeySet::new(now);
        let later = Timestamp::from_second(1_900_000_000).unwrap();
        let set = set.rotated(later).unwrap();
        let read = KeySet::from_sealed(&set.to_sealed()).unwrap();
        assert_eq!(read.public(), set.public());
        assert_eq!(read.former, set.former);
        let shown = format!("{set:?}");
        assert!(!shown.contains("MII"), "{shown}");
    }

    #[test]
    fn other_texts_are_refused_without_being_repeated() {
        let now = Timestamp::UNIX_EPOCH;
        let sealed = KeySet::new(now).to_sealed();
        let good = sealed.expose_secret();
        for text in [
            String::new(),
            "hunter2".to_owned(),
            good.replacen("\"version\":1", "\"version\":2", 1),
            good.replacen("MII", "hunter2", 1),
            good.replacen("\"former\":[]", "\"former\":[1]", 1),
            good.replacen("\"former\"", "\"formed\"", 1),
        ] {
            let error = KeySet::from_sealed(&SecretString::from(text)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
