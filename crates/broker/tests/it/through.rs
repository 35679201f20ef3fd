//! Reads through the broker: where a registry takes nothing less than the whole identity.

use std::sync::Arc;

use broker::{CredentialChoice, Lease, LeaseReader, Rung};
use credential::auth::{
    AuthError, AuthRequest, AuthScheme, AuthSource, LocationRequest, MAX_READ_BYTES, ReadError,
    ReadFrom, ReadRequest,
};
use futures::TryStreamExt;
use ids::WorkerId;
use reference::Digest;
use registry_sim::{Login, Options, Realm};
use vault::ExposureOf;

use crate::leases::password;
use crate::support::{
    PASSWORD, REPOSITORY, Stage, ask, image, image_at, keeping_request, request, scope, sim,
    sim_with,
};

/// A lease of a container on a worker, of a workspace that lends nothing.
async fn keeping(stage: &Stage, host: &str) -> (Arc<Lease>, LeaseReader) {
    let login = keeping_request(host, PASSWORD);
    stage.broker.login(stage.workspace, login).await.unwrap();
    let reader = LeaseReader {
        worker: Some(WorkerId::new()),
        container: "ctr-1".to_owned(),
    };
    let (image, choice) = (image_at(host), CredentialChoice::Auto);
    let leasing = stage
        .broker
        .lease_for(reader.clone(), stage.workspace, &image, choice);
    (Arc::new(leasing.await.unwrap()), reader)
}

fn layer() -> (Digest, bytes::Bytes) {
    let layer = image().layers[0].clone();
    (Digest::parse(&layer.digest).unwrap(), layer.bytes)
}

async fn locate(lease: &Lease) -> Result<ReadFrom, AuthError> {
    let (digest, _) = layer();
    let request = LocationRequest {
        registry: lease.image().registry(),
        repository: REPOSITORY,
        digest: &digest,
        refused: None,
    };
    lease.location(request).await
}

/// The second byte and the third.
async fn read(lease: &Lease) -> Result<Vec<u8>, ReadError> {
    let (digest, bytes) = layer();
    let request = ReadRequest {
        registry: lease.image().registry(),
        repository: REPOSITORY,
        digest: &digest,
        size_bytes: bytes.len() as u64,
        range: 1..3,
    };
    let pieces: Vec<_> = lease.read(request).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn a_whole_identity_is_given_to_nobody_unasked() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let (lease, reader) = keeping(&stage, sim.host()).await;
    assert!(matches!(locate(&lease).await, Ok(ReadFrom::Source)));
    assert_eq!(lease.rung(), Some(Rung::ReadThrough));
    let (digest, bytes) = layer();
    let asking = AuthRequest {
        registry: lease.image().registry(),
        repository: REPOSITORY,
        rejected: None,
    };
    let blobs = [digest];
    let asked = lease.auth_for_worker(&blobs, asking).await;
    for refused in [ask(&lease).await, asked] {
        let error = refused.unwrap_err();
        let words = "which no worker is given";
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(read(&lease).await.unwrap(), bytes[1..3]);
    assert_eq!(stage.broker.read_through_bytes(), 2);
    let asking = AuthRequest {
        registry: lease.image().registry(),
        repository: REPOSITORY,
        rejected: None,
    };
    let own = lease.own_source().auth(asking).await.unwrap();
    assert_eq!(password(&own), PASSWORD, "this process reads with it");
    assert!(
        ask(&lease).await.is_err(),
        "what it has is not given either"
    );

    let of = ExposureOf::Worker(reader.worker.unwrap());
    let given = stage.broker.vault().exposures(of, None).await.unwrap();
    let [row] = given.as_slice() else {
        panic!("{given:?}");
    };
    assert_eq!(row.rung, "read through the broker");
    assert!(row.not_after.is_some(), "it ends by itself");
    let scope = scope(sim.host());
    let of = broker::BlastOf::Credential(stage.workspace, &scope);
    let blast = stage.broker.blast(of, None).await.unwrap();
    assert_eq!(blast.rotate, [""; 0], "nobody has it");
}

#[tokio::test]
async fn less_than_the_whole_identity_is_given_as_before() {
    let sim = sim_with(Options {
        login: Login::Bearer(Realm::SameHost),
        ..Options::default()
    })
    .await;
    let stage = Stage::new().await;
    let (lease, _) = keeping(&stage, sim.host()).await;
    assert!(matches!(locate(&lease).await, Ok(ReadFrom::Registry)));
    let auth = ask(&lease).await.unwrap();
    assert!(matches!(auth.scheme, AuthScheme::Bearer(_)));
}

#[tokio::test]
async fn a_lease_that_has_ended_reads_nothing() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let (lease, _) = keeping(&stage, sim.host()).await;
    let (digest, bytes) = layer();
    let size = bytes.len() as u64;
    read(&lease).await.unwrap();
    for (repository, size_bytes, range) in [
        ("acme/other", size, 0..1),
        (REPOSITORY, size, 0..size + 1),
        (REPOSITORY, size, 1..1),
        (REPOSITORY, 1 << 40, 0..MAX_READ_BYTES + 1),
    ] {
        let request = ReadRequest {
            registry: lease.image().registry(),
            repository,
            digest: &digest,
            size_bytes,
            range,
        };
        let refused = lease.read(request.clone()).await.err();
        let is_refused = matches!(refused, Some(ReadError::Auth(AuthError::Refused { .. })));
        assert!(is_refused, "{request:?}: {refused:?}");
    }
    let absent = Digest::sha256([7; 32]);
    let request = ReadRequest {
        registry: lease.image().registry(),
        repository: REPOSITORY,
        digest: &absent,
        size_bytes: size,
        range: 0..1,
    };
    let missing = lease.read(request).await.err();
    assert!(matches!(missing, Some(ReadError::NotFound)));

    let (other, _) = keeping(&stage, sim.host()).await;
    lease.end().await.unwrap();
    let over = read(&lease).await.unwrap_err();
    assert!(
        over.to_string().contains("ended with its container"),
        "{over}"
    );
    read(&other).await.unwrap();
    let scope = scope(sim.host());
    let logout = stage.broker.logout(stage.workspace, &scope);
    logout.await.unwrap();
    let revoked = read(&other).await.unwrap_err();
    assert!(matches!(
        revoked,
        ReadError::Auth(AuthError::Revoked { .. })
    ));
}

/// A rotation by another process: the next read is with the new password.
#[tokio::test]
async fn a_read_follows_a_rotation() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let (lease, _) = keeping(&stage, sim.host()).await;
    read(&lease).await.unwrap();
    sim.set_password("second");
    let other = stage.again().await;
    let login = other.login(stage.workspace, keeping_request(sim.host(), "second"));
    login.await.unwrap();
    read(&lease).await.unwrap();
    assert_eq!(lease.version(), Some(2));
}

#[tokio::test]
async fn that_workers_may_hold_it_is_on_record() {
    let sim = sim(Login::Basic).await;
    let stage = Stage::new().await;
    let rows = async || (stage.audited("lend").await, stage.audited("unlend").await);
    let login = async |request| {
        let report = stage.broker.login(stage.workspace, request).await.unwrap();
        report.hints.len()
    };
    let hints = login(keeping_request(sim.host(), PASSWORD)).await;
    assert_eq!((rows().await, hints), ((0, 0), 0));
    let hints = login(request(sim.host(), PASSWORD)).await;
    assert_eq!((rows().await, hints), ((1, 0), 1), "its login says so");
    login(request(sim.host(), PASSWORD)).await;
    assert_eq!(rows().await, (1, 0), "it was so before");
    let lease = stage.lease(&image_at(sim.host())).await;
    ask(&lease).await.unwrap();
    let hints = login(keeping_request(sim.host(), PASSWORD)).await;
    assert_eq!((rows().await, hints), ((1, 1), 1), "it is said to end");
    let error = ask(&lease).await.unwrap_err();
    let words = "which no worker is given";
    assert!(error.to_string().contains(words), "{error}");
    assert!(matches!(locate(&lease).await, Ok(ReadFrom::Source)));
    read(&lease).await.unwrap();
    login(request(sim.host(), PASSWORD)).await;
    assert!(matches!(locate(&lease).await, Ok(ReadFrom::Registry)));
    assert_eq!(password(&ask(&lease).await.unwrap()), PASSWORD);
}
