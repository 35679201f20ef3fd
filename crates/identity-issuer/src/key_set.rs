//! The keys of an issuer and how one follows another.
//!
//! A rotation is one step from one set to the next, so that whoever stores sets has either, and
//! none in between. What has changed is only what is published and who signs: tokens of the former
//! key are believed until they are dead.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::issuer_url::IssuerUrl;
use crate::rsa_key::{NoKey, PublicKey, RsaKey};
use crate::token;

/// A key is published for so long before it signs: some verifiers look for keys once a day.
pub const PUBLISHED_BEFORE: Duration = Duration::from_hours(24);
/// A key is published for so long after it has signed its last token: until that is dead, by the
/// clock of a verifier that is behind, and was minted by a process that learned late.
pub const PUBLISHED_AFTER: Duration = Duration::from_hours(1);
/// For so long a key signs before another is to: what was read of it unnoticed, such as from memory
/// or a copy of the disk, is worth nothing after. Well above the day for which the next key must be
/// known, so that it has been for months.
pub const REPLACED_AFTER: Duration = Duration::from_hours(90 * 24);
/// Former keys that are published at most. A clock that shows the right time leaves one.
const MAX_FORMER: usize = 4;

/// What a key is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Signs.
    Current,
    /// Will sign, and is known before it does.
    Next,
    /// Has signed.
    Former,
}

impl KeyState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Former => "former",
        }
    }
}

/// The next key is not known for long enough to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the next key signs from {from}; verifiers may not know it before")]
pub struct TooEarly {
    pub from: Timestamp,
}

/// A key that is not only published.
#[derive(Debug)]
pub(crate) struct OwnKey {
    pub(crate) key: RsaKey,
    pub(crate) public: PublicKey,
    pub(crate) published_at: Timestamp,
}

/// A key of which the private half is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormerKey {
    pub(crate) public: PublicKey,
    pub(crate) published_at: Timestamp,
    pub(crate) retired_at: Timestamp,
}

/// All keys of an issuer.
#[derive(Debug)]
pub struct KeySet {
    pub(crate) current: OwnKey,
    pub(crate) next: OwnKey,
    /// The youngest first.
    pub(crate) former: VecDeque<FormerKey>,
}

impl OwnKey {
    fn new(now: Timestamp) -> Self {
        let key = RsaKey::generate();
        Self {
            public: key.public(),
            key,
            published_at: now,
        }
    }
}

impl KeySet {
    /// The first keys, or those in place of all that may be in wrong hands. Nobody knows any yet,
    /// so that one may sign at once.
    pub fn new(now: Timestamp) -> Self {
        Self {
            current: OwnKey::new(now),
            next: OwnKey::new(now),
            former: VecDeque::new(),
        }
    }

    /// The set in which the next key signs and another is to follow it. A next key that will be
    /// published was made by a clock that was ahead, and would have to be waited for for as long:
    /// another takes its place, to be waited for a day.
    pub fn rotated(self, now: Timestamp) -> Result<Self, TooEarly> {
        if now < self.next.published_at {
            let next = OwnKey::new(now);
            return Ok(Self { next, ..self });
        }
        let from = later(self.next.published_at, PUBLISHED_BEFORE);
        if now < from {
            return Err(TooEarly { from });
        }
        let mut former = self.former;
        former.retain(|key| key.is_published(now));
        former.push_front(FormerKey {
            public: self.current.public,
            published_at: self.current.published_at,
            retired_at: now,
        });
        former.truncate(MAX_FORMER);
        Ok(Self {
            current: self.next,
            next: OwnKey::new(now),
            former,
        })
    }

    /// A token that says to `audience` that its bearer is `subject`.
    pub fn identity_token(
        &self,
        issuer: &IssuerUrl,
        subject: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<SecretString, NoKey> {
        let claims = token::claims(issuer, subject, audience, now);
        let id = self.current.public.id();
        token::sign(&self.current.key, Some(&id), &claims)
    }

    /// What everybody may have of it.
    pub fn public(&self) -> PublicKeys {
        let own = |key: &OwnKey, state| PublishedKey {
            public: key.public.clone(),
            row: KeyRow {
                id: key.public.id(),
                state,
                published_at: key.published_at,
                retired_at: None,
            },
        };
        let former = |key: &FormerKey| PublishedKey {
            public: key.public.clone(),
            row: KeyRow {
                id: key.public.id(),
                state: KeyState::Former,
                published_at: key.published_at,
                retired_at: Some(key.retired_at),
            },
        };
        let mut keys = vec![
            own(&self.current, KeyState::Current),
            own(&self.next, KeyState::Next),
        ];
        keys.extend(self.former.iter().map(former));
        PublicKeys(keys)
    }
}

impl FormerKey {
    fn is_published(&self, now: Timestamp) -> bool {
        now < later(self.retired_at, PUBLISHED_AFTER)
    }
}

/// The public halves of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys(
    /// The current one first.
    Vec<PublishedKey>,
);

#[derive(Debug, Clone, PartialEq, Eq)]
struct PublishedKey {
    public: PublicKey,
    row: KeyRow,
}

/// A key as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// What tokens name it by.
    pub id: String,
    pub state: KeyState,
    pub published_at: Timestamp,
    pub retired_at: Option<Timestamp>,
}

impl PublicKeys {
    /// The document for verifiers (RFC 7517). Without keys whose last token is dead.
    pub fn to_jwks(&self, now: Timestamp) -> Value {
        let keys = self.published(now).map(|key| key.public.to_jwk());
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    /// The keys that are published now.
    pub fn rows(&self, now: Timestamp) -> Vec<KeyRow> {
        self.published(now).map(|key| key.row.clone()).collect()
    }

    /// From when on the next key may sign.
    pub fn next_signs_from(&self) -> Option<Timestamp> {
        let next = self.0.iter().find(|key| key.row.state == KeyState::Next)?;
        Some(later(next.row.published_at, PUBLISHED_BEFORE))
    }

    /// Since when the current key signs: since it took the place of the youngest former one, or
    /// since there are keys. The youngest stands first, whatever clock an older one was retired by.
    pub fn signs_since(&self) -> Timestamp {
        let youngest = self.0.iter().find_map(|key| key.row.retired_at);
        youngest.unwrap_or_else(|| self.0[0].row.published_at)
    }

    /// From when on the current key is old.
    pub fn is_old_from(&self) -> Timestamp {
        later(self.signs_since(), REPLACED_AFTER)
    }

    /// Whether the current key is old. What began at a time to come, by a clock that was ahead, is
    /// of no known age.
    pub fn is_old(&self, now: Timestamp) -> bool {
        now >= self.is_old_from() || now < self.signs_since()
    }

    fn published(&self, now: Timestamp) -> impl Iterator<Item = &PublishedKey> {
        self.0.iter().filter(move |key| {
            let retired_at = key.row.retired_at;
            retired_at.is_none_or(|retired_at| now < later(retired_at, PUBLISHED_AFTER))
        })
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
