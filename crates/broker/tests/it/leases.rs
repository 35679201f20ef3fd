//! What a lease answers as versions, tokens and registries come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use broker::{CredentialChoice, Lease, Rung};
use credential::ExposeSecret;
use credential::auth::{
    AuthError, AuthRequest, AuthScheme, AuthSource, LocationRequest, ReadFrom, RegistryAuth,
};
use reference::{Digest, Registry};
use registry_sim::debian::DebianRegistry;
use registry_sim::{Login, Options, Realm};

use crate::support::{
    BASIC, PASSWORD, REPOSITORY, Stage, USERNAME, ask, ask_after, image, image_at, refusal,
    request, scope, sim, sim_with,
};

pub(crate) fn password(auth: &RegistryAuth) -> &str {
    match &auth.scheme {
        AuthScheme::Basic { password, .. } => password.expose_secret(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rotation_by_another_process_is_followed_at_the_next_question() {
    let mut registry = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    registry.push(REPOSITORY, "latest", &image()).await;
    let stage = Stage::new().await;
    stage.login(registry.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(registry.host())).await;
    assert_eq!(password(&ask(&lease).await.unwrap()), PASSWORD);

    registry.set_password("second");
    let other = stage.again().await;
    let login = other.login(stage.workspace, request(registry.host(), "second"));
    assert_eq!(login.await.unwrap().version, 2);
    let host = scope(registry.host());
    let live = stage.broker.history(stage.workspace, &host).await.unwrap();
    assert_eq!(
        (live[1].version, live[1].leases, live[1].retired_at),
        (1, 1, None)
    );

    assert_eq!(password(&ask(&lease).await.unwrap()), "second");
    assert_eq!(lease.version(), Some(2));
    let history = stage.broker.history(stage.workspace, &host).await.unwrap();
    let shown: Vec<_> = history
        .iter()
        .map(|row| (row.version, row.leases, row.retired_at.is_some()))
        .collect();
    assert_eq!(
        shown,
        [(2, 1, false), (1, 0, true)],
        "the old one retired with its last lease"
    );
    lease.end().await.unwrap();
    let history = stage.broker.history(stage.workspace, &host).await.unwrap();
    assert_eq!(history[0].leases, 0);
}

#[tokio::test]
async fn a_logout_revokes_at_once_and_for_good() {
    for login in [Login::Basic, Login::Bearer(Realm::SameHost)] {
        let sim = sim(login).await;
        let stage = Stage::new().await;
        stage.login(sim.host(), PASSWORD).await.unwrap();
        let lease = stage.lease(&image_at(sim.host())).await;
        let held = ask(&lease).await.unwrap();
        let other = stage.again().await;
        other
            .logout(stage.workspace, &scope(sim.host()))
            .await
            .unwrap();
        let error = ask(&lease).await.unwrap_err();
        assert!(matches!(error, AuthError::Revoked { .. }), "{error}");
        let error = ask_after(&lease, Some(refusal(&held, BASIC)))
            .await
            .unwrap_err();
        assert!(matches!(error, AuthError::Revoked { .. }), "{error}");
        // What is given later is another credential, for leases that begin later.
        other
            .login(stage.workspace, request(sim.host(), PASSWORD))
            .await
            .unwrap();
        let error = ask(&lease).await.unwrap_err();
        assert!(matches!(error, AuthError::Revoked { .. }), "{error}");
        ask(&stage.lease(&image_at(sim.host())).await)
            .await
            .unwrap();
    }
}

/// The secret is opened to mint, not to answer.
#[tokio::test]
async fn a_token_is_minted_once_and_held() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let before = stage.broker.token_requests();
    let lease = stage.lease(&image_at(sim.host())).await;
    assert_eq!(
        stage.audited("open").await,
        0,
        "a lease by itself opens nothing"
    );
    let first = ask(&lease).await.unwrap();
    for _ in 0..50 {
        assert_eq!(ask(&lease).await.unwrap().serial, first.serial);
    }
    assert_eq!(stage.broker.token_requests() - before, 1);
    assert_eq!(stage.audited("open").await, 1);
    assert_eq!(lease.rung(), Some(Rung::RepositoryBearer));
    assert_eq!(lease.not_after(), first.not_after);

    stage.clock.turn(Duration::from_mins(6));
    let second = ask(&lease).await.unwrap();
    assert_ne!(second.serial, first.serial);
    assert_eq!(stage.broker.token_requests() - before, 2);
    assert_eq!(stage.audited("open").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_starts_are_one_token_request() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let before = stage.broker.token_requests();
    let starts = (0..1000).map(|_| {
        let (broker, workspace) = (stage.broker.clone(), stage.workspace);
        let image = image_at(sim.host());
        tokio::spawn(async move {
            let lease = broker
                .lease(workspace, &image, CredentialChoice::Auto)
                .await
                .unwrap();
            ask(&lease).await.unwrap().serial
        })
    });
    let mut serials = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        serials.push(start.await.unwrap());
    }
    serials.dedup();
    assert_eq!(
        (serials.len(), stage.broker.token_requests() - before),
        (1, 1)
    );
    assert_eq!(stage.audited("open").await, 1);
    assert!(stage.broker.vault().verify(None).await.unwrap().is_sound());
}

#[tokio::test]
async fn an_expired_token_is_minted_anew_when_refused() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    let first = ask(&lease).await.unwrap();
    sim.expire_tokens();
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"sim\",scope=\"repository:{REPOSITORY}:pull\",\
         error=\"invalid_token\"",
        sim.host()
    );
    let second = ask_after(&lease, Some(refusal(&first, &challenge)))
        .await
        .unwrap();
    assert_ne!(second.serial, first.serial);
    // A refusal that was overtaken renews nothing.
    let third = ask_after(&lease, Some(refusal(&first, &challenge)))
        .await
        .unwrap();
    assert_eq!(third.serial, second.serial);
}

#[tokio::test]
async fn tokens_that_live_two_seconds_are_renewed() {
    let sim = sim_with(Options {
        login: Login::Bearer(Realm::SameHost),
        token_life: Duration::from_secs(2),
        ..Options::default()
    })
    .await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    let mut last = ask(&lease).await.unwrap();
    for _ in 0..4 {
        stage.clock.turn(Duration::from_secs(3));
        let next = ask(&lease).await.unwrap();
        assert_ne!(next.serial, last.serial);
        last = next;
    }
}

/// The registry refuses the newest version: said with scope and version, noted, and mended by a
/// login of another process.
#[tokio::test]
async fn a_refused_newest_version_is_told_and_mended() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    let first = ask(&lease).await.unwrap();
    sim.set_password("second");
    let error = ask_after(&lease, Some(refusal(&first, BASIC)))
        .await
        .unwrap_err();
    assert!(matches!(error, AuthError::BadCredential { .. }), "{error}");
    let expected = format!("credential for {}, version 1: ", sim.host());
    assert!(error.to_string().starts_with(&expected), "{error}");
    let row = stage.broker.list(stage.workspace).await.unwrap().remove(0);
    assert_eq!(row.state, "bad_credential");

    let other = stage.again().await;
    other
        .login(stage.workspace, request(sim.host(), "second"))
        .await
        .unwrap();
    // The refusal is of version 1 and says nothing about version 2.
    let second = ask_after(&lease, Some(refusal(&first, BASIC)))
        .await
        .unwrap();
    assert_eq!((password(&second), lease.version()), ("second", Some(2)));
}

#[tokio::test]
async fn a_registry_that_is_away_is_said_to_be_so() {
    let mut registry = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    let stage = Stage::new().await;
    stage.login(registry.host(), PASSWORD).await.unwrap();
    registry.stop();
    let lease = stage.lease(&image_at(registry.host())).await;
    let error = ask(&lease).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    registry.start_again();
    ask(&lease).await.unwrap();
}

#[tokio::test]
async fn a_lease_is_for_one_repository_of_one_registry() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    let own = Registry::parse(sim.host()).unwrap();
    let other = Registry::parse("registry.example").unwrap();
    for (registry, repository) in [
        (&own, "acme/other"),
        (&other, REPOSITORY),
        (&own, "acme/app/x"),
    ] {
        let request = AuthRequest {
            registry,
            repository,
            rejected: None,
        };
        let error = lease.auth(request).await.unwrap_err();
        assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    }
    assert_eq!(stage.audited("open").await, 0);
}

/// A lease that lapsed because nobody asked is begun anew by the next question.
#[tokio::test]
async fn a_lapsed_lease_is_begun_anew() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    ask(&lease).await.unwrap();
    stage.clock.turn(Duration::from_hours(1));
    let live = stage
        .broker
        .vault()
        .live_leases(stage.workspace)
        .await
        .unwrap();
    assert_eq!(live.len(), 0);
    ask(&lease).await.unwrap();
    let live = stage
        .broker
        .vault()
        .live_leases(stage.workspace)
        .await
        .unwrap();
    assert_eq!(live.len(), 1);
}

#[tokio::test]
async fn where_the_registry_redirects_a_reader_holds_no_auth() {
    let sim = sim_with(Options {
        login: Login::Bearer(Realm::SameHost),
        redirect_blobs: true,
        ..Options::default()
    })
    .await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let digest = Digest::parse(&image().layers[0].digest).unwrap();
    let (tokens, pulls) = (
        stage.broker.token_requests(),
        sim.registry().read().requests,
    );
    let mut urls = BTreeSet::new();
    let leases = futures::future::join_all((0..20).map(|_| async {
        let lease = stage.lease(&image_at(sim.host())).await;
        let found = lease.location(locating(&lease, &digest)).await.unwrap();
        let ReadFrom::Location(location) = found else {
            panic!("{found:?}");
        };
        (lease, location.url.expose_secret().to_owned())
    }));
    let mut last = None;
    for (lease, url) in leases.await {
        assert_eq!(lease.rung(), Some(Rung::SignedLocation));
        assert!(!url.contains(PASSWORD));
        urls.insert(url);
        last = Some(lease);
    }
    assert_eq!(urls.len(), 1, "all readers of a version have the same");
    assert_eq!(stage.broker.token_requests() - tokens, 1);
    let asked = sim.registry().read().requests - pulls;
    assert!(
        asked <= 5,
        "two probes, the door, its token and one question: {asked}"
    );

    let lease = last.expect("a lease");
    let blobs = [digest.clone()];
    let refused = lease.auth_for_worker(&blobs, asking(&lease)).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    let elsewhere = LocationRequest {
        repository: "acme/other",
        ..locating(&lease, &digest)
    };
    let error = lease.location(elsewhere).await.unwrap_err();
    assert!(matches!(error, AuthError::Refused { .. }), "{error}");
    let scope = scope(sim.host());
    stage.broker.logout(stage.workspace, &scope).await.unwrap();
    let error = lease.location(locating(&lease, &digest)).await.unwrap_err();
    assert!(matches!(error, AuthError::Revoked { .. }), "{error}");
}

#[tokio::test]
async fn what_the_registry_sends_itself_is_read_with_an_auth() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    let digest = Digest::parse(&image().layers[0].digest).unwrap();
    let found = lease.location(locating(&lease, &digest)).await.unwrap();
    assert!(matches!(found, ReadFrom::Registry), "{found:?}");
    let given = lease.auth_for_worker(&[digest], asking(&lease)).await;
    assert_eq!(password(&given.unwrap()), PASSWORD);
    assert_eq!(lease.rung(), Some(Rung::Basic));
}

fn asking(lease: &Lease) -> AuthRequest<'_> {
    AuthRequest {
        registry: lease.image().registry(),
        repository: REPOSITORY,
        rejected: None,
    }
}

fn locating<'a>(lease: &'a Lease, digest: &'a Digest) -> LocationRequest<'a> {
    LocationRequest {
        registry: lease.image().registry(),
        repository: REPOSITORY,
        digest,
        refused: None,
    }
}
