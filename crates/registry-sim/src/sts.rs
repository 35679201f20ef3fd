//! The Security Token Service of AWS, as far as it gives out sessions of roles.
//!
//! It checks the signature of who asks with keys, the external id that a role's owner demands, and
//! that a policy is one; it notes what each session was asked for with.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::answer::{reply, with_header};
use crate::authority::Authority;
use crate::aws_signature::{self, Key};
use crate::counters::{HostCounter, KnownSecrets};
use crate::ecr::EcrFault;
use crate::gate::Gate;
use crate::host::{Arrived, Host, Reserved};
use crate::issuer_trust::{self, TrustedIssuer, Untrusted};
use crate::sim::lock;

/// The keys of every session: id, secret and token.
const SESSION: [&str; 3] = [
    "ASIASESSIONEXAMPLE",
    "session/secret+key",
    "session+token/==",
];

/// What a session was asked for with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assumed {
    pub session_name: String,
    pub policy: Value,
}

/// The running service. Dropping it ends it.
pub struct StsApi {
    shared: Arc<Shared>,
    host: Host,
}

struct Shared {
    access_key_id: String,
    secret_access_key: String,
    state: Mutex<State>,
    /// While closed, requests wait.
    gate: Gate,
}

struct State {
    role_arn: String,
    external_id: Option<String>,
    /// Of the session that the key is of, where it is of one.
    key_session: Option<String>,
    web_identity: Option<String>,
    trusted: Option<Arc<TrustedIssuer>>,
    life: Duration,
    clock_ahead: SignedDuration,
    fault: Option<EcrFault>,
    assumed: Vec<Assumed>,
}

impl fmt::Debug for StsApi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StsApi")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

impl StsApi {
    /// A service that knows this key and a role that trusts it.
    pub async fn start(authority: &Authority, key: (&str, &str), role_arn: &str) -> Self {
        let (access_key_id, secret_access_key) = key;
        let shared = Arc::new(Shared {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.to_owned(),
            state: Mutex::new(State {
                role_arn: role_arn.to_owned(),
                external_id: None,
                key_session: None,
                web_identity: None,
                trusted: None,
                life: Duration::from_hours(1),
                clock_ahead: SignedDuration::ZERO,
                fault: None,
                assumed: Vec::new(),
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
                    shared.answer(arrived).await
                })
            }),
        );
        Self { shared, host }
    }

    /// `host:port` where it answers.
    pub fn host(&self) -> &str {
        &self.host.authority
    }

    /// From now on the key counts only with this session's token.
    pub fn demand_key_session(&self, token: &str) {
        lock(&self.shared.state).key_session = Some(token.to_owned());
    }

    /// What arrived at it.
    pub fn counter(&self) -> &HostCounter {
        &self.host.counter
    }

    /// Id and secret of the keys that sessions have.
    pub fn session_key(&self) -> (&'static str, &'static str) {
        (SESSION[0], SESSION[1])
    }

    /// The token that these are sent with.
    pub fn session_token(&self) -> &'static str {
        SESSION[2]
    }

    /// What sessions were asked for with so far.
    pub fn assumed(&self) -> Vec<Assumed> {
        lock(&self.shared.state).assumed.clone()
    }

    /// From now on the role is taken on only with this.
    pub fn demand_external_id(&self, id: &str) {
        lock(&self.shared.state).external_id = Some(id.to_owned());
    }

    /// From now on the role trusts who has this token.
    pub fn trust_web_identity(&self, token: &str) {
        lock(&self.shared.state).web_identity = Some(token.to_owned());
    }

    /// From now on the role trusts tokens of this issuer.
    pub fn trust_issuer(&self, issuer: TrustedIssuer) {
        lock(&self.shared.state).trusted = Some(Arc::new(issuer));
    }

    /// From now on sessions live for so long.
    pub fn set_life(&self, life: Duration) {
        lock(&self.shared.state).life = life;
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
    async fn answer(&self, mut arrived: Arrived) -> Response {
        let (trusted, now) = {
            let state = lock(&self.state);
            (state.trusted.clone(), Timestamp::now() + state.clock_ahead)
        };
        issuer_trust::judge(trusted, "WebIdentityToken", &mut arrived, now).await;
        let mut state = lock(&self.state);
        let reply = match &state.fault {
            Some(EcrFault::Named(name)) => refusal(name),
            Some(EcrFault::Status(status)) => xml(*status, ""),
            Some(EcrFault::Limited(seconds)) => {
                with_header(xml(429, ""), "retry-after", &seconds.to_string())
            }
            Some(EcrFault::Body(body)) => xml(200, body),
            None => match self.check(&state, &arrived, now) {
                Err(name) => refusal(name),
                Ok(assumed) => {
                    state.assumed.push(assumed);
                    session(now + state.life)
                }
            },
        };
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
        with_header(reply, "date", &date.to_string())
    }

    fn check(
        &self,
        state: &State,
        arrived: &Arrived,
        now: Timestamp,
    ) -> Result<Assumed, &'static str> {
        let form: Vec<_> = url::form_urlencoded::parse(&arrived.body).collect();
        let field = |name: &str| {
            let found = form.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_ref())
        };
        if field("Version") != Some("2011-06-15") {
            return Err("InvalidAction");
        }
        match field("Action") {
            Some("AssumeRole") => {
                let key = Key {
                    access_key_id: &self.access_key_id,
                    secret_access_key: &self.secret_access_key,
                    session_token: state.key_session.as_deref(),
                };
                aws_signature::check(arrived, key, now).map_err(in_words_of_sts)?;
                // A role that demands none does not look at one.
                let demanded = state.external_id.as_deref();
                if demanded.is_some_and(|demanded| field("ExternalId") != Some(demanded)) {
                    return Err("AccessDenied");
                }
            }
            Some("AssumeRoleWithWebIdentity") => {
                if arrived.parts.headers.contains_key("authorization") {
                    return Err("InvalidAction");
                }
                let token = field("WebIdentityToken");
                let is_given = token.is_some() && token == state.web_identity.as_deref();
                let given = is_given.then_some(()).ok_or("InvalidIdentityToken");
                let verdict = issuer_trust::verdict(arrived);
                verdict.map_or(given, |verdict| verdict.map_err(untrusted))?;
            }
            _ => return Err("InvalidAction"),
        }
        if field("RoleArn") != Some(&state.role_arn) {
            return Err("AccessDenied");
        }
        let session_name = field("RoleSessionName").unwrap_or_default();
        if !(2..=64).contains(&session_name.len()) {
            return Err("ValidationError");
        }
        let policy = field("Policy").and_then(|policy| serde_json::from_str::<Value>(policy).ok());
        let policy = policy.filter(|policy| policy["Version"] == "2012-10-17");
        Ok(Assumed {
            session_name: session_name.to_owned(),
            policy: policy.ok_or("MalformedPolicyDocument")?,
        })
    }
}

/// In the words of the service. A subject is looked at by the role, not by the provider.
fn untrusted(why: Untrusted) -> &'static str {
    match why {
        Untrusted::Subject => "AccessDenied",
        Untrusted::Time => "ExpiredTokenException",
        Untrusted::Documents => "IDPCommunicationError",
        _ => "InvalidIdentityToken",
    }
}

fn in_words_of_sts(name: &'static str) -> &'static str {
    match name {
        "UnrecognizedClientException" => "InvalidClientTokenId",
        "InvalidSignatureException" => "SignatureDoesNotMatch",
        _ => "MissingAuthenticationToken",
    }
}

fn session(end: Timestamp) -> Response {
    let [id, secret, token] = SESSION;
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ");
    xml(
        200,
        &format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>{end}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
        ),
    )
}

fn refusal(name: &str) -> Response {
    let status = if name == "AccessDenied" { 403 } else { 400 };
    xml(
        status,
        &format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
             <Type>Sender</Type><Code>{name}</Code>\
             <Message>User: arn:aws:iam::123456789012:user/puller is &quot;not&quot; authorized\
             </Message></Error><RequestId>1</RequestId></ErrorResponse>"
        ),
    )
}

fn xml(status: u16, body: &str) -> Response {
    reply(status, "text/xml", body.to_owned().into())
}
