//! How a cloud looks at a token of an issuer that it was told to trust: it fetches the issuer's
//! documents by their real URL, and checks signature, issuer, audience, subject and times.
//!
//! The arithmetic of the signature is written out here, so that what signs and what verifies share
//! no code.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::host::{Arrived, find};
use crate::switchboard::Switchboard;

/// How far the times of a token may be off.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(10);
/// Longest document that a cloud reads.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// What stands before a hash of SHA-256 in a signature (RFC 8017, section 9.2).
const SHA256_PREFIX: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// Whose tokens are believed, for whom and about whom.
#[derive(Clone)]
pub struct TrustedIssuer {
    url: String,
    audience: String,
    subject: String,
    client: reqwest::Client,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untrusted {
    Malformed,
    Issuer,
    Documents,
    Key,
    Signature,
    Audience,
    Subject,
    Time,
}

/// What was found of the token of a request, left with it.
#[derive(Debug, Clone)]
struct Verdict(Result<(), Untrusted>);

impl fmt::Debug for TrustedIssuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TrustedIssuer")
            .field("url", &self.url)
            .field("audience", &self.audience)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl TrustedIssuer {
    /// One whose documents are fetched this way, from whom this authority has signed for.
    pub fn new(
        url: &str,
        audience: &str,
        subject: &str,
        way: &Switchboard,
        authority_pem: &str,
    ) -> Self {
        // The client wants one. All but the first find it there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let proxy = reqwest::Proxy::https(way.url()).expect("the switchboard's URL");
        let authority = reqwest::Certificate::from_pem(authority_pem.as_bytes());
        let client = reqwest::Client::builder()
            .proxy(proxy)
            .tls_certs_only([authority.expect("a certificate")])
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            url: url.to_owned(),
            audience: audience.to_owned(),
            subject: subject.to_owned(),
            client: client.expect("a client"),
        }
    }

    /// Whether a cloud of this time believes the token.
    async fn check(&self, token: &str, now: Timestamp) -> Result<(), Untrusted> {
        let [header, claims, signature] = parts(token).ok_or(Untrusted::Malformed)?;
        let body = json(claims).ok_or(Untrusted::Malformed)?;
        if body["iss"] != self.url.as_str() {
            return Err(Untrusted::Issuer);
        }
        let keys = self.keys().await.ok_or(Untrusted::Documents)?;
        check_signature(&keys, [header, claims, signature])?;
        self.check_claims(&body, now)
    }

    fn check_claims(&self, claims: &Value, now: Timestamp) -> Result<(), Untrusted> {
        if claims["aud"] != self.audience.as_str() {
            return Err(Untrusted::Audience);
        }
        if claims["sub"] != self.subject.as_str() {
            return Err(Untrusted::Subject);
        }
        let time = |name: &str| Timestamp::from_second(claims[name].as_i64()?).ok();
        let has_begun = |name: &str| time(name).is_some_and(|time| time <= now + MOST_SKEW);
        let has_ended = time("exp").is_none_or(|end| end + MOST_SKEW <= now);
        if !has_begun("iat") || !has_begun("nbf") || has_ended {
            return Err(Untrusted::Time);
        }
        Ok(())
    }

    /// The keys, from where the issuer says that they are.
    async fn keys(&self) -> Option<Value> {
        let url = format!("{}/.well-known/openid-configuration", self.url);
        let configuration = self.document(&url).await?;
        if configuration["issuer"] != self.url.as_str() {
            return None;
        }
        self.document(configuration["jwks_uri"].as_str()?).await
    }

    /// What a cloud reads at this URL.
    pub async fn document(&self, url: &str) -> Option<Value> {
        let response = self.client.get(url).send().await.ok()?;
        let is_json = response.headers().get("content-type")?.to_str().ok()? == "application/json";
        if !response.status().is_success() || !is_json {
            return None;
        }
        let body = response.bytes().await.ok()?;
        (body.len() <= MAX_DOCUMENT_BYTES).then_some(())?;
        serde_json::from_slice(&body).ok()
    }
}

/// The claims of a token that one of these keys has signed.
pub fn signed_claims(keys: &Value, token: &str) -> Option<Value> {
    let parts = parts(token)?;
    check_signature(keys, parts).ok()?;
    json(parts[1])
}

fn parts(token: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().ok()
}

fn check_signature(keys: &Value, [header, claims, signature]: [&str; 3]) -> Result<(), Untrusted> {
    let head = json(header).ok_or(Untrusted::Malformed)?;
    let keys = keys["keys"].as_array().ok_or(Untrusted::Documents)?;
    let named = |key: &&Value| key["kid"].is_string() && key["kid"] == head["kid"];
    let key = keys.iter().find(named).ok_or(Untrusted::Key)?;
    if key["kty"] != "RSA" || key["alg"] != "RS256" || head["alg"] != "RS256" {
        return Err(Untrusted::Key);
    }
    let part = |name: &str| bytes(key[name].as_str()?);
    let (modulus, exponent) = part("n").zip(part("e")).ok_or(Untrusted::Key)?;
    let signature = bytes(signature).ok_or(Untrusted::Malformed)?;
    let signed = format!("{header}.{claims}");
    if is_signature(&modulus, &exponent, signed.as_bytes(), &signature) {
        return Ok(());
    }
    Err(Untrusted::Signature)
}

/// Looks at the token in this field of a form, and leaves what was found with the request.
pub(crate) async fn judge(
    trusted: Option<Arc<TrustedIssuer>>,
    field: &str,
    arrived: &mut Arrived,
    now: Timestamp,
) {
    let Some(trusted) = trusted else { return };
    let form = arrived.form();
    let verdict = trusted.check(find(&form, field), now).await;
    arrived.parts.extensions.insert(Verdict(verdict));
}

/// What was found; nothing where no issuer is trusted.
pub(crate) fn verdict(arrived: &Arrived) -> Option<Result<(), Untrusted>> {
    let verdict = arrived.parts.extensions.get::<Verdict>();
    verdict.map(|verdict| verdict.0)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&bytes(part)?).ok()
}

/// RSASSA-PKCS1-v1_5 with SHA-256: the signature to the power of the exponent is the padded hash.
fn is_signature(modulus: &[u8], exponent: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let hash = Sha256::digest(message);
    let known = SHA256_PREFIX.len() + hash.len();
    let Some(padding) = modulus.len().checked_sub(known + 3) else {
        return false;
    };
    let mut expected = vec![0x00, 0x01];
    expected.resize(2 + padding, 0xff);
    expected.push(0x00);
    expected.extend_from_slice(&SHA256_PREFIX);
    expected.extend_from_slice(&hash);
    signature.len() == modulus.len()
        && signature < modulus
        && power(signature, exponent, modulus) == expected
}

/// Numbers are big-endian and as long as the modulus.
fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    let mut result = vec![0; modulus.len()];
    *result.last_mut().expect("a digit") = 1;
    for bit in bits(exponent) {
        result = product(&result, &result, modulus);
        if bit {
            result = product(&result, base, modulus);
        }
    }
    result
}

fn product(one: &[u8], other: &[u8], modulus: &[u8]) -> Vec<u8> {
    let mut result = vec![0; modulus.len()];
    for bit in bits(other) {
        result = sum(&result, &result, modulus);
        if bit {
            result = sum(&result, one, modulus);
        }
    }
    result
}

/// The sum of two numbers below the modulus, below it.
fn sum(one: &[u8], other: &[u8], modulus: &[u8]) -> Vec<u8> {
    let mut result = vec![0; modulus.len()];
    let mut carry = 0_u16;
    for at in (0..modulus.len()).rev() {
        let digit = u16::from(one[at]) + u16::from(other[at]) + carry;
        result[at] = digit.to_be_bytes()[1];
        carry = digit >> 8;
    }
    if carry == 0 && result.as_slice() < modulus {
        return result;
    }
    let mut borrow = 0_u16;
    for at in (0..modulus.len()).rev() {
        let digit = 0x100 + u16::from(result[at]) - u16::from(modulus[at]) - borrow;
        result[at] = digit.to_be_bytes()[1];
        borrow = 1 - (digit >> 8);
    }
    result
}

/// From the highest on.
fn bits(number: &[u8]) -> impl Iterator<Item = bool> + '_ {
    let of = |byte: &u8| {
        let byte = *byte;
        (0..8).rev().map(move |bit| byte >> bit & 1 == 1)
    };
    number.iter().flat_map(of)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};

    use super::*;

    #[test]
    fn powers_are_those_of_a_book() {
        // 4^13 mod 497, and 2^10 mod 1000.
        assert_eq!(power(&[0, 4], &[13], &[1, 241]), [1, 189]);
        assert_eq!(power(&[0, 2], &[10], &[3, 232]), [0, 24]);
    }

    #[test]
    fn signatures_of_another_implementation_are_known_and_no_other() {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let mut signature = vec![0; key.public_modulus_len()];
        let random = SystemRandom::new();
        key.sign(&RSA_PKCS1_SHA256, &random, b"message", &mut signature)
            .expect("a signature");
        // The end of a public key's encoding: modulus, and an integer of three bytes.
        let der = key.public_key().as_ref();
        let (modulus, exponent) = (&der[der.len() - 261..der.len() - 5], &der[der.len() - 3..]);
        assert!(is_signature(modulus, exponent, b"message", &signature));
        assert!(!is_signature(modulus, exponent, b"another", &signature));
        let mut other = signature.clone();
        other[100] ^= 1;
        assert!(!is_signature(modulus, exponent, b"message", &other));
        assert!(!is_signature(
            modulus,
            exponent,
            b"message",
            &signature[1..]
        ));
    }
}
