//! A gateway in a temporary directory that listens, and a client of it.

use std::net::SocketAddr;
use std::path::Path;

use broker::{Broker, BrokerPaths};
use control_store::TokenScope;
use credential::ExposeSecret;
use dial::{DialPolicy, Dialer};
use gateway::{BoundService, Gateway, TokenRequest};
use ids::WorkspaceName;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault::{RootKey, VaultPlace};

pub(crate) struct Stage {
    _directory: TempDir,
    pub(crate) gateway: Gateway,
    pub(crate) broker: Broker,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    client: Client,
}

/// Somebody with a token.
pub(crate) struct Caller<'a> {
    stage: &'a Stage,
    pub(crate) token: String,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        // The client wants one, although nothing is encrypted. All but the first find it there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let paths = BrokerPaths {
            vault: VaultPlace {
                database: directory.path().join("data/vault.db"),
                root_key: root_key(&directory.path().join("etc/root.key")),
            },
            state: directory.path().join("data/state.db"),
        };
        let dialer = Dialer::new(DialPolicy::default());
        let broker = Broker::open(paths, dialer).await.unwrap();
        let gateway = Gateway::new(broker.clone());
        let address = "127.0.0.1:0".parse().unwrap();
        let service = BoundService::bind(gateway.clone(), address).await.unwrap();
        let (address, shutdown) = (service.address(), CancellationToken::new());
        let running = tokio::spawn(service.run(shutdown.clone()));
        Self {
            _directory: directory,
            gateway,
            broker,
            address,
            shutdown,
            running,
            client: Client::new(),
        }
    }

    /// A holder of a new token of this workspace.
    pub(crate) async fn caller(&self, workspace: &str, scopes: &[TokenScope]) -> Caller<'_> {
        let name = WorkspaceName::parse(workspace).unwrap();
        let workspace = self.broker.workspace(&name).await.unwrap();
        let request = TokenRequest {
            name: format!("of {name}"),
            scopes: scopes.to_vec(),
            expires_at: None,
        };
        let made = self.gateway.make_token(workspace, request).await.unwrap();
        Caller {
            stage: self,
            token: made.text.expose_secret().to_owned(),
        }
    }

    pub(crate) async fn ask(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.address);
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, value)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what keeps the key is not tested here"
)]
fn root_key(file: &Path) -> RootKey {
    RootKey::in_this_process(file)
}

impl Caller<'_> {
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let token = Some(self.token.as_str());
        self.stage.ask(token, method, path, body).await
    }

    /// Asks for what is refused; answers the kind and the message.
    pub(crate) async fn refused(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, String, String) {
        let (status, value) = self.ask(method, path, body).await;
        let text = |field: &str| {
            value["error"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (status.as_u16(), text("kind"), text("message"))
    }
}
