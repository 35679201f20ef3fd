//! Checking stored credentials.

use std::time::Duration;

use broker::BrokerError;
use credential::Credential;
use registry_sim::{Login, Realm};

use crate::support::{PASSWORD, REPOSITORY, Stage, request, scope, sim};

#[tokio::test]
async fn a_check_says_how_each_credential_is() {
    let good = sim(Login::Basic).await;
    let bad = sim(Login::Bearer(Realm::SameHost)).await;
    let stage = Stage::new().await;
    stage.login(good.host(), PASSWORD).await.unwrap();
    stage.login(bad.host(), PASSWORD).await.unwrap();
    bad.set_password("second");
    let reports = stage.broker.check(stage.workspace, None).await.unwrap();
    assert_eq!(reports.len(), 2);
    for report in &reports {
        let expected = if report.scope == scope(good.host()) {
            "ok"
        } else {
            "bad_credential"
        };
        assert_eq!(report.state, expected);
        assert_eq!(report.message.is_none(), expected == "ok");
        assert_eq!(report.hint.is_none(), expected == "ok");
    }
    let one = stage
        .broker
        .check(stage.workspace, Some(&scope(good.host())))
        .await
        .unwrap();
    assert_eq!(one.len(), 1);
    let unknown = scope("registry.example");
    let error = stage
        .broker
        .check(stage.workspace, Some(&unknown))
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::NoCredential { .. }), "{error}");
}

/// Registries lock accounts: what was refused is not tried again at once.
#[tokio::test]
async fn a_refusal_stands_for_a_while() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    sim.set_password("second");
    let check = || stage.broker.check(stage.workspace, None);
    assert_eq!(check().await.unwrap()[0].state, "bad_credential");
    let asked = sim.registry().read().requests;
    for _ in 0..10 {
        assert_eq!(check().await.unwrap()[0].state, "bad_credential");
    }
    assert_eq!(sim.registry().read().requests, asked);
    stage.clock.turn(Duration::from_mins(1));
    sim.set_password(PASSWORD);
    assert_eq!(check().await.unwrap()[0].state, "ok");
}

#[tokio::test]
async fn a_credential_that_names_its_end_is_listed_as_expired_after_it() {
    let sim = sim(Login::Nobody).await;
    let stage = Stage::new().await;
    let end = stage.clock_now().as_second() + 600;
    let mut login = request(sim.host(), PASSWORD);
    login.credential = Credential::registry_token(jwt(end).into());
    let report = stage.broker.login(stage.workspace, login).await.unwrap();
    assert_eq!(report.not_after.map(jiff::Timestamp::as_second), Some(end));
    assert!(
        report
            .hints
            .iter()
            .any(|hint| hint.contains("cannot be renewed")),
        "{report:?}"
    );
    let state = || async { stage.broker.list(stage.workspace).await.unwrap()[0].state };
    assert_eq!(state().await, "expiring");
    stage.clock.turn(Duration::from_mins(11));
    assert_eq!(state().await, "expired");
}

impl Stage {
    fn clock_now(&self) -> jiff::Timestamp {
        use token_exchange::Clock;
        self.clock.now()
    }
}

pub(crate) fn jwt(end: i64) -> String {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let payload = format!("{{\"exp\":{end}}}");
    format!(
        "{}.{}.{}",
        part("{\"alg\":\"ES256\"}"),
        part(&payload),
        part("signature")
    )
}

#[tokio::test]
async fn pulls_that_are_left_are_told_before_there_are_none() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let scope = format!("{}/{REPOSITORY}", sim.host());
    stage.login(&scope, PASSWORD).await.unwrap();
    for (left, is_few) in [
        (None, false),
        (Some(50), false),
        (Some(5), true),
        (Some(0), true),
    ] {
        sim.faults(|faults| faults.pulls_left = left);
        let reports = stage.broker.check(stage.workspace, None).await.unwrap();
        let report = &reports[0];
        assert_eq!(
            (report.state, report.hint.is_some()),
            ("ok", is_few),
            "{report:?}"
        );
        let told = left.map(|left| {
            format!("{left} of 100 pulls left within 360 minutes, counted for 127.0.0.1")
        });
        assert_eq!(report.message, told);
    }
}
