//! A gateway in a temporary directory that listens, and a client of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::{Broker, BrokerPaths};
use control_store::TokenScope;
use credential::ExposeSecret;
use dial::{DialPolicy, Dialer};
use gateway::{BoundService, Gateway, Parts, TokenRequest};
use ids::{WorkspaceId, WorkspaceName};
use image::Indexing;
use image_store::ImageStore;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vault::{RootKey, VaultPlace};

use crate::indexer;
use crate::probe::FakeProbe;

const OPERATORS_SOCKET: &str = "serve.sock";

pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) probe: Arc<FakeProbe>,
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
        Self::with(|service| service).await
    }

    /// One whose service is changed before it answers.
    pub(crate) async fn with(change: impl FnOnce(BoundService) -> BoundService) -> Self {
        // The client wants one, although nothing is encrypted. All but the first find it there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let paths = BrokerPaths {
            vault: VaultPlace {
                data: directory.path().join("data"),
                server: None,
                root_key: root_key(&directory.path().join("etc/root.key")),
            },
            state: database::DatabaseAddress::File(directory.path().join("data/state.db")),
        };
        let dialer = Dialer::new(DialPolicy::default());
        let broker = Broker::open(paths, dialer.clone()).await.unwrap();
        let probe = Arc::new(FakeProbe::default());
        let gateway = Gateway::open(Parts {
            broker: broker.clone(),
            dialer,
            indexing: Indexing {
                store: ImageStore::open(directory.path().join("data")).unwrap(),
                cache: None,
                program: indexer::program(directory.path()),
            },
            shared_cache: None,
            probe: Some(Arc::clone(&probe) as _),
        });
        let address = "127.0.0.1:0".parse().unwrap();
        let service = BoundService::bind(gateway.clone(), address).await.unwrap();
        let socket = directory.path().join(OPERATORS_SOCKET);
        let service = change(service.with_operators_socket(&socket).unwrap());
        let (address, shutdown) = (service.address(), CancellationToken::new());
        let running = tokio::spawn(service.run(shutdown.clone()));
        Self {
            directory,
            probe,
            gateway,
            broker,
            address,
            shutdown,
            running,
            client: Client::new(),
        }
    }

    pub(crate) fn operators_socket(&self) -> PathBuf {
        self.directory.path().join(OPERATORS_SOCKET)
    }

    /// The workspace of this name.
    pub(crate) async fn workspace(&self, name: &str) -> WorkspaceId {
        let name = WorkspaceName::parse(name).unwrap();
        self.broker.workspace(&name).await.unwrap()
    }

    /// A holder of a new token of this workspace.
    pub(crate) async fn caller(&self, name: &str, scopes: &[TokenScope]) -> Caller<'_> {
        let workspace = self.workspace(name).await;
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

    fn request(&self, token: Option<&str>, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.request(method, url);
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn ask(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.request(token, method, path);
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
    /// A request that is to be made up further.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.stage.request(Some(&self.token), method, path)
    }

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
