//! Whose a lease is, what is on record of it, and what becomes of one that two have.

use std::time::Duration;

use broker::{CredentialChoice, Lease, LeaseReader, Stamp};
use credential::auth::AuthError;
use ids::WorkerId;
use registry_sim::{Login, Options, Realm};
use vault::ExposureOf;

use crate::support::{PASSWORD, REPOSITORY, Stage, ask, image_at, sim, sim_with};

fn reader(container: &str) -> LeaseReader {
    LeaseReader {
        worker: Some(WorkerId::new()),
        container: container.to_owned(),
    }
}

async fn lease_for(stage: &Stage, reader: &LeaseReader, host: &str) -> Lease {
    let image = image_at(host);
    let leasing = stage.broker.lease_for(
        reader.clone(),
        stage.workspace,
        &image,
        CredentialChoice::Auto,
    );
    leasing.await.unwrap()
}

fn is_refused(answer: Result<impl std::fmt::Debug, AuthError>, words: &str) {
    match answer {
        Err(AuthError::Refused { message }) => assert!(message.contains(words), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lease_answers_the_container_that_it_is_for() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let own = reader("ctr-1");
    let lease = lease_for(&stage, &own, sim.host()).await;
    let other_container = LeaseReader {
        container: "ctr-2".to_owned(),
        ..own.clone()
    };
    let other_worker = LeaseReader {
        worker: Some(WorkerId::new()),
        ..own.clone()
    };
    for asker in [other_container, other_worker, LeaseReader::own()] {
        is_refused(
            lease.admit(&asker, Stamp::fresh(1)).await,
            "another container",
        );
    }
    // Who asks with another's lease does not end it.
    lease.admit(&own, Stamp::fresh(1)).await.unwrap();
    ask(&lease).await.unwrap();
    assert_eq!(stage.broker.lease_alarms(), 0);
}

#[tokio::test]
async fn a_lease_that_two_use_ends_for_both_and_is_told() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let own = reader("ctr-1");
    let (lease, spared) = (
        lease_for(&stage, &own, sim.host()).await,
        lease_for(&stage, &reader("ctr-2"), sim.host()).await,
    );
    let first = Stamp::fresh(1);
    lease.admit(&own, first).await.unwrap();
    lease.admit(&own, Stamp::fresh(3)).await.unwrap();
    lease.admit(&own, Stamp::fresh(2)).await.unwrap();
    // Its reply was lost.
    lease.admit(&own, first).await.unwrap();
    ask(&lease).await.unwrap();
    assert_eq!(stage.audited("lease-alarm").await, 0);

    is_refused(lease.admit(&own, Stamp::fresh(2)).await, "two have used");
    is_refused(ask(&lease).await, "two have used");
    is_refused(
        lease
            .admit(&own, Stamp::fresh(4))
            .await
            .and(ask(&lease).await),
        "two have used",
    );
    assert_eq!(stage.audited("lease-alarm").await, 1);
    assert_eq!(stage.broker.lease_alarms(), 1);
    ask(&spared).await.unwrap();
}

/// A copy may be used when the row of the lease has lapsed, or where there is none.
#[tokio::test]
async fn a_copy_of_a_lease_that_lapsed_or_has_no_row_is_told_too() {
    let sim = sim(Login::Nobody).await;
    let stage = Stage::new().await;
    let own = reader("ctr-1");
    let anonymous = lease_for(&stage, &own, sim.host()).await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lapsed = lease_for(&stage, &own, sim.host()).await;
    stage.clock.turn(Duration::from_hours(1));
    stage.broker.vault().sweep_leases().await.unwrap();
    for (alarms, lease) in [(1, anonymous), (2, lapsed)] {
        lease.admit(&own, Stamp::fresh(1)).await.unwrap();
        is_refused(lease.admit(&own, Stamp::fresh(1)).await, "two have used");
        is_refused(ask(&lease).await, "two have used");
        assert_eq!(stage.audited("lease-alarm").await, alarms);
    }
}

/// One row, two processes: the second's renewal is not the next any more.
#[tokio::test]
async fn a_row_that_another_process_renewed_is_told() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = lease_for(&stage, &reader("ctr-1"), sim.host()).await;
    ask(&lease).await.unwrap();
    let other = stage.again().await;
    let vault = other.vault();
    let row = vault.live_leases(stage.workspace).await.unwrap().remove(0);
    let renewal = vault::Renewal {
        stamp: Stamp::fresh(2),
        version: 1,
        until: None,
        given: None,
    };
    vault.renew_lease(row.lease_id, renewal).await.unwrap();
    stage.clock.turn(Duration::from_mins(6));
    is_refused(ask(&lease).await, "two have used");
    assert_eq!(stage.audited("lease-alarm").await, 1);
    assert!(vault.live_leases(stage.workspace).await.unwrap().is_empty());
}

/// Whoever stops waiting for an answer is no copy of itself.
#[tokio::test]
async fn a_question_that_is_given_up_raises_no_alarm() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let lease = lease_for(&stage, &reader("ctr-1"), sim.host()).await;
    for polls in 0..60 {
        stage.clock.turn(Duration::from_mins(6));
        let mut asking = Box::pin(ask(&lease));
        for _ in 0..polls {
            if futures::poll!(asking.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(asking);
        ask(&lease).await.unwrap();
    }
    assert_eq!(stage.broker.lease_alarms(), 0);
}

#[tokio::test]
async fn what_is_given_is_on_record_with_its_end() {
    let sim = sim_with(Options {
        login: Login::Bearer(Realm::SameHost),
        ..Options::default()
    })
    .await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let own = reader("ctr-1");
    let lease = lease_for(&stage, &own, sim.host()).await;
    let auth = ask(&lease).await.unwrap();
    ask(&lease).await.unwrap();
    let of = ExposureOf::Worker(own.worker.unwrap());
    let vault = stage.broker.vault();
    let found = vault.exposures(of, None).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let repository = format!("{}/{REPOSITORY}", sim.host());
    assert_eq!(found[0].repository.as_ref(), Some(&repository));
    assert_eq!(
        (found[0].rung.as_str(), found[0].version),
        ("repository bearer", 1)
    );
    assert_eq!(found[0].not_after, auth.not_after);
    let row = vault.live_leases(stage.workspace).await.unwrap().remove(0);
    assert!(Some(row.expires_at) <= auth.not_after, "{row:?}");
    assert_eq!(row.worker, own.worker.unwrap().to_string());

    lease.end().await.unwrap();
    is_refused(ask(&lease).await, "ended with its container");
    let live = vault.live_leases(stage.workspace).await.unwrap();
    assert_eq!(live, [], "a late question begins no other");
    assert_eq!(stage.audited("vend").await, 1);
}

#[tokio::test]
async fn a_worker_that_is_evicted_gets_nothing_more() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    stage.login(sim.host(), PASSWORD).await.unwrap();
    let own = reader("ctr-1");
    let lease = lease_for(&stage, &own, sim.host()).await;
    ask(&lease).await.unwrap();
    let vault = stage.again().await;
    let evicting = vault.vault().evict_leases(own.worker.unwrap(), "t");
    assert_eq!(evicting.await.unwrap(), 1);
    for _ in 0..2 {
        is_refused(ask(&lease).await, "its worker was removed");
    }
    stage.clock.turn(Duration::from_hours(1));
    is_refused(ask(&lease).await, "its worker was removed");
}
