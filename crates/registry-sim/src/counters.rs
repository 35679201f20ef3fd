//! What arrived at a host: requests, and bytes of credential.
//!
//! Every value of a header that carries credentials counts whole; in other headers, the URL and the
//! body, each known secret counts, raw, percent-encoded or in base64, alone or between other bytes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderValue;
use axum::http::request::Parts;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use tokio::sync::watch;

/// A reading of a host's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub requests: u64,
    /// Bytes of headers that carry credentials, and of secrets elsewhere.
    pub credential_bytes: u64,
}

/// The counters of one host. Clones read the same ones.
#[derive(Debug, Clone)]
pub struct HostCounter {
    counts: Arc<watch::Sender<Counts>>,
    paths: Arc<Mutex<Vec<String>>>,
    watched: KnownSecrets,
    sightings: Arc<AtomicU64>,
}

/// Secrets that a test knows, to be looked for everywhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownSecrets(Arc<Mutex<Vec<Known>>>);

/// A secret, and the forms that it may arrive in, worked out once for all requests.
#[derive(Debug)]
struct Known {
    secret: String,
    forms: BTreeSet<String>,
}

const CREDENTIAL_HEADERS: [&str; 5] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-registry-auth",
    "x-amz-security-token",
];

impl HostCounter {
    pub(crate) fn new() -> Self {
        Self {
            counts: Arc::new(watch::Sender::new(Counts::default())),
            paths: Arc::default(),
            watched: KnownSecrets::default(),
            sightings: Arc::default(),
        }
    }

    /// From now on looks for this secret in all that arrives.
    pub fn watch_for(&self, secret: &str) {
        self.watched.add(secret);
    }

    /// How many requests had a secret that is watched for, in a header that is for it too.
    pub fn sightings(&self) -> u64 {
        self.sightings.load(Ordering::SeqCst)
    }

    pub fn read(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Method and path with query of each request so far, in order of arrival.
    pub fn paths(&self) -> Vec<String> {
        self.paths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until this many requests have arrived.
    pub async fn wait_for_requests(&self, requests: u64) {
        let mut changes = self.counts.subscribe();
        changes
            .wait_for(|counts| counts.requests >= requests)
            .await
            .expect("the counter outlives who waits for it");
    }

    pub(crate) fn record(&self, parts: &Parts, body: &[u8], secrets: &KnownSecrets) {
        let path = format!("{} {}", parts.method, parts.uri);
        self.paths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path);
        if is_sighted(parts, body, &self.watched) {
            self.sightings.fetch_add(1, Ordering::SeqCst);
        }
        let bytes = credential_bytes(parts, body, secrets);
        self.counts.send_modify(|counts| {
            counts.requests += 1;
            counts.credential_bytes += bytes;
        });
    }
}

impl KnownSecrets {
    pub(crate) fn add(&self, secret: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Known {
                secret: secret.to_owned(),
                forms: forms(secret),
            });
    }

    pub(crate) fn all(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|known| known.secret.clone()).collect()
    }

    /// Whether one of them is in this text.
    fn are_in(&self, text: &[u8]) -> bool {
        self.count(text) > 0
    }

    /// Bytes of known secrets in this text.
    fn count(&self, text: &[u8]) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let forms = known.iter().flat_map(|known| &known.forms);
        forms
            .map(|form| occurrences(text, form.as_bytes()) * form.len() as u64)
            .sum()
    }
}

/// The secret itself, in base64 and in hexadecimal digits, and each of them percent-encoded and as
/// JSON writes it.
fn forms(secret: &str) -> BTreeSet<String> {
    let plain = (0..3).flat_map(|before| encoded_after(before, secret));
    let digits = secret.bytes().map(|byte| format!("{byte:02x}"));
    let hex = digits.collect::<Vec<_>>().concat();
    let plain = plain.chain([secret.to_owned(), hex.to_uppercase(), hex]);
    plain.flat_map(written).collect()
}

/// A text as itself, percent-encoded and as JSON writes it.
fn written(text: String) -> Vec<String> {
    let percent = url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let json = serde_json::Value::String(text.clone()).to_string();
    let json = json.trim_matches('"').to_owned();
    let solidus = json.replace('/', "\\/");
    vec![text, with_lower_digits(&percent), percent, json, solidus]
}

/// `%2f` for `%2F`.
fn with_lower_digits(percent: &str) -> String {
    let mut parts = percent.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        text.extend(["%", &digits.to_lowercase(), rest]);
    }
    text
}

/// What base64 makes of a secret that comes after so many bytes of others: the characters that
/// depend on nothing but the secret.
fn encoded_after(before: usize, secret: &str) -> [String; 2] {
    let whole = [&vec![0; before], secret.as_bytes()].concat();
    let own = (before * 8).div_ceil(6)..whole.len() * 8 / 6;
    let texts = [
        BASE64_STANDARD_NO_PAD.encode(&whole),
        BASE64_URL_SAFE_NO_PAD.encode(&whole),
    ];
    texts.map(|text| text[own.clone()].to_owned())
}

fn occurrences(text: &[u8], wanted: &[u8]) -> u64 {
    if wanted.is_empty() {
        return 0;
    }
    text.windows(wanted.len())
        .filter(|window| *window == wanted)
        .count() as u64
}

/// Whether a secret that is watched for is anywhere in the request.
fn is_sighted(parts: &Parts, body: &[u8], watched: &KnownSecrets) -> bool {
    let in_header = |value: &HeaderValue| watched.are_in(value.as_bytes());
    watched.are_in(parts.uri.to_string().as_bytes())
        || watched.are_in(body)
        || parts.headers.values().any(in_header)
}

fn credential_bytes(parts: &Parts, body: &[u8], secrets: &KnownSecrets) -> u64 {
    let mut bytes = secrets.count(parts.uri.to_string().as_bytes()) + secrets.count(body);
    for (name, value) in &parts.headers {
        if CREDENTIAL_HEADERS.contains(&name.as_str()) {
            bytes += value.len() as u64;
        } else {
            bytes += secrets.count(value.as_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use base64::prelude::BASE64_STANDARD;

    #[test]
    fn credentials_are_found_wherever_they_are() {
        let secrets = KnownSecrets::default();
        secrets.add("s3cret/");
        let count = |uri: &str, header: Option<(&str, &str)>, body: &str| {
            let mut request = Request::builder().uri(uri);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let (parts, ()) = request.body(()).expect("request").into_parts();
            credential_bytes(&parts, body.as_bytes(), &secrets)
        };
        assert_eq!(count("/v2/", None, "nothing"), 0);
        assert_eq!(count("/v2/?x=s3cret/", None, ""), 7);
        assert_eq!(count("/v2/?x=s3cret%2F", None, ""), 9);
        assert_eq!(count("/v2/?x=s3cret%2f", None, ""), 9);
        assert_eq!(count("/v2/", None, r#"{"x":"s3cret\/"}"#), 8);
        assert_eq!(count("/v2/", None, "7333637265742f"), 14);
        assert_eq!(count("/v2/", None, "7333637265742F"), 14);
        assert_eq!(count("/v2/", None, "a s3cret/ in a s3cret/"), 14);
        assert_eq!(count("/v2/", Some(("authorization", "Bearer x")), ""), 8);
        assert_eq!(count("/v2/", Some(("x-other", "s3cret/")), ""), 7);
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "d", "de"] {
                let text = format!("{before}s3cret/{after}");
                let standard = BASE64_STANDARD.encode(&text);
                let others = [
                    BASE64_URL_SAFE_NO_PAD.encode(&text),
                    url::form_urlencoded::byte_serialize(standard.as_bytes()).collect(),
                ];
                for encoded in others.into_iter().chain([standard]) {
                    assert!(count("/v2/", None, &encoded) > 0, "{text} as {encoded}");
                }
            }
        }
    }

    #[test]
    fn what_json_escapes_is_found() {
        let secrets = KnownSecrets::default();
        secrets.add("a\"b\\c");
        for text in [r#"a"b\c"#, r#"{"x":"a\"b\\c"}"#, "a%22b%5cc", "a%22b%5Cc"] {
            assert!(secrets.are_in(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_is_watched_for_is_seen_inside_basic_too() {
        let watched = KnownSecrets::default();
        watched.add("s3cret/");
        for (value, expected) in [
            ("Bearer s3cret/", true),
            ("Basic dTpzM2NyZXQv", true),
            ("Basic dTpvdGhlcg==", false),
        ] {
            let request = Request::builder()
                .uri("/v2/")
                .header("authorization", value);
            let (parts, ()) = request.body(()).expect("request").into_parts();
            assert_eq!(is_sighted(&parts, b"", &watched), expected, "{value}");
        }
    }
}
