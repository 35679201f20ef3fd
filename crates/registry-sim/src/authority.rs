//! A certificate authority for tests: a CA, server certificates, and a key that signs tokens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A CA made for one test. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: String,
    names: Vec<String>,
}

/// A certificate for this machine's loopback names and its key, in PEM.
#[derive(Debug)]
pub struct ServerPem {
    pub certificate: String,
    pub key: String,
}

/// A certificate of the authority with its key.
pub(crate) struct Leaf {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    /// A new CA with a new key.
    pub fn new() -> Self {
        let key = key_pair();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "registry-sim test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let pem = params.self_signed(&key).expect("a CA certificate").pem();
        Self {
            issuer: Arc::new(Issuer::new(params, key)),
            pem,
            names: Vec::new(),
        }
    }

    /// A new CA whose servers also go by these names.
    pub fn naming(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Self::new()
        }
    }

    /// The CA certificate, as a user would give it by `--ca-file`.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for this machine's loopback names and those of the authority.
    pub(crate) fn leaf(&self) -> Leaf {
        let key = key_pair();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "registry-sim");
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().expect("an ASCII name")),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        let names = self.names.iter();
        let names = names.map(|name| name.as_str().try_into().expect("an ASCII name"));
        params.subject_alt_names.extend(names.map(SanType::DnsName));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a leaf certificate");
        Leaf { certificate, key }
    }

    /// A new certificate for a server that is no registry, as an operator has it.
    pub fn server_pem(&self) -> ServerPem {
        let leaf = self.leaf();
        ServerPem {
            certificate: leaf.certificate.pem(),
            key: leaf.key.serialize_pem(),
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let leaf = self.leaf();
        let chain = vec![CertificateDer::from(leaf.certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).expect("a PKCS#8 key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Leaf {
    /// A JSON web token over `claims`, signed with ES256, that carries its certificate.
    pub(crate) fn sign_token(&self, claims: &serde_json::Value) -> String {
        let header = serde_json::json!({
            "typ": "JWT",
            "alg": "ES256",
            "x5c": [BASE64_STANDARD.encode(self.certificate.der())],
        });
        let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        format!(
            "{signed}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()))
        )
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.serialize_der())
                .expect("a P-256 key");
        let random = aws_lc_rs::rand::SystemRandom::new();
        key.sign(&random, message)
            .expect("a signature")
            .as_ref()
            .to_vec()
    }
}

fn key_pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a P-256 key")
}
