//! What every provider keeps, whatever it makes auth of. A further one is a line in `providers`,
//! and an [`Upstream`](upstreams::Upstream).

mod aws;
mod clouds;
mod registries;
mod upstreams;

use std::sync::Arc;
use std::time::Duration;

use credential::auth::{AuthError, AuthScheme, RegistryAuth};
use credential::{Credential, ExposeSecret};
use registry_sim::{Login, RegistrySim};
use token_exchange::{Clock, TokenExchange};

use crate::azure::SECRET;
use crate::ecr::KEY;
use crate::google::ACCESS;
use crate::support::{
    HandClock, PASSWORD, REPOSITORY, USERNAME, ask, basic, dialer, endpoint, image, pull,
};
use upstreams::{Provided, Says, stored};

/// Each provider, given what lives for so long.
async fn providers(life: Duration) -> Vec<Provided> {
    let mut all = upstreams::providers(life).await;
    all.extend(registries::providers(life).await);
    all.extend(aws::providers(life).await);
    all.extend(clouds::providers(life).await);
    all
}

const LIFE: Duration = Duration::from_mins(10);

#[tokio::test]
async fn many_callers_ask_once_and_nobody_else() {
    for provided in providers(LIFE).await {
        let all = futures::future::join_all((0..100).map(|_| provided.serial())).await;
        assert!(
            all.iter().all(|serial| *serial == all[0]),
            "{}",
            provided.name
        );
        assert_eq!(provided.upstream.asked(), 1, "{}", provided.name);
        assert_eq!(provided.upstream.strayed(), 0, "{}", provided.name);
    }
}

#[tokio::test]
async fn whoever_asks_first_may_leave() {
    for provided in providers(LIFE).await {
        provided.upstream.hold(true);
        let source = Arc::clone(&provided.source);
        let host = provided.host.clone();
        let first = tokio::spawn(async move { ask(source.as_ref(), &host, None).await });
        while provided.upstream.asked() == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        provided.upstream.hold(false);
        provided.serial().await;
        assert_eq!(provided.upstream.asked(), 1, "{}", provided.name);
    }
}

#[tokio::test]
async fn what_nears_its_end_is_renewed_while_it_is_handed_out() {
    for provided in providers(LIFE).await {
        let first = provided.serial().await;
        provided.turn(provided.life * 95 / 100);
        provided.upstream.hold(true);
        assert_eq!(provided.serial().await, first, "{}", provided.name);
        while provided.upstream.asked() < 2 {
            tokio::task::yield_now().await;
        }
        provided.upstream.hold(false);
        provided.turn(provided.life / 10);
        assert_ne!(provided.serial().await, first, "{}", provided.name);
        assert_eq!(provided.upstream.asked(), 2, "{}", provided.name);
    }
}

#[tokio::test]
async fn what_lives_for_a_second_is_handed_out_and_asked_for_again() {
    for provided in providers(Duration::from_secs(1)).await {
        let first = provided.serial().await;
        provided.turn(provided.life + Duration::from_secs(1));
        assert_ne!(provided.serial().await, first, "{}", provided.name);
    }
}

/// What is left of what was given, in seconds of our clock.
fn seconds_left(provided: &Provided, auth: &RegistryAuth) -> i64 {
    let end = auth.not_after.expect("an end");
    end.duration_since(provided.clock.now()).as_secs()
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_minutes_leaves_a_life_as_it_is() {
    let off = Duration::from_mins(5);
    for is_ours in [true, false] {
        for is_ahead in [true, false] {
            for provided in providers(LIFE).await {
                match (is_ours, is_ahead) {
                    (true, true) => provided.clock.turn(off),
                    (true, false) => provided.clock.turn_back(off),
                    (false, _) => {
                        let off = jiff::SignedDuration::try_from(off).expect("five minutes");
                        provided.upstream.turn(if is_ahead { off } else { -off });
                    }
                }
                let auth = provided.asked().await.expect(provided.name);
                let left = seconds_left(&provided, &auth);
                let life = provided.life.as_secs().cast_signed();
                assert!(
                    left > life * 2 / 5 && left <= life,
                    "{} {left}",
                    provided.name
                );
            }
        }
    }
}

/// A reply that is long in coming is no clock that goes wrong, and no longer life.
#[tokio::test]
async fn a_slow_reply_is_waited_for_and_believed() {
    let slow = Duration::from_secs(20);
    for provided in providers(LIFE).await {
        provided.upstream.hold(true);
        let source = Arc::clone(&provided.source);
        let host = provided.host.clone();
        let asking = tokio::spawn(async move { ask(source.as_ref(), &host, None).await });
        while provided.upstream.asked() == 0 {
            tokio::task::yield_now().await;
        }
        provided.turn(slow);
        provided.upstream.hold(false);
        let auth = asking.await.expect("a task").expect(provided.name);
        let left = seconds_left(&provided, &auth);
        let life = provided.life.as_secs().cast_signed();
        assert!(left > life - 60 && left <= life, "{} {left}", provided.name);
        assert_eq!(provided.serial().await, auth.serial, "{}", provided.name);
        assert_eq!(provided.upstream.asked(), 1, "{}", provided.name);
    }
}

#[tokio::test]
async fn refusals_are_told_apart_and_show_no_secret() {
    let cases = [
        (Says::Wrong, "bad credential"),
        (Says::Forbidden, "no permission"),
        (Says::Limited(7), "limited"),
        (Says::Status(500), "unreachable"),
        (Says::Body("<html>garbage".to_owned()), "unreachable"),
        (Says::Body("x".repeat(10_000_000)), "unreachable"),
    ];
    for (says, kind) in cases {
        for provided in providers(LIFE).await {
            if !provided.upstream.can_say(&says) {
                continue;
            }
            provided.upstream.say(Some(says.clone()));
            let error = provided.asked().await.expect_err(provided.name);
            let told = match &error {
                AuthError::BadCredential { .. } => "bad credential",
                AuthError::NoPermission { .. } => "no permission",
                AuthError::RateLimited { retry_after, .. } => {
                    assert_eq!(*retry_after, Some(Duration::from_secs(7)));
                    "limited"
                }
                AuthError::Unreachable { .. } => "unreachable",
                _ => "another",
            };
            assert_eq!(told, kind, "{}: {error}", provided.name);
            let shown = format!("{error} {error:?} {:?}", provided.source);
            for secret in [PASSWORD, KEY, SECRET, ACCESS, "garbage", "xxxx"] {
                assert!(!shown.contains(secret), "{}: {shown}", provided.name);
            }
            let asked = provided.upstream.asked();
            let again = provided.asked().await.is_err();
            let is_asked_again = provided.upstream.asked() > asked;
            assert!(again, "{}", provided.name);
            assert_eq!(is_asked_again, kind == "unreachable", "{}", provided.name);
        }
    }
}

/// Registries without a token service: what each says at its door.
const DOORS: [(&str, &str); 4] = [
    ("Debian's", r#"Basic realm="basic realm""#),
    (
        "Nexus",
        r#"BASIC realm="Sonatype Nexus Repository Manager""#,
    ),
    ("behind a proxy", r#"Negotiate, Basic realm="acme""#),
    ("taciturn", ""),
];

#[tokio::test]
async fn a_password_is_handed_out_as_it_is_where_nobody_makes_a_token_of_it() {
    for (name, challenge) in DOORS {
        let sim = RegistrySim::with_login(Login::Basic).await;
        sim.push(REPOSITORY, "latest", &image());
        sim.faults(|faults| faults.challenge = Some(challenge.to_owned()));
        let clock = HandClock::new();
        let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as Arc<dyn Clock>);
        let source = exchange.source(endpoint(sim.host()), basic(PASSWORD));
        let asked = (0..100).map(|_| ask(source.as_ref(), sim.host(), None));
        for auth in futures::future::join_all(asked).await {
            let auth = auth.unwrap_or_else(|error| panic!("{name}: {error}"));
            let is_stored = matches!(&auth.scheme, AuthScheme::Basic { username, password }
                if username == USERNAME && password.expose_secret() == PASSWORD);
            assert!(is_stored && auth.not_after.is_none(), "{name}: {auth:?}");
        }
        // Which scheme it speaks, as it is on loopback, and what it demands.
        let before = sim.registry().read();
        assert_eq!(sim.registry().paths(), ["GET /v2/"; 2], "{name}");
        assert_eq!(before.credential_bytes, 0, "{name}");
        clock.turn(Duration::from_hours(24));
        let again = ask(source.as_ref(), sim.host(), None).await;
        again.expect(name);
        assert_eq!(sim.registry().read(), before, "{name}");
        pull(sim.host(), source).await.expect(name);
        assert_eq!(sim.token_requests().read().requests, 0, "{name}");
    }
}

#[tokio::test]
async fn a_token_that_was_given_is_handed_out_as_it_is() {
    let token = Credential::registry_token("ready-made-token".to_owned().into());
    let provided = stored("given token", token, LIFE).await;
    let first = provided.serial().await;
    provided.turn(Duration::from_hours(24));
    assert_eq!(provided.serial().await, first);
    assert_eq!(
        (provided.upstream.asked(), provided.upstream.strayed()),
        (0, 0)
    );
}
