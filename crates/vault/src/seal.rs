//! Sealing one version of a secret, as a function of keys and bytes.
//!
//! ```text
//!   0 format      1          118 sealed bytes, as many as `length` says
//!   1 algorithm   1              then a tag of 16
//!   2 key id     16
//!  18 secret     16, a UUID
//!  34 version     4, little-endian
//!  38 binding    32
//!  70 salt       32
//! 102 nonce      12
//! 114 length      4, little-endian
//!
//!  context = fields(domain, format, vault id, workspace, secret id, name, kind, scope,
//!                   version, key id, and what stands in the clear where there is any)
//!  binding = SHA-256(context)
//!  version key = HKDF-SHA-256(ikm = workspace key, salt, info = domain ‖ binding)
//!  sealed, tag = AES-256-GCM-SIV(version key, nonce, plaintext,
//!                                aad = fields(domain, header, context))
//! ```
//!
//! `fields` puts its length before every field. The header repeats what the row claims, so that a
//! refusal can say *how* a row is wrong; the cipher alone decides *that* it is. A version key
//! seals once, and is derived from fresh salt: nonces do not accumulate on any key.

use aws_lc_rs::aead::{Aad, Nonce};
use aws_lc_rs::digest;
use ids::{SecretId, WorkspaceId};
use zeroize::Zeroizing;

use crate::error::Damage;
use crate::keys::{Fields, KEY_ID_BYTES, Key, KeyId, NONCE_BYTES, TAG_BYTES, cipher, fill_random};

const FORMAT: u8 = 1;
/// AES-256-GCM-SIV with a key by HKDF-SHA-256.
const ALGORITHM: u8 = 1;
const SALT_BYTES: usize = 32;
const BINDING_BYTES: usize = 32;
const ID_BYTES: usize = 16;

const KEY_ID_AT: usize = 2;
const SECRET_AT: usize = KEY_ID_AT + KEY_ID_BYTES;
const VERSION_AT: usize = SECRET_AT + ID_BYTES;
const BINDING_AT: usize = VERSION_AT + 4;
const SALT_AT: usize = BINDING_AT + BINDING_BYTES;
const NONCE_AT: usize = SALT_AT + SALT_BYTES;
const LENGTH_AT: usize = NONCE_AT + NONCE_BYTES;
const HEADER_BYTES: usize = LENGTH_AT + 4;

const CONTEXT_DOMAIN: &str = "holdfast/vault/context/v1";
const SECRET_DOMAIN: &str = "holdfast/vault/secret/v1";
const VERSION_KEY_DOMAIN: &[u8] = b"holdfast/vault/version-key/v1";

/// What a sealed version is; all of it is bound in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) vault_id: &'a [u8],
    pub(crate) workspace: WorkspaceId,
    pub(crate) secret_id: SecretId,
    pub(crate) version: u32,
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) in_clear: Option<&'a str>,
}

impl Context<'_> {
    fn encode(&self, key_id: KeyId) -> Vec<u8> {
        let fields = Fields::new(CONTEXT_DOMAIN)
            .bytes(&[FORMAT])
            .bytes(self.vault_id)
            .bytes(self.workspace.uuid().as_bytes())
            .bytes(self.secret_id.uuid().as_bytes())
            .text(self.name)
            .text(self.kind)
            .text(self.scope)
            .number(i64::from(self.version))
            .bytes(&key_id.0);
        match self.in_clear {
            Some(text) => fields.text(text),
            None => fields,
        }
        .finish()
    }
}

/// What must be fresh for every sealing.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) nonce: [u8; NONCE_BYTES],
}

impl Fresh {
    pub(crate) fn random() -> Self {
        let mut fresh = Self {
            salt: [0; SALT_BYTES],
            nonce: [0; NONCE_BYTES],
        };
        fill_random(&mut fresh.salt);
        fill_random(&mut fresh.nonce);
        fresh
    }
}

pub(crate) fn seal(key: &Key, context: &Context<'_>, fresh: &Fresh, plaintext: &[u8]) -> Vec<u8> {
    let encoded = context.encode(key.id());
    let binding = digest::digest(&digest::SHA256, &encoded);
    let length = u32::try_from(plaintext.len()).expect("the plaintext's length was limited");

    let mut blob = Vec::with_capacity(HEADER_BYTES + plaintext.len() + TAG_BYTES);
    blob.extend_from_slice(&[FORMAT, ALGORITHM]);
    blob.extend_from_slice(&key.id().0);
    blob.extend_from_slice(context.secret_id.uuid().as_bytes());
    blob.extend_from_slice(&context.version.to_le_bytes());
    blob.extend_from_slice(binding.as_ref());
    blob.extend_from_slice(&fresh.salt);
    blob.extend_from_slice(&fresh.nonce);
    blob.extend_from_slice(&length.to_le_bytes());

    let version_key = key.derive(&fresh.salt, &[VERSION_KEY_DOMAIN, binding.as_ref()]);
    let aad = associated_data(&blob, &encoded);
    // Encrypted in a buffer of its own, so that the plaintext is never in one that grows.
    let mut body = Zeroizing::new(plaintext.to_vec());
    let tag = cipher(&version_key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(fresh.nonce),
            Aad::from(aad),
            body.as_mut_slice(),
        )
        .expect("the plaintext is far below what the cipher takes");
    blob.extend_from_slice(&body);
    blob.extend_from_slice(tag.as_ref());
    blob
}

pub(crate) fn open(
    key: &Key,
    context: &Context<'_>,
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Damage> {
    let encoded = context.encode(key.id());
    let binding = digest::digest(&digest::SHA256, &encoded);
    check_header(key.id(), context, binding.as_ref(), blob)?;

    let (header, body) = blob.split_at(HEADER_BYTES);
    let nonce = Nonce::try_assume_unique_for_key(&header[NONCE_AT..LENGTH_AT])
        .expect("the header has a whole nonce");
    let salt = &header[SALT_AT..NONCE_AT];
    let version_key = key.derive(salt, &[VERSION_KEY_DOMAIN, binding.as_ref()]);
    let aad = associated_data(header, &encoded);
    let mut body = Zeroizing::new(body.to_vec());
    let length = cipher(&version_key)
        .open_in_place(nonce, Aad::from(aad), body.as_mut_slice())
        .map_err(|_| Damage::Altered)?
        .len();
    body.truncate(length);
    Ok(body)
}

/// Whether the header agrees with the row it stands in. Says how it does not; it is the cipher
/// that proves that the header is the one that was written.
fn check_header(
    key_id: KeyId,
    context: &Context<'_>,
    binding: &[u8],
    blob: &[u8],
) -> Result<(), Damage> {
    if blob.len() < HEADER_BYTES + TAG_BYTES {
        return Err(Damage::Truncated);
    }
    if blob[..KEY_ID_AT] != [FORMAT, ALGORITHM] {
        return Err(Damage::Altered);
    }
    let of_secret = &blob[SECRET_AT..VERSION_AT] == context.secret_id.uuid().as_bytes();
    let of_version = blob[VERSION_AT..BINDING_AT] == context.version.to_le_bytes();
    if !(of_secret && of_version) {
        return Err(Damage::Swapped);
    }
    if blob[KEY_ID_AT..SECRET_AT] != key_id.0 {
        return Err(Damage::WrongKey);
    }
    if &blob[BINDING_AT..SALT_AT] != binding {
        return Err(Damage::Renamed);
    }
    let length = blob[LENGTH_AT..HEADER_BYTES]
        .try_into()
        .map(u32::from_le_bytes);
    let length = length.expect("the length is four bytes") as usize;
    if blob.len() - HEADER_BYTES - TAG_BYTES != length {
        return Err(Damage::Truncated);
    }
    Ok(())
}

fn associated_data(header: &[u8], context: &[u8]) -> Vec<u8> {
    Fields::new(SECRET_DOMAIN)
        .bytes(header)
        .bytes(context)
        .finish()
}

#[cfg(test)]
mod tests;
