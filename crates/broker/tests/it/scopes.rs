//! Which credential an image is read with.

use broker::{BrokerError, CredentialChoice, Rung};
use credential::auth::{AuthError, AuthScheme};
use reference::Reference;
use registry_sim::{Login, Options, Realm};

use crate::support::{PASSWORD, REPOSITORY, Stage, ask, image_at, request, scope, sim, sim_with};

#[tokio::test]
async fn the_most_specific_scope_wins() {
    let sim = sim(Login::Basic).await;
    let elsewhere = sim_with(Options {
        login: Login::Basic,
        ..Options::default()
    })
    .await;
    let host = sim.host();
    let stage = Stage::new().await;
    let team = format!("{host}/acme");
    let near_miss = format!("{host}/acme/ap");
    for text in [host, &team, &near_miss, elsewhere.host()] {
        stage.login(text, PASSWORD).await.unwrap();
    }
    let image = image_at(host);
    let explained = stage.broker.explain(stage.workspace, &image).await.unwrap();
    assert_eq!(explained.image, image.canonical());
    assert_eq!(explained.chosen.unwrap().scope, scope(&team));
    assert_eq!(explained.why, "the most specific of 2 that cover the image");
    let mut lost: Vec<_> = explained
        .lost
        .iter()
        .map(|lost| (lost.scope.to_string(), lost.why.clone()))
        .collect();
    lost.sort();
    let mut expected = [
        (
            host.to_owned(),
            format!("covers the image too, and {team} is more specific"),
        ),
        (near_miss, format!("does not cover repository {REPOSITORY}")),
        (
            elsewhere.host().to_owned(),
            format!("is for {}, another registry", elsewhere.host()),
        ),
    ];
    expected.sort();
    assert_eq!(lost, expected);

    let lease = stage.lease(&image).await;
    assert_eq!(lease.scope(), Some(&scope(&team)));
    ask(&lease).await.unwrap();
    assert_eq!(
        (lease.rung(), lease.version()),
        (Some(Rung::Basic), Some(1))
    );
    let other = Reference::parse(&format!("{host}/other/app")).unwrap();
    assert_eq!(stage.lease(&other).await.scope(), Some(&scope(host)));
}

#[tokio::test]
async fn what_was_asked_for_is_used_or_refused() {
    let sim = sim(Login::Basic).await;
    let host = sim.host();
    let stage = Stage::new().await;
    let elsewhere = format!("{host}/elsewhere");
    for text in [host, &format!("{host}/acme"), &elsewhere] {
        stage.login(text, PASSWORD).await.unwrap();
    }
    let image = image_at(host);
    let lease = |choice| stage.broker.lease(stage.workspace, &image, choice);
    let wide = lease(CredentialChoice::Scope(scope(host))).await.unwrap();
    assert_eq!(wide.scope(), Some(&scope(host)));
    ask(&wide).await.unwrap();

    let error = lease(CredentialChoice::Scope(scope(&elsewhere)))
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::OtherScope { .. }), "{error}");
    assert_eq!(error.kind(), "bad_input");
    let unknown = scope(&format!("{host}/acme/app"));
    let error = lease(CredentialChoice::Scope(unknown)).await.unwrap_err();
    assert!(matches!(error, BrokerError::NoCredential { .. }), "{error}");
    let foreign = scope("registry.example");
    let error = lease(CredentialChoice::Scope(foreign)).await.unwrap_err();
    assert!(matches!(error, BrokerError::OtherScope { .. }), "{error}");
}

/// No credential, or none wanted: nothing is sent, whatever is stored.
#[tokio::test]
async fn none_is_anonymous() {
    let closed = sim(Login::Basic).await;
    let public = sim(Login::PublicBearer).await;
    let stage = Stage::new().await;
    stage.login(closed.host(), PASSWORD).await.unwrap();
    let sent = closed.registry().read().credential_bytes;

    let image = image_at(closed.host());
    let lease = stage
        .broker
        .lease(stage.workspace, &image, CredentialChoice::None)
        .await
        .unwrap();
    assert_eq!(lease.scope(), None);
    let auth = ask(&lease).await;
    let anonymous = matches!(
        &auth,
        Ok(auth) if matches!(auth.scheme, AuthScheme::Anonymous)
    );
    let told = matches!(&auth, Err(AuthError::NoPermission { .. }));
    assert!(anonymous || told, "{auth:?}");
    assert_eq!(closed.registry().read().credential_bytes, sent);
    assert_eq!(stage.audited("open").await, 0);

    // An anonymous token is still a token that the registry wants to see.
    let lease = stage.lease(&image_at(public.host())).await;
    ask(&lease).await.unwrap();
    assert_eq!((lease.scope(), lease.version()), (None, None));
    let explained = stage
        .broker
        .explain(stage.workspace, &image_at(public.host()))
        .await
        .unwrap();
    assert_eq!(
        (explained.chosen, explained.rung.as_deref()),
        (None, Some("anonymous"))
    );
    assert_eq!(explained.lost.len(), 1);
}

/// Registries that only look like the one that was logged in to get nothing.
#[tokio::test]
async fn look_alikes_are_other_registries() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let port = sim.host().rsplit_once(':').unwrap().1;
    for name in [
        format!("{}.evil.example/{REPOSITORY}", sim.host().replace(':', ".")),
        format!("evil.example/{}/{REPOSITORY}", sim.host().replace(':', "-")),
        format!("localhost:{port}/{REPOSITORY}"),
        format!("127.0.0.1:1/{REPOSITORY}"),
    ] {
        let image = Reference::parse(&name).unwrap();
        let lease = stage.lease(&image).await;
        assert_eq!(lease.scope(), None, "{name}");
    }
}

#[tokio::test]
async fn workspaces_do_not_share_credentials() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let other = ids::WorkspaceName::parse("other").unwrap();
    let other = stage.broker.workspace(&other).await.unwrap();
    stage
        .broker
        .login(other, request(sim.host(), PASSWORD))
        .await
        .unwrap();
    assert_eq!(stage.lease(&image_at(sim.host())).await.scope(), None);
    assert!(stage.broker.list(stage.workspace).await.unwrap().is_empty());
}
