//! Google's services that give out access tokens: for a service account's key, for another issuer's
//! token, and for who may speak for a service account.
//!
//! Each is a host of its own and counts what arrives at it. They check what they are sent as Google
//! documents it, and the signature of an assertion with the key that they made themselves.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::response::Response;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::answer::json_reply;
use crate::authority::Authority;
use crate::cloud_fault::{CloudFault, dated, refusal};
use crate::counters::{HostCounter, KnownSecrets};
use crate::gate::Gate;
use crate::host::{Arrived, Host, Reserved, find};
use crate::issuer_trust::{self, TrustedIssuer};
use crate::sim::lock;

const TOKEN_HOST: &str = "oauth2.googleapis.com";
const EXCHANGE_HOST: &str = "sts.googleapis.com";
const ACCOUNTS_HOST: &str = "iamcredentials.googleapis.com";

const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const ACCOUNT: &str = "puller@acme.iam.gserviceaccount.com";
const KEY_ID: &str = "7f3a9d21";
const AUDIENCE: &str =
    "//iam.googleapis.com/projects/7/locations/global/workloadIdentityPools/p/providers/x";
const READ_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";
/// What a federated identity is given that then speaks for a service account.
const FEDERATED_TOKEN: &str = "ya29.d.federated";

/// How far the times of an assertion may be off, and how far apart they may be.
const MOST_SKEW: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_ASSERTION: SignedDuration = SignedDuration::from_hours(1);

/// The running services. Dropping it ends them.
pub struct GoogleApi {
    shared: Arc<Shared>,
    token: Host,
    exchange: Host,
    accounts: Host,
}

struct Shared {
    key: &'static KeyPair,
    state: Mutex<State>,
    /// While closed, requests wait.
    gate: Gate,
}

struct State {
    subject_token: String,
    trusted: Option<Arc<TrustedIssuer>>,
    /// What is given out, and for how long.
    access_token: String,
    life: Duration,
    /// By how much their clock is ahead.
    clock_ahead: SignedDuration,
    fault: Option<CloudFault>,
}

/// Made once, since that takes a second.
static OWN_KEY: OnceLock<KeyPair> = OnceLock::new();

type Answering = fn(&Shared, &State, &Arrived, Timestamp) -> Response;

impl fmt::Debug for GoogleApi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GoogleApi")
            .field("lines", &self.lines())
            .finish_non_exhaustive()
    }
}

impl GoogleApi {
    /// The names by which they are reached.
    pub const HOSTS: [&str; 3] = [TOKEN_HOST, EXCHANGE_HOST, ACCOUNTS_HOST];

    /// Services that know one service account, by one key.
    pub async fn start(authority: &Authority) -> Self {
        let shared = Arc::new(Shared {
            key: OWN_KEY.get_or_init(new_key),
            state: Mutex::new(State {
                subject_token: "subject-token".to_owned(),
                trusted: None,
                access_token: "ya29.access".to_owned(),
                life: Duration::from_secs(3599),
                clock_ahead: SignedDuration::ZERO,
                fault: None,
            }),
            gate: Gate::default(),
        });
        Self {
            token: serve(authority, &shared, token).await,
            exchange: serve(authority, &shared, exchange).await,
            accounts: serve(authority, &shared, generate).await,
            shared,
        }
    }

    /// Each name and the `host:port` that answers for it.
    pub fn lines(&self) -> [(&'static str, &str); 3] {
        let [token, exchange, accounts] = Self::HOSTS;
        [
            (token, &self.token.authority),
            (exchange, &self.exchange.authority),
            (accounts, &self.accounts.authority),
        ]
    }

    /// The JSON of the service account's key, as a user has it.
    pub fn service_account(&self) -> Value {
        service_account(&self.private_key())
    }

    /// The same with a new key, which is not known.
    pub fn service_account_with_another_key(&self) -> Value {
        service_account(&encoded(&new_key()))
    }

    /// A line out of the middle of the private key.
    pub fn private_key_line(&self) -> String {
        self.private_key()[640..704].to_owned()
    }

    fn private_key(&self) -> String {
        encoded(self.shared.key)
    }

    /// The JSON of an external account, as a user has it.
    pub fn external_account(&self) -> Value {
        json!({
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "service_account_impersonation_url": format!(
                "https://{ACCOUNTS_HOST}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
            ),
        })
    }

    /// What arrived where keys are exchanged.
    pub fn token(&self) -> &HostCounter {
        &self.token.counter
    }

    /// What arrived where tokens of other issuers are exchanged.
    pub fn exchange(&self) -> &HostCounter {
        &self.exchange.counter
    }

    /// What arrived where service accounts are spoken for.
    pub fn accounts(&self) -> &HostCounter {
        &self.accounts.counter
    }

    /// From now on this access token is given out, and lives for so long.
    pub fn give(&self, access_token: &str, life: Duration) {
        let mut state = lock(&self.shared.state);
        access_token.clone_into(&mut state.access_token);
        state.life = life;
    }

    /// From now on this token of another issuer is believed.
    pub fn believe(&self, subject_token: &str) {
        subject_token.clone_into(&mut lock(&self.shared.state).subject_token);
    }

    /// From now on tokens of this issuer are believed.
    pub fn trust_issuer(&self, issuer: TrustedIssuer) {
        lock(&self.shared.state).trusted = Some(Arc::new(issuer));
    }

    /// Sets their clock ahead of the real one.
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
    pub fn set_fault(&self, fault: Option<CloudFault>) {
        lock(&self.shared.state).fault = fault;
    }
}

fn service_account(private_key: &str) -> Value {
    json!({
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": KEY_ID,
        "private_key": pem(private_key),
        "client_email": ACCOUNT,
        "token_uri": TOKEN_URL,
        "universe_domain": "googleapis.com",
    })
}

async fn serve(authority: &Authority, shared: &Arc<Shared>, answering: Answering) -> Host {
    let shared = Arc::clone(shared);
    let reserved = Reserved::new("127.0.0.1", Some(authority)).await;
    reserved.serve(
        &KnownSecrets::default(),
        Arc::new(move |arrived| {
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                shared.gate.pass().await;
                answer(&shared, answering, arrived).await
            })
        }),
    )
}

async fn answer(shared: &Shared, answering: Answering, mut arrived: Arrived) -> Response {
    let (trusted, now) = {
        let state = lock(&shared.state);
        (state.trusted.clone(), Timestamp::now() + state.clock_ahead)
    };
    issuer_trust::judge(trusted, "subject_token", &mut arrived, now).await;
    let state = lock(&shared.state);
    let reply = match &state.fault {
        Some(fault) => fault.answer(),
        None => answering(shared, &state, &arrived, now),
    };
    dated(reply, now)
}

/// A signed assertion becomes an access token.
fn token(shared: &Shared, state: &State, arrived: &Arrived, now: Timestamp) -> Response {
    let form = arrived.form();
    let field = |name: &str| find(&form, name);
    if arrived.parts.uri.path() != "/token"
        || field("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer"
    {
        return refusal(400, "unsupported_grant_type", "Invalid grant_type");
    }
    match check_assertion(shared, field("assertion"), now) {
        Ok(()) => access_token(&state.access_token, state.life),
        Err((error, description)) => refusal(400, error, description),
    }
}

fn check_assertion(
    shared: &Shared,
    assertion: &str,
    now: Timestamp,
) -> Result<(), (&'static str, &'static str)> {
    let parts: Vec<&str> = assertion.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        return Err(("invalid_request", "Bad Request"));
    };
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (Some(head), Some(body)) = (json(header), json(claims)) else {
        return Err(("invalid_request", "Bad Request"));
    };
    if body["iss"] != ACCOUNT {
        return Err(("invalid_grant", "Invalid grant: account not found"));
    }
    let signed = format!("{header}.{claims}");
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, shared.key.public_key());
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let is_ours = key.verify(signed.as_bytes(), &signature).is_ok();
    if !is_ours || head["alg"] != "RS256" || head["kid"] != KEY_ID {
        return Err(("invalid_grant", "Invalid JWT Signature."));
    }
    if body["aud"] != TOKEN_URL {
        return Err(("invalid_grant", "Invalid JWT: Failed audience check."));
    }
    if body["scope"] != READ_SCOPE {
        return Err((
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided.",
        ));
    }
    let time = |name: &str| Timestamp::from_second(body[name].as_i64()?).ok();
    let is_timely = time("iat").zip(time("exp")).is_some_and(|(iat, exp)| {
        iat <= now + MOST_SKEW
            && now <= exp + MOST_SKEW
            && exp.duration_since(iat) <= LONGEST_ASSERTION
    });
    if is_timely {
        return Ok(());
    }
    Err((
        "invalid_grant",
        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable \
         timeframe. Check your iat and exp values in the JWT claim.",
    ))
}

/// A token of another issuer becomes one of Google's.
fn exchange(_: &Shared, state: &State, arrived: &Arrived, _: Timestamp) -> Response {
    let form = arrived.form();
    let field = |name: &str| find(&form, name);
    let expected = [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ];
    let is_right = expected.iter().all(|(name, value)| field(name) == *value);
    if arrived.parts.uri.path() != "/v1/token" || !is_right {
        return refusal(400, "invalid_request", "Invalid request");
    }
    if field("audience") != AUDIENCE {
        return refusal(
            400,
            "invalid_target",
            "The target service indicated is invalid.",
        );
    }
    let is_believed = match issuer_trust::verdict(arrived) {
        Some(verdict) => verdict.is_ok(),
        None => field("subject_token") == state.subject_token,
    };
    if !is_believed {
        return refusal(400, "invalid_grant", "The given credential is rejected.");
    }
    match field("scope") {
        READ_SCOPE => access_token(&state.access_token, state.life),
        IAM_SCOPE => access_token(FEDERATED_TOKEN, Duration::from_mins(5)),
        _ => refusal(400, "invalid_scope", "Invalid scope"),
    }
}

/// Who may speak for a service account gets its access token.
fn generate(_: &Shared, state: &State, arrived: &Arrived, now: Timestamp) -> Response {
    let denied = |status: u16, name: &str| {
        let error = json!({ "code": status, "message": "denied", "status": name });
        json_reply(status, &json!({ "error": error }))
    };
    let authorization = arrived.parts.headers.get("authorization");
    let bearer = format!("Bearer {FEDERATED_TOKEN}");
    if authorization.is_none_or(|value| value.as_bytes() != bearer.as_bytes()) {
        return denied(401, "UNAUTHENTICATED");
    }
    let path = format!("/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken");
    let asked: Value = serde_json::from_slice(&arrived.body).unwrap_or_default();
    if arrived.parts.uri.path() != path || asked["scope"] != json!([READ_SCOPE]) {
        return denied(403, "PERMISSION_DENIED");
    }
    let life = SignedDuration::try_from(state.life).expect("a life that has an end");
    let end = now + life;
    json_reply(
        200,
        &json!({ "accessToken": state.access_token, "expireTime": end.to_string() }),
    )
}

fn access_token(token: &str, life: Duration) -> Response {
    json_reply(
        200,
        &json!({
            "access_token": token,
            "expires_in": life.as_secs(),
            "token_type": "Bearer",
        }),
    )
}

fn new_key() -> KeyPair {
    KeyPair::generate(KeySize::Rsa2048).expect("an RSA key")
}

/// The base64 of a key's PKCS#8.
fn encoded(key: &KeyPair) -> String {
    let der: Pkcs8V1Der<'_> = key.as_der().expect("PKCS#8");
    BASE64_STANDARD.encode(der.as_ref())
}

/// A PKCS#8 key as Google writes it, of its base64.
fn pem(encoded: &str) -> String {
    let mut text = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text + "-----END PRIVATE KEY-----\n"
}
