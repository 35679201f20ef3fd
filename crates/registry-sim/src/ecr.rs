//! The API of Amazon ECR, private and public, as far as it gives out tokens.
//!
//! It checks the signature of each request as AWS documents it (Signature Version 4), written apart
//! from the library that signs, and refuses dates that its clock does not agree with.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::answer::{json_reply, with_header};
use crate::authority::Authority;
use crate::counters::{HostCounter, KnownSecrets};
use crate::host::{Arrived, Host, Reserved};
use crate::sim::lock;

/// How far a request's date may be off.
const MOST_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What it answers instead of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EcrFault {
    /// An error of this name, with status 400.
    Named(&'static str),
    /// A status without an error.
    Status(u16),
    /// These bytes, with status 200.
    Body(String),
}

/// The running API. Dropping it ends it.
pub struct EcrApi {
    shared: Arc<Shared>,
    host: Host,
}

struct Shared {
    access_key_id: String,
    state: Mutex<State>,
}

struct State {
    secret_access_key: String,
    session_token: Option<String>,
    /// What it gives out, and for how long.
    password: String,
    life: Duration,
    /// By how much its clock is ahead.
    clock_ahead: SignedDuration,
    fault: Option<EcrFault>,
}

impl fmt::Debug for EcrApi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EcrApi")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

impl EcrApi {
    /// An API that knows this key.
    pub async fn start(authority: &Authority, key: (&str, &str)) -> Self {
        let (access_key_id, secret_access_key) = key;
        let shared = Arc::new(Shared {
            access_key_id: access_key_id.to_owned(),
            state: Mutex::new(State {
                secret_access_key: secret_access_key.to_owned(),
                session_token: None,
                password: "ecr-password".to_owned(),
                life: Duration::from_hours(12),
                clock_ahead: SignedDuration::ZERO,
                fault: None,
            }),
        });
        let secrets = KnownSecrets::default();
        secrets.add(secret_access_key);
        let answering = Arc::clone(&shared);
        let host = Reserved::new("127.0.0.1", Some(authority)).await.serve(
            &secrets,
            Arc::new(move |arrived| {
                let shared = Arc::clone(&answering);
                Box::pin(async move { shared.answer(&arrived) })
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

    /// From now on this password is given out, and lives for so long.
    pub fn give(&self, password: &str, life: Duration) {
        let mut state = lock(&self.shared.state);
        password.clone_into(&mut state.password);
        state.life = life;
    }

    /// From now on the key counts only with this session's token.
    pub fn demand_session(&self, token: &str) {
        lock(&self.shared.state).session_token = Some(token.to_owned());
    }

    /// Sets its clock ahead of the real one.
    pub fn set_clock_ahead(&self, by: SignedDuration) {
        lock(&self.shared.state).clock_ahead = by;
    }

    /// Changes what goes wrong.
    pub fn set_fault(&self, fault: Option<EcrFault>) {
        lock(&self.shared.state).fault = fault;
    }
}

impl Shared {
    fn answer(&self, arrived: &Arrived) -> Response {
        let state = lock(&self.state);
        let now = Timestamp::now() + state.clock_ahead;
        let reply = match &state.fault {
            Some(EcrFault::Named(name)) => refusal(name),
            Some(EcrFault::Status(status)) => json_reply(*status, &json!({})),
            Some(EcrFault::Body(body)) => {
                crate::answer::reply(200, "application/x-amz-json-1.1", body.clone().into())
            }
            None => match self.check(&state, arrived, now) {
                Err(name) => refusal(name),
                Ok(()) => token(&state, header(arrived, "x-amz-target"), now),
            },
        };
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
        with_header(reply, "date", &date.to_string())
    }

    /// Whether the request is signed as AWS documents it; else the name of the error.
    fn check(&self, state: &State, arrived: &Arrived, now: Timestamp) -> Result<(), &'static str> {
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
        let session = state.session_token.as_deref().unwrap_or_default();
        if key_id != self.access_key_id || header(arrived, "x-amz-security-token") != session {
            return Err("UnrecognizedClientException");
        }
        let date = header(arrived, "x-amz-date");
        let sent = Timestamp::strptime("%Y%m%dT%H%M%SZ%z", format!("{date}+0000"))
            .map_err(|_| "IncompleteSignatureException")?;
        let is_off = now.duration_since(sent).abs() > MOST_SKEW;
        let signed = signature(
            &state.secret_access_key,
            scope,
            field("SignedHeaders=")?,
            arrived,
        );
        if is_off || signed != field("Signature=")? {
            return Err("InvalidSignatureException");
        }
        Ok(())
    }
}

fn token(state: &State, target: &str, now: Timestamp) -> Response {
    let ends = now.as_duration().as_secs_f64() + state.life.as_secs_f64();
    let pair = format!("AWS:{}", state.password);
    let data = json!({
        "authorizationToken": BASE64_STANDARD.encode(pair),
        "expiresAt": ends,
    });
    match target {
        "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" => {
            json_reply(200, &json!({ "authorizationData": [data] }))
        }
        "SpencerFrontendService.GetAuthorizationToken" => {
            json_reply(200, &json!({ "authorizationData": data }))
        }
        _ => refusal("UnknownOperationException"),
    }
}

fn refusal(name: &str) -> Response {
    let body: Value = json!({
        "__type": format!("com.amazon.coral.service#{name}"),
        "message": "User: arn:aws:iam::123456789012:user/puller is not authorized",
    });
    json_reply(400, &body)
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
fn header<'a>(arrived: &'a Arrived, name: &str) -> &'a str {
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
