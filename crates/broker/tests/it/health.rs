//! Stored credentials are looked after without anybody's asking.

use std::time::Duration;

use broker::Health;
use credential::Credential;
use registry_sim::{Login, Realm};
use token_exchange::Clock;

use crate::check::jwt;
use crate::support::{PASSWORD, Stage, request, scope, sim};

/// What a round finds: from which state to which.
async fn round(stage: &Stage, health: &mut Health) -> Vec<(&'static str, &'static str)> {
    let changes = stage.broker.look_after(health).await.unwrap();
    changes
        .into_iter()
        .map(|change| (change.was, change.is))
        .collect()
}

#[tokio::test]
async fn what_stops_working_is_told_once_and_hardly_tried_again() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let mut health = Health::default();
    let asked = || sim.token_requests().read().requests;
    let before = asked();
    for _ in 0..3 {
        assert_eq!(round(&stage, &mut health).await, []);
    }
    assert_eq!(asked(), before, "it was checked when it was given");
    assert_eq!(health.counts()["ok"], 1);

    sim.set_password("another");
    stage.clock.turn(Duration::from_hours(7));
    assert_eq!(round(&stage, &mut health).await, [("ok", "bad_credential")]);
    let after = asked();
    for _ in 0..20 {
        stage.clock.turn(Duration::from_hours(1));
        assert_eq!(round(&stage, &mut health).await, []);
    }
    assert_eq!(asked(), after, "a wrong password is not tried all day");
    sim.set_password(PASSWORD);
    stage.clock.turn(Duration::from_hours(5));
    assert_eq!(round(&stage, &mut health).await, [("bad_credential", "ok")]);
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_again_soon() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let mut health = Health::default();
    sim.faults(|faults| faults.unavailable = u32::MAX);
    stage.clock.turn(Duration::from_hours(7));
    assert_eq!(round(&stage, &mut health).await, [("ok", "unreachable")]);
    sim.faults(|faults| faults.unavailable = 0);
    stage.clock.turn(Duration::from_mins(31));
    assert_eq!(round(&stage, &mut health).await, [("unreachable", "ok")]);
    let scope = scope(sim.host());
    stage.broker.logout(stage.workspace, &scope).await.unwrap();
    assert_eq!(round(&stage, &mut health).await, []);
    assert!(health.counts().is_empty());
}

#[tokio::test]
async fn what_ends_is_told_before_it_ends() {
    let sim = sim(Login::Nobody).await;
    let stage = Stage::new().await;
    let end = stage.clock.now() + Duration::from_hours(48);
    let mut login = request(sim.host(), PASSWORD);
    login.credential = Credential::registry_token(jwt(end.as_second()).into());
    stage.broker.login(stage.workspace, login).await.unwrap();
    let mut health = Health::default();
    assert_eq!(round(&stage, &mut health).await, []);
    stage.clock.turn(Duration::from_hours(25));
    assert_eq!(round(&stage, &mut health).await, [("ok", "expiring")]);
    stage.clock.turn(Duration::from_hours(24));
    assert_eq!(round(&stage, &mut health).await, [("expiring", "expired")]);
}

/// One account that many workspaces have stored is not locked by looking after all of them.
#[tokio::test]
async fn a_registry_that_refuses_is_left_alone_for_a_while() {
    let sim = sim(Login::Bearer(Realm::SameHost)).await;
    let stage = Stage::new().await;
    for name in ["one", "two", "three"] {
        let workspace = stage
            .broker
            .workspace(&name.parse().unwrap())
            .await
            .unwrap();
        let login = stage.broker.login(workspace, request(sim.host(), PASSWORD));
        login.await.unwrap();
    }
    sim.set_password("another");
    stage.clock.turn(Duration::from_hours(7));
    let mut health = Health::default();
    let asked = || sim.token_requests().read().requests;
    for told in 1..=3 {
        let before = asked();
        assert_eq!(round(&stage, &mut health).await, [("ok", "bad_credential")]);
        assert_eq!(round(&stage, &mut health).await, []);
        assert_eq!(
            (asked() - before, health.counts()["bad_credential"]),
            (1, told)
        );
        stage.clock.turn(Duration::from_mins(31));
    }
}
