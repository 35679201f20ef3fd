//! Checking a credential: what is proven, and which error names which fault.

use credential::Credential;
use credential::auth::AuthError;
use registry_sim::{Authority, Login, Options, Realm, RegistrySim};
use token_exchange::{Identity, Proof, Proven};

use crate::support::{PASSWORD, REPOSITORY, basic, endpoint, exchange, identity, image};

async fn sim(login: Login) -> RegistrySim {
    let sim = RegistrySim::with_login(login).await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

async fn check(
    sim: &RegistrySim,
    identity: Identity,
    repository: Option<&str>,
) -> Result<Proof, AuthError> {
    exchange()
        .check(endpoint(sim.host()), identity, repository)
        .await
}

#[tokio::test]
async fn a_good_credential_is_proven_as_far_as_asked() {
    for login in [Login::Basic, Login::EcrLike, Login::Bearer(Realm::SameHost)] {
        let sim = sim(login.clone()).await;
        let proof = check(&sim, basic(PASSWORD), None).await.expect("proof");
        assert_eq!(
            (proof.proven, proof.login_needed),
            (Proven::Ping, true),
            "{login:?}"
        );
        let bearer = matches!(login, Login::Bearer(_));
        assert_eq!(proof.token_service.is_some(), bearer, "{login:?}");
        let proof = check(&sim, basic(PASSWORD), Some(REPOSITORY))
            .await
            .expect("proof");
        assert_eq!(proof.proven, Proven::Repository, "{login:?}");
        let proof = check(&sim, basic(PASSWORD), Some("acme/not-there"))
            .await
            .expect("proof");
        assert_eq!(proof.proven, Proven::Ping, "{login:?}");
    }
}

#[tokio::test]
async fn a_bad_credential_is_named_so() {
    for login in [Login::Basic, Login::EcrLike, Login::Bearer(Realm::SameHost)] {
        let sim = sim(login.clone()).await;
        for repository in [None, Some(REPOSITORY)] {
            let error = check(&sim, basic("wrong-password"), repository)
                .await
                .unwrap_err();
            assert!(
                matches!(error, AuthError::BadCredential { .. }),
                "{login:?} {error:?}"
            );
            assert!(!error.to_string().contains("wrong-password"));
        }
    }
}

#[tokio::test]
async fn each_check_asks_anew() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    let exchange = exchange();
    let login = || endpoint(sim.host());
    exchange
        .check(login(), basic("wrong-password"), None)
        .await
        .unwrap_err();
    sim.set_password("wrong-password");
    exchange
        .check(login(), basic("wrong-password"), None)
        .await
        .expect("proof");
    assert_eq!(exchange.token_requests(), 2);
}

#[tokio::test]
async fn nobody_is_enough_where_nobody_is_asked() {
    for login in [Login::Nobody, Login::PublicBearer] {
        let sim = sim(login.clone()).await;
        let public = identity(Credential::public());
        let proof = check(&sim, public, Some(REPOSITORY)).await.expect("proof");
        assert_eq!(proof.proven, Proven::Repository, "{login:?}");
        assert_eq!(proof.login_needed, login != Login::Nobody);
        assert_eq!(
            sim.registry().read().credential_bytes > 0,
            login != Login::Nobody
        );
    }
    for login in [Login::Basic, Login::Bearer(Realm::SameHost)] {
        let sim = sim(login).await;
        let error = check(&sim, identity(Credential::public()), None)
            .await
            .unwrap_err();
        assert!(matches!(error, AuthError::NoPermission { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_not_the_credentials_fault_is_named_so() {
    let busy = sim(Login::Bearer(Realm::SameHost)).await;
    busy.faults(|faults| {
        faults.token_too_many_requests = 1;
        faults.retry_after = Some("7".to_owned());
    });
    let error = check(&busy, basic(PASSWORD), None).await.unwrap_err();
    let seconds = |error: &AuthError| match error {
        AuthError::RateLimited { retry_after, .. } => retry_after.map(|wait| wait.as_secs()),
        _ => None,
    };
    assert_eq!(seconds(&error), Some(7), "{error:?}");
    let away = sim(Login::Basic).await;
    away.faults(|faults| faults.outage = true);
    let error = check(&away, basic(PASSWORD), None).await.unwrap_err();
    assert!(matches!(error, AuthError::Unreachable { .. }), "{error:?}");
    let tls = Options {
        tls: Some(Authority::new()),
        ..Options::default()
    };
    let tls = RegistrySim::start(tls).await;
    let error = check(&tls, basic(PASSWORD), None).await.unwrap_err();
    assert!(matches!(error, AuthError::Tls { .. }), "{error:?}");
    assert_eq!(tls.registry().read().credential_bytes, 0);
}
