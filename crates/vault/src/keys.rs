//! Keys in memory: the root key, a workspace's key, the audit key.
//!
//! Each is 32 random bytes that are wiped when dropped, with an id derived from the bytes: a file
//! or row that was damaged or mixed up is seen before anything is decrypted with it. Key bytes
//! never meet a cipher directly; every use derives its own key by HKDF-SHA-256.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hkdf, hmac, rand};
use ids::WorkspaceId;
use zeroize::Zeroizing;

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a key's id: enough that two keys never share one.
pub(crate) const KEY_ID_BYTES: usize = 16;
pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;

/// First byte of a wrapped key.
const WRAP_FORMAT: u8 = 1;
/// Bytes of a wrapped key.
pub(crate) const WRAPPED_BYTES: usize = 1 + NONCE_BYTES + KEY_BYTES + TAG_BYTES;

const KEY_ID_DOMAIN: &[u8] = b"holdfast/vault/key-id/v1";
const SERVICE_KEY_ID_DOMAIN: &str = "holdfast/vault/service-key-id/v1";
const WRAP_KEY_DOMAIN: &[u8] = b"holdfast/vault/wrap-key/v1";
const WRAP_DOMAIN: &str = "holdfast/vault/wrap/v1";

/// A key of any level.
#[derive(Clone)]
pub(crate) struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// What a key is called; tells nothing about its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) [u8; KEY_ID_BYTES]);

/// What a wrapped key is for. Bound in, so that one cannot stand in place of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) vault_id: &'a [u8],
    pub(crate) purpose: KeyPurpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPurpose {
    Workspace(WorkspaceId),
    Audit,
}

/// A key did not open: it was wrapped under another key, for another purpose, or was changed.
#[derive(Debug)]
pub(crate) struct Unopened;

impl Key {
    pub(crate) fn random() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill_random(bytes.as_mut_slice());
        Self::from_bytes(bytes)
    }

    pub(crate) fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, bytes.as_slice()),
            KEY_ID_DOMAIN,
        );
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&tag.as_ref()[..KEY_ID_BYTES]);
        Self {
            id: KeyId(id),
            bytes,
        }
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// A key for one use, made from this one.
    pub(crate) fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(self.bytes.as_slice())
            .expand(info, hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(derived.as_mut_slice()))
            .expect("32 bytes are within what HKDF-SHA-256 gives");
        derived
    }

    /// This key as an HMAC key.
    pub(crate) fn mac(&self, message: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        hmac::sign(&key, message).as_ref().to_vec()
    }

    /// Whether the tag is this key's for the message, in constant time.
    pub(crate) fn mac_matches(&self, message: &[u8], tag: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        hmac::verify(&key, message, tag).is_ok()
    }

    /// Wraps another key under this one.
    pub(crate) fn wrap(&self, binding: Binding<'_>, inner: &Self) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce);
        let aad = self.wrap_context(binding, inner.id);
        let mut sealed = vec![WRAP_FORMAT];
        sealed.extend_from_slice(&nonce);
        let mut body = Zeroizing::new(inner.bytes.to_vec());
        let tag = self
            .wrap_cipher()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                body.as_mut_slice(),
            )
            .expect("32 bytes are within what the cipher takes");
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Unwraps a key that [`Key::wrap`] wrapped for the same purpose.
    pub(crate) fn unwrap_key(
        &self,
        binding: Binding<'_>,
        wrapped: Wrapped<'_>,
    ) -> Result<Self, Unopened> {
        if wrapped.bytes.len() != WRAPPED_BYTES || wrapped.bytes[0] != WRAP_FORMAT {
            return Err(Unopened);
        }
        let (nonce, body) = wrapped.bytes[1..].split_at(NONCE_BYTES);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened)?;
        let aad = self.wrap_context(binding, wrapped.key_id);
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self
            .wrap_cipher()
            .open_in_place(nonce, Aad::from(aad), body.as_mut_slice())
            .map_err(|_| Unopened)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes.copy_from_slice(plain);
        let key = Self::from_bytes(bytes);
        (key.id == wrapped.key_id).then_some(key).ok_or(Unopened)
    }

    fn wrap_cipher(&self) -> LessSafeKey {
        cipher(&self.derive(&[], &[WRAP_KEY_DOMAIN]))
    }

    fn wrap_context(&self, binding: Binding<'_>, inner: KeyId) -> Vec<u8> {
        let (word, subject) = match binding.purpose {
            KeyPurpose::Workspace(workspace) => ("workspace", workspace.to_string()),
            KeyPurpose::Audit => ("audit", String::new()),
        };
        Fields::new(WRAP_DOMAIN)
            .bytes(&[WRAP_FORMAT])
            .bytes(binding.vault_id)
            .bytes(&self.id.0)
            .text(word)
            .text(&subject)
            .bytes(&inner.0)
            .finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({}, redacted)", self.id)
    }
}

/// A wrapped key as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrapped<'a> {
    pub(crate) key_id: KeyId,
    pub(crate) bytes: &'a [u8],
}

impl KeyId {
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Of a version of a key whose bytes nobody here ever has: derived from what it is called.
    pub(crate) fn of_service(identity: &str, version: u32) -> Self {
        let named = Fields::new(SERVICE_KEY_ID_DOMAIN)
            .text(identity)
            .number(version.into())
            .finish();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest(&SHA256, &named).as_ref()[..KEY_ID_BYTES]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Joins fields so that no two lists of fields give the same bytes: each has its length in front.
#[derive(Debug)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    pub(crate) fn new(domain: &str) -> Self {
        Self(Vec::with_capacity(256)).text(domain)
    }

    pub(crate) fn bytes(mut self, field: &[u8]) -> Self {
        let length = u32::try_from(field.len()).expect("a field is far below 4 GiB");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(field);
        self
    }

    pub(crate) fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    pub(crate) fn number(self, field: i64) -> Self {
        self.bytes(&field.to_le_bytes())
    }

    /// A field that may be absent, which is not the same as an empty one.
    pub(crate) fn option(self, field: Option<&[u8]>) -> Self {
        match field {
            Some(field) => self.bytes(&[1]).bytes(field),
            None => self.bytes(&[0]),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("the key is 32 bytes long");
    LessSafeKey::new(key)
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the kernel's random numbers are there once it has booted");
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: &[u8] = &[7; 16];

    #[test]
    fn wrapped_keys_open_only_as_what_they_are() {
        let (root, other, inner) = (Key::random(), Key::random(), Key::random());
        let purpose = KeyPurpose::Workspace(WorkspaceId::new());
        let right = Binding {
            vault_id: VAULT,
            purpose,
        };
        let sealed = root.wrap(right, &inner);
        let open = |root: &Key, binding, inner: &Key, bytes: &[u8]| {
            let key_id = inner.id();
            root.unwrap_key(binding, Wrapped { key_id, bytes })
        };
        let opened = open(&root, right, &inner, &sealed);
        assert_eq!(opened.unwrap().bytes(), inner.bytes());

        let mut flipped = sealed.clone();
        flipped[20] ^= 1;
        let purposed = |purpose| Binding { purpose, ..right };
        let another = Binding {
            vault_id: &[8; 16],
            purpose,
        };
        let elsewhere = purposed(KeyPurpose::Workspace(WorkspaceId::new()));
        let audit = purposed(KeyPurpose::Audit);
        for (what, opened) in [
            ("root key", open(&other, right, &inner, &sealed)),
            ("vault", open(&root, another, &inner, &sealed)),
            ("workspace", open(&root, elsewhere, &inner, &sealed)),
            ("purpose", open(&root, audit, &inner, &sealed)),
            ("key id", open(&root, right, &other, &sealed)),
            ("bit", open(&root, right, &inner, &flipped)),
            ("cut", open(&root, right, &inner, &sealed[..60])),
            ("empty", open(&root, right, &inner, &[])),
        ] {
            assert!(opened.is_err(), "{what}");
        }
    }

    #[test]
    fn fields_never_run_together() {
        let split = Fields::new("d").text("ab").text("c").finish();
        let other = Fields::new("d").text("a").text("bc").finish();
        assert_ne!(split, other);
        let absent = Fields::new("d").option(None).finish();
        let empty = Fields::new("d").option(Some(b"")).finish();
        assert_ne!(absent, empty);
    }

    #[test]
    fn debug_shows_no_key_bytes() {
        let key = Key::from_bytes(Zeroizing::new([0xab; KEY_BYTES]));
        let text = format!("{key:?}");
        assert!(!text.contains("abab") && !text.contains("171"), "{text}");
    }
}
