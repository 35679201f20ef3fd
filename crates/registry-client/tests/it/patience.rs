//! Registries that are busy, away or back.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::Anonymous;
use futures::{StreamExt, TryStreamExt};
use registry_client::{RegistryClient, RegistryError, RetryPolicy};
use registry_sim::RegistrySim;

use crate::support::{QUICK, REPOSITORY, anonymous, big_layer, dialer, endpoint, image, pull};

async fn sim() -> RegistrySim {
    let sim = RegistrySim::anonymous().await;
    sim.push(REPOSITORY, "latest", &image());
    sim
}

#[tokio::test]
async fn busy_registries_are_asked_again() {
    let sim = sim().await;
    let client = anonymous(&sim);
    pull(&client).await.expect("manifest");
    sim.faults(|faults| {
        faults.too_many_requests = 2;
        faults.unavailable = 2;
        faults.retry_after = Some("0".to_owned());
    });
    pull(&client).await.expect("manifest in the end");
    assert_eq!(client.stats().retries, 4);
    sim.faults(|faults| faults.unavailable = 3);
    client.ping().await.expect("ping in the end");
}

#[tokio::test]
async fn a_wait_beyond_the_budget_is_the_callers() {
    let sim = sim().await;
    let client = anonymous(&sim);
    pull(&client).await.expect("manifest");
    sim.faults(|faults| {
        faults.too_many_requests = 1;
        faults.retry_after = Some("3600".to_owned());
    });
    let error = pull(&client).await.unwrap_err();
    let hour = Some(Duration::from_hours(1));
    assert!(
        matches!(error, RegistryError::RateLimited { .. }),
        "{error}"
    );
    assert_eq!(error.retry_after(), hour);
    assert!(error.is_transient());
}

#[tokio::test]
async fn tries_end() {
    let sim = sim().await;
    let client = anonymous(&sim);
    pull(&client).await.expect("manifest");
    sim.faults(|faults| faults.unavailable = 1000);
    let before = sim.registry().read().requests;
    let error = pull(&client).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
    assert_eq!(
        sim.registry().read().requests - before,
        u64::from(QUICK.attempts)
    );
}

#[tokio::test]
async fn a_registry_that_is_gone_and_comes_back_is_read_on() {
    let sim = Arc::new(sim().await);
    let patient = RetryPolicy {
        attempts: 1000,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        budget: Duration::from_mins(1),
        resume: Duration::ZERO,
    };
    let client = RegistryClient::with_retry(
        &dialer(),
        endpoint(sim.host()),
        Arc::new(Anonymous),
        patient,
    )
    .expect("client");
    pull(&client).await.expect("manifest");
    sim.faults(|faults| faults.outage = true);
    let reading = tokio::spawn({
        let client = client.clone();
        async move { pull(&client).await }
    });
    // Until some tries have failed, nothing is proven.
    while client.stats().retries < 3 {
        tokio::task::yield_now().await;
    }
    assert!(!reading.is_finished());
    sim.faults(|faults| faults.outage = false);
    reading
        .await
        .expect("task")
        .expect("manifest after the outage");
}

/// A reader that has the first piece of a layer, and then the registry goes away. What becomes of
/// the rest when it is back after so many tries.
async fn first_use(resume: Duration, tries: u64) -> Result<usize, RegistryError> {
    let sim = sim().await;
    sim.faults(|faults| {
        faults.reset_after = Some(100_000);
        faults.break_times = Some(1);
    });
    let policy = RetryPolicy {
        attempts: 2,
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(10),
        budget: Duration::ZERO,
        resume,
    };
    let source = Arc::new(Anonymous);
    let client = RegistryClient::with_retry(&dialer(), endpoint(sim.host()), source, policy)?;
    let layer = big_layer(&image());
    let mut coming = client.blob_stream(REPOSITORY, &layer).await?;
    let first = coming.next().await.expect("a piece")?;
    sim.faults(|faults| faults.outage = true);
    let reading = tokio::spawn(async move {
        let rest: Vec<_> = coming.try_collect().await?;
        Ok::<_, RegistryError>(rest.concat())
    });
    while client.stats().retries < tries && !reading.is_finished() {
        tokio::task::yield_now().await;
    }
    sim.faults(|faults| faults.outage = false);
    let rest = reading.await.expect("task")?;
    let whole = [first.to_vec(), rest].concat();
    assert!(whole == image().layers[1].bytes);
    Ok(whole.len())
}

#[tokio::test]
async fn a_layer_that_broke_off_is_resumed_when_the_registry_is_back() {
    let minute = Duration::from_mins(1);
    let length = first_use(minute, 20).await.expect("a whole layer");
    assert_eq!(length as u64, big_layer(&image()).size);
    for resume in [Duration::ZERO, Duration::from_millis(30)] {
        let error = first_use(resume, 1000).await.unwrap_err();
        let is_it = matches!(error, RegistryError::Unreachable { .. });
        assert!(is_it, "{resume:?}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let host = {
        let sim = sim().await;
        sim.host().to_owned()
    };
    let client = RegistryClient::with_retry(&dialer(), endpoint(&host), Arc::new(Anonymous), QUICK);
    let error = pull(&client.expect("client")).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
}
