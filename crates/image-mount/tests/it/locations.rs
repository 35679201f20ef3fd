//! A mount that is given signed locations holds no auth at all.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthSource, LocationFuture, LocationRequest, ReadFrom,
};
use dial::Dialer;
use e2e::memory::holds;
use image_mount::MountProcess;
use registry_client::{Endpoint, RegistryClient};
use registry_sim::{Login, Options};

use crate::support::{Published, Script, Unmount, archive, basic, blocking, program};

/// Gives locations, and notes when an auth was asked for.
#[derive(Debug)]
struct LocationsAlone {
    reader: RegistryClient,
    was_asked_for_auth: AtomicBool,
}

impl AuthSource for LocationsAlone {
    fn auth<'a>(&'a self, _request: AuthRequest<'a>) -> AuthFuture<'a> {
        self.was_asked_for_auth.store(true, SeqCst);
        Box::pin(async {
            Err(AuthError::Refused {
                message: "there is none for a mount".to_owned(),
            })
        })
    }

    fn location<'a>(&'a self, request: LocationRequest<'a>) -> LocationFuture<'a> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_reads_a_private_image_without_any_auth() {
    let options = Options {
        login: Login::Basic,
        redirect_blobs: true,
        // Nothing that stands in the program itself.
        password: format!("{:032x}", fastrand::u128(..)),
        ..Options::default()
    };
    let password = options.password.clone();
    let pair = BASE64_STANDARD.encode(format!("{}:{password}", options.username));
    let archives = [archive("seq 1 200000 > low"), archive("seq 1 100 > high")];
    let image = Published::with(options, &archives).await;
    let own = Arc::new(LocationsAlone {
        reader: RegistryClient::new(
            &Dialer::new(image.request.dial.clone()),
            Endpoint {
                plain_http: true,
                ..Endpoint::new(image.request.registry.clone())
            },
            Script::answering(Ok(basic(1, &password))),
        )
        .unwrap(),
        was_asked_for_auth: AtomicBool::new(false),
    });
    let guard = Unmount(image.request.mountpoint.clone());
    let source = Arc::clone(&own) as Arc<dyn AuthSource>;
    let process = MountProcess::spawn(&program(), image.request.clone(), source)
        .await
        .unwrap();
    let read = |name| {
        let path = image.path(name);
        blocking(move || fs::read_to_string(path).unwrap())
    };
    assert_eq!(read("high").await.lines().count(), 100);
    image.sim.expire_locations();
    assert_eq!(read("low").await.lines().count(), 200_000);

    let pid = process.pid();
    let layer = image.request.layers[0].index.header.layer_digest.clone();
    let is_found = blocking(move || holds(pid, &[layer])).await;
    assert!(is_found, "its memory is searched");
    let is_held = blocking(move || holds(pid, &[password, pair])).await;
    assert!(!is_held, "the mount process holds an auth");
    assert!(!own.was_asked_for_auth.load(SeqCst));
    assert_eq!(image.sim.storage().read().credential_bytes, 0);
    process.stop().await.unwrap();
    drop(guard);
}
