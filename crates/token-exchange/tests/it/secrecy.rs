//! No secret in any `Debug` text or error, whatever goes wrong.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use registry_sim::{Faults, Login, Realm, RegistrySim};
use token_exchange::Identity;

use crate::support::{REPOSITORY, ask, basic, endpoint, exchange, image, pull};

const CANARY: &str = "canary-7f3a9d21-of-a-password";

/// The canary itself, and the middle of it in base64 at each of the three alignments.
fn traces() -> Vec<String> {
    let mut traces = vec![CANARY.to_owned()];
    for prefix in ["", "a", "ab"] {
        let encoded = BASE64_STANDARD.encode(format!("{prefix}{CANARY}"));
        traces.push(encoded[4..encoded.len() - 4].to_owned());
    }
    traces
}

fn assert_clean(what: &str, text: &str) {
    for trace in traces() {
        assert!(!text.contains(&trace), "{what} shows a secret: {text}");
    }
    assert!(!text.contains("sim-token-"), "{what} shows a token: {text}");
}

#[tokio::test]
async fn nothing_shows_a_secret() {
    let faults: [fn(&mut Faults); 4] = [
        |faults| faults.echo_authorization = true,
        |faults| faults.unavailable = 100,
        |faults| faults.token_unavailable = 100,
        |faults| faults.outage = true,
    ];
    for login in [
        Login::Basic,
        Login::Bearer(Realm::SameHost),
        Login::Bearer(Realm::OtherName),
    ] {
        for (number, fault) in faults.into_iter().enumerate() {
            let sim = RegistrySim::with_login(login.clone()).await;
            sim.push(REPOSITORY, "latest", &image());
            sim.faults(fault);
            let exchange = exchange();
            let identity = Identity {
                key: "ws/secret/v1".to_owned(),
                ..basic(CANARY)
            };
            let source = exchange.source(endpoint(sim.host()), identity.clone());
            let auth = ask(source.as_ref(), sim.host(), None).await;
            let pulled = pull(sim.host(), source.clone()).await;
            let checked = exchange.check(endpoint(sim.host()), identity.clone(), Some(REPOSITORY));
            let checked = checked.await;
            let what = format!("{login:?} with fault {number}");
            assert!(pulled.is_err() && checked.is_err(), "{what}");
            for text in [
                format!("{identity:?} {exchange:?} {source:?} {auth:?}"),
                format!("{pulled:?} {checked:?}"),
                pulled.unwrap_err().to_string(),
                checked.unwrap_err().to_string(),
            ] {
                assert_clean(&what, &text);
            }
        }
    }
}

#[tokio::test]
async fn a_minted_token_is_not_shown_either() {
    let sim = RegistrySim::with_login(Login::Bearer(Realm::SameHost)).await;
    sim.push(REPOSITORY, "latest", &image());
    sim.set_password(CANARY);
    let exchange = exchange();
    let source = exchange.source(endpoint(sim.host()), basic(CANARY));
    let auth = ask(source.as_ref(), sim.host(), None).await.expect("auth");
    assert_clean("auth", &format!("{auth:?} {source:?} {exchange:?}"));
    sim.faults(|faults| faults.echo_authorization = true);
    sim.expire_tokens();
    sim.set_password("changed-password");
    let error = pull(sim.host(), source).await.unwrap_err();
    assert_clean("error", &format!("{error} {error:?}"));
}
