//! What single services do in a way of their own.

use std::sync::Arc;
use std::time::Duration;

use credential::Credential;
use credential::auth::{AuthError, AuthRequest, AuthScheme, AuthSource, Rejection};
use registry_sim::{Login, Options, Realm, RegistrySim};
use token_exchange::TokenExchange;

use crate::support::{
    HandClock, PASSWORD, REPOSITORY, ask, basic, dialer, endpoint, exchange, identity, image,
    is_bearer, pull, refusal, registry,
};

async fn sim(login: Login, username: &str) -> RegistrySim {
    let sim = RegistrySim::start(Options {
        login,
        username: username.to_owned(),
        ..Options::default()
    })
    .await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

#[tokio::test]
async fn user_names_of_robots_arrive_as_they_are() {
    let cases = [
        ("quay.io", "acme+robot", "account=acme%2Brobot"),
        ("nvcr.io", "$oauthtoken", "account=%24oauthtoken"),
        ("Harbor", "robot$acme+ci", "account=robot%24acme%2Bci"),
        (
            "GitLab",
            "gitlab+deploy-token-7",
            "account=gitlab%2Bdeploy-token-7",
        ),
        (
            "GitLab's jobs",
            "gitlab-ci-token",
            "account=gitlab-ci-token",
        ),
    ];
    for (service, username, account) in cases {
        for login in [Login::Basic, Login::Bearer(Realm::SameHost)] {
            let has_tokens = matches!(login, Login::Bearer(_));
            let sim = sim(login, username).await;
            let credential = Credential::basic(username.to_owned(), PASSWORD.to_owned().into());
            let source = exchange().source(endpoint(sim.host()), identity(credential));
            pull(sim.host(), source).await.expect(service);
            let asked = sim.token_requests().paths();
            assert_eq!(asked.len(), usize::from(has_tokens), "{service}");
            let is_named = |path: &String| path.contains(account);
            assert!(asked.iter().all(is_named), "{service}: {asked:?}");
        }
    }
}

/// Google's registries answer 401 without a challenge for what is in a repository.
#[tokio::test]
async fn a_refusal_without_a_challenge_leaves_what_the_door_demands() {
    for login in [Login::Bearer(Realm::SameHost), Login::Basic] {
        let has_tokens = matches!(login, Login::Bearer(_));
        let sim = sim(login, "puller").await;
        sim.faults(|faults| faults.challenge_at_door_only = true);
        let exchange = exchange();
        let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
        for tokens in [1, 2] {
            sim.expire_tokens();
            pull(sim.host(), Arc::clone(&source) as _)
                .await
                .expect("pull");
            let expected = if has_tokens { tokens } else { 0 };
            assert_eq!(exchange.token_requests(), expected);
        }
        let own = registry(sim.host());
        let other = AuthRequest {
            registry: &own,
            repository: "acme/other",
            rejected: None,
        };
        let auth = source.auth(other).await.expect("auth");
        assert_eq!(is_bearer(&auth), has_tokens, "{auth:?}");
    }
}

/// Behind a door that lets everybody in, a password is all that is left to try.
#[tokio::test]
async fn a_refusal_without_a_challenge_behind_an_open_door_is_tried_with_the_password() {
    let sim = sim(Login::Nobody, "puller").await;
    let source = exchange().source(endpoint(sim.host()), basic(PASSWORD));
    let nothing = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    assert!(matches!(nothing.scheme, AuthScheme::Anonymous));
    let silent = Rejection {
        challenges: Vec::new(),
        ..refusal(&sim, &nothing, "")
    };
    let auth = ask(source.as_ref(), sim.host(), Some(silent)).await;
    let auth = auth.expect("auth");
    assert!(matches!(auth.scheme, AuthScheme::Basic { .. }), "{auth:?}");
}

/// GitHub answers 403 `denied` where others answer 401, and to a token that may not read one
/// repository too.
#[tokio::test]
async fn a_token_that_github_no_longer_knows_is_found_wrong_where_it_is_checked() {
    let sim = sim(Login::Bearer(Realm::SameHost), "puller").await;
    let denied = r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#;
    sim.faults(|faults| faults.token_says = Some((403, denied.to_owned())));
    let exchange = exchange();
    let checked = exchange
        .check(endpoint(sim.host()), basic(PASSWORD), Some(REPOSITORY))
        .await;
    let error = checked.expect_err("a refusal");
    assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let error = ask(source.as_ref(), sim.host(), None).await;
    let error = error.expect_err("a refusal");
    assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
}

#[tokio::test]
async fn odd_replies_of_token_services_are_read_or_refused() {
    let cases = [
        ("token alone, as GitLab's", r#"{"token":"t"}"#, Some(60)),
        (
            "both",
            r#"{"token":"t","access_token":"t","expires_in":300}"#,
            Some(300),
        ),
        (
            "one empty",
            r#"{"token":"t","access_token":"","expires_in":300}"#,
            Some(300),
        ),
        ("no life", r#"{"token":"t","expires_in":0}"#, Some(60)),
        (
            "issued at zero",
            r#"{"token":"t","expires_in":300,"issued_at":"0001-01-01T00:00:00Z"}"#,
            Some(300),
        ),
        ("both empty", r#"{"token":"","access_token":""}"#, None),
        ("a page", "<html>sign in</html>", None),
    ];
    for (what, body, life) in cases {
        let sim = sim(Login::Bearer(Realm::SameHost), "puller").await;
        sim.faults(|faults| faults.token_says = Some((200, body.to_owned())));
        let source = exchange().source(endpoint(sim.host()), basic(PASSWORD));
        let before = jiff::Timestamp::now();
        let auth = ask(source.as_ref(), sim.host(), None).await;
        let left = auth.map(|auth| auth.not_after.expect("an end").duration_since(before));
        match (left, life) {
            (Ok(left), Some(life)) => {
                let is_near = (left.as_secs() - life).abs() <= 5;
                assert!(is_near, "{what}: {left}");
            }
            (Err(error), None) => {
                assert!(
                    matches!(error, AuthError::Unreachable { .. }),
                    "{what}: {error}"
                );
                assert!(!error.to_string().contains("sign in"), "{error}");
            }
            (left, _) => panic!("{what}: {left:?}"),
        }
    }
}

/// Artifactory answers a `POST` 401, others that they know no such thing; a token is then taken as
/// the password of nobody.
#[tokio::test]
async fn an_identity_token_is_taken_where_there_is_no_post() {
    for status in [400, 401, 404, 405] {
        let sim = sim(Login::Bearer(Realm::SameHost), "").await;
        sim.faults(|faults| faults.token_post_says = Some(status));
        let token = || Credential::basic("<token>".to_owned(), PASSWORD.to_owned().into());
        let exchange = exchange();
        let source = exchange.source(endpoint(sim.host()), identity(token()));
        pull(sim.host(), source).await.expect("a pull");
        let asked = sim.token_requests().paths();
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert_eq!(asked[0], "POST /token");
        assert!(!asked[1].contains("account"), "{asked:?}");
        // What is not taken either way is refused in the words of the first.
        sim.set_password("another");
        let checked = exchange.check(endpoint(sim.host()), identity(token()), None);
        let error = checked.await.expect_err("a refusal");
        let is_known = status < 404;
        let is_bad = matches!(error, AuthError::BadCredential { .. });
        assert_eq!(is_bad, is_known, "{status}: {error}");
    }
}

/// Some services answer 401 where the credential may not read one repository.
#[tokio::test]
async fn a_401_for_one_repository_is_no_refusal_of_the_login() {
    for is_proven in [false, true] {
        let sim = sim(Login::Bearer(Realm::SameHost), "puller").await;
        sim.faults(|faults| faults.token_unauthorized = Some("acme/other".to_owned()));
        let exchange = exchange();
        let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
        if is_proven {
            ask(source.as_ref(), sim.host(), None).await.expect("auth");
        }
        let own = registry(sim.host());
        let other = || AuthRequest {
            registry: &own,
            repository: "acme/other",
            rejected: None,
        };
        let before = exchange.token_requests();
        for _ in 0..3 {
            let error = source.auth(other()).await.expect_err("a refusal");
            assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
            assert!(error.to_string().contains("acme/other"), "{error}");
        }
        assert_eq!(exchange.token_requests() - before, 2);
        pull(sim.host(), source).await.expect("the others are read");
    }
}

/// A password that was found wrong for everything is not tried twice each time.
#[tokio::test]
async fn a_wrong_password_is_asked_about_once() {
    let sim = sim(Login::Bearer(Realm::SameHost), "puller").await;
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    let source = exchange.source(endpoint(sim.host()), basic("wrong-password"));
    for tries in [2, 3, 4] {
        let error = ask(source.as_ref(), sim.host(), None).await;
        let error = error.expect_err("a refusal");
        assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
        assert_eq!(exchange.token_requests(), tries);
        clock.turn(Duration::from_secs(11));
    }
    // Taken again: a later refusal may be about a repository.
    sim.set_password("wrong-password");
    ask(source.as_ref(), sim.host(), None).await.expect("auth");
}

/// Asks for so many repositories at once.
async fn ask_for_many(source: &dyn AuthSource, host: &str) -> Vec<AuthError> {
    let own = registry(host);
    let names: Vec<String> = (0..MANY)
        .map(|number| format!("acme/app-{number}"))
        .collect();
    let asked = names.iter().map(|repository| {
        source.auth(AuthRequest {
            registry: &own,
            repository,
            rejected: None,
        })
    });
    let answers = futures::future::join_all(asked).await;
    answers
        .into_iter()
        .map(|answer| answer.expect_err("a refusal"))
        .collect()
}

const MANY: u64 = 20;

/// Accounts are locked after a few wrong passwords.
#[tokio::test]
async fn a_password_that_was_revoked_is_doubted_once_by_all() {
    let sim = sim(Login::Bearer(Realm::SameHost), "puller").await;
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    ask(source.as_ref(), sim.host(), None).await.expect("auth");
    sim.set_password("another");
    sim.close_token_gate();
    let counter = sim.token_requests();
    let all_have_asked = async {
        counter.wait_for_requests(1 + MANY).await;
        sim.open_token_gate();
    };
    let (errors, ()) = tokio::join!(ask_for_many(source.as_ref(), sim.host()), all_have_asked);
    for error in errors {
        assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
    }
    assert_eq!(exchange.token_requests(), 1 + MANY + 1);
    // From here on it is known to be wrong, and is shown by one for all.
    clock.turn(Duration::from_secs(11));
    ask_for_many(source.as_ref(), sim.host()).await;
    assert_eq!(exchange.token_requests(), 1 + MANY + 1 + 1);
}

/// A service that does not know the question says nothing of the password.
#[tokio::test]
async fn only_a_refusal_for_nothing_refutes_a_password() {
    let sim = sim(Login::Bearer(Realm::SameHost), "puller").await;
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    for status in [404, 405] {
        sim.faults(|faults| {
            faults.token_unauthorized = Some(REPOSITORY.to_owned());
            faults.token_for_nothing_says = Some(status);
        });
        let error = ask(source.as_ref(), sim.host(), None).await;
        let error = error.expect_err("a refusal");
        assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
        clock.turn(Duration::from_secs(11));
        sim.faults(|faults| faults.token_for_nothing_says = None);
        let error = ask(source.as_ref(), sim.host(), None).await;
        let error = error.expect_err("a refusal");
        let is_doubted = matches!(error, AuthError::NoPermission { .. });
        assert!(is_doubted, "{status}: {error}");
        clock.turn(Duration::from_secs(11));
    }
}

/// Some services give a token for nothing to anybody, with whatever password.
#[tokio::test]
async fn a_token_for_nothing_proves_no_password() {
    let sim = sim(Login::Bearer(Realm::SameHost), "puller").await;
    sim.faults(|faults| faults.token_unauthorized = Some(REPOSITORY.to_owned()));
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let error = ask(source.as_ref(), sim.host(), None).await;
    let error = error.expect_err("a refusal");
    assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
    let before = exchange.token_requests();
    sim.set_password("another");
    ask_for_many(source.as_ref(), sim.host()).await;
    assert_eq!(exchange.token_requests() - before, 2);
}
