//! The API of Amazon ECR, private and public, as far as it gives out tokens.
//!
//! It checks the signature of each request, and refuses dates that its clock does not agree with.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::answer::{json_reply, with_header};
use crate::authority::Authority;
use crate::aws_signature::{self, Key, header};
use crate::counters::{HostCounter, KnownSecrets};
use crate::gate::Gate;
use crate::host::{Arrived, Host, Reserved};
use crate::sim::lock;

/// What it answers instead of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EcrFault {
    /// An error of this name, with status 400.
    Named(&'static str),
    /// A status without an error.
    Status(u16),
    /// Status 429, and to wait for so many seconds.
    Limited(u32),
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
    /// While closed, requests wait.
    gate: Gate,
}

struct State {
    secret_access_key: String,
    session_token: Option<String>,
    takes_any_session: bool,
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
                takes_any_session: false,
                password: "ecr-password".to_owned(),
                life: Duration::from_hours(12),
                clock_ahead: SignedDuration::ZERO,
                fault: None,
            }),
            gate: Gate::default(),
        });
        let secrets = KnownSecrets::default();
        secrets.add(secret_access_key);
        let answering = Arc::clone(&shared);
        let host = Reserved::new("127.0.0.1", Some(authority)).await.serve(
            &secrets,
            Arc::new(move |arrived| {
                let shared = Arc::clone(&answering);
                Box::pin(async move {
                    shared.gate.pass().await;
                    shared.answer(&arrived)
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

    /// From now on the keys of every session count, whoever gave them: they are not looked at.
    pub fn take_any_session(&self) {
        lock(&self.shared.state).takes_any_session = true;
    }

    /// Sets its clock ahead of the real one.
    pub fn set_clock_ahead(&self, by: SignedDuration) {
        lock(&self.shared.state).clock_ahead = by;
    }

    /// Requests wait from now on, until the gate is opened.
    pub fn close_gate(&self) {
        self.shared.gate.close();
    }

    pub fn open_gate(&self) {
        self.shared.gate.open();
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
            Some(EcrFault::Limited(seconds)) => {
                let reply = json_reply(429, &json!({}));
                with_header(reply, "retry-after", &seconds.to_string())
            }
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

    fn check(&self, state: &State, arrived: &Arrived, now: Timestamp) -> Result<(), &'static str> {
        if !state.takes_any_session {
            return aws_signature::check(arrived, self.key(state), now);
        }
        let is_session = header(arrived, "authorization").contains("Credential=ASIA")
            && !header(arrived, "x-amz-security-token").is_empty();
        is_session
            .then_some(())
            .ok_or("UnrecognizedClientException")
    }

    fn key<'a>(&'a self, state: &'a State) -> Key<'a> {
        Key {
            access_key_id: &self.access_key_id,
            secret_access_key: &state.secret_access_key,
            session_token: state.session_token.as_deref(),
        }
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
