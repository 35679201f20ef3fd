//! A root key in the transit engine of `HashiCorp` Vault or `OpenBao`.
//!
//! ```text
//!   GET  /v1/MOUNT/keys/NAME                                   the newest version, and its kind
//!   POST /v1/MOUNT/encrypt/NAME   plaintext, associated_data   vault:vN:…
//!   POST /v1/MOUNT/decrypt/NAME   ciphertext, associated_data  plaintext
//! ```
//!
//! Each version of a key is a root key of its own, which a rotation goes to when the service has
//! made it. What is wrapped names its version, and is opened as of that one alone. The key is
//! looked at before it wraps: a token that may do so makes a key of any name that it encrypts with.

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use dial::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use dial::{AddressPolicy, HttpClient, Method, Reach, Request, Url};
use serde::{Deserialize, Serialize};
use vault::{KeyService, KeyServiceError, ServiceAnswer, WrapContext};
use zeroize::{Zeroize, Zeroizing};

use crate::answer;
use crate::asking;
use crate::given::Given;
use crate::source::{RootKeySource, ServiceSettings, SourceError};

/// The section of the configuration.
pub(crate) const SECTION: &str = "vault_transit";
/// Tokens have some hundred bytes; those that are signed, some thousand.
const TOKEN_MAX_BYTES: u64 = 16 * 1024;
/// A key that was rotated a thousand times is told in some 50 KiB.
const REPLY_MAX_BYTES: usize = 256 * 1024;
/// What a wrapped key is told in has some 300 bytes.
const SEALED_MAX_BYTES: usize = 4096;
/// What the vault has wrapped, and somewhat more.
const PLAIN_MAX_BYTES: usize = 256;
/// Parts of a path, a mount's and a key's: as long as anybody names them.
const PART_MAX_BYTES: usize = 128;
const PARTS_MAX: usize = 8;
const SHOWN_BYTES: usize = 40;
/// Kinds of keys that bind what is told beside what they encrypt.
const AEAD: [&str; 4] = [
    "aes128-gcm96",
    "aes256-gcm96",
    "chacha20-poly1305",
    "xchacha20-poly1305",
];

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const MARK: HeaderName = HeaderName::from_static("x-vault-request");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The name of a key, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitKey {
    url: Url,
    typed: String,
    mount: String,
    name: String,
}

/// What the operator says of transit.
#[derive(Clone, Debug)]
pub struct TransitSettings {
    pub token: Given,
    /// Of an installation that has several.
    pub namespace: Option<String>,
    /// Who signs its certificate, besides the system's authorities: a file of PEM.
    pub ca_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Question<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<&'a str>,
    associated_data: &'a str,
    /// For keys that are derived, which need it; others do not look at it.
    context: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_version: Option<u32>,
}

#[derive(Deserialize)]
struct Reply<T> {
    data: T,
}

#[derive(Deserialize)]
struct KeyState {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u32,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<String>,
}

impl TransitKey {
    /// Reads `https://HOST[:PORT]/MOUNT/NAME`, the URL of a service and the path of a key in it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let no_url = "is not https://HOST[:PORT]/MOUNT/NAME";
        let url = Url::parse(text).map_err(|_| no_url)?;
        let host = url.host_str().ok_or(no_url)?;
        let parts: Vec<_> = url.path().trim_start_matches('/').split('/').collect();
        let is_plain = |part: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let is_name = !part.is_empty() && part.len() <= PART_MAX_BYTES;
            is_name && part.bytes().all(plain) && !part.starts_with('.')
        };
        if !parts.iter().all(is_plain) || !(2..=PARTS_MAX).contains(&parts.len()) {
            return Err(no_url);
        }
        let is_here = Reach::of_host(bare(host)) == Reach::Loopback;
        match url.scheme() {
            "https" => {}
            "http" if is_here => {}
            "http" => return Err("is plain http, which is for this machine alone"),
            _ => return Err(no_url),
        }
        let (name, mount) = parts.split_last().ok_or(no_url)?;
        let (name, mount) = ((*name).to_owned(), mount.join("/"));
        let mut plain = url.clone();
        plain.set_path("/");
        let is_bare = [url.query(), url.fragment(), url.password()] == [None; 3];
        if !is_bare || !url.username().is_empty() {
            return Err(no_url);
        }
        Ok(Self {
            url: plain,
            typed: text.to_owned(),
            mount,
            name,
        })
    }
}

impl fmt::Display for TransitKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.typed)
    }
}

/// A key, the way to its service and what opens it.
#[derive(Debug)]
pub(crate) struct TransitService {
    key: TransitKey,
    http: HttpClient,
    token: Given,
    namespace: Option<HeaderValue>,
}

impl TransitService {
    pub(crate) fn new(key: &TransitKey, settings: &ServiceSettings) -> Result<Self, SourceError> {
        let transit = settings.transit_of(key)?;
        let namespace = transit.namespace.as_deref().map(HeaderValue::from_str);
        let namespace = namespace.transpose().map_err(|_| SourceError::Settings {
            section: SECTION,
            problem: "namespace is no header".to_owned(),
        });
        let host = bare(key.url.host_str().unwrap_or_default());
        let addresses = AddressPolicy::for_host(host).configured_by_user();
        let ca_file = transit.ca_file.as_deref();
        let http = asking::client(SECTION, &settings.dial, ca_file, &addresses)?;
        Ok(Self {
            key: key.clone(),
            http,
            token: transit.token.clone(),
            namespace: namespace?,
        })
    }

    async fn newest_now(&self) -> Result<u32, KeyServiceError> {
        let reply = self.ask(Method::GET, "keys", Bytes::new()).await?;
        let state: KeyState = self.read(&reply)?;
        if AEAD.contains(&state.kind.as_str()) {
            return Ok(state.latest_version);
        }
        Err(KeyServiceError::Unusable {
            message: format!(
                "the key is of the kind {}, which binds nothing to what it wraps",
                dial::quoted(state.kind.as_bytes(), SHOWN_BYTES)
            ),
        })
    }

    async fn seal_now(
        &self,
        version: u32,
        context: &WrapContext,
        plain: &[u8],
    ) -> Result<Vec<u8>, KeyServiceError> {
        let newest = self.newest_now().await?;
        if version > newest {
            return Err(missing(format!(
                "transit has no version {version} of the key"
            )));
        }
        let plain = Zeroizing::new(BASE64_STANDARD.encode(plain));
        let question = question(context, Some(&plain), None, Some(version));
        let reply = self.ask(Method::POST, "encrypt", question).await?;
        let Encrypted { ciphertext } = self.read(&reply)?;
        let is_usable = version_of(ciphertext.as_bytes()) == Some(version);
        if is_usable && ciphertext.len() <= SEALED_MAX_BYTES {
            return Ok(ciphertext.into_bytes());
        }
        Err(self.unusable())
    }

    async fn open_now(
        &self,
        version: u32,
        context: &WrapContext,
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KeyServiceError> {
        // What names another version was wrapped under another root key.
        let sealed = str::from_utf8(sealed).ok();
        let sealed = sealed.filter(|text| version_of(text.as_bytes()) == Some(version));
        let Some(sealed) = sealed.filter(|text| text.len() <= SEALED_MAX_BYTES) else {
            return Ok(None);
        };
        let question = question(context, None, Some(sealed), None);
        let reply = match self.ask_once("decrypt", question).await? {
            Ok(reply) => reply,
            Err(refusal) if refusal.is_unopened() => return Ok(None),
            Err(refusal) => return Err(refusal.told()),
        };
        let opened: Result<Decrypted, _> = self.read(&reply);
        // Copies of the connection's own are not reached.
        if let Ok(mut reply) = reply.try_into_mut() {
            reply.zeroize();
        }
        let text = Zeroizing::new(opened?.plaintext);
        let plain = decoded(&text).ok_or_else(|| self.unusable())?;
        Ok(Some(plain))
    }

    async fn ask(
        &self,
        method: Method,
        operation: &str,
        body: Bytes,
    ) -> Result<Bytes, KeyServiceError> {
        let asked = self.request(method, operation, body).await?;
        asked.map_err(|refusal| refusal.told())
    }

    async fn ask_once(
        &self,
        operation: &str,
        body: Bytes,
    ) -> Result<Result<Bytes, Refused>, KeyServiceError> {
        self.request(Method::POST, operation, body).await
    }

    async fn request(
        &self,
        method: Method,
        operation: &str,
        body: Bytes,
    ) -> Result<Result<Bytes, Refused>, KeyServiceError> {
        let mut url = self.key.url.clone();
        let TransitKey { mount, name, .. } = &self.key;
        url.set_path(&format!("/v1/{mount}/{operation}/{name}"));
        let mut request = Request::new(method, url)
            .header(MARK, HeaderValue::from_static("true"))
            .header(TOKEN, self.token().await?);
        if let Some(namespace) = &self.namespace {
            request = request.header(NAMESPACE, namespace.clone());
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, JSON);
        }
        request.body = body;
        let response = self.http.send(request).await;
        let response = response.map_err(|error| answer::of_dial(&error))?;
        let status = response.status.as_u16();
        let body = response.read_bounded(REPLY_MAX_BYTES).await;
        let body = body.map_err(|error| answer::of_dial(&error))?;
        if status == 200 {
            return Ok(Ok(body));
        }
        Ok(Err(Refused::read(status, &body)))
    }

    /// Read again for each question, so that an agent may renew it.
    async fn token(&self) -> Result<HeaderValue, KeyServiceError> {
        let given = self.token.clone();
        let read = asking::blocking(move || {
            let text = given.read(TOKEN_MAX_BYTES)?;
            let token = text.trim();
            let is_visible = token.bytes().all(|byte| byte.is_ascii_graphic());
            let header = HeaderValue::from_str(token).ok();
            let header = header.filter(|_| is_visible && !token.is_empty());
            header.ok_or_else(|| given.malformed("holds no token"))
        });
        let mut token = read.await.map_err(|error| answer::no_credential(&error))?;
        token.set_sensitive(true);
        Ok(token)
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, reply: &[u8]) -> Result<T, KeyServiceError> {
        let read: Result<Reply<T>, _> = serde_json::from_slice(reply);
        read.map(|reply| reply.data).map_err(|_| self.unusable())
    }

    fn unusable(&self) -> KeyServiceError {
        KeyServiceError::Unusable {
            message: format!("{} answered nothing that is usable", self.key),
        }
    }
}

impl KeyService for TransitService {
    fn source(&self) -> String {
        RootKeySource::VaultTransit(self.key.clone()).to_string()
    }

    /// Without the host: an installation may move, and has several.
    fn identity(&self) -> String {
        let TransitKey { mount, name, .. } = &self.key;
        let namespace = self.namespace.as_ref().map(HeaderValue::as_bytes);
        let namespace = String::from_utf8_lossy(namespace.unwrap_or_default());
        format!("vault-transit:{namespace}:{mount}/{name}")
    }

    fn newest(&self) -> ServiceAnswer<'_, u32> {
        Box::pin(asking::patiently(move || self.newest_now()))
    }

    fn seal<'a>(
        &'a self,
        version: u32,
        context: &'a WrapContext,
        plain: &'a [u8],
    ) -> ServiceAnswer<'a, Vec<u8>> {
        Box::pin(asking::patiently(move || {
            self.seal_now(version, context, plain)
        }))
    }

    fn open<'a>(
        &'a self,
        version: u32,
        context: &'a WrapContext,
        sealed: &'a [u8],
    ) -> ServiceAnswer<'a, Option<Zeroizing<Vec<u8>>>> {
        Box::pin(asking::patiently(move || {
            self.open_now(version, context, sealed)
        }))
    }
}

/// What it says of a request that it does not do.
struct Refused {
    status: u16,
    errors: String,
}

impl Refused {
    fn read(status: u16, body: &[u8]) -> Self {
        let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
        let errors = refusal.map(|refusal| refusal.errors.join("; "));
        Self {
            status,
            errors: errors.unwrap_or_default(),
        }
    }

    fn says(&self, words: &str) -> bool {
        self.errors.contains(words)
    }

    /// Which status such a refusal has differs between releases.
    fn is_unopened(&self) -> bool {
        let is_about_it = matches!(self.status, 400 | 500);
        let is_version = self.says("too new") || self.says("too old");
        let is_damage = self.says("message authentication failed")
            || self.says("invalid ciphertext")
            || self.says("could not decode");
        is_about_it && is_damage && !is_version
    }

    /// Without what it says where that could repeat the request.
    fn told(&self) -> KeyServiceError {
        let status = self.status;
        match status {
            404 => missing("transit has no such key".to_owned()),
            400 if self.says("key not found") => missing("transit has no such key".to_owned()),
            400 | 500 if self.says("too old") => missing(
                "transit does not open this version of the key any more \
                 (min_decryption_version)"
                    .to_owned(),
            ),
            400 if self.says("too new") => {
                missing("transit does not have this version of the key".to_owned())
            }
            403 if self.says("invalid token") || self.says("bad token") => {
                KeyServiceError::BadCredential {
                    message: "the service does not know the token, or it has ended".to_owned(),
                }
            }
            403 => KeyServiceError::Denied {
                message: "the token does not count, or may not do this with the key".to_owned(),
            },
            429 => KeyServiceError::RateLimited {
                message: "the service limits its callers".to_owned(),
            },
            503 if self.says("sealed") => KeyServiceError::Sealed {
                message: "the service is sealed".to_owned(),
            },
            300..=399 => KeyServiceError::Unusable {
                message: "the service sends its callers elsewhere: name the node that is active, \
                          or one that forwards"
                    .to_owned(),
            },
            408 | 412 | 472 | 473 | 500.. => KeyServiceError::Unreachable {
                message: format!("the service answered with status {status}"),
            },
            _ => KeyServiceError::Unusable {
                message: format!("the service refused the request (status {status})"),
            },
        }
    }
}

fn missing(message: String) -> KeyServiceError {
    KeyServiceError::Missing { message }
}

/// A host without the brackets of an address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The request's body, in a buffer that is wiped.
fn question(
    context: &WrapContext,
    plaintext: Option<&str>,
    ciphertext: Option<&str>,
    key_version: Option<u32>,
) -> Bytes {
    let bound = BASE64_STANDARD.encode(context.bytes());
    let question = Question {
        plaintext,
        ciphertext,
        associated_data: &bound,
        context: &bound,
        key_version,
    };
    // Larger than any question, so that it does not grow and leave a copy behind.
    let mut body = Zeroizing::new(Vec::with_capacity(4 * SEALED_MAX_BYTES));
    serde_json::to_writer(&mut *body, &question).expect("text makes JSON");
    Bytes::from_owner(body)
}

/// N of `vault:vN:…`, as it is written and no other way.
fn version_of(sealed: &[u8]) -> Option<u32> {
    let text = str::from_utf8(sealed).ok()?;
    let (digits, _) = text.strip_prefix("vault:v")?.split_once(':')?;
    let version: u32 = digits.parse().ok()?;
    (version.to_string() == digits).then_some(version)
}

fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() > PLAIN_MAX_BYTES.div_ceil(3) * 4 {
        return None;
    }
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = BASE64_STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_names_its_version_in_one_way() {
        for (text, expected) in [
            ("vault:v1:abc", Some(1)),
            ("vault:v12:", Some(12)),
            ("vault:v01:abc", None),
            ("vault:v+1:abc", None),
            ("vault:v:abc", None),
            ("vault:v4294967296:abc", None),
            ("vault:v1", None),
            ("", None),
        ] {
            assert_eq!(version_of(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(version_of(b"vault:v1:\xff"), None);
    }

    #[test]
    fn refusals_are_told_by_what_the_operator_does() {
        use KeyServiceError as Error;
        type Is = fn(&KeyServiceError) -> bool;
        let missing: Is = |error| matches!(error, Error::Missing { .. });
        let unreachable: Is = |error| matches!(error, Error::Unreachable { .. });
        let unusable: Is = |error| matches!(error, Error::Unusable { .. });
        let denied: Is = |error| matches!(error, Error::Denied { .. });
        let bad: Is = |error| matches!(error, Error::BadCredential { .. });
        let limited: Is = |error| matches!(error, Error::RateLimited { .. });
        let sealed: Is = |error| matches!(error, Error::Sealed { .. });
        let refused = |status, words: &str| {
            let body = serde_json::json!({ "errors": [words] }).to_string();
            Refused::read(status, body.as_bytes())
        };
        for (status, words, is_right) in [
            (404, "", missing),
            (400, "encryption key not found", missing),
            (
                400,
                "ciphertext version is disallowed by policy (too old)",
                missing,
            ),
            (400, "invalid ciphertext: version is too new", missing),
            (403, "permission denied", denied),
            (403, "permission denied, invalid token", bad),
            (429, "", limited),
            (503, "Vault is sealed", sealed),
            (503, "", unreachable),
            (500, "internal error", unreachable),
            (307, "", unusable),
            (400, "canary", unusable),
        ] {
            let refused = refused(status, words);
            assert!(!refused.is_unopened(), "{status} {words}");
            let told = refused.told();
            assert!(is_right(&told), "{status} {words}: {told:?}");
            assert!(!told.to_string().contains("canary"), "{told}");
        }
        for (status, words) in [
            (400, "invalid ciphertext: no prefix"),
            (
                500,
                "1 error occurred:\n\t* cipher: message authentication failed",
            ),
            (400, "cipher: message authentication failed"),
        ] {
            assert!(refused(status, words).is_unopened(), "{words}");
        }
        assert!(unreachable(&Refused::read(502, b"<html>").told()));
    }
}
