//! Vectors made by another implementation, and every way a sealed row can be wrong.

use std::collections::BTreeMap;

use super::*;

fn key(byte: u8) -> Key {
    Key::from_bytes(Zeroizing::new([byte; 32]))
}

fn fresh(byte: u8) -> Fresh {
    Fresh {
        salt: [byte; SALT_BYTES],
        nonce: [byte; NONCE_BYTES],
    }
}

#[test]
fn sealed_bytes_are_those_of_the_vectors() {
    let text = include_str!("../../tests/data/seal-vectors.txt");
    let cases: Vec<_> = text
        .split("\n\n")
        .filter(|case| !case.trim().is_empty())
        .collect();
    assert_eq!(cases.len(), 3);
    for case in cases {
        check_vector(case);
    }
}

fn check_vector(case: &str) {
    let pairs = case
        .trim()
        .lines()
        .map(|line| line.split_once(' ').unwrap());
    let fields: BTreeMap<&str, &str> = pairs.collect();
    let key = Key::from_bytes(Zeroizing::new(hex(fields["key"]).try_into().unwrap()));
    let id = |prefix: &str, name: &str| format!("{prefix}-{}", fields[name]);
    let vault = hex(fields["vault"]);
    let context = Context {
        vault_id: &vault,
        workspace: id("ws", "workspace").parse().unwrap(),
        secret_id: id("sec", "secret").parse().unwrap(),
        version: fields["version"].parse().unwrap(),
        name: fields["name"],
        kind: fields["kind"],
        scope: fields["scope"],
        in_clear: None,
    };
    let fresh = Fresh {
        salt: hex(fields["salt"]).try_into().unwrap(),
        nonce: hex(fields["nonce"]).try_into().unwrap(),
    };
    let plaintext = hex(fields["plaintext"]);
    let sealed = hex(fields["sealed"]);
    assert_eq!(seal(&key, &context, &fresh, &plaintext), sealed, "{case}");
    let opened = open(&key, &context, &sealed).unwrap();
    assert_eq!(opened.as_slice(), plaintext, "{case}");
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// RFC 8452, appendix C.2: the cipher itself, in case the library's idea of it changes.
#[test]
fn cipher_is_aes_256_gcm_siv() {
    let mut key = [0; 32];
    key[0] = 1;
    let mut nonce = [0; NONCE_BYTES];
    nonce[0] = 3;
    let mut body = hex("0100000000000000");
    let tag = cipher(&key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            body.as_mut_slice(),
        )
        .unwrap();
    body.extend_from_slice(tag.as_ref());
    assert_eq!(
        body,
        hex("c2ef328e5c71c83b843122130f7364b761e0b97427e3df28")
    );
}

#[test]
fn every_bound_field_is_bound() {
    let (workspace, secret_id) = (WorkspaceId::new(), SecretId::new());
    let context = Context {
        vault_id: &[1; 16],
        workspace,
        secret_id,
        version: 3,
        name: "name",
        kind: "basic",
        scope: "ghcr.io",
        in_clear: None,
    };
    let sealed = seal(&key(1), &context, &fresh(9), b"the plaintext");
    let moved = |change: &dyn Fn(&mut Context<'_>)| {
        let mut other = context;
        change(&mut other);
        open(&key(1), &other, &sealed).err()
    };
    assert_eq!(moved(&|_| ()), None);
    assert_eq!(moved(&|c| c.vault_id = &[2; 16]), Some(Damage::Renamed));
    assert_eq!(
        moved(&|c| c.workspace = WorkspaceId::new()),
        Some(Damage::Renamed)
    );
    assert_eq!(
        moved(&|c| c.secret_id = SecretId::new()),
        Some(Damage::Swapped)
    );
    assert_eq!(moved(&|c| c.version = 4), Some(Damage::Swapped));
    assert_eq!(moved(&|c| c.name = "other"), Some(Damage::Renamed));
    assert_eq!(moved(&|c| c.kind = "token"), Some(Damage::Renamed));
    assert_eq!(
        moved(&|c| c.scope = "ghcr.io.evil.example"),
        Some(Damage::Renamed)
    );
    assert_eq!(moved(&|c| c.in_clear = Some("")), Some(Damage::Renamed));
    assert_eq!(
        open(&key(2), &context, &sealed).err(),
        Some(Damage::WrongKey)
    );
}

#[test]
fn no_bit_can_be_changed_and_no_byte_cut() {
    let context = Context {
        vault_id: &[1; 16],
        workspace: WorkspaceId::new(),
        secret_id: SecretId::new(),
        version: 1,
        name: "name",
        kind: "basic",
        scope: "ghcr.io",
        in_clear: None,
    };
    let sealed = seal(&key(1), &context, &fresh(9), b"the plaintext");
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 0x80;
        assert!(open(&key(1), &context, &changed).is_err(), "byte {at}");
    }
    for length in 0..sealed.len() {
        let cut = open(&key(1), &context, &sealed[..length]);
        assert_eq!(cut.err(), Some(Damage::Truncated), "length {length}");
    }
    let mut longer = sealed.clone();
    longer.push(0);
    assert_eq!(
        open(&key(1), &context, &longer).err(),
        Some(Damage::Truncated)
    );
}

/// A header of one sealing before the body of another, both of the same secret and version.
#[test]
fn header_and_body_cannot_be_spliced() {
    let context = Context {
        vault_id: &[1; 16],
        workspace: WorkspaceId::new(),
        secret_id: SecretId::new(),
        version: 1,
        name: "name",
        kind: "basic",
        scope: "ghcr.io",
        in_clear: None,
    };
    let one = seal(&key(1), &context, &fresh(1), b"same length 1");
    let two = seal(&key(1), &context, &fresh(2), b"same length 2");
    let spliced = [&one[..HEADER_BYTES], &two[HEADER_BYTES..]].concat();
    assert_eq!(
        open(&key(1), &context, &spliced).err(),
        Some(Damage::Altered)
    );
}
