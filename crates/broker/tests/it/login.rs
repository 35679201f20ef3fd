//! Logging in and out.

use broker::{BrokerError, LoginRequest, Proven, SecretState};
use control_store::RegistrySettings;
use credential::{Credential, SecretString};
use registry_sim::debian::DebianRegistry;
use registry_sim::{Authority, Login, Realm};

use crate::support::{
    PASSWORD, REPOSITORY, Stage, USERNAME, basic, image, image_at, keeping_request, request, scope,
    sim,
};

#[tokio::test]
async fn a_bad_password_stores_nothing() {
    let htpasswd = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    let token = DebianRegistry::token(USERNAME, PASSWORD).await;
    let stage = Stage::new().await;
    for host in [htpasswd.host(), token.host()] {
        let error = stage.login(host, "wrong-password").await.unwrap_err();
        assert_eq!(error.kind(), "bad_credential", "{error:?}");
        let hint = format!("run `holdfast login {host}` with a valid credential");
        assert_eq!(error.hint(), Some(hint));
        assert!(stage.broker.list(stage.workspace).await.unwrap().is_empty());
        assert!(
            stage
                .broker
                .store()
                .settings(stage.workspace)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(stage.audited("seal").await, 0);
    }
}

/// A build gives its credential each time.
#[tokio::test]
async fn a_credential_that_comes_again_is_checked_and_makes_no_version() {
    let registry = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    let stage = Stage::new().await;
    let host = registry.host();
    let own_service = RegistrySettings {
        token_service: Some("auth.example".to_owned()),
        ..RegistrySettings::default()
    };
    let table = [
        (RegistrySettings::default(), PASSWORD, Some((1, true))),
        (RegistrySettings::default(), PASSWORD, Some((1, false))),
        (RegistrySettings::default(), "wrong-password", None),
        (own_service.clone(), PASSWORD, Some((2, true))),
        (own_service, PASSWORD, Some((2, false))),
    ];
    for (settings, password, expected) in table {
        let request = LoginRequest {
            settings,
            ..request(host, password)
        };
        let report = stage.broker.login_with(stage.workspace, request, "build");
        let report = report.await.ok();
        let found = report.map(|report| (report.version, report.is_new));
        assert_eq!(found, expected, "{password}");
        assert_eq!(stage.audited("open").await, 0);
    }
    assert_eq!(stage.audited("seal").await, 2);
}

/// What cannot be asked is not stored either.
#[tokio::test]
async fn a_registry_that_is_away_stores_nothing() {
    let mut registry = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    registry.stop();
    let stage = Stage::new().await;
    let error = stage.login(registry.host(), PASSWORD).await.unwrap_err();
    assert_eq!(error.kind(), "unreachable", "{error:?}");
    assert_eq!(stage.audited("seal").await, 0);
}

#[tokio::test]
async fn a_good_one_is_sealed_with_what_was_proven() {
    let htpasswd = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    let token = DebianRegistry::token(USERNAME, PASSWORD).await;
    let stage = Stage::new().await;
    for (registry, rung) in [
        (&htpasswd, "read through the broker"),
        (&token, "repository bearer"),
    ] {
        registry.push(REPOSITORY, "latest", &image()).await;
        let host = registry.host();
        let narrow = format!("{host}/{REPOSITORY}");
        for (text, proven) in [(host, Proven::Ping), (narrow.as_str(), Proven::Repository)] {
            let login = keeping_request(text, PASSWORD);
            let report = stage.broker.login(stage.workspace, login).await.unwrap();
            assert_eq!((report.version, report.proven), (1, proven), "{text}");
            assert_eq!(report.secret_name, scope(text).secret_name());
            assert_eq!(report.hints, [""; 0], "{text}");
            let rows = stage.broker.list(stage.workspace).await.unwrap();
            let row = rows.iter().find(|row| row.scope == scope(text)).unwrap();
            assert_eq!(
                (row.kind.as_str(), row.state),
                ("basic", SecretState::Ok.as_str())
            );
            assert_eq!(row.proven.as_deref(), Some(proven.as_str()));
        }
        let explained = stage
            .broker
            .explain(stage.workspace, &image_at(host))
            .await
            .unwrap();
        assert_eq!(explained.rung.as_deref(), Some(rung));
        assert_eq!(
            explained.token_service.is_some(),
            rung == "repository bearer"
        );
    }
}

#[tokio::test]
async fn a_login_says_which_nearer_scopes_keep_their_own() {
    let registry = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let host = registry.host();
    let scopes = [
        format!("{host}/acme/app"),
        format!("{host}/acmes/app"),
        format!("{host}/acme"),
    ];
    for (scope, hidden) in scopes.iter().zip([None, None, Some(&scopes[0])]) {
        let hints = stage.login(scope, PASSWORD).await.unwrap().hints;
        let told = hints.iter().find(|hint| hint.contains("still read"));
        assert_eq!(told.is_some(), hidden.is_some(), "{scope}: {hints:?}");
        if let (Some(told), Some(hidden)) = (told, hidden) {
            assert!(
                told.contains(hidden.as_str()) && !told.contains("acmes"),
                "{told}"
            );
        }
    }
    let again = stage.login(&scopes[2], PASSWORD).await.unwrap();
    assert!(
        again.hints.iter().any(|hint| hint.contains("still read")),
        "{:?}",
        again.hints
    );
}

#[tokio::test]
async fn what_a_login_could_not_prove_is_said() {
    let open = sim(Login::Nobody).await;
    let closed = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let report = stage.login(open.host(), PASSWORD).await.unwrap();
    assert!(
        report.hints[0].contains("lets everyone in"),
        "{:?}",
        report.hints
    );
    let below = format!("{}/acme/not-there", closed.host());
    let report = stage.login(&below, PASSWORD).await.unwrap();
    assert_eq!(report.proven, Proven::Ping);
    assert!(
        report.hints[0].contains("knows no repository acme/not-there"),
        "{:?}",
        report.hints
    );
}

#[tokio::test]
async fn logging_in_again_is_the_next_version() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    assert_eq!(stage.login(sim.host(), PASSWORD).await.unwrap().version, 1);
    sim.set_password("second");
    let error = stage.login(sim.host(), PASSWORD).await.unwrap_err();
    assert_eq!(error.kind(), "bad_credential");
    assert_eq!(stage.login(sim.host(), "second").await.unwrap().version, 2);
    let host = scope(sim.host());
    let history = stage.broker.history(stage.workspace, &host).await.unwrap();
    let shown: Vec<_> = history
        .iter()
        .map(|row| (row.version, row.current, row.retired_at.is_some()))
        .collect();
    assert_eq!(shown, [(2, true, false), (1, false, true)]);

    let removed = stage.broker.logout(stage.workspace, &host).await.unwrap();
    assert_eq!(removed.version, 2);
    assert!(stage.broker.list(stage.workspace).await.unwrap().is_empty());
    assert!(
        stage
            .broker
            .store()
            .settings(stage.workspace)
            .await
            .unwrap()
            .is_empty()
    );
    let error = stage
        .broker
        .logout(stage.workspace, &host)
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::NoCredential { .. }), "{error}");
    assert_eq!(error.kind(), "not_found");
    let history = stage.broker.history(stage.workspace, &host).await.unwrap();
    assert_eq!(history.len(), 2, "history stays");
}

#[tokio::test]
async fn rotating_keeps_user_name_and_settings() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let host = scope(sim.host());
    let secret = |text: &str| SecretString::from(text.to_owned());
    let rotate = async |text: &str| {
        let (broker, workspace) = (&stage.broker, stage.workspace);
        let trying = broker.try_rotation(workspace, &host, None, secret(text));
        trying.await?.commit().await
    };
    let error = rotate(PASSWORD).await.unwrap_err();
    assert!(matches!(error, BrokerError::NoCredential { .. }), "{error}");

    let mut login = request(sim.host(), PASSWORD);
    login.settings.plain_http = true;
    stage.broker.login(stage.workspace, login).await.unwrap();
    let error = rotate("wrong").await.unwrap_err();
    assert_eq!(error.kind(), "bad_credential");
    sim.set_password("second");
    assert_eq!(rotate("second").await.unwrap().version, 2);
    let explained = stage
        .broker
        .explain(stage.workspace, &image_at(sim.host()))
        .await
        .unwrap();
    assert!(explained.settings.plain_http);
}

#[tokio::test]
async fn what_needs_no_login_and_what_cannot_be_used_is_refused() {
    let stage = Stage::new().await;
    let mut public = request("127.0.0.1:1", PASSWORD);
    public.credential = Credential::public();
    let error = stage
        .broker
        .login(stage.workspace, public)
        .await
        .unwrap_err();
    assert!(
        matches!(error, BrokerError::NothingToSeal { .. }),
        "{error}"
    );

    for pem in [
        b"no certificate".to_vec(),
        b"\xff-----BEGIN CERTIFICATE-----".to_vec(),
    ] {
        let mut login = request("127.0.0.1:1", PASSWORD);
        login.settings.ca_pem = Some(pem);
        let error = stage
            .broker
            .login(stage.workspace, login)
            .await
            .unwrap_err();
        assert!(matches!(error, BrokerError::BadCa { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_registry_of_its_own_authority_needs_its_certificate() {
    let registry = DebianRegistry::token_tls(USERNAME, PASSWORD, Authority::new()).await;
    registry.push(REPOSITORY, "latest", &image()).await;
    let stage = Stage::new().await;
    let error = stage.login(registry.host(), PASSWORD).await.unwrap_err();
    assert_eq!(error.kind(), "tls", "{error:?}");
    let mut login = request(registry.host(), PASSWORD);
    login.settings = RegistrySettings {
        ca_pem: registry.ca_pem().map(|pem| pem.as_bytes().to_vec()),
        ..RegistrySettings::default()
    };
    stage.broker.login(stage.workspace, login).await.unwrap();
    let lease = stage.lease(&image_at(registry.host())).await;
    assert!(lease.endpoint().ca_pem.is_some());
    crate::support::ask(&lease).await.unwrap();
    assert_eq!(lease.rung().unwrap().as_str(), "repository bearer");
}

/// A realm elsewhere sees nothing until the user has allowed it.
#[tokio::test]
async fn a_token_service_elsewhere_must_be_allowed() {
    let sim = sim(Login::Bearer(Realm::OtherName)).await;
    let stage = Stage::new().await;
    let error = stage.login(sim.host(), PASSWORD).await.unwrap_err();
    assert_eq!(error.kind(), "refused", "{error:?}");
    assert_eq!(sim.realm().read().credential_bytes, 0);
    assert_eq!(stage.audited("seal").await, 0);

    let mut login = request(sim.host(), PASSWORD);
    login.credential = basic(PASSWORD);
    login.settings.token_service = Some(sim.realm_host().to_owned());
    let report = stage.broker.login(stage.workspace, login).await.unwrap();
    assert_eq!(report.token_service.as_deref(), Some(sim.realm_host()));
    let lease = stage.lease(&image_at(sim.host())).await;
    crate::support::ask(&lease).await.unwrap();
}
