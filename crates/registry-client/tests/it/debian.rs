//! The same client against Debian's `docker-registry` with htpasswd.

use std::sync::Arc;

use credential::auth::AuthError;
use futures::TryStreamExt;
use registry_client::{Endpoint, RegistryClient, RegistryError};
use registry_sim::Authority;
use registry_sim::debian::DebianRegistry;

use crate::support::{
    PASSWORD, Password, QUICK, REPOSITORY, Rotating, USERNAME, amd64, big_layer, client, dialer,
    endpoint, image, pull, tag,
};

#[tokio::test]
async fn an_image_is_read_with_a_password() {
    let registry = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    let image = image();
    registry.push(REPOSITORY, "latest", &image).await;
    let client = client(registry.host(), Arc::new(Password(PASSWORD)));
    let pinned = pull(&client).await.expect("manifest");
    assert_eq!(pinned.digest.as_str(), image.digest);
    let layer = big_layer(&image);
    let stream = client.blob_stream(REPOSITORY, &layer).await.expect("blob");
    let pieces: Vec<_> = stream.try_collect().await.expect("blob");
    assert!(pieces.concat() == image.layers[1].bytes);
    let range = client
        .blob_range(REPOSITORY, &layer.digest, layer.size, 7..70_000)
        .await;
    assert!(range.expect("range") == image.layers[1].bytes[7..70_000]);
    let missing = client.manifest(REPOSITORY, &tag("none"), &amd64()).await;
    assert!(
        matches!(missing, Err(RegistryError::NotFound { .. })),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_changed_password_is_refused_and_the_new_one_taken() {
    let mut registry = DebianRegistry::htpasswd(USERNAME, "first-password");
    registry.push(REPOSITORY, "latest", &image()).await;
    registry.set_password("second-password");
    let old = client(registry.host(), Arc::new(Password("first-password")));
    let error = pull(&old).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Auth(AuthError::BadCredential { .. })),
        "{error}"
    );
    let source = Rotating::new("first-password", "second-password");
    pull(&client(registry.host(), source))
        .await
        .expect("manifest after renewal");
}

#[tokio::test]
async fn a_registry_with_its_own_ca_is_read() {
    let registry = DebianRegistry::htpasswd_tls(USERNAME, PASSWORD, Authority::new());
    registry.push(REPOSITORY, "latest", &image()).await;
    let pem = registry.ca_pem().expect("a CA").as_bytes().to_vec();
    let endpoint = Endpoint {
        ca_pem: Some(pem),
        ..endpoint(registry.host())
    };
    let source = Arc::new(Password(PASSWORD));
    let client = RegistryClient::with_retry(&dialer(), endpoint, source, QUICK).expect("client");
    pull(&client).await.expect("manifest");
}

#[tokio::test]
async fn a_registry_that_was_away_is_read_on() {
    let mut registry = DebianRegistry::htpasswd(USERNAME, PASSWORD);
    registry.push(REPOSITORY, "latest", &image()).await;
    let client = client(registry.host(), Arc::new(Password(PASSWORD)));
    pull(&client).await.expect("manifest");
    registry.stop();
    assert!(pull(&client).await.unwrap_err().is_transient());
    registry.start_again();
    pull(&client).await.expect("manifest after the outage");
}
