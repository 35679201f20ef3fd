//! What a proof is worth while its registry is away.

use std::time::Duration;

use broker::{CredentialChoice, Lease, NoStanding, Standing};
use control_store::{GrantProof, Image, Publication};
use credential::auth::AuthError;
use jiff::Timestamp;
use reference::Digest;
use registry_client::RegistryError;
use registry_sim::Login;

use crate::support::{PASSWORD, Stage, ask, image_at, scope, sim};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn manifest() -> Digest {
    Digest::sha256([5; 32])
}

/// As after a start that the registry let go on.
async fn prove(stage: &Stage, lease: &Lease) {
    ask(lease).await.unwrap();
    record(stage, lease, lease.proof().await.unwrap().unwrap()).await;
}

async fn record(stage: &Stage, lease: &Lease, proof: GrantProof) {
    let image = Image {
        id: Digest::sha256([6; 32]),
        typed: lease.image().typed().to_owned(),
        canonical: lease.image().canonical(),
        origin: lease.origin(),
        manifest_digest: manifest(),
        config_digest: Digest::sha256([7; 32]),
        layers: Vec::new(),
        environment: Vec::new(),
        python: None,
        config: None,
        created_at: Timestamp::now(),
    };
    let publication = Publication { image, proof };
    let store = stage.broker.store();
    store.publish(stage.workspace, &publication).await.unwrap();
    // Rows are of the machine's clock, which the one of this stage is behind.
    stage.clock.turn(MINUTE);
}

async fn standing(lease: &Lease) -> Result<Standing, NoStanding> {
    lease.standing(&manifest()).await.unwrap()
}

#[tokio::test]
async fn what_was_proven_counts_for_as_long_as_the_workspace_allows() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    assert_eq!(standing(&lease).await, Err(NoStanding::NotProven));
    prove(&stage, &lease).await;
    let stands = standing(&lease).await.unwrap();
    assert_eq!(stands.until.duration_since(stands.proven_at).as_hours(), 12);
    let other = Digest::sha256([9; 32]);
    let of_other = lease.standing(&other).await.unwrap();
    assert_eq!(of_other, Err(NoStanding::NotProven));

    stage.clock.turn(12 * HOUR);
    let too_old = standing(&lease).await;
    assert!(
        matches!(too_old, Err(NoStanding::TooOld { .. })),
        "{too_old:?}"
    );
    let set = async |offline| {
        let (broker, workspace) = (&stage.broker, stage.workspace);
        broker.set_offline(workspace, offline, "t").await.unwrap();
    };
    set(24 * HOUR).await;
    standing(&lease).await.unwrap();
    set(Duration::ZERO).await;
    assert_eq!(standing(&lease).await, Err(NoStanding::NotAllowed));
    set(10_000 * 24 * HOUR).await;
    stage.clock.turn(30 * 24 * HOUR);
    let too_old = standing(&lease).await;
    assert!(
        matches!(too_old, Err(NoStanding::TooOld { .. })),
        "{too_old:?}"
    );
    assert_eq!(stage.audited("set").await, 3);
}

#[tokio::test]
async fn only_the_version_that_was_proven_stands_and_none_that_was_removed() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    prove(&stage, &lease).await;
    standing(&lease).await.unwrap();
    // Another workspace has its own proofs, or none.
    let name = "other".parse().unwrap();
    let other = stage.broker.workspace(&name).await.unwrap();
    let image = image_at(sim.host());
    let theirs = stage
        .broker
        .lease(other, &image, CredentialChoice::default())
        .await
        .unwrap();
    assert_eq!(standing(&theirs).await, Err(NoStanding::NotProven));
    // So has who asks without the credential that proved it.
    let nobody = CredentialChoice::None;
    let nobody = stage
        .broker
        .lease(stage.workspace, &image, nobody)
        .await
        .unwrap();
    assert_eq!(standing(&nobody).await, Err(NoStanding::NotProven));

    stage.login(sim.host(), PASSWORD).await.unwrap();
    assert_eq!(standing(&lease).await, Err(NoStanding::NotProven));
    prove(&stage, &lease).await;
    standing(&lease).await.unwrap();
    let removed = scope(sim.host());
    stage
        .broker
        .logout(stage.workspace, &removed)
        .await
        .unwrap();
    let error = lease.standing(&manifest()).await.unwrap_err();
    assert_eq!(error.kind(), "revoked");
    let anew = stage.lease(&image_at(sim.host())).await;
    assert_eq!(standing(&anew).await, Err(NoStanding::NotProven));
}

#[tokio::test]
async fn a_refusal_counts_after_the_registry_went_away_until_the_next_proof() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    let refused = async || matches!(standing(&lease).await, Err(NoStanding::Refused { .. }));
    let note = async |error| lease.note_refusal(&manifest(), &error).await.unwrap();
    let subject = || "manifest".to_owned();
    prove(&stage, &lease).await;
    note(RegistryError::Unreachable {
        registry: subject(),
        message: subject(),
    })
    .await;
    assert!(!refused().await);
    note(RegistryError::NotFound { subject: subject() }).await;
    assert!(refused().await);
    prove(&stage, &lease).await;
    assert!(!refused().await);
    // Also one that was heard elsewhere: by a check, or while something else was minted.
    sim.set_password("another");
    let report = stage.broker.check(stage.workspace, None).await.unwrap();
    assert_eq!(report[0].state, "bad_credential");
    assert!(refused().await);
    sim.set_password(PASSWORD);
    prove(&stage, &lease).await;
    let message = subject();
    note(RegistryError::Auth(AuthError::BadCredential { message })).await;
    assert!(refused().await);
}

#[tokio::test]
async fn what_anybody_may_read_stands_without_a_credential() {
    let sim = sim(Login::Nobody).await;
    let stage = Stage::new().await;
    let lease = stage.lease(&image_at(sim.host())).await;
    prove(&stage, &lease).await;
    standing(&lease).await.unwrap();
    // What was proven by nobody is not proven by whoever has one since.
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = stage.lease(&image_at(sim.host())).await;
    assert_eq!(standing(&lease).await, Err(NoStanding::NotProven));
}
