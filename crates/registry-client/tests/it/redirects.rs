//! Redirects: locations that are used again, that die, and that lead nowhere.

use std::sync::Arc;
use std::time::Duration;

use registry_client::{RegistryClient, RegistryError};
use registry_sim::{Image, Login, Options, RegistrySim};

use crate::support::{PASSWORD, Password, REPOSITORY, big_layer, client, image};

async fn redirecting() -> (RegistrySim, Image, RegistryClient) {
    let options = Options {
        login: Login::Basic,
        redirect_blobs: true,
        ..Options::default()
    };
    let sim = RegistrySim::start(options).await;
    let image = image();
    sim.push(REPOSITORY, "latest", &image);
    let client = client(sim.host(), Arc::new(Password(PASSWORD)));
    (sim, image, client)
}

async fn range(client: &RegistryClient, image: &Image) -> Result<(), RegistryError> {
    let layer = big_layer(image);
    let bytes = client
        .blob_range(REPOSITORY, &layer.digest, layer.size, 10..20_000)
        .await?;
    assert!(bytes == image.layers[1].bytes[10..20_000]);
    Ok(())
}

#[tokio::test]
async fn a_location_is_used_again() {
    let (sim, image, client) = redirecting().await;
    for _ in 0..5 {
        range(&client, &image).await.expect("range");
    }
    assert_eq!(
        sim.registry().read().requests,
        2,
        "the scheme's probe and one redirect"
    );
    assert_eq!(sim.storage().read().requests, 5);
    let layer = big_layer(&image);
    client.distrust_location(REPOSITORY, &layer.digest);
    range(&client, &image).await.expect("range");
    assert_eq!(sim.registry().read().requests, 3);
}

#[tokio::test]
async fn a_dead_location_is_asked_for_anew() {
    let (sim, image, client) = redirecting().await;
    range(&client, &image).await.expect("range");
    sim.expire_locations();
    range(&client, &image).await.expect("range after expiry");
    assert_eq!(sim.registry().read().requests, 3);
    assert_eq!(sim.storage().read().credential_bytes, 0);
}

#[tokio::test]
async fn a_location_that_dies_at_once_is_not_kept() {
    let options = Options {
        redirect_blobs: true,
        location_life: Duration::from_secs(2),
        ..Options::default()
    };
    let sim = RegistrySim::start(options).await;
    let image = image();
    sim.push(REPOSITORY, "latest", &image);
    let client = crate::support::anonymous(&sim);
    for _ in 0..3 {
        range(&client, &image).await.expect("range");
    }
    assert_eq!(sim.registry().read().requests, 4);
}

#[tokio::test]
async fn broken_replies_of_a_location_are_resumed() {
    let (sim, image, client) = redirecting().await;
    sim.faults(|faults| faults.truncate_after = Some(80_000));
    let layer = big_layer(&image);
    let bytes = client
        .blob_bytes(REPOSITORY, &layer, layer.size)
        .await
        .expect("blob");
    assert!(bytes == image.layers[1].bytes);
    assert_eq!(sim.storage().read().credential_bytes, 0);
}

#[tokio::test]
async fn redirects_that_lead_astray_are_refused() {
    let (sim, image, client) = redirecting().await;
    let own = format!("/v2/{REPOSITORY}/blobs/{}", big_layer(&image).digest);
    let cases = [
        ("http://registry.example/x".to_owned(), "plain http"),
        (own, "circles"),
    ];
    for (target, expected) in cases {
        sim.faults(|faults| faults.redirect_to = Some(target.clone()));
        let error = range(&client, &image).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{target}: {error}");
        assert!(!error.is_transient(), "{target}: {error}");
    }
}

#[tokio::test]
async fn no_error_shows_a_signed_url() {
    let (sim, image, client) = redirecting().await;
    let target = format!("{}/x?X-Amz-Signature=canary-signature", sim.stranger_url());
    sim.faults(|faults| faults.redirect_to = Some(target));
    let error = range(&client, &image).await.unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("canary-signature"),
        "{error:?}"
    );
    assert!(!format!("{client:?}").contains("canary"));
}
