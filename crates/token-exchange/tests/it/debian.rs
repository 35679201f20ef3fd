//! The exchange against Debian's `docker-registry`, with passwords and with tokens.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::AuthError;
use registry_client::RegistryError;
use registry_sim::Authority;
use registry_sim::debian::DebianRegistry;
use token_exchange::{Identity, Proven, TokenExchange};

use crate::support::{
    HandClock, PASSWORD, REPOSITORY, USERNAME, basic, dialer, endpoint, exchange, image, pull,
    pull_from,
};

#[tokio::test]
async fn a_password_pulls() {
    let registry = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    registry.push(REPOSITORY, "latest", &image()).await;
    let exchange = exchange();
    let source = exchange.source(endpoint(registry.host()), basic(PASSWORD));
    pull(registry.host(), source).await.expect("pull");
    let check = |password: &str, repository| {
        exchange.check(endpoint(registry.host()), basic(password), repository)
    };
    assert_eq!(
        check(PASSWORD, None).await.expect("proof").proven,
        Proven::Ping
    );
    let proof = check(PASSWORD, Some(REPOSITORY)).await.expect("proof");
    assert_eq!(proof.proven, Proven::Repository);
    let error = check("wrong-password", Some(REPOSITORY)).await.unwrap_err();
    assert!(
        matches!(error, AuthError::BadCredential { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_token_pulls_and_one_is_enough() {
    let registry = DebianRegistry::token(USERNAME, PASSWORD).await;
    registry.push(REPOSITORY, "latest", &image()).await;
    let exchange = exchange();
    for _ in 0..3 {
        let source = exchange.source(endpoint(registry.host()), basic(PASSWORD));
        pull(registry.host(), source)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", registry.log_tail()));
    }
    assert_eq!(exchange.token_requests(), 1);
    let proof = exchange
        .check(endpoint(registry.host()), basic(PASSWORD), Some(REPOSITORY))
        .await
        .expect("proof");
    assert_eq!(proof.proven, Proven::Repository);
    assert!(proof.token_service.is_some());
}

#[tokio::test]
async fn a_token_that_ends_is_renewed() {
    let registry = DebianRegistry::token(USERNAME, PASSWORD).await;
    registry.push(REPOSITORY, "latest", &image()).await;
    registry
        .issuer()
        .expect("an issuer")
        .set_life(Duration::from_secs(2));
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    for round in 1..4 {
        let source = exchange.source(endpoint(registry.host()), basic(PASSWORD));
        pull(registry.host(), source).await.expect("pull");
        assert_eq!(exchange.token_requests(), round);
        clock.turn(Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_changed_password_is_told_apart_from_a_missing_permission() {
    let mut registry = DebianRegistry::token(USERNAME, PASSWORD).await;
    registry.push(REPOSITORY, "latest", &image()).await;
    registry
        .issuer()
        .expect("an issuer")
        .allow_only(&["acme/other"]);
    let exchange = exchange();
    let login = |version: &str, password: &str| {
        let identity = Identity {
            key: format!("ws/secret/{version}"),
            ..basic(password)
        };
        exchange.source(endpoint(registry.host()), identity)
    };
    let error = pull(registry.host(), login("v1", PASSWORD))
        .await
        .unwrap_err();
    let expected = matches!(error, RegistryError::Auth(AuthError::NoPermission { .. }));
    assert!(expected, "{error:?}");
    registry
        .issuer()
        .expect("an issuer")
        .allow_only(&[REPOSITORY]);
    registry.set_password("second-password");
    let login = |version: &str, password: &str| {
        let identity = Identity {
            key: format!("ws/secret/{version}"),
            ..basic(password)
        };
        exchange.source(endpoint(registry.host()), identity)
    };
    let error = pull(registry.host(), login("v2", PASSWORD))
        .await
        .unwrap_err();
    let expected = matches!(error, RegistryError::Auth(AuthError::BadCredential { .. }));
    assert!(expected, "{error:?}");
    pull(registry.host(), login("v3", "second-password"))
        .await
        .expect("pull");
}

#[tokio::test]
async fn tls_with_its_own_ca_covers_registry_and_issuer() {
    let registry = DebianRegistry::token_tls(USERNAME, PASSWORD, Authority::new()).await;
    registry.push(REPOSITORY, "latest", &image()).await;
    let mut endpoint = endpoint(registry.host());
    endpoint.ca_pem = Some(registry.ca_pem().expect("a CA").as_bytes().to_vec());
    let source = exchange().source(endpoint.clone(), basic(PASSWORD));
    pull_from(endpoint, source).await.expect("pull");
}
