//! TLS: trust comes from the system and from the registry's own CA, and from nothing else.

use std::sync::Arc;

use credential::auth::Anonymous;
use registry_client::{Endpoint, RegistryClient, RegistryError};
use registry_sim::{Authority, Options, RegistrySim};

use crate::support::{QUICK, REPOSITORY, dialer, endpoint, image, pull};

async fn sim() -> RegistrySim {
    let options = Options {
        tls: Some(Authority::new()),
        redirect_blobs: true,
        ..Options::default()
    };
    let sim = RegistrySim::start(options).await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

fn client(endpoint: Endpoint) -> RegistryClient {
    RegistryClient::with_retry(&dialer(), endpoint, Arc::new(Anonymous), QUICK).expect("client")
}

fn trusting(sim: &RegistrySim) -> Endpoint {
    let pem = sim.ca_pem().expect("a CA").as_bytes().to_vec();
    Endpoint {
        ca_pem: Some(pem),
        ..endpoint(sim.host())
    }
}

#[tokio::test]
async fn a_registrys_own_ca_covers_it_and_its_storage() {
    let sim = sim().await;
    let client = client(trusting(&sim));
    let pinned = pull(&client).await.expect("manifest");
    client
        .blob_bytes(REPOSITORY, &pinned.layers[1], 1 << 20)
        .await
        .expect("layer");
    assert!(sim.storage().read().requests > 0);
}

#[tokio::test]
async fn an_unknown_ca_is_refused_and_never_worked_around() {
    let sim = sim().await;
    let error = pull(&client(endpoint(sim.host()))).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
    assert!(error.hint().expect("hint").contains("--ca-file"));
    assert_eq!(sim.registry().read().requests, 0);
}

#[tokio::test]
async fn https_does_not_redirect_to_http() {
    let sim = sim().await;
    let plain = RegistrySim::anonymous().await;
    let client = client(trusting(&sim));
    let pinned = pull(&client).await.expect("manifest");
    sim.faults(|faults| faults.redirect_to = Some(format!("http://{}/x", plain.host())));
    let error = client
        .blob_bytes(REPOSITORY, &pinned.layers[1], 1 << 20)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    assert_eq!(plain.registry().read().requests, 0);
}

#[tokio::test]
async fn a_ca_means_tls_even_on_loopback() {
    let plain = RegistrySim::anonymous().await;
    let pem = Authority::new().pem().as_bytes().to_vec();
    let endpoint = Endpoint {
        ca_pem: Some(pem),
        ..endpoint(plain.host())
    };
    let error = pull(&client(endpoint)).await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert_eq!(plain.registry().read().requests, 0);
}
