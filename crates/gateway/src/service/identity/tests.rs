//! Pairs of files, right and wrong.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256,
    date_time_ymd,
};
use tempfile::TempDir;

use super::*;
use crate::problem::chain;

/// A directory with a certificate and a key.
struct Pair {
    _directory: TempDir,
    files: TlsFiles,
}

impl Pair {
    fn holding(certificate: &str, key: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: directory.path().join("chain.pem"),
            key: directory.path().join("key.pem"),
        };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        set_permissions(&files.key, Permissions::from_mode(0o600)).unwrap();
        Self {
            _directory: directory,
            files,
        }
    }

    fn with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = key();
        Self::holding(&certificate(names, &key, change), &key.serialize_pem())
    }

    fn identity(&self) -> Identity {
        Identity::read(&self.files).unwrap()
    }

    fn refused(&self) -> String {
        chain(&Identity::read(&self.files).unwrap_err())
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn certificate(
    names: &[&str],
    key: &KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    params.self_signed(key).unwrap().pem()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// The key within a PKCS#8 document, which is there in the form of its own kind.
fn inner(pkcs8: &[u8]) -> Vec<u8> {
    let (content, _) = element(pkcs8);
    let (_version, rest) = element(content);
    let (_algorithm, rest) = element(rest);
    element(rest).0.to_vec()
}

/// The content of the first element, and what comes after it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ ..=0x7f => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => (usize::from(u16::from_be_bytes([der[2], der[3]])), 4),
    };
    der[start..].split_at(length)
}

#[test]
fn keys_of_every_form_are_read() {
    let (elliptic, rsa) = (key(), KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let form = |label: &str, key: &KeyPair| pem(label, &inner(&key.serialize_der()));
    let forms = [
        (&elliptic, elliptic.serialize_pem()),
        (&edwards, edwards.serialize_pem()),
        (&rsa, rsa.serialize_pem()),
        (&elliptic, form("EC PRIVATE KEY", &elliptic)),
        (&rsa, form("RSA PRIVATE KEY", &rsa)),
    ];
    for (key, text) in forms {
        let certificate = certificate(&["localhost"], key, |_| {});
        let identity = Pair::holding(&certificate, &text).identity();
        assert_eq!(identity.certified.cert.len(), 1);
        // As some have it: text before, and the parameters of the curve.
        let curve = pem("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]);
        Pair::holding(&format!("subject=x\n{certificate}"), &(curve + &text)).identity();
    }
}

#[test]
fn what_is_no_pair_is_refused_by_name() {
    let (own, other) = (key(), key());
    let (certificate, text) = (certificate(&["a"], &own, |_| {}), own.serialize_pem());
    let encrypted = pem("ENCRYPTED PRIVATE KEY", b"x");
    let broken = pem("PRIVATE KEY", b"x");
    let not_x509 = pem("CERTIFICATE", b"x");
    let long_chain = certificate.repeat(CHAIN_LIMIT + 1);
    let too_long = "x".repeat(usize::try_from(FILE_LIMIT_BYTES).unwrap() + 1);
    let table = [
        (&certificate, &other.serialize_pem(), "is not that of"),
        (&certificate, &encrypted, "not encrypted"),
        (&certificate, &broken, "cannot be used"),
        (&certificate, &certificate, "no private key in PEM"),
        (&certificate, &String::new(), "no private key in PEM"),
        (&certificate, &too_long, "longer than"),
        (&text, &text, "no certificate in PEM"),
        (&not_x509, &text, "cannot be used"),
        (&long_chain, &text, "more than 16 certificates"),
        (&too_long, &text, "longer than"),
    ];
    for (certificate, key, words) in table {
        let refusal = Pair::holding(certificate, key).refused();
        assert!(refusal.contains(words), "{words}: {refusal}");
        let secret = text.lines().nth(1).unwrap();
        assert!(!refusal.contains(secret), "{refusal}");
    }
    Pair::holding(&certificate.repeat(CHAIN_LIMIT), &text).identity();
}

#[test]
fn files_that_are_missing_or_open_to_others_are_refused_with_the_fix() {
    let pair = Pair::with(&["a"], |_| {});
    for mode in [0o604, 0o640, 0o644, 0o620, 0o602] {
        set_permissions(&pair.files.key, Permissions::from_mode(mode)).unwrap();
        let refusal = pair.refused();
        assert!(refusal.contains("chmod 600"), "{mode:o}: {refusal}");
    }
    set_permissions(&pair.files.key, Permissions::from_mode(0o400)).unwrap();
    pair.identity();
    // As certbot has them.
    let link = pair.files.key.with_file_name("link.pem");
    std::os::unix::fs::symlink(&pair.files.key, &link).unwrap();
    let mut files = pair.files.clone();
    files.key = link;
    Identity::read(&files).unwrap();
    std::fs::remove_file(&pair.files.certificate).unwrap();
    let refusal = pair.refused();
    assert!(refusal.contains("chain.pem") && refusal.contains("No such file"));
    std::fs::create_dir(&pair.files.certificate).unwrap();
    assert!(pair.refused().contains("is no file"));
}

#[test]
fn a_certificate_counts_between_its_times() {
    let standing = |from: i32, until: i32| {
        let pair = Pair::with(&["a"], |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        });
        pair.identity()
            .standing("2026-06-01T00:00:00Z".parse().unwrap())
    };
    let time = |text: &str| -> Timestamp { text.parse().unwrap() };
    assert_eq!(standing(2026, 2027), Standing::Counts);
    let since = time("2025-01-01T00:00:00Z");
    assert_eq!(standing(2024, 2025), Standing::Over { since });
    let until = time("2027-01-01T00:00:00Z");
    assert_eq!(standing(2027, 2028), Standing::NotYet { until });
}

#[test]
fn an_address_is_called_by_a_name_of_the_certificate() {
    let table: [(&[&str], &str, Option<&str>); 8] = [
        (&["a.example", "10.0.0.1"], "10.0.0.1", Some("10.0.0.1")),
        (&["a.example", "10.0.0.1"], "0.0.0.0", Some("a.example")),
        (&["2001:db8::1"], "2001:db8::1", Some("[2001:db8::1]")),
        (&["a.example", "localhost"], "127.0.0.1", Some("localhost")),
        (&["a.example", "localhost"], "10.0.0.1", Some("a.example")),
        (&["*.b.example", "a.example"], "::", Some("a.example")),
        (&["*.b.example"], "10.0.0.1", None),
        (&[], "10.0.0.1", None),
    ];
    for (names, address, expected) in table {
        let host = Pair::with(names, |_| {})
            .identity()
            .host(address.parse().unwrap());
        assert_eq!(host.as_deref(), expected, "{names:?} {address}");
    }
}

#[test]
fn a_renewed_pair_is_told_from_the_last() {
    let (pair, other) = (Pair::with(&["a"], |_| {}), Pair::with(&["a"], |_| {}));
    assert_eq!(pair.identity().digest, pair.identity().digest);
    assert_ne!(pair.identity().digest, other.identity().digest);
}
