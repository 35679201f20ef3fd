//! Tokens: had once, kept while good, renewed when not, and never asked for too often.

use std::sync::Arc;
use std::time::Duration;

use credential::Credential;
use credential::auth::{AuthError, AuthRequest, AuthScheme, AuthSource};
use registry_client::RegistryError;
use registry_sim::{Login, Options, Realm, RegistrySim};
use token_exchange::TokenExchange;

use crate::support::{
    HandClock, PASSWORD, REPOSITORY, ask, basic, dialer, endpoint, exchange, identity, image,
    is_bearer, pull, refusal, registry,
};

async fn sim(login: Login) -> RegistrySim {
    let sim = RegistrySim::with_login(login).await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

async fn bearer() -> RegistrySim {
    sim(Login::Bearer(Realm::SameHost)).await
}

#[tokio::test]
async fn each_way_of_logging_in_pulls() {
    let logins = [
        Login::Nobody,
        Login::Basic,
        Login::Bearer(Realm::SameHost),
        Login::Bearer(Realm::OtherPort),
    ];
    for login in logins {
        let sim = sim(login.clone()).await;
        let exchange = exchange();
        let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
        pull(sim.host(), source)
            .await
            .unwrap_or_else(|error| panic!("{login:?}: {error}"));
        let tokens = u64::from(matches!(login, Login::Bearer(_)));
        assert_eq!(exchange.token_requests(), tokens, "{login:?}");
        assert_eq!(sim.token_requests().read().requests, tokens, "{login:?}");
    }
}

#[tokio::test]
async fn either_field_of_a_reply_holds_the_token() {
    for token_reply in [
        r#"{"token":"TOKEN"}"#,
        r#"{"access_token":"TOKEN"}"#,
        r#"{"token":"TOKEN","access_token":"","expires_in":LIFE}"#,
        r#"{"token":"","access_token":"TOKEN","expires_in":LIFE}"#,
    ] {
        let options = Options {
            login: Login::Bearer(Realm::SameHost),
            token_reply,
            ..Options::default()
        };
        let sim = RegistrySim::start(options).await;
        sim.push(REPOSITORY, "latest", &image());
        let source = exchange().source(endpoint(sim.host()), basic(PASSWORD));
        pull(sim.host(), source).await.expect(token_reply);
    }
}

#[tokio::test]
async fn public_images_are_pulled_with_a_token_for_everybody() {
    let sim = sim(Login::PublicBearer).await;
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), identity(Credential::public()));
    pull(sim.host(), source).await.expect("pull");
    assert_eq!(sim.token_requests().read().credential_bytes, 0);
}

#[tokio::test]
async fn nobody_is_told_that_a_login_is_needed() {
    for login in [Login::Basic, Login::Bearer(Realm::SameHost)] {
        let sim = sim(login).await;
        let source = exchange().source(endpoint(sim.host()), identity(Credential::public()));
        let error = pull(sim.host(), source).await.unwrap_err();
        let expected = matches!(error, RegistryError::Auth(AuthError::NoPermission { .. }));
        assert!(expected, "{error:?}");
        assert!(error.to_string().contains("login"), "{error}");
    }
}

#[tokio::test]
async fn a_ready_token_is_sent_as_it_is() {
    let sim = bearer().await;
    let credential = Credential::registry_token("ready-made-token".to_owned().into());
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), identity(credential));
    let auth = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    assert!(is_bearer(&auth));
    let error = pull(sim.host(), source).await.unwrap_err();
    let expected = matches!(error, RegistryError::Auth(AuthError::BadCredential { .. }));
    assert!(expected, "{error:?}");
    assert_eq!(exchange.token_requests(), 0);
}

#[tokio::test]
async fn an_identity_token_is_not_for_a_registry_without_a_token_service() {
    let credential = Credential::basic("<token>".to_owned(), PASSWORD.to_owned().into());
    let plain = sim(Login::Basic).await;
    let source = exchange().source(endpoint(plain.host()), identity(credential));
    let error = ask(source.as_ref(), plain.host(), None).await.unwrap_err();
    assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    assert_eq!(plain.registry().read().credential_bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_make_one_token_request() {
    let sim = Arc::new(bearer().await);
    let exchange = exchange();
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (sim, exchange) = (Arc::clone(&sim), exchange.clone());
            tokio::spawn(async move {
                let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
                ask(source.as_ref(), sim.host(), None)
                    .await
                    .map(|auth| auth.serial)
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task").expect("auth");
    }
    assert_eq!(exchange.token_requests(), 1);
    assert_eq!(sim.token_requests().read().requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_refusals_make_one_token_request() {
    let sim = Arc::new(bearer().await);
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    sim.expire_tokens();
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (sim, source) = (Arc::clone(&sim), Arc::clone(&source));
            let rejection = refusal(&sim, &first, "invalid_token");
            tokio::spawn(async move { ask(source.as_ref(), sim.host(), Some(rejection)).await })
        })
        .collect();
    for task in tasks {
        let renewed = task.await.expect("task").expect("auth");
        assert_ne!(renewed.serial, first.serial);
    }
    assert_eq!(exchange.token_requests(), 2);
}

#[tokio::test]
async fn who_asked_first_may_leave() {
    let sim = Arc::new(bearer().await);
    let exchange = exchange();
    sim.close_token_gate();
    let asking = || {
        let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
        let sim = Arc::clone(&sim);
        tokio::spawn(async move { ask(source.as_ref(), sim.host(), None).await })
    };
    let first = asking();
    sim.token_requests().wait_for_requests(1).await;
    let second = asking();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    sim.open_token_gate();
    second.await.expect("task").expect("auth");
    assert_eq!(exchange.token_requests(), 1);
}

#[tokio::test]
async fn identities_do_not_share_tokens() {
    let sim = bearer().await;
    let exchange = exchange();
    let mut serials = Vec::new();
    for key in [
        "ws-1/secret/v1",
        "ws-2/secret/v1",
        "ws-1/secret/v2",
        "ws-1/secret/v1",
    ] {
        let identity = token_exchange::Identity {
            key: key.to_owned(),
            ..basic(PASSWORD)
        };
        let source = exchange.source(endpoint(sim.host()), identity);
        serials.push(
            ask(source.as_ref(), sim.host(), None)
                .await
                .expect("auth")
                .serial,
        );
    }
    assert_eq!(serials[0], serials[3]);
    assert_eq!(exchange.token_requests(), 3);
    exchange.forget("ws-1/secret/v1");
    let identity = token_exchange::Identity {
        key: "ws-1/secret/v1".to_owned(),
        ..basic(PASSWORD)
    };
    let source = exchange.source(endpoint(sim.host()), identity);
    ask(source.as_ref(), sim.host(), None).await.expect("auth");
    assert_eq!(exchange.token_requests(), 4);
}

async fn living(life: Duration) -> (RegistrySim, Arc<HandClock>, TokenExchange) {
    let options = Options {
        login: Login::Bearer(Realm::SameHost),
        token_life: life,
        ..Options::default()
    };
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    let sim = RegistrySim::start(options).await;
    sim.push(REPOSITORY, "latest", &image());
    (sim, clock, exchange)
}

#[tokio::test]
async fn tokens_are_renewed_by_the_clock_before_they_end() {
    // Seconds: life of a token, age at which it is still kept, age at which it is renewed.
    for (life, kept, renewed) in [(300, 254, 271), (60, 50, 56), (2, 0, 1), (20, 11, 16)] {
        let (sim, clock, exchange) = living(Duration::from_secs(life)).await;
        let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
        let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
        clock.turn(Duration::from_secs(kept));
        let second = ask(source.as_ref(), sim.host(), None).await.expect("auth");
        assert_eq!(first.serial, second.serial, "life {life}");
        clock.turn(Duration::from_secs(renewed - kept));
        let third = renewed_after(source.as_ref(), sim.host(), first.serial).await;
        assert_ne!(first.serial, third, "life {life}");
        assert_eq!(exchange.token_requests(), 2, "life {life}");
    }
}

/// Asks until there is another one than this.
async fn renewed_after(source: &dyn AuthSource, host: &str, serial: u64) -> u64 {
    loop {
        let auth = ask(source, host, None).await.expect("auth");
        if auth.serial != serial {
            return auth.serial;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn nobody_waits_for_a_renewal_while_the_old_token_lives() {
    let (sim, clock, exchange) = living(Duration::from_secs(100)).await;
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    clock.turn(Duration::from_secs(91));
    sim.close_token_gate();
    for _ in 0..3 {
        let auth = ask(source.as_ref(), sim.host(), None).await.expect("auth");
        assert_eq!(auth.serial, first.serial);
    }
    sim.open_token_gate();
    renewed_after(source.as_ref(), sim.host(), first.serial).await;
    assert_eq!(exchange.token_requests(), 2);
}

#[tokio::test]
async fn a_token_that_is_at_its_end_is_waited_for() {
    let (sim, clock, exchange) = living(Duration::from_secs(100)).await;
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    clock.turn(Duration::from_secs(99));
    let second = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    assert_ne!(first.serial, second.serial);
}

#[tokio::test]
async fn a_refusal_stands_from_when_it_came() {
    let sim = Arc::new(bearer().await);
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    let source = exchange.source(endpoint(sim.host()), basic("wrong-password"));
    sim.close_token_gate();
    let asking = {
        let (sim, source) = (Arc::clone(&sim), Arc::clone(&source));
        tokio::spawn(async move { ask(source.as_ref(), sim.host(), None).await })
    };
    sim.token_requests().wait_for_requests(1).await;
    clock.turn(Duration::from_mins(1));
    sim.open_token_gate();
    assert!(asking.await.expect("task").is_err());
    assert!(ask(source.as_ref(), sim.host(), None).await.is_err());
    assert_eq!(exchange.token_requests(), 2);
}

#[tokio::test]
async fn a_renewal_that_is_refused_is_told() {
    let (sim, clock, exchange) = living(Duration::from_secs(100)).await;
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    ask(source.as_ref(), sim.host(), None).await.expect("auth");
    sim.set_password("another-one");
    clock.turn(Duration::from_secs(91));
    ask(source.as_ref(), sim.host(), None).await.expect("auth");
    let error = loop {
        match ask(source.as_ref(), sim.host(), None).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
    assert_eq!(exchange.token_requests(), 3);
}

#[tokio::test]
async fn a_clock_that_jumps_costs_a_question_and_nothing_else() {
    const JUMPS: [Duration; 2] = [Duration::from_mins(5), Duration::from_hours(24)];
    for by in JUMPS {
        for is_back in [false, true] {
            let (sim, clock, exchange) = living(Duration::from_mins(2)).await;
            let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
            let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
            if is_back {
                clock.turn_back(by);
            } else {
                clock.turn(by);
            }
            // Nobody knows what is left of the first token's life.
            let second = ask(source.as_ref(), sim.host(), None).await.expect("auth");
            assert_ne!(first.serial, second.serial, "{by:?} back: {is_back}");
            let third = ask(source.as_ref(), sim.host(), None).await.expect("auth");
            assert_eq!(second.serial, third.serial, "{by:?} back: {is_back}");
            pull(sim.host(), source).await.expect("pull");
            assert_eq!(exchange.token_requests(), 2, "{by:?} back: {is_back}");
        }
    }
}

#[tokio::test]
async fn a_refusal_does_not_stand_for_ever_on_a_clock_that_was_set_back() {
    for by in [Duration::from_mins(5), Duration::from_hours(24)] {
        let sim = bearer().await;
        let clock = HandClock::new();
        let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
        let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
        sim.faults(|faults| {
            faults.token_too_many_requests = 1;
            faults.retry_after = Some("20".to_owned());
        });
        let error = ask(source.as_ref(), sim.host(), None).await.unwrap_err();
        assert!(matches!(error, AuthError::RateLimited { .. }), "{error}");
        clock.turn_back(by);
        ask(source.as_ref(), sim.host(), None).await.expect("auth");
    }
}

#[tokio::test]
async fn an_early_renewal_that_fails_leaves_what_still_works() {
    let (sim, clock, exchange) = living(Duration::from_secs(100)).await;
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    clock.turn(Duration::from_secs(95));
    sim.faults(|faults| faults.token_unavailable = 2);
    let second = ask(source.as_ref(), sim.host(), None)
        .await
        .expect("the old token");
    assert_eq!(second.serial, first.serial);
    sim.token_requests().wait_for_requests(2).await;
    let again = ask(source.as_ref(), sim.host(), None)
        .await
        .expect("the old token");
    assert_eq!(again.serial, first.serial);
    assert_eq!(exchange.token_requests(), 2, "not asked again at once");
    clock.turn(Duration::from_secs(10));
    let error = ask(source.as_ref(), sim.host(), None).await.unwrap_err();
    assert!(matches!(error, AuthError::Unreachable { .. }), "{error}");
    // The renewal under way may have been the one that failed, and then the next one does.
    let third = loop {
        match ask(source.as_ref(), sim.host(), None).await {
            Ok(auth) => break auth,
            Err(error) => assert!(matches!(error, AuthError::Unreachable { .. }), "{error}"),
        }
    };
    assert_ne!(third.serial, first.serial);
    assert_eq!(exchange.token_requests(), 4);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_stays_wrong_for_a_while() {
    for login in [Login::Basic, Login::Bearer(Realm::SameHost)] {
        let sim = sim(login.clone()).await;
        let clock = HandClock::new();
        let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
        let source = exchange.source(endpoint(sim.host()), basic("wrong-password"));
        for _ in 0..5 {
            let error = pull(sim.host(), Arc::clone(&source) as _)
                .await
                .unwrap_err();
            let expected = matches!(error, RegistryError::Auth(AuthError::BadCredential { .. }));
            assert!(expected, "{login:?} {error:?}");
        }
        if login != Login::Basic {
            // For the repository, and whether it is about that.
            assert_eq!(exchange.token_requests(), 2);
            clock.turn(Duration::from_secs(11));
            assert!(ask(source.as_ref(), sim.host(), None).await.is_err());
            assert_eq!(exchange.token_requests(), 3);
        }
    }
}

#[tokio::test]
async fn a_token_that_does_not_allow_enough_is_not_minted_again_and_again() {
    let sim = bearer().await;
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let auth = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    for _ in 0..5 {
        let rejection = refusal(&sim, &auth, "insufficient_scope");
        let error = ask(source.as_ref(), sim.host(), Some(rejection))
            .await
            .unwrap_err();
        assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
        assert!(error.to_string().contains(REPOSITORY), "{error}");
    }
    assert_eq!(exchange.token_requests(), 1);
}

#[tokio::test]
async fn a_repository_known_by_another_name_is_asked_for_by_it() {
    let sim = bearer().await;
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let auth = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    let mut rejection = refusal(&sim, &auth, "insufficient_scope");
    rejection.challenges[0] = rejection.challenges[0].replace(REPOSITORY, "real/name");
    ask(source.as_ref(), sim.host(), Some(rejection))
        .await
        .expect("auth");
    let last = sim.token_requests().paths().pop().expect("a request");
    assert!(
        last.contains("scope=repository%3Areal%2Fname%3Apull"),
        "{last}"
    );
}

/// A process that reads strangers' bytes may say anything of what its registry demands.
#[tokio::test]
async fn what_another_process_says_of_a_demand_is_asked_of_the_registry() {
    let sim = bearer().await;
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let auth = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    let mut forged = refusal(&sim, &auth, "invalid_token");
    forged.is_hearsay = true;
    let honest = forged.challenges[0].clone();
    let pings = || {
        let paths = sim.registry().paths();
        paths.iter().filter(|path| path.ends_with("/v2/")).count()
    };
    let before = pings();
    let mut serial = auth.serial;
    for challenges in [
        vec!["Basic realm=\"sim\"".to_owned()],
        Vec::new(),
        vec![honest.replace(REPOSITORY, "acme/other")],
        vec![honest.replace("/token", "/elsewhere")],
    ] {
        clock.turn(Duration::from_secs(11));
        let rejection = credential::auth::Rejection {
            serial,
            challenges: challenges.clone(),
            ..forged.clone()
        };
        let auth = ask(source.as_ref(), sim.host(), Some(rejection)).await;
        let auth = auth.expect("auth");
        assert!(is_bearer(&auth), "{challenges:?}");
        serial = auth.serial;
        let last = sim.token_requests().paths().pop().expect("a request");
        assert!(last.starts_with("GET /token?"), "{last}");
        let own = format!(
            "scope=repository%3A{}%3Apull",
            REPOSITORY.replace('/', "%2F")
        );
        assert!(last.contains(&own), "{last}");
    }
    assert_eq!(pings(), before, "its word of a moment ago stands");
}

#[tokio::test]
async fn who_doubts_over_and_over_has_little_asked() {
    let (tokens, clock, exchange) = living(Duration::from_mins(5)).await;
    let source = exchange.source(endpoint(tokens.host()), basic(PASSWORD));
    let auth = ask(source.as_ref(), tokens.host(), None).await;
    let auth = auth.expect("auth");
    let doubt = |serial| credential::auth::Rejection {
        serial,
        is_hearsay: true,
        ..refusal(&tokens, &auth, "invalid_token")
    };
    let mut serial = auth.serial;
    for _ in 0..30 {
        clock.turn(Duration::from_secs(1));
        let auth = ask(source.as_ref(), tokens.host(), Some(doubt(serial))).await;
        serial = auth.expect("auth").serial;
    }
    let asked = exchange.token_requests();
    assert!((2..=4).contains(&asked), "{asked}");

    let sim = sim(Login::Basic).await;
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    for _ in 0..5 {
        clock.turn(Duration::from_mins(1));
        let same = ask(source.as_ref(), sim.host(), Some(doubt(first.serial))).await;
        assert_eq!(
            same.expect("the password that there is").serial,
            first.serial
        );
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_for_many_repositories() {
    let sim = bearer().await;
    let exchange = exchange();
    let own = registry(sim.host());
    let source = exchange.source(endpoint(sim.host()), basic("wrong-password"));
    let names: Vec<String> = (0..20).map(|number| format!("acme/app-{number}")).collect();
    let asked = names.iter().map(|repository| {
        source.auth(AuthRequest {
            registry: &own,
            repository,
            rejected: None,
        })
    });
    for answer in futures::future::join_all(asked).await {
        let error = answer.expect_err("a refusal");
        assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
    }
    assert_eq!(exchange.token_requests(), 2);
}

#[tokio::test]
async fn a_limit_is_obeyed_without_asking() {
    let sim = bearer().await;
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as _);
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    sim.faults(|faults| {
        faults.token_too_many_requests = 1;
        faults.retry_after = Some("20".to_owned());
    });
    for expected in [20, 15] {
        let error = ask(source.as_ref(), sim.host(), None).await.unwrap_err();
        let AuthError::RateLimited { retry_after, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(expected)));
        clock.turn(Duration::from_secs(5));
    }
    assert_eq!(exchange.token_requests(), 1);
    clock.turn(Duration::from_secs(11));
    ask(source.as_ref(), sim.host(), None).await.expect("auth");
}

#[tokio::test]
async fn a_credential_answers_for_its_own_registry_alone() {
    let sim = sim(Login::Basic).await;
    let source = exchange().source(endpoint(sim.host()), basic(PASSWORD));
    for other in ["ghcr.io", "127.0.0.1:1", "localhost"] {
        let error = ask(source.as_ref(), other, None).await.unwrap_err();
        assert!(
            matches!(error, AuthError::Refused { .. }),
            "{other}: {error}"
        );
    }
    let error = pull("localhost:1", source).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Auth(AuthError::Refused { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_without_a_challenge_renews_a_token_that_is_old_enough() {
    let (sim, clock, exchange) = living(Duration::from_mins(5)).await;
    let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
    let first = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    let forbidden = |auth: &credential::auth::RegistryAuth| credential::auth::Rejection {
        serial: auth.serial,
        status: 403,
        challenges: Vec::new(),
        says_expired: false,
        is_hearsay: false,
    };
    let same = ask(source.as_ref(), sim.host(), Some(forbidden(&first)))
        .await
        .expect("auth");
    assert_eq!(same.serial, first.serial);
    clock.turn(Duration::from_mins(1));
    let other = ask(source.as_ref(), sim.host(), Some(forbidden(&first)))
        .await
        .expect("auth");
    assert_ne!(other.serial, first.serial);
    assert!(matches!(other.scheme, AuthScheme::Bearer(_)));
}

#[tokio::test]
async fn a_repository_that_is_forbidden_costs_the_others_nothing() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    sim.faults(|faults| faults.token_forbidden = Some("acme/other".to_owned()));
    let source = exchange().source(endpoint(sim.host()), basic(PASSWORD));
    let own = registry(sim.host());
    let request = || AuthRequest {
        registry: &own,
        repository: "acme/other",
        rejected: None,
    };
    for _ in 0..2 {
        let error = source.auth(request()).await.expect_err("a refusal");
        assert!(matches!(error, AuthError::NoPermission { .. }), "{error}");
        assert!(error.to_string().contains("acme/other"), "{error}");
    }
    assert_eq!(
        sim.token_requests().read().requests,
        1,
        "the refusal stands for a while"
    );
    ask(source.as_ref(), sim.host(), None).await.expect("auth");
}
