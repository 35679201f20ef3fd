//! Token services and TLS: what a registry with TLS may have its credential sent to, and by what it
//! is trusted.

use registry_sim::{Authority, Login, Options, Realm, RegistrySim};

use crate::support::{PASSWORD, REPOSITORY, ask, basic, endpoint, exchange, image, pull_from};

#[tokio::test]
async fn a_realm_over_plain_http_gets_nothing_from_a_registry_with_tls() {
    let plain = RegistrySim::anonymous().await;
    let realm = Realm::Url(format!("http://{}/token", plain.host()));
    let authority = Authority::new();
    let pem = authority.pem().as_bytes().to_vec();
    let login = Login::Bearer(realm);
    let sim = RegistrySim::start(Options {
        login,
        tls: Some(authority),
        ..Options::default()
    })
    .await;
    let mut endpoint = endpoint(sim.host());
    endpoint.ca_pem = Some(pem);
    let source = exchange().source(endpoint, basic(PASSWORD));
    let error = ask(source.as_ref(), sim.host(), None).await.unwrap_err();
    assert!(error.to_string().contains("plain http"), "{error}");
    assert_eq!(plain.registry().read().requests, 0);
    assert_eq!(sim.registry().read().credential_bytes, 0);
}

#[tokio::test]
async fn a_registrys_ca_covers_its_token_service() {
    let authority = Authority::new();
    let pem = authority.pem().as_bytes().to_vec();
    let login = Login::Bearer(Realm::OtherPort);
    let sim = RegistrySim::start(Options {
        login,
        tls: Some(authority),
        ..Options::default()
    })
    .await;
    sim.push(REPOSITORY, "latest", &image());
    let mut endpoint = endpoint(sim.host());
    endpoint.ca_pem = Some(pem);
    let source = exchange().source(endpoint.clone(), basic(PASSWORD));
    pull_from(endpoint, source).await.expect("pull");
    assert!(sim.realm().read().requests > 0);
}
