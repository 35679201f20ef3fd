//! The directory of a cloud of Azure, as far as it gives out tokens to service principals, and what
//! a registry exchanges such a token for.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::answer::{error_reply, json_reply};
use crate::authority::Authority;
use crate::cloud_fault::{CloudFault, dated, refusal};
use crate::counters::{HostCounter, KnownSecrets};
use crate::gate::Gate;
use crate::host::{Arrived, Host, Reserved, find};
use crate::issuer_trust::{self, TrustedIssuer, Untrusted};
use crate::sim::lock;

const SCOPE: &str = "https://containerregistry.azure.net/.default";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A service principal that the directory knows.
#[derive(Debug, Clone)]
pub struct AzurePrincipal {
    pub tenant: String,
    pub client_id: String,
    pub client_secret: String,
    /// The token of another issuer that it trusts.
    pub federated_token: String,
}

/// What a registry exchanges.
#[derive(Debug, Clone)]
pub struct AzureExchange {
    /// What the registry calls itself.
    pub service: String,
    pub tenant: String,
    /// Of the directory.
    pub access_token: String,
    /// Is given for it, and must be the registry's password to be worth anything.
    pub refresh_token: String,
    pub fault: Option<CloudFault>,
}

/// The running directory. Dropping it ends it.
pub struct AzureApi {
    shared: Arc<Shared>,
    host: Host,
}

struct Shared {
    principal: AzurePrincipal,
    state: Mutex<State>,
    /// While closed, requests wait.
    gate: Gate,
}

struct State {
    is_secret_expired: bool,
    access_token: String,
    trusted: Option<Arc<TrustedIssuer>>,
    /// By how much its clock is ahead.
    clock_ahead: SignedDuration,
    fault: Option<CloudFault>,
}

impl fmt::Debug for AzureApi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AzureApi")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

impl AzureApi {
    /// A directory that knows this principal.
    pub async fn start(authority: &Authority, principal: AzurePrincipal) -> Self {
        let shared = Arc::new(Shared {
            principal,
            state: Mutex::new(State {
                is_secret_expired: false,
                access_token: "aad-access-token".to_owned(),
                trusted: None,
                clock_ahead: SignedDuration::ZERO,
                fault: None,
            }),
            gate: Gate::default(),
        });
        let answering = Arc::clone(&shared);
        let host = Reserved::new("127.0.0.1", Some(authority)).await.serve(
            &KnownSecrets::default(),
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

    /// What arrived at it.
    pub fn counter(&self) -> &HostCounter {
        &self.host.counter
    }

    /// From now on the principal's secret has expired.
    pub fn expire_secret(&self) {
        lock(&self.shared.state).is_secret_expired = true;
    }

    /// From now on the principal trusts this issuer.
    pub fn trust_issuer(&self, issuer: TrustedIssuer) {
        lock(&self.shared.state).trusted = Some(Arc::new(issuer));
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
    pub fn set_fault(&self, fault: Option<CloudFault>) {
        lock(&self.shared.state).fault = fault;
    }
}

impl Shared {
    async fn answer(&self, mut arrived: Arrived) -> Response {
        let (trusted, now) = {
            let state = lock(&self.state);
            (state.trusted.clone(), Timestamp::now() + state.clock_ahead)
        };
        issuer_trust::judge(trusted, "client_assertion", &mut arrived, now).await;
        let state = lock(&self.state);
        let reply = match &state.fault {
            Some(fault) => fault.answer(),
            None => self.token(&state, &arrived),
        };
        dated(reply, now)
    }

    fn token(&self, state: &State, arrived: &Arrived) -> Response {
        let form = arrived.form();
        let field = |name: &str| find(&form, name);
        let principal = &self.principal;
        let path = format!("/{}/oauth2/v2.0/token", principal.tenant);
        if arrived.parts.uri.path() != path {
            return refused("invalid_request", 90_002, "Tenant not found.");
        }
        if field("grant_type") != "client_credentials" || field("scope") != SCOPE {
            return refused("invalid_scope", 70_011, "The provided scope is not valid.");
        }
        if field("client_id") != principal.client_id {
            let text = "Application was not found in the directory.";
            return refused("unauthorized_client", 700_016, text);
        }
        if field("client_assertion_type") == ASSERTION_TYPE {
            if let Some(code) = self.untrusted(arrived) {
                let text = "No matching federated identity record found for presented assertion.";
                return refused("invalid_client", code, text);
            }
        } else if field("client_secret") != principal.client_secret {
            let text = "Invalid client secret provided.";
            return refused("invalid_client", 7_000_215, text);
        } else if state.is_secret_expired {
            let text = "The provided client secret keys are expired.";
            return refused("invalid_client", 7_000_222, text);
        }
        json_reply(
            200,
            &json!({
                "token_type": "Bearer",
                "expires_in": 3599,
                "ext_expires_in": 3599,
                "access_token": state.access_token,
            }),
        )
    }
}

impl Shared {
    /// Why an assertion is not believed.
    fn untrusted(&self, arrived: &Arrived) -> Option<u32> {
        let Some(verdict) = issuer_trust::verdict(arrived) else {
            let given = arrived.form();
            let given = find(&given, "client_assertion");
            return (given != self.principal.federated_token).then_some(70_021);
        };
        verdict.err().map(|untrusted| match untrusted {
            Untrusted::Malformed => 50_027,
            Untrusted::Issuer => 700_211,
            Untrusted::Documents | Untrusted::Key | Untrusted::Signature => 700_027,
            Untrusted::Audience => 700_212,
            Untrusted::Subject => 700_213,
            Untrusted::Time => 700_024,
        })
    }
}

impl AzureExchange {
    pub(crate) fn answer(&self, arrived: &Arrived) -> Response {
        if let Some(fault) = &self.fault {
            return fault.answer();
        }
        let form = arrived.form();
        let expected = [
            ("grant_type", "access_token"),
            ("service", &self.service),
            ("tenant", &self.tenant),
            ("access_token", &self.access_token),
        ];
        let is_right = expected
            .iter()
            .all(|(name, value)| find(&form, name) == *value);
        if arrived.parts.method != "POST" || !is_right {
            return error_reply(401, "UNAUTHORIZED", "authentication required");
        }
        json_reply(200, &json!({ "refresh_token": self.refresh_token }))
    }
}

/// A JSON web token that nobody signed, with these claims and this end.
pub fn unsigned_token(subject: &str, life: Duration) -> String {
    let life = SignedDuration::try_from(life).expect("a life that has an end");
    let end = (Timestamp::now() + life).as_second();
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({ "alg": "RS256", "typ": "JWT" }));
    let claims = part(json!({ "sub": subject, "exp": end }));
    format!(
        "{header}.{claims}.{}",
        BASE64_URL_SAFE_NO_PAD.encode("signature")
    )
}

fn refused(error: &str, code: u32, text: &str) -> Response {
    let description = format!("AADSTS{code}: {text} Trace ID: 0 Correlation ID: 0");
    let status = if error == "invalid_client" { 401 } else { 400 };
    refusal(status, error, &description)
}
