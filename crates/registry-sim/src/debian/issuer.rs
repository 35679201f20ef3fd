//! A token service for a `docker-registry`: signs ES256 tokens that carry their certificate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::SERVICE;
use crate::answer::{error_reply, json_reply};
use crate::authority::{Authority, Leaf};
use crate::counters::{HostCounter, KnownSecrets};
use crate::host::{Arrived, Host, Reserved};
use crate::sim::lock;
use crate::tokens::basic;

/// A token service in this process.
#[derive(Debug)]
pub struct Issuer {
    host: Host,
    state: Arc<State>,
}

struct State {
    leaf: Leaf,
    ca_pem: String,
    secrets: KnownSecrets,
    settings: Mutex<Settings>,
}

struct Settings {
    username: String,
    password: String,
    life: Duration,
    /// Repositories that may be pulled; all when `None`.
    allowed: Option<Vec<String>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("State")
    }
}

impl Issuer {
    pub(super) async fn start(username: &str, password: &str, tls: Option<&Authority>) -> Self {
        let signer = Authority::new();
        let secrets = KnownSecrets::default();
        secrets.add(password);
        let state = Arc::new(State {
            leaf: signer.leaf(),
            ca_pem: signer.pem().to_owned(),
            secrets: secrets.clone(),
            settings: Mutex::new(Settings {
                username: username.to_owned(),
                password: password.to_owned(),
                life: Duration::from_mins(5),
                allowed: None,
            }),
        });
        let reserved = Reserved::new("127.0.0.1", tls).await;
        let answering = Arc::clone(&state);
        let host = reserved.serve(
            &secrets,
            Arc::new(move |arrived| {
                let state = Arc::clone(&answering);
                Box::pin(async move { state.answer(&arrived) })
            }),
        );
        Self { host, state }
    }

    /// The URL that the registry names as its realm.
    pub fn url(&self) -> String {
        format!("{}://{}/token", self.host.scheme, self.host.authority)
    }

    /// What has arrived here.
    pub fn counter(&self) -> &HostCounter {
        &self.host.counter
    }

    /// The password, and each token that was issued.
    pub fn secrets(&self) -> Vec<String> {
        self.state.secrets.all()
    }

    /// How long tokens live from now on. The registry takes them for 60 s longer.
    pub fn set_life(&self, life: Duration) {
        lock(&self.state.settings).life = life;
    }

    /// Allows these repositories alone.
    pub fn allow_only(&self, repositories: &[&str]) {
        let names = repositories.iter().map(|name| (*name).to_owned()).collect();
        lock(&self.state.settings).allowed = Some(names);
    }

    /// Connections are reset from now on, or no longer.
    pub fn set_outage(&self, outage: bool) {
        self.host.set_outage(outage);
    }

    pub(super) fn set_password(&self, password: &str) {
        self.state.secrets.add(password);
        password.clone_into(&mut lock(&self.state.settings).password);
    }

    pub(super) fn ca_pem(&self) -> &str {
        &self.state.ca_pem
    }

    /// A token to fill a repository with.
    pub(super) fn push_token(&self, repository: &str) -> String {
        let access = json!([{
            "type": "repository", "name": repository, "actions": ["pull", "push"],
        }]);
        self.state.token("tests", &access, Duration::from_mins(5))
    }
}

impl State {
    fn answer(&self, arrived: &Arrived) -> Response {
        let headers = &arrived.parts.headers;
        let Some(username) = self.known_user(headers) else {
            return error_reply(401, "UNAUTHORIZED", "incorrect username or password");
        };
        let query = arrived.parts.uri.query().unwrap_or_default();
        let access: Vec<Value> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, scopes)| self.allowed(&scopes))
            .collect();
        let life = lock(&self.settings).life;
        let token = self.token(&username, &json!(access), life);
        self.secrets.add(&token);
        let now = Timestamp::now().to_string();
        json_reply(
            200,
            &json!({ "token": token, "expires_in": life.as_secs(), "issued_at": now }),
        )
    }

    fn known_user(&self, headers: &HeaderMap) -> Option<String> {
        let (username, password) = basic(headers)?;
        let settings = lock(&self.settings);
        (username == settings.username && password == settings.password).then_some(username)
    }

    /// What of the wanted scopes is allowed: `pull`, on repositories that may be pulled.
    fn allowed(&self, scopes: &str) -> Vec<Value> {
        let settings = lock(&self.settings);
        let allowed = |scope: &str| {
            let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
            let may = settings
                .allowed
                .as_ref()
                .is_none_or(|names| names.iter().any(|n| n == name));
            let pulls = actions.split(',').any(|action| action == "pull");
            (may && pulls)
                .then(|| json!({ "type": "repository", "name": name, "actions": ["pull"] }))
        };
        scopes.split(' ').filter_map(allowed).collect()
    }

    fn token(&self, subject: &str, access: &Value, life: Duration) -> String {
        let now = Timestamp::now().as_second();
        let end = now + i64::try_from(life.as_secs()).expect("a life of a sensible length");
        self.leaf.sign_token(&json!({
            "iss": SERVICE, "sub": subject, "aud": SERVICE, "exp": end, "nbf": now, "iat": now,
            "jti": format!("{now}-{subject}"), "access": access,
        }))
    }
}
