//! The transit engine of `HashiCorp` Vault, as far as it wraps with one kind of key, by its
//! documented wire; and what it answers when it does not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::answer::{json_reply, reply};
use crate::authority::Authority;
use crate::counters::{HostCounter, KnownSecrets};
use crate::gate::Gate;
use crate::host::{Arrived, Host, Reserved};
use crate::sim::lock;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// What it answers instead of its work.
#[derive(Debug, Clone)]
pub enum TransitFault {
    /// A refusal with this status and these words.
    Refuses(u16, &'static str),
    /// These bytes, with status 200.
    Body(Vec<u8>),
}

/// The running service. Dropping it ends it.
pub struct TransitApi {
    shared: Arc<Shared>,
    host: Host,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// While closed, requests wait.
    gate: Gate,
}

#[derive(Default)]
struct State {
    token: String,
    keys: BTreeMap<String, Key>,
    fault: Option<TransitFault>,
}

struct Key {
    kind: &'static str,
    versions: Vec<[u8; KEY_BYTES]>,
    min_decryption_version: usize,
}

impl fmt::Debug for TransitApi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TransitApi")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

impl TransitApi {
    /// A service that knows one token and no keys.
    pub async fn start(authority: &Authority, token: &str) -> Self {
        let shared = Arc::new(Shared::default());
        token.clone_into(&mut lock(&shared.state).token);
        let secrets = KnownSecrets::default();
        secrets.add(token);
        let answering = Arc::clone(&shared);
        let host = Reserved::new("127.0.0.1", Some(authority)).await.serve(
            &secrets,
            Arc::new(move |arrived| {
                let shared = Arc::clone(&answering);
                Box::pin(async move {
                    shared.gate.pass().await;
                    lock(&shared.state).answer(&arrived)
                })
            }),
        );
        Self { shared, host }
    }

    /// `host:port` where it answers.
    pub fn host(&self) -> &str {
        &self.host.authority
    }

    /// What arrived at it.
    pub fn counter(&self) -> &HostCounter {
        &self.host.counter
    }

    /// Another token counts from now on.
    pub fn know_token(&self, token: &str) {
        token.clone_into(&mut lock(&self.shared.state).token);
    }

    /// Makes a key of this path, or a newer version of it.
    pub fn rotate_key(&self, path: &str) {
        let mut state = lock(&self.shared.state);
        let key = state.keys.entry(path.to_owned()).or_insert_with(|| Key {
            kind: "aes256-gcm96",
            versions: Vec::new(),
            min_decryption_version: 1,
        });
        let mut bytes = [0; KEY_BYTES];
        rand::fill(&mut bytes).expect("random bytes");
        key.versions.push(bytes);
    }

    /// A key of another kind.
    pub fn set_kind(&self, path: &str, kind: &'static str) {
        if let Some(key) = lock(&self.shared.state).keys.get_mut(path) {
            key.kind = kind;
        }
    }

    /// Versions before this one open nothing more.
    pub fn retire_before(&self, path: &str, version: usize) {
        if let Some(key) = lock(&self.shared.state).keys.get_mut(path) {
            key.min_decryption_version = version;
        }
    }

    /// The paths of its keys.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.shared.state).keys.keys().cloned().collect()
    }

    /// Changes what goes wrong.
    pub fn set_fault(&self, fault: Option<TransitFault>) {
        lock(&self.shared.state).fault = fault;
    }

    /// From now on, connections are reset, or no longer.
    pub fn set_outage(&self, outage: bool) {
        self.host.set_outage(outage);
    }

    /// Requests wait from now on, until the gate is opened.
    pub fn close_gate(&self) {
        self.shared.gate.close();
    }

    pub fn open_gate(&self) {
        self.shared.gate.open();
    }
}

impl State {
    fn answer(&mut self, arrived: &Arrived) -> Response {
        match &self.fault {
            Some(TransitFault::Refuses(status, words)) => return refusal(*status, words),
            Some(TransitFault::Body(body)) => {
                return reply(200, "application/json", body.clone().into());
            }
            None => {}
        }
        let token = arrived.parts.headers.get("x-vault-token");
        if token.is_none_or(|token| token.as_bytes() != self.token.as_bytes()) {
            return refusal(403, "permission denied");
        }
        let path = arrived.parts.uri.path().trim_start_matches("/v1/");
        let parts: Vec<_> = path.split('/').collect();
        let [mount @ .., operation, name] = &parts[..] else {
            return refusal(404, "no handler for route");
        };
        let key = format!("{}/{name}", mount.join("/"));
        let question: Value = serde_json::from_slice(&arrived.body).unwrap_or_default();
        match (*operation, self.keys.get(&key)) {
            ("keys", None) => json_reply(404, &json!({ "errors": [] })),
            ("keys", Some(key)) => reply_with(&json!({
                "type": key.kind,
                "latest_version": key.versions.len(),
                "min_decryption_version": key.min_decryption_version,
                "derived": false,
            })),
            // As for a token that may create what is not there.
            ("encrypt", None) => {
                self.keys.insert(
                    key,
                    Key {
                        kind: "aes256-gcm96",
                        versions: vec![[7; KEY_BYTES]],
                        min_decryption_version: 1,
                    },
                );
                refusal(400, "a key was made")
            }
            ("encrypt", Some(key)) => key.encrypt(&question),
            ("decrypt", Some(key)) => key.decrypt(&question),
            ("decrypt", None) => refusal(400, "encryption key not found"),
            _ => refusal(404, "no handler for route"),
        }
    }
}

impl Key {
    fn encrypt(&self, question: &Value) -> Response {
        let newest = self.versions.len();
        let version = question["key_version"].as_u64().unwrap_or(newest as u64);
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        let (Some(cipher), Some(mut text)) = (self.cipher(version), field(question, "plaintext"))
        else {
            return refusal(400, "invalid request");
        };
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).expect("random bytes");
        let bound = Aad::from(field(question, "associated_data").unwrap_or_default());
        let sealed =
            cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut text);
        sealed.expect("sealed");
        let text = BASE64_STANDARD.encode([nonce.as_slice(), &text].concat());
        let ciphertext = format!("vault:v{version}:{text}");
        reply_with(&json!({ "ciphertext": ciphertext, "key_version": version }))
    }

    fn decrypt(&self, question: &Value) -> Response {
        let text = question["ciphertext"].as_str().unwrap_or_default();
        let parts = text
            .strip_prefix("vault:v")
            .and_then(|text| text.split_once(':'));
        let Some((version, text)) = parts else {
            return refusal(400, "invalid ciphertext: no prefix");
        };
        let version = version.parse().unwrap_or(usize::MAX);
        if version < self.min_decryption_version {
            let words = "ciphertext or signature version is disallowed by policy (too old)";
            return refusal(400, words);
        }
        let Some(cipher) = self.cipher(version) else {
            return refusal(400, "invalid ciphertext: version is too new");
        };
        let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
        let Some((nonce, sealed)) = bytes.split_at_checked(NONCE_BYTES) else {
            return refusal(400, "invalid ciphertext: could not decode");
        };
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("its length");
        let bound = Aad::from(field(question, "associated_data").unwrap_or_default());
        let mut sealed = sealed.to_vec();
        match cipher.open_in_place(nonce, bound, &mut sealed) {
            Ok(plain) => reply_with(&json!({ "plaintext": BASE64_STANDARD.encode(plain) })),
            Err(_) => refusal(
                500,
                "1 error occurred:\n\t* cipher: message authentication failed",
            ),
        }
    }

    fn cipher(&self, version: usize) -> Option<LessSafeKey> {
        let bytes = self.versions.get(version.checked_sub(1)?)?;
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("its length");
        Some(LessSafeKey::new(key))
    }
}

fn field(question: &Value, name: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(question[name].as_str()?).ok()
}

fn reply_with(data: &Value) -> Response {
    json_reply(
        200,
        &json!({ "request_id": "1", "lease_id": "", "data": data }),
    )
}

fn refusal(status: u16, words: &str) -> Response {
    json_reply(status, &json!({ "errors": [words] }))
}
