//! A connection of HTTP/2, which many requests share, whose other end says nothing any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use dial::{
    AddressPolicy, DialError, DialPolicy, Dialer, HttpClient, Limits, Reach, Request, TlsProfile,
    Url,
};
use registry_sim::Authority;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::raw::SHORT;

/// What every server of HTTP/2 says first: settings, none of them.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// That it has read the client's.
const SETTINGS_READ: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
/// Type of a frame, and the mark of one that answers: of one that asks for a sign of life.
const PING: u8 = 6;
const ANSWER: u8 = 1;

/// What a server does with a connection that was asked something.
#[derive(Clone, Copy)]
enum Manner {
    /// It takes everything and says nothing: the machine between us and it is gone.
    Mute,
    /// It says that it is there, and does not answer.
    Thinking,
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let pem = authority.server_pem();
    let chain = vec![CertificateDer::from_pem_slice(pem.certificate.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key is the certificate's");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A server, and how many connections were made to it.
async fn server(authority: &Authority, manner: Manner) -> (Url, Arc<AtomicUsize>) {
    let acceptor = acceptor(authority);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::default());
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            counted.fetch_add(1, SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("TLS");
                // It ends when the client goes away.
                let _gone = converse(stream, manner).await;
            });
        }
    });
    let url = Url::parse(&format!("https://{address}/")).expect("a URL");
    (url, connections)
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&SETTINGS).await?;
    stream.write_all(&SETTINGS_READ).await?;
    stream.flush().await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        if head[3] == PING && matches!(manner, Manner::Thinking) {
            head[4] = ANSWER;
            stream.write_all(&head).await?;
            stream.write_all(&payload).await?;
            stream.flush().await?;
        }
    }
}

fn client(authority: &Authority, limits: Limits) -> HttpClient {
    let policy = DialPolicy {
        limits,
        ..DialPolicy::default()
    };
    let tls = TlsProfile {
        extra_ca_pem: vec![authority.pem().as_bytes().to_vec()],
        ..TlsProfile::default()
    };
    let addresses = AddressPolicy {
        reach: Reach::Loopback,
    };
    Dialer::new(policy)
        .client(&tls, &addresses)
        .expect("a client")
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_given_up_and_not_used_again() {
    let authority = Authority::new();
    let (url, connections) = server(&authority, Manner::Mute).await;
    let limits = Limits {
        silence: SHORT,
        ..Limits::default()
    };
    let client = client(&authority, limits);
    for asked in 1..=2 {
        let sent = client.send(Request::get(url.clone()));
        let ended = tokio::time::timeout(Duration::from_secs(30), sent).await;
        let error = ended.expect("it is given up long before its head is due");
        let error = error.unwrap_err();
        assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
        assert_eq!(connections.load(SeqCst), asked, "each asks anew: {error}");
    }
}

#[tokio::test]
async fn a_connection_whose_other_end_is_there_is_waited_for() {
    let authority = Authority::new();
    let (url, connections) = server(&authority, Manner::Thinking).await;
    let limits = Limits {
        silence: SHORT,
        head: 10 * SHORT,
        ..Limits::default()
    };
    let client = client(&authority, limits);
    for _ in 0..2 {
        let error = client.send(Request::get(url.clone())).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("no reply within"), "{message}");
        assert_eq!(connections.load(SeqCst), 1);
    }
}
