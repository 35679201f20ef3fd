//! Proof of possession.

use broker::{GrantOutcome, GrantProof};
use reference::Digest;
use registry_sim::Login;

use crate::support::{PASSWORD, Stage, ask, image_at, request, scope, sim};

#[tokio::test]
async fn a_grant_is_tied_to_the_version_that_proved_it() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    let id = Digest::sha256([7; 32]);
    // Nothing was asked for yet, so nothing is proven.
    let outcome = stage.broker.record_proof(&lease, &id).await.unwrap();
    assert_eq!(outcome, GrantOutcome::Superseded);

    ask(&lease).await.unwrap();
    let outcome = stage.broker.record_proof(&lease, &id).await.unwrap();
    assert!(matches!(outcome, GrantOutcome::Recorded(_)));
    let store = stage.broker.store();
    let grant = store
        .grant(stage.workspace, &id, &lease.origin())
        .await
        .unwrap()
        .unwrap();
    let GrantProof::Credential(proven) = grant.proof else {
        panic!("{:?}", grant.proof);
    };
    assert_eq!(proven.version, 1);

    // The credential is replaced between the registry's answer and its recording.
    let other = stage.again().await;
    other
        .login(stage.workspace, request(sim.host(), PASSWORD))
        .await
        .unwrap();
    let outcome = stage.broker.record_proof(&lease, &id).await.unwrap();
    assert_eq!(outcome, GrantOutcome::Superseded);

    let removed = other
        .logout(stage.workspace, &scope(sim.host()))
        .await
        .unwrap();
    assert_eq!(removed.grants_revoked, 1);
    assert_eq!(
        store
            .grant(stage.workspace, &id, &lease.origin())
            .await
            .unwrap(),
        None
    );
    let error = stage.broker.record_proof(&lease, &id).await.unwrap_err();
    assert_eq!(error.kind(), "revoked");
}

#[tokio::test]
async fn an_anonymous_pull_proves_itself() {
    let sim = sim(Login::Nobody).await;
    let stage = Stage::new().await;
    let lease = stage.lease(&image_at(sim.host())).await;
    ask(&lease).await.unwrap();
    let id = Digest::sha256([8; 32]);
    stage.broker.record_proof(&lease, &id).await.unwrap();
    let store = stage.broker.store();
    let grant = store
        .grant(stage.workspace, &id, &lease.origin())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(grant.proof, GrantProof::Anonymous);
}
