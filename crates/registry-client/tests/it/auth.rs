//! Auth: asked for at use, renewed once when refused, shown nowhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use credential::auth::AuthError;
use registry_client::RegistryError;
use registry_sim::{Login, RegistrySim};

use crate::support::{PASSWORD, Password, REPOSITORY, Rotating, client, image, pull};

async fn sim(login: Login) -> RegistrySim {
    let sim = RegistrySim::with_login(login).await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

#[tokio::test]
async fn a_password_is_sent_and_taken() {
    let sim = sim(Login::Basic).await;
    let client = client(sim.host(), Arc::new(Password(PASSWORD)));
    pull(&client).await.expect("manifest");
    let ping = client.ping().await.expect("ping");
    assert_eq!(ping.status, 401);
    assert_eq!(ping.challenges[0].scheme, "basic");
}

#[tokio::test]
async fn a_login_that_is_missing_or_wrong_is_said_so() {
    let sim = sim(Login::Basic).await;
    let none = pull(&crate::support::anonymous(&sim)).await.unwrap_err();
    assert!(none.to_string().contains("wants a credential"), "{none}");
    let wrong = pull(&client(sim.host(), Arc::new(Password("wrong-password")))).await;
    let wrong = wrong.unwrap_err();
    assert!(
        matches!(wrong, RegistryError::Auth(AuthError::BadCredential { .. })),
        "{wrong}"
    );
    assert!(wrong.hint().is_some());
}

#[tokio::test]
async fn a_refused_auth_is_renewed_once() {
    for (login, status) in [(Login::Basic, 401), (Login::EcrLike, 403)] {
        let sim = sim(login).await;
        let source = Rotating::new("old-password", PASSWORD);
        let client = client(sim.host(), Arc::clone(&source) as _);
        pull(&client).await.expect("manifest");
        assert_eq!(*source.refusals.lock().expect("lock"), [(status, 1)]);
        pull(&client).await.expect("manifest");
        assert_eq!(
            source.asked.load(Ordering::SeqCst),
            2,
            "held between requests"
        );
    }
}

#[tokio::test]
async fn a_renewal_that_does_not_help_ends() {
    for login in [Login::Basic, Login::EcrLike] {
        let sim = sim(login).await;
        let source = Rotating::new("old-password", "also-old");
        let client = client(sim.host(), Arc::clone(&source) as _);
        let error = pull(&client).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert_eq!(source.asked.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn many_requests_renew_once() {
    let sim = sim(Login::Basic).await;
    let source = Rotating::new("old-password", PASSWORD);
    let client = client(sim.host(), Arc::clone(&source) as _);
    let pulls = (0..50).map(|_| pull(&client));
    for pulled in futures::future::join_all(pulls).await {
        pulled.expect("manifest");
    }
    assert_eq!(source.refusals.lock().expect("lock").len(), 1);
}

#[tokio::test]
async fn no_error_repeats_what_was_sent() {
    let sim = sim(Login::Basic).await;
    sim.faults(|faults| faults.echo_authorization = true);
    let source = Rotating::new("canary-of-a-password", "second-canary-password");
    let client = client(sim.host(), Arc::clone(&source) as _);
    let error = pull(&client).await.unwrap_err();
    let text = format!("{error} {error:?} {:?} {client:?}", error.hint());
    assert!(text.contains("[redacted]"), "{text}");
    for canary in ["canary", "Y2FuYXJ5", "NhbmFyeS", "c2Vjb25k"] {
        assert!(!text.contains(canary), "{text}");
    }
}

#[tokio::test]
async fn text_of_a_registry_is_escaped() {
    let sim = sim(Login::Basic).await;
    let challenge = "Basic realm=\"x\", error=\"\\u001b[31m\"".to_owned();
    sim.faults(|faults| faults.challenge = Some(challenge));
    let error = pull(&crate::support::anonymous(&sim)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
        "{text:?}"
    );
}
