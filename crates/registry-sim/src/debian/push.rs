//! Pushing an image to a registry: blobs, then the manifest.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::image::{Blob, Image};

pub(super) fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{username}:{password}"))
    )
}

/// `base` is the URL of the repository, without a slash at its end.
pub(super) async fn push(
    base: &str,
    tag: &str,
    image: &Image,
    authorization: &str,
    ca_pem: Option<&str>,
) {
    let client = client(ca_pem);
    for blob in image.layers.iter().chain([&image.config]) {
        push_blob(&client, base, blob, authorization).await;
    }
    let response = client
        .put(format!("{base}/manifests/{tag}"))
        .header(AUTHORIZATION, authorization)
        .header(CONTENT_TYPE, &image.media_type)
        .body(image.manifest.clone())
        .send()
        .await
        .expect("an answer to a manifest");
    expect(response, StatusCode::CREATED).await;
}

async fn push_blob(client: &Client, base: &str, blob: &Blob, authorization: &str) {
    let begun = client
        .post(format!("{base}/blobs/uploads/"))
        .header(AUTHORIZATION, authorization)
        .body(Bytes::new())
        .send()
        .await
        .expect("an answer to the beginning of an upload");
    let begun = expect(begun, StatusCode::ACCEPTED).await;
    let location = begun.headers()[LOCATION]
        .to_str()
        .expect("a location in ASCII");
    let mut url = begun
        .url()
        .join(location)
        .expect("a location that is a URL");
    url.query_pairs_mut().append_pair("digest", &blob.digest);
    let done = client
        .put(url)
        .header(AUTHORIZATION, authorization)
        .header(CONTENT_TYPE, "application/octet-stream")
        .body(blob.bytes.clone())
        .send()
        .await
        .expect("an answer to a blob");
    expect(done, StatusCode::CREATED).await;
}

async fn expect(response: Response, status: StatusCode) -> Response {
    if response.status() == status {
        return response;
    }
    let (actual, url) = (response.status(), response.url().path().to_owned());
    let body = response.text().await.unwrap_or_default();
    panic!("status {actual} instead of {status} for {url}: {body}");
}

fn client(ca_pem: Option<&str>) -> Client {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca_pem {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        roots.add(certificate).expect("a CA certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .build()
        .expect("a client with these settings")
}
