//! What was minted a moment ago and is refused all the same.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::{AuthError, AuthRequest, AuthSource, RegistryAuth, Rejection};

use crate::ecr::{Ecr, PRIVATE, PUBLIC, expired, forbidden, password};
use crate::support::{ask, registry};

const TWELVE_HOURS: Duration = Duration::from_hours(12);

/// A registry of ECR that knows the password no more answers 403 with no challenge, and says
/// "expired".
#[tokio::test]
async fn a_registry_that_says_expired_is_believed_at_once() {
    let ecr = Ecr::private().await;
    let source = ecr.source(ecr.keys());
    ecr.pull(Arc::clone(&source)).await;
    ecr.sim.set_password("second");
    ecr.api.give("second", TWELVE_HOURS);
    ecr.pull(source).await;
    assert_eq!(ecr.asked(), 2);
}

#[tokio::test]
async fn what_is_refused_however_often_it_is_minted_is_minted_once_in_a_while() {
    let ecr = Ecr::private().await;
    let source = ecr.source(ecr.keys());
    let first = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    ecr.api.give("second", TWELVE_HOURS);
    for young in [forbidden(&first), of_another_process(&first)] {
        let same = ask(source.as_ref(), PRIVATE, Some(young)).await;
        assert_eq!(same.expect("auth").serial, first.serial);
    }
    let second = ask(source.as_ref(), PRIVATE, Some(expired(&first))).await;
    let second = second.expect("auth");
    assert_eq!(password(&second), "second");
    ecr.api.give("third", TWELVE_HOURS);
    for _ in 0..5 {
        let error = ask(source.as_ref(), PRIVATE, Some(expired(&second))).await;
        let error = error.expect_err("a refusal");
        assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
    }
    assert_eq!(ecr.asked(), 2);
    ecr.turn(Duration::from_secs(11));
    let same = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    assert_eq!(password(&same), "second");
    let third = ask(source.as_ref(), PRIVATE, Some(expired(&same))).await;
    assert_eq!(password(&third.expect("auth")), "third");
    assert_eq!(ecr.asked(), 3);
}

#[tokio::test]
async fn a_clock_that_was_set_back_leaves_nothing_young() {
    let ecr = Ecr::private().await;
    let source = ecr.source(ecr.keys());
    let first = ask(source.as_ref(), PRIVATE, None).await.expect("auth");
    ecr.api.give("second", TWELVE_HOURS);
    ecr.clock.turn_back(Duration::from_hours(2));
    let second = ask(source.as_ref(), PRIVATE, Some(forbidden(&first))).await;
    assert_eq!(password(&second.expect("auth")), "second");
}

#[tokio::test]
async fn many_that_say_expired_at_once_are_all_helped_by_one() {
    let ecr = Ecr::private().await;
    let source = ecr.source(ecr.keys());
    let names: Vec<String> = (0..20).map(|number| format!("acme/app-{number}")).collect();
    let mut refused = Vec::new();
    for name in &names {
        refused.push(
            of(source.as_ref(), PRIVATE, name, None)
                .await
                .expect("auth"),
        );
    }
    ecr.api.give("second", TWELVE_HOURS);
    let asked = names.iter().zip(&refused);
    let asked = asked.map(|(name, auth)| of(source.as_ref(), PRIVATE, name, Some(expired(auth))));
    for renewed in futures::future::join_all(asked).await {
        assert_eq!(password(&renewed.expect("auth")), "second");
    }
    assert_eq!(ecr.asked(), 2);
}

/// The token service has taken what it refuses now.
#[tokio::test]
async fn a_pass_that_a_token_service_takes_no_more_is_minted_anew_at_once() {
    let ecr = Ecr::public().await;
    let source = ecr.source(ecr.keys());
    ask(source.as_ref(), PUBLIC, None).await.expect("auth");
    for (given, repository, is_had) in [("second", "a/one", true), ("third", "a/two", false)] {
        ecr.sim.set_password(given);
        ecr.api.give(given, TWELVE_HOURS);
        match of(source.as_ref(), PUBLIC, repository, None).await {
            Ok(_) => assert!(is_had, "{given}"),
            Err(AuthError::BadCredential { .. }) => assert!(!is_had, "{given}"),
            Err(error) => panic!("{given}: {error}"),
        }
        assert_eq!(ecr.asked(), 2, "{given}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pass_that_a_token_service_takes_no_more_is_minted_once_for_many() {
    let ecr = Ecr::public().await;
    let source = ecr.source(ecr.keys());
    ask(source.as_ref(), PUBLIC, None).await.expect("auth");
    ecr.sim.set_password("second");
    ecr.api.give("second", TWELVE_HOURS);
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let source = Arc::clone(&source);
            let name = format!("acme/app-{number}");
            tokio::spawn(async move { of(source.as_ref(), PUBLIC, &name, None).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task").expect("auth");
    }
    assert_eq!(ecr.asked(), 2);
}

#[tokio::test]
async fn a_pass_that_no_token_service_ever_took_is_not_minted_twice() {
    let ecr = Ecr::public().await;
    ecr.sim.set_password("another");
    let error = ecr.error(ecr.keys()).await;
    assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
    assert_eq!(ecr.asked(), 1);
}

async fn of(
    source: &dyn AuthSource,
    host: &str,
    repository: &str,
    rejected: Option<Rejection>,
) -> Result<RegistryAuth, AuthError> {
    let registry = registry(host);
    let request = AuthRequest {
        registry: &registry,
        repository,
        rejected,
    };
    source.auth(request).await
}

fn of_another_process(auth: &RegistryAuth) -> Rejection {
    Rejection {
        is_hearsay: true,
        ..expired(auth)
    }
}
