//! Token services: a credential reaches those that belong to its registry, and no other.

use credential::auth::AuthError;
use registry_client::RegistryError;
use registry_sim::{Authority, Login, Options, Realm, RegistrySim};
use token_exchange::Identity;

use crate::support::{
    PASSWORD, REPOSITORY, ask, basic, endpoint, exchange, image, pull, pull_from,
};

async fn sim(realm: Realm) -> RegistrySim {
    let sim = RegistrySim::with_login(Login::Bearer(realm)).await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

#[tokio::test]
async fn a_foreign_realm_gets_nothing_until_the_user_allows_it() {
    let sim = sim(Realm::OtherName).await;
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let error = ask(source.as_ref(), sim.host(), None).await.unwrap_err();
    assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("--token-service"), "{error}");
    assert!(error.to_string().contains(sim.realm_host()), "{error}");
    assert_eq!(sim.realm().read().requests, 0);
    assert_eq!(exchange.token_requests(), 0);
    let allowed = Identity {
        token_service: Some(sim.realm_host().to_owned()),
        ..basic(PASSWORD)
    };
    pull(sim.host(), exchange.source(endpoint(sim.host()), allowed))
        .await
        .expect("pull");
    assert!(sim.realm().read().credential_bytes > 0);
    assert_eq!(sim.stranger().read().requests, 0);
}

#[tokio::test]
async fn a_mirror_gets_nothing() {
    let (sim, mirror) = (
        sim(Realm::SameHost).await,
        RegistrySim::with_login(Login::Basic).await,
    );
    mirror.push(REPOSITORY, "latest", &image());
    let source = exchange().source(endpoint(sim.host()), basic(PASSWORD));
    pull(sim.host(), source.clone()).await.expect("pull");
    let error = pull(mirror.host(), source).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Auth(AuthError::Refused { .. })),
        "{error}"
    );
    assert_eq!(mirror.registry().read().credential_bytes, 0);
}

#[tokio::test]
async fn look_alikes_get_nothing() {
    let stranger = RegistrySim::anonymous().await;
    let port = stranger
        .stranger_url()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned();
    let realms = [
        format!("http://localhost:{port}/token"),
        format!("http://127.0.0.1.localhost:{port}/token"),
        format!("http://127.0.0.1@localhost:{port}/token"),
        format!("http://user:pw@127.0.0.1:{port}/token"),
        "http://169.254.169.254/token".to_owned(),
        "http://registry.example/token".to_owned(),
        "https://127.0.0.1.example.com/token".to_owned(),
        "gopher://127.0.0.1/token".to_owned(),
        String::new(),
    ];
    for realm in realms {
        let sim = sim(Realm::Url(realm.clone())).await;
        let source = exchange().source(endpoint(sim.host()), basic(PASSWORD));
        let error = ask(source.as_ref(), sim.host(), None).await.unwrap_err();
        assert!(
            matches!(error, AuthError::Refused { .. }),
            "{realm}: {error}"
        );
        assert_eq!(sim.registry().read().credential_bytes, 0, "{realm}");
        assert_eq!(stranger.stranger().read().requests, 0, "{realm}");
    }
}

#[tokio::test]
async fn an_allowed_realm_is_still_under_the_address_policy() {
    let sim = sim(Realm::Url("http://169.254.169.254/token".to_owned())).await;
    let token_service = Some("169.254.169.254".to_owned());
    let identity = Identity {
        token_service,
        ..basic(PASSWORD)
    };
    let source = exchange().source(endpoint(sim.host()), identity);
    let error = ask(source.as_ref(), sim.host(), None).await.unwrap_err();
    assert!(matches!(error, AuthError::Refused { .. }), "{error}");
}

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
