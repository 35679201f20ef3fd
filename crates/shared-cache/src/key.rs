//! The secret of an installation's shared cache, and what is made of it: names and keys of layers.

use std::fmt;

use aws_lc_rs::{hkdf, hmac, rand};
use frames::hex;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;

/// First in the name of each object: another format has other names.
const FORMAT: &str = "v1";

const LAYER_KEY_DOMAIN: &[u8] = b"holdfast/shared-cache/layer-key/v1";
const NAME_KEY_DOMAIN: &[u8] = b"holdfast/shared-cache/name-key/v1";
const NAME_DOMAIN: &[u8] = b"holdfast/shared-cache/name/v1";

/// What all keys and names are made of. Whoever has it reads whatever lies in the store.
#[derive(Clone)]
pub struct CacheSecret(Zeroizing<[u8; KEY_BYTES]>);

/// What opens one layer of one origin.
#[derive(Clone)]
pub struct LayerKey(Zeroizing<[u8; KEY_BYTES]>);

impl CacheSecret {
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut_slice()).expect("the system gives random bytes");
        Self(bytes)
    }

    /// As it is stored, sealed.
    pub fn to_text(&self) -> SecretString {
        to_text(&self.0)
    }

    pub fn from_text(text: &SecretString) -> Option<Self> {
        from_text(text).map(Self)
    }

    /// The key to a layer of an origin.
    pub fn layer_key(&self, origin: &str, digest: &str) -> LayerKey {
        LayerKey(self.derive(&fields(LAYER_KEY_DOMAIN, origin, digest)))
    }

    /// What the object of a layer of an origin is called. Neither can be told from it, nor which
    /// layers belong together.
    pub fn name(&self, origin: &str, digest: &str) -> String {
        let key = self.derive(NAME_KEY_DOMAIN);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_slice());
        let tag = hmac::sign(&key, &fields(NAME_DOMAIN, origin, digest));
        format!("{FORMAT}/{}", *hex::encode(tag.as_ref()))
    }

    fn derive(&self, info: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(self.0.as_slice())
            .expand(&[info], hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(derived.as_mut_slice()))
            .expect("32 bytes are within what HKDF-SHA-256 gives");
        derived
    }
}

impl LayerKey {
    /// As it is given to who may read the layer.
    pub fn to_text(&self) -> SecretString {
        to_text(&self.0)
    }

    pub fn from_text(text: &SecretString) -> Option<Self> {
        from_text(text).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn to_text(bytes: &[u8; KEY_BYTES]) -> SecretString {
    let mut text = hex::encode(bytes);
    std::mem::take(&mut *text).into()
}

/// Nothing of a text that is too short or too long, or no hexadecimal.
fn from_text(text: &SecretString) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_into(text.expose_secret(), bytes.as_mut_slice()).then_some(bytes)
}

/// Each with its length in front, so that no two pairs are written the same.
fn fields(domain: &[u8], origin: &str, digest: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(domain.len() + origin.len() + digest.len() + 24);
    for field in [domain, origin.as_bytes(), digest.as_bytes()] {
        bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

impl fmt::Debug for CacheSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CacheSecret(redacted)")
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LayerKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_layer_of_every_origin_has_a_key_and_a_name_of_its_own() {
        let secret = CacheSecret::random();
        let pairs = [("a", "b"), ("a", "c"), ("ab", ""), ("", "ab"), ("b", "a")];
        let keys = pairs.map(|(origin, digest)| secret.layer_key(origin, digest));
        let keys: HashSet<_> = keys.iter().map(LayerKey::bytes).collect();
        let names = pairs.map(|(origin, digest)| secret.name(origin, digest));
        let names: HashSet<_> = names.into_iter().collect();
        assert_eq!((keys.len(), names.len()), (pairs.len(), pairs.len()));
        assert!(
            names
                .iter()
                .all(|name| name.len() == 67 && name.starts_with("v1/"))
        );
        let other = CacheSecret::random();
        assert_ne!(other.name("a", "b"), secret.name("a", "b"));
        let (own, others) = (secret.layer_key("a", "b"), other.layer_key("a", "b"));
        assert_ne!(own.bytes(), others.bytes());
    }

    #[test]
    fn a_secret_is_read_back_and_not_shown() {
        let secret = CacheSecret::random();
        let text = secret.to_text();
        let back = CacheSecret::from_text(&text).expect("a secret");
        assert_eq!(back.name("a", "b"), secret.name("a", "b"));
        let shown = format!("{secret:?} {:?}", secret.layer_key("a", "b"));
        assert!(!shown.contains(text.expose_secret()), "{shown}");
        for wrong in ["", "00", &"g0".repeat(32), &"00".repeat(33)] {
            assert!(CacheSecret::from_text(&wrong.to_owned().into()).is_none());
            assert!(LayerKey::from_text(&wrong.to_owned().into()).is_none());
        }
        let key = secret.layer_key("a", "b");
        let back = LayerKey::from_text(&key.to_text()).expect("a key");
        assert_eq!(back.bytes(), key.bytes());
    }
}
