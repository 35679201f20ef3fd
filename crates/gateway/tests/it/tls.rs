//! The port in TLS, as clients of both faces have it.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use beta9_protocol::gateway::AuthorizeRequest;
use beta9_protocol::gateway::gateway_service_client::GatewayServiceClient;
use control_store::TokenScope;
use gateway::{ServerTls, TlsFiles};
use registry_sim::Authority;
use reqwest::{Certificate, Client, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::Stage;
use crate::worker::Requests;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A gateway with a certificate of an authority.
struct Scene {
    stage: Stage,
    authority: Authority,
    tls: ServerTls,
    files: TlsFiles,
    _directory: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
        let files = TlsFiles {
            certificate: directory.path().join("chain.pem"),
            key: directory.path().join("key.pem"),
        };
        write_new(&files, &authority);
        let tls = ServerTls::open(files.clone()).unwrap();
        let stage = Stage::with(|service| service.with_tls(tls.clone())).await;
        Self {
            stage,
            authority,
            tls,
            files,
            _directory: directory,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.stage.address.port())
    }

    fn client(&self, trusted: &Authority) -> reqwest::ClientBuilder {
        let certificate = Certificate::from_pem(trusted.pem().as_bytes()).unwrap();
        Client::builder()
            .tls_certs_only([certificate])
            .resolve("localhost", self.stage.address)
            .no_proxy()
    }

    /// A connection of a client that has these versions and protocols.
    async fn connect(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let stream = TcpStream::connect(self.stage.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    async fn is_answered(&self) {
        let client = self.client(&self.authority).build().unwrap();
        let answer = within(client.get(self.url("/livez")).send()).await;
        assert!(answer.unwrap().status().is_success());
    }
}

fn write_new(files: &TlsFiles, authority: &Authority) {
    let pem = authority.server_pem();
    std::fs::write(&files.certificate, pem.certificate).unwrap();
    std::fs::write(&files.key, pem.key).unwrap();
    set_permissions(&files.key, Permissions::from_mode(0o600)).unwrap();
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_faces_are_in_tls() {
    let scene = Scene::new().await;
    let caller = scene.stage.caller("team", &TokenScope::ALL).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = scene.client(&scene.authority);
        let client = match version {
            Version::HTTP_11 => client.http1_only(),
            _ => client,
        };
        let request = client.build().unwrap().get(scene.url("/v1/whoami"));
        let answer = request.bearer_auth(&caller.token).send().await.unwrap();
        assert_eq!(answer.version(), version);
        let whoami: Value = answer.json().await.unwrap();
        assert_eq!(whoami["workspace"]["name"], "team", "{whoami}");
    }
    for versions in BOTH.chunks(1) {
        let stream = scene.connect(versions, &["h2"]).await.unwrap();
        let requests = Requests::over(stream).await;
        let origin = scene.url("").parse().unwrap();
        let mut client = GatewayServiceClient::with_origin(requests, origin);
        let mut question = tonic::Request::new(AuthorizeRequest {});
        let token = format!("Bearer {}", caller.token).parse().unwrap();
        question.metadata_mut().insert("authorization", token);
        let answer = client.authorize(question).await.unwrap().into_inner();
        assert!(answer.ok, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_chooses_among_what_is_spoken_or_gets_nothing() {
    let scene = Scene::new().await;
    for versions in BOTH.chunks(1) {
        for (offered, chosen) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let stream = scene.connect(versions, offered).await.unwrap();
            let (_, connection) = stream.get_ref();
            assert_eq!(connection.alpn_protocol(), chosen.map(str::as_bytes));
        }
        assert!(scene.connect(versions, &["http/1.0"]).await.is_err());
    }
    let other = scene.client(&Authority::new()).build().unwrap();
    let refused = other.get(scene.url("/livez")).send().await;
    assert!(
        refused.unwrap_err().is_connect(),
        "who trusts another authority"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_to_who_comes_next() {
    let scene = Scene::new().await;
    let shown = async || {
        let stream = scene.connect(&BOTH, &[]).await.unwrap();
        let (_, connection) = stream.get_ref();
        connection.peer_certificates().unwrap()[0].to_vec()
    };
    let before = shown().await;
    let mut held = scene.connect(&BOTH, &["http/1.1"]).await.unwrap();
    std::fs::write(&scene.files.certificate, "half of a file").unwrap();
    scene.tls.renew();
    assert_eq!(shown().await, before);
    write_new(&scene.files, &scene.authority);
    scene.tls.renew();
    assert_ne!(shown().await, before);
    // Who was there goes on.
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    held.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(held.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_http_in_the_clear_is_told() {
    let scene = Scene::new().await;
    let url = format!("http://{}/v1/whoami", scene.stage.address);
    let answer = Client::new()
        .get(url)
        .bearer_auth("hf_0")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    let refusal: Value = answer.json().await.unwrap();
    assert_eq!(refusal["error"]["message"], "this port speaks TLS");
    assert_eq!(refusal["error"]["hint"], "name the gateway by https://");
    for bytes in [
        &b"\0\0\0\0"[..],
        b"ssh",
        &[0xff; 4096],
        &[0x16, 3, 1, 0xff, 0xff, 0, 0],
    ] {
        let mut stream = TcpStream::connect(scene.stage.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Reset, or closed with or without an alert.
        let _ = within(stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    scene.is_answered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_hold_nobody_up_and_end() {
    let scene = Scene::new().await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(scene.stage.address).await.unwrap();
        // A handshake record that never comes.
        stream.write_all(&[0x16, 3, 1, 2, 0]).await.unwrap();
        slow.push(stream);
    }
    let mut silent = scene.connect(&BOTH, &["h2"]).await.unwrap();
    let mut terse = scene.connect(&BOTH, &["h2"]).await.unwrap();
    terse.write_all(b"PRI * HTTP").await.unwrap();
    scene.is_answered().await;
    for mut stream in slow {
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
    // Nor is who has shaken hands and says nothing, or too little to be understood, waited for.
    let _ = within(silent.read_to_end(&mut Vec::new())).await;
    let _ = within(terse.read_to_end(&mut Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_socket_needs_no_certificate() {
    let scene = Scene::new().await;
    let client = Client::builder()
        .unix_socket(scene.stage.operators_socket())
        .build()
        .unwrap();
    let answer = client.get("http://operator/livez").send().await;
    assert!(answer.unwrap().status().is_success());
}
