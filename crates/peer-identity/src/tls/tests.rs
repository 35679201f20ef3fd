//! Both ends in one process, over a pipe in memory.

use rcgen::{CertificateParams, KeyPair as CertificateKey};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS12;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const PIPE_BYTES: usize = 64 << 10;

fn key() -> KeyPair {
    KeyPair::make().unwrap()
}

/// What the acceptor says of a client that connects like this and then waits for a byte.
async fn accepted(config: ClientConfig) -> Result<Fingerprint, HandshakeError> {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let acceptor = Acceptor::new(&key());
    let client = tokio::spawn(async move {
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(NO_NAME).unwrap();
        if let Ok(mut stream) = connector.connect(name, theirs).await {
            let _ = stream.read_u8().await;
        }
    });
    let accepted = acceptor.accept(ours).await.map(|(_, key)| key);
    client.await.unwrap();
    accepted
}

/// A client that trusts anybody who has a raw public key, as far as its configuration goes.
fn lax() -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Lax(Signatures(provider))))
}

fn speaking_h2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}

fn with_key(own: &KeyPair) -> ClientConfig {
    let resolver = AlwaysResolvesClientRawPublicKeys::new(own.certified());
    lax().with_client_cert_resolver(Arc::new(resolver))
}

#[tokio::test]
async fn each_end_learns_the_others_key_and_bytes_cross() {
    let (gateway, worker) = (key(), key());
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let connector = Connector::new(&worker, gateway.fingerprint());
    let client = tokio::spawn(async move {
        let mut stream = connector.connect(theirs).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let accepted = Acceptor::new(&gateway).accept(ours).await;
    let (mut stream, fingerprint) = accepted.unwrap();
    assert_eq!(fingerprint, worker.fingerprint());
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");
    client.await.unwrap();
}

#[tokio::test]
async fn another_gateway_than_that_of_the_pin_is_refused() {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let pin = key().fingerprint();
    let impostor = tokio::spawn(async move { Acceptor::new(&key()).accept(ours).await.is_ok() });
    let refused = Connector::new(&key(), pin).connect(theirs).await;
    assert!(
        matches!(refused, Err(HandshakeError::OtherKey)),
        "{refused:?}"
    );
    assert!(!impostor.await.unwrap());
}

#[tokio::test]
async fn a_key_that_is_shown_and_not_held_is_refused() {
    let (shown, held) = (key(), key());
    let mixed = rustls::sign::CertifiedKey::new(
        shown.certified().cert.clone(),
        Arc::clone(&held.certified().key),
    );
    let resolver = AlwaysResolvesClientRawPublicKeys::new(Arc::new(mixed));
    let config = lax().with_client_cert_resolver(Arc::new(resolver));
    assert!(accepted(speaking_h2(config)).await.is_err());
}

#[tokio::test]
async fn who_has_no_raw_key_is_refused() {
    let own = key();
    let taken = accepted(speaking_h2(with_key(&own))).await;
    assert_eq!(taken.unwrap(), own.fingerprint());
    assert!(
        accepted(speaking_h2(lax().with_no_client_auth()))
            .await
            .is_err()
    );
    let certificate_key = CertificateKey::generate().unwrap();
    let certificate = CertificateParams::new(vec!["worker".to_owned()])
        .unwrap()
        .self_signed(&certificate_key)
        .unwrap();
    let private = PrivateKeyDer::try_from(certificate_key.serialize_der()).unwrap();
    let config = lax().with_client_auth_cert(vec![certificate.der().clone()], private);
    assert!(accepted(speaking_h2(config.unwrap())).await.is_err());
}

#[tokio::test]
async fn other_protocols_are_refused() {
    assert!(accepted(with_key(&key())).await.is_err(), "no ALPN");
    let mut other = with_key(&key());
    other.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(accepted(other).await.is_err(), "another ALPN");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    assert!(accepted(speaking_h2(old)).await.is_err(), "TLS 1.2");
}

#[tokio::test]
async fn bytes_that_are_no_handshake_are_refused() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 4096],
        &[0xff; 4096],
        b"\x16\x03\x01\xff\xff\x01\xff\xff\xff",
        b"",
    ] {
        let (ours, mut theirs) = tokio::io::duplex(PIPE_BYTES);
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        let refused = Acceptor::new(&key()).accept(ours).await;
        assert!(
            matches!(refused, Err(HandshakeError::Failed(_))),
            "{bytes:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_little_is_not_waited_for() {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let refused = Acceptor::new(&key()).accept(ours).await;
    assert!(matches!(refused, Err(HandshakeError::Timeout)));
    drop(theirs);
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let drip = tokio::spawn(drip(theirs));
    let refused = Acceptor::new(&key()).accept(ours).await;
    assert!(matches!(refused, Err(HandshakeError::Timeout)));
    drip.abort();
    let (_silent, theirs) = tokio::io::duplex(PIPE_BYTES);
    let connector = Connector::new(&key(), key().fingerprint());
    let refused = connector.connect(theirs).await;
    assert!(matches!(refused, Err(HandshakeError::Timeout)));
}

/// The beginning of a hello, a byte a second.
async fn drip(mut stream: DuplexStream) {
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        .iter()
        .cycle()
    {
        if stream.write_u8(*byte).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[derive(Debug)]
struct Lax(Signatures);

impl ServerCertVerifier for Lax {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Signatures::schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
