//! Signatures of AWS (Signature Version 4), checked as AWS documents them; written apart from
//! the library that signs.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::host::Arrived;

/// How far a request's date may be off.
const MOST_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a request must be signed with.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) secret_access_key: &'a str,
    pub(crate) session_token: Option<&'a str>,
}

/// Whether the request is signed with this key, and lately; else the name of the error.
pub(crate) fn check(arrived: &Arrived, key: Key<'_>, now: Timestamp) -> Result<(), &'static str> {
    let authorization = header(arrived, "authorization");
    let fields = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or("MissingAuthenticationTokenException")?;
    let field = |name: &str| {
        let found = fields
            .split(", ")
            .find_map(|field| field.strip_prefix(name));
        found.ok_or("IncompleteSignatureException")
    };
    let (key_id, scope) = field("Credential=")?
        .split_once('/')
        .ok_or("IncompleteSignatureException")?;
    let session = key.session_token.unwrap_or_default();
    if key_id != key.access_key_id || header(arrived, "x-amz-security-token") != session {
        return Err("UnrecognizedClientException");
    }
    let date = header(arrived, "x-amz-date");
    let sent = Timestamp::strptime("%Y%m%dT%H%M%SZ%z", format!("{date}+0000"))
        .map_err(|_| "IncompleteSignatureException")?;
    let is_off = now.duration_since(sent).abs() > MOST_SKEW;
    let headers = field("SignedHeaders=")?;
    let signed = signature(key.secret_access_key, scope, headers, arrived);
    if is_off || signed != field("Signature=")? {
        return Err("InvalidSignatureException");
    }
    Ok(())
}

/// The signature that a request of this scope (date, region, service) must have.
fn signature(secret: &str, scope: &str, signed_headers: &str, arrived: &Arrived) -> String {
    let mut canonical = format!("{}\n{}\n\n", arrived.parts.method, arrived.parts.uri.path());
    for name in signed_headers.split(';') {
        let _ = writeln!(canonical, "{name}:{}", header(arrived, name).trim());
    }
    let body = hex(&Sha256::digest(&arrived.body));
    let _ = write!(canonical, "\n{signed_headers}\n{body}");
    let date = header(arrived, "x-amz-date");
    let hash = hex(&Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
    let first = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').fold(first, |key, part| mac(&key, part));
    hex(&mac(&key, &text))
}

/// The value of a header; of HTTP/2, whose `host` is in the URL.
pub(crate) fn header<'a>(arrived: &'a Arrived, name: &str) -> &'a str {
    let value = arrived.parts.headers.get(name);
    let value = value.and_then(|value| value.to_str().ok());
    match (value, arrived.parts.uri.authority()) {
        (None, Some(authority)) if name == "host" => authority.as_str(),
        (value, _) => value.unwrap_or_default(),
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
