//! Locations that a source gives, and how it comes by them: who reads there holds no auth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use credential::ExposeSecret;
use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthSource, BlobLocation, LocationFuture, LocationRequest,
    ReadFrom,
};
use registry_client::{RegistryClient, RegistryError};
use registry_sim::{Image, Login, Options, RegistrySim};

use crate::support::{
    PASSWORD, Password, QUICK, REPOSITORY, big_layer, client, dialer, endpoint, image, pull,
};

/// Has no auth to give. What it says of locations it is told by a client that has.
#[derive(Debug)]
struct LocationsAlone {
    reader: RegistryClient,
    asked: AtomicU64,
}

impl AuthSource for LocationsAlone {
    fn auth<'a>(&'a self, _request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async {
            Err(AuthError::Refused {
                message: "an auth was asked for".to_owned(),
            })
        })
    }

    fn location<'a>(&'a self, request: LocationRequest<'a>) -> LocationFuture<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let (repository, digest) = (request.repository, request.digest);
            let found = self
                .reader
                .blob_location(repository, digest, request.refused);
            let found = found.await.map_err(|error| AuthError::Unreachable {
                message: error.to_string(),
            });
            Ok(found?.map_or(ReadFrom::Registry, ReadFrom::Location))
        })
    }
}

struct Stage {
    sim: RegistrySim,
    image: Image,
    source: Arc<LocationsAlone>,
    client: RegistryClient,
}

impl Stage {
    async fn new() -> Self {
        Self::with(Options {
            redirect_blobs: true,
            ..Options::default()
        })
        .await
    }

    async fn with(options: Options) -> Self {
        let login = Login::Basic;
        let sim = RegistrySim::start(Options { login, ..options }).await;
        let image = image();
        sim.push(REPOSITORY, "latest", &image);
        let reader = client(sim.host(), Arc::new(Password(PASSWORD)));
        let source = Arc::new(LocationsAlone {
            reader,
            asked: AtomicU64::new(0),
        });
        let own = Arc::clone(&source) as _;
        let client = RegistryClient::at_locations(&dialer(), endpoint(sim.host()), own, QUICK);
        Self {
            sim,
            image,
            source,
            client: client.expect("a client"),
        }
    }

    async fn read(&self) -> Result<(), RegistryError> {
        let layer = big_layer(&self.image);
        let range = self
            .client
            .blob_range(REPOSITORY, &layer.digest, layer.size, 10..20_000);
        assert!(range.await? == self.image.layers[1].bytes[10..20_000]);
        Ok(())
    }

    async fn locate(&self, refused: Option<u64>) -> Option<BlobLocation> {
        let layer = big_layer(&self.image);
        let reader = &self.source.reader;
        let found = reader.blob_location(REPOSITORY, &layer.digest, refused);
        found.await.expect("an answer")
    }

    fn asked(&self) -> u64 {
        self.source.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn who_is_given_locations_needs_no_auth() {
    let stage = Stage::new().await;
    let reads = (0..20).map(|_| stage.read());
    for read in futures::future::join_all(reads).await {
        read.expect("a read");
    }
    assert_eq!(stage.asked(), 1, "all of them read at the same place");
    let error = pull(&stage.client).await.unwrap_err();
    let expected = matches!(error, RegistryError::Auth(AuthError::Refused { .. }));
    assert!(expected, "a manifest is at the registry alone: {error}");
    // The probe of its scheme, and the one question with auth.
    assert_eq!(stage.sim.registry().read().requests, 2);
    assert_eq!(stage.sim.storage().read().credential_bytes, 0);
}

#[tokio::test]
async fn a_location_that_died_is_found_anew() {
    let stage = Stage::new().await;
    stage.read().await.expect("a read");
    let first = stage.locate(None).await.expect("a location");
    // One that was found just now is not looked for again, whatever is said of it.
    let same = stage.locate(Some(first.serial)).await.expect("a location");
    assert_eq!(same.serial, first.serial);
    stage.sim.expire_locations();
    let reading = async { while stage.read().await.is_err() {} };
    let read = tokio::time::timeout(Duration::from_secs(30), reading).await;
    read.expect("a read, once the first is old enough to be doubted");
    let second = stage.locate(None).await.expect("a location");
    assert_ne!(second.url.expose_secret(), first.url.expose_secret());
    // Somebody who speaks of the first again is given the second.
    let same = stage.locate(Some(first.serial)).await.expect("a location");
    assert_eq!(same.serial, second.serial);
    assert_eq!(stage.sim.storage().read().credential_bytes, 0);
}

#[tokio::test]
async fn a_registry_that_sends_its_blobs_itself_has_none() {
    let stage = Stage::with(Options::default()).await;
    for _ in 0..3 {
        let error = stage.read().await.unwrap_err();
        let expected = matches!(error, RegistryError::Auth(AuthError::Refused { .. }));
        assert!(expected, "without a location an auth is needed: {error}");
        assert!(stage.locate(None).await.is_none());
    }
    let asked = stage.asked();
    assert_eq!(asked, 4, "once, and again with each refusal of an auth");
    let before = stage.sim.registry().read().requests;
    assert!(stage.locate(None).await.is_none());
    assert_eq!(stage.sim.registry().read().requests, before);
}

#[tokio::test]
async fn a_location_leads_where_a_redirect_may() {
    let stage = Stage::new().await;
    for target in [
        "ftp://storage.example/blob",
        "https://user:secret@storage.example/blob",
        "file:///etc/passwd",
    ] {
        stage
            .sim
            .faults(|faults| faults.redirect_to = Some(target.to_owned()));
        let layer = big_layer(&stage.image);
        let reader = &stage.source.reader;
        let found = reader.blob_location(REPOSITORY, &layer.digest, None).await;
        let error = found.expect_err(target);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
