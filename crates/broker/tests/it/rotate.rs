//! A new secret is tried wherever the old one is in use, and can be taken back.

use broker::{BrokerError, CredentialChoice};
use credential::SecretString;
use registry_sim::Login;

use crate::leases::password;
use crate::support::{PASSWORD, Stage, ask, image_at, scope, sim};

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

#[tokio::test]
async fn a_rotation_that_reads_what_is_in_use_is_taken_and_can_be_undone() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    ask(&lease).await.unwrap();
    let (broker, workspace) = (&stage.broker, stage.workspace);
    let scope = scope(sim.host());

    sim.set_password("second");
    let rotation = broker.try_rotation(workspace, &scope, None, secret("second"));
    let rotation = rotation.await.unwrap();
    let tried: Vec<_> = rotation
        .trials()
        .iter()
        .map(|trial| &trial.breaks)
        .collect();
    assert_eq!(tried, [&None]);
    let row = broker.list(workspace).await.unwrap().remove(0);
    assert_eq!(row.version, 1, "a trial changes nothing");
    assert_eq!(rotation.commit().await.unwrap().version, 2);

    // The lease is on version 1 until it asks.
    sim.set_password(PASSWORD);
    let undone = broker.try_undo(workspace, &scope).await.unwrap();
    assert_eq!(undone.commit().await.unwrap().version, 3);
    assert_eq!(password(&ask(&lease).await.unwrap()), PASSWORD);
    lease.end().await.unwrap();
    let error = broker.try_undo(workspace, &scope).await.unwrap_err();
    assert!(
        matches!(error, BrokerError::NothingBefore { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_rotation_would_break_is_named_and_nothing_is_taken() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let gone = format!("{}/acme/gone:latest", sim.host());
    let gone = reference::Reference::parse(&gone).unwrap();
    let (broker, workspace) = (&stage.broker, stage.workspace);
    let _other = stage.lease(&image_at(sim.host())).await;
    let leasing = broker.lease(workspace, &gone, CredentialChoice::Auto);
    let _gone = leasing.await.unwrap();
    let scope = scope(sim.host());
    sim.set_password("second");
    let trying = || broker.try_rotation(workspace, &scope, None, secret("second"));
    let rotation = trying().await.unwrap();
    let tried: Vec<_> = rotation
        .trials()
        .iter()
        .map(|trial| {
            (
                trial.image.ends_with("acme/gone:latest"),
                trial.breaks.is_some(),
            )
        })
        .collect();
    assert_eq!(tried, [(false, false), (true, true)]);
    let error = rotation.commit().await.unwrap_err();
    assert!(
        matches!(error, BrokerError::WouldBreak { count: 1, .. }),
        "{error}"
    );
    let row = broker.list(workspace).await.unwrap().remove(0);
    assert_eq!(row.version, 1);

    // Somebody else was faster.
    let rotation = trying().await.unwrap();
    trying().await.unwrap().commit_all_the_same().await.unwrap();
    let error = rotation.commit_all_the_same().await.unwrap_err();
    assert!(
        matches!(error, BrokerError::ChangedMeanwhile { .. }),
        "{error}"
    );

    let wrong = broker.try_rotation(workspace, &scope, None, secret("wrong"));
    let error = wrong.await.unwrap_err();
    assert!(matches!(error, BrokerError::Auth { .. }), "{error}");
}

/// A credential that was taken back meanwhile stays away, and one that was given anew is another.
#[tokio::test]
async fn a_rotation_takes_the_place_of_what_it_was_tried_beside_alone() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let (broker, workspace) = (&stage.broker, stage.workspace);
    let scope = scope(sim.host());
    let trying = || broker.try_rotation(workspace, &scope, None, secret(PASSWORD));

    let (gone, anew) = (trying().await.unwrap(), trying().await.unwrap());
    broker.logout(workspace, &scope).await.unwrap();
    let error = gone.commit().await.unwrap_err();
    assert!(
        matches!(error, BrokerError::ChangedMeanwhile { .. }),
        "{error}"
    );
    assert!(broker.list(workspace).await.unwrap().is_empty());

    stage.login(sim.host(), PASSWORD).await.unwrap();
    let error = anew.commit().await.unwrap_err();
    assert!(
        matches!(error, BrokerError::ChangedMeanwhile { .. }),
        "{error}"
    );
    assert_eq!(broker.list(workspace).await.unwrap()[0].version, 1);
}
