//! The metadata services of a machine of Amazon's, of Google's and of Azure's, as their
//! documentation has them. All are at one address; each insists on what marks its own callers, and
//! none answers who came through a proxy.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Method;
use axum::response::Response;
use serde_json::json;

use crate::answer::{json_reply, reply, with_header};
use crate::aws_signature::header;
use crate::cloud_fault::CloudFault;
use crate::counters::{HostCounter, KnownSecrets};
use crate::gate::Gate;
use crate::host::{Arrived, Host, Reserved};
use crate::sim::lock;

/// The role of the instance, and the token of its session with the metadata service.
const ROLE: &str = "instance-role";
const SESSION: &str = "AQAEAmetadata-session==";

const AWS_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const GOOGLE_PATH: &str = "/computeMetadata/v1/instance/service-accounts/";
const AZURE_PATH: &str = "/metadata/identity/oauth2/token";
const AZURE_RESOURCE: &str = "https://containerregistry.azure.net/";

/// The running services. Dropping it ends them.
pub struct MetadataApi {
    shared: Arc<Shared>,
    host: Host,
}

struct Shared {
    state: Mutex<State>,
    /// While closed, requests wait.
    gate: Gate,
}

struct State {
    /// Key id, secret key and session token of the instance's role.
    keys: (String, String, String),
    access_token: String,
    /// How Google's and Azure's identities are called, where one is named.
    identity: String,
    life: Duration,
    fault: Option<CloudFault>,
}

impl fmt::Debug for MetadataApi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MetadataApi")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

impl MetadataApi {
    /// Services that give an instance's role these keys: id, secret key and session token.
    pub async fn start(keys: (&str, &str, &str)) -> Self {
        let (id, secret, session) = keys;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                keys: (id.to_owned(), secret.to_owned(), session.to_owned()),
                access_token: "node-access-token".to_owned(),
                identity: String::new(),
                life: Duration::from_hours(1),
                fault: None,
            }),
            gate: Gate::default(),
        });
        let answering = Arc::clone(&shared);
        let host = Reserved::new("127.0.0.1", None).await.serve(
            &KnownSecrets::default(),
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

    /// Where they are, in place of their address.
    pub fn url(&self) -> String {
        format!("http://{}/", self.host.authority)
    }

    /// What arrived at them.
    pub fn counter(&self) -> &HostCounter {
        &self.host.counter
    }

    /// From now on Google's and Azure's give out this access token, which lives for so long.
    pub fn give(&self, access_token: &str, life: Duration) {
        let mut state = lock(&self.shared.state);
        access_token.clone_into(&mut state.access_token);
        state.life = life;
    }

    /// From now on they have one identity, of this name.
    pub fn know_alone(&self, identity: &str) {
        identity.clone_into(&mut lock(&self.shared.state).identity);
    }

    /// Changes what goes wrong.
    pub fn set_fault(&self, fault: Option<CloudFault>) {
        lock(&self.shared.state).fault = fault;
    }

    /// Requests wait from now on, until the gate is opened.
    pub fn close_gate(&self) {
        self.shared.gate.close();
    }

    pub fn open_gate(&self) {
        self.shared.gate.open();
    }
}

impl Shared {
    fn answer(&self, arrived: &Arrived) -> Response {
        let state = lock(&self.state);
        let path = arrived.parts.uri.path();
        let is_forwarded = !header(arrived, "x-forwarded-for").is_empty();
        match &state.fault {
            Some(fault) => fault.answer(),
            None if is_forwarded => text(403, "forwarded"),
            None if path.starts_with("/latest/") => aws(&state, arrived, path),
            None if path.starts_with(GOOGLE_PATH) => google(&state, arrived, path),
            None if path == AZURE_PATH => azure(&state, arrived),
            None => text(404, "not found"),
        }
    }
}

/// The second version alone.
fn aws(state: &State, arrived: &Arrived, path: &str) -> Response {
    if path == "/latest/api/token" {
        let life: u32 = header(arrived, "x-aws-ec2-metadata-token-ttl-seconds")
            .parse()
            .unwrap_or(0);
        return match (&arrived.parts.method, life) {
            (&Method::PUT, 1..=21_600) => text(200, SESSION),
            _ => text(400, "bad request"),
        };
    }
    if header(arrived, "x-aws-ec2-metadata-token") != SESSION {
        return text(401, "unauthorized");
    }
    match path.strip_prefix(AWS_PATH) {
        Some("") => text(200, ROLE),
        Some(ROLE) => {
            let (id, secret, session) = &state.keys;
            json_reply(
                200,
                &json!({
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "AccessKeyId": id,
                    "SecretAccessKey": secret,
                    "Token": session,
                    "LastUpdated": "2026-01-01T00:00:00Z",
                    "Expiration": "2036-01-01T00:00:00Z",
                }),
            )
        }
        _ => text(404, "not found"),
    }
}

fn google(state: &State, arrived: &Arrived, path: &str) -> Response {
    if header(arrived, "metadata-flavor") != "Google" {
        return text(403, "missing header");
    }
    let known = match state.identity.as_str() {
        "" => "default",
        named => named,
    };
    if path != format!("{GOOGLE_PATH}{known}/token") {
        return text(404, "no such account");
    }
    let token = json!({
        "access_token": state.access_token,
        "expires_in": state.life.as_secs(),
        "token_type": "Bearer",
    });
    with_header(json_reply(200, &token), "metadata-flavor", "Google")
}

/// Its numbers are texts.
fn azure(state: &State, arrived: &Arrived) -> Response {
    let query = arrived.parts.uri.query().unwrap_or_default();
    let fields: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let field = |name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    };
    let is_right = header(arrived, "metadata") == "true"
        && field("api-version") == "2018-02-01"
        && field("resource") == AZURE_RESOURCE
        && field("client_id") == state.identity;
    if !is_right {
        return json_reply(400, &json!({ "error": "invalid_request" }));
    }
    json_reply(
        200,
        &json!({
            "access_token": state.access_token,
            "expires_in": state.life.as_secs().to_string(),
            "resource": AZURE_RESOURCE,
            "token_type": "Bearer",
        }),
    )
}

fn text(status: u16, body: &str) -> Response {
    reply(status, "text/plain", body.to_owned().into())
}
