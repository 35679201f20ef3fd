//! Manifests: kinds, platforms, digests, limits.

use bytes::Bytes;
use reference::{Digest, Selector};
use registry_client::{Platform, RegistryError};
use registry_sim::{ImageBuilder, RegistrySim};
use serde_json::json;

use crate::support::{REPOSITORY, amd64, anonymous, image, pull, tag};

#[tokio::test]
async fn an_image_is_pinned_by_tag_and_by_digest() {
    let sim = RegistrySim::anonymous().await;
    let image = image();
    sim.push(REPOSITORY, "latest", &image);
    let client = anonymous(&sim);
    let pinned = pull(&client).await.expect("manifest");
    assert_eq!(pinned.digest.as_str(), image.digest);
    assert_eq!(pinned.index_digest, None);
    assert_eq!(pinned.config.digest.as_str(), image.config.digest);
    let layers: Vec<_> = pinned
        .layers
        .iter()
        .map(|layer| layer.digest.as_str())
        .collect();
    let expected: Vec<_> = image
        .layers
        .iter()
        .map(|layer| layer.digest.as_str())
        .collect();
    assert_eq!(layers, expected);
    let selector = Selector::Digest(pinned.digest.clone());
    let again = client
        .manifest(REPOSITORY, &selector, &amd64())
        .await
        .expect("manifest");
    assert_eq!(again, pinned);
    let head = client
        .head_manifest(REPOSITORY, &tag("latest"))
        .await
        .expect("head");
    assert_eq!(
        (head.digest, head.media_type),
        (pinned.digest, pinned.media_type)
    );
    assert_eq!(head.size, pinned.raw.len() as u64);
    let config = client
        .blob_bytes(REPOSITORY, &pinned.config, 4096)
        .await
        .expect("config");
    assert_eq!(config, image.config.bytes);
}

#[tokio::test]
async fn docker_types_are_read() {
    let sim = RegistrySim::anonymous().await;
    let image = ImageBuilder::new().docker().build();
    sim.push(REPOSITORY, "latest", &image);
    let pinned = pull(&anonymous(&sim)).await.expect("manifest");
    assert_eq!(
        pinned.media_type,
        "application/vnd.docker.distribution.manifest.v2+json"
    );
}

#[tokio::test]
async fn an_index_gives_the_platform_asked_for() {
    let sim = RegistrySim::anonymous().await;
    let (arm, amd) = (
        ImageBuilder::new().platform("linux", "arm64").build(),
        image(),
    );
    let platforms = [("linux/arm64", &arm), ("linux/amd64", &amd)];
    let index = sim.push_index(REPOSITORY, "latest", &platforms);
    let client = anonymous(&sim);
    let pinned = pull(&client).await.expect("manifest");
    assert_eq!(pinned.digest.as_str(), amd.digest);
    assert_eq!(pinned.index_digest.expect("index").as_str(), index);
    let windows = Platform::new("windows", "amd64", None);
    let error = client
        .manifest(REPOSITORY, &tag("latest"), &windows)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Unsupported { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("linux/arm64, linux/amd64"),
        "{error}"
    );
}

#[tokio::test]
async fn indexes_inside_indexes_end() {
    let sim = RegistrySim::anonymous().await;
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = |digest: &str| {
        json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": [
            { "mediaType": media_type, "digest": digest, "size": 1,
              "platform": { "os": "linux", "architecture": "amd64" } },
        ] })
        .to_string()
    };
    let mut digest = format!("sha256:{}", "0".repeat(64));
    for _ in 0..6 {
        digest = sim.put_manifest(REPOSITORY, "latest", media_type, index(&digest).as_bytes());
    }
    let error = pull(&anonymous(&sim)).await.unwrap_err();
    assert!(error.to_string().contains("nested too deep"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_not_the_digests_are_refused() {
    let sim = RegistrySim::anonymous().await;
    let image = image();
    sim.push(REPOSITORY, "latest", &image);
    sim.faults(|faults| faults.wrong_manifest = true);
    let client = anonymous(&sim);
    let by_digest = Selector::Digest(Digest::parse(&image.digest).expect("digest"));
    for selector in [tag("latest"), by_digest] {
        let error = client
            .manifest(REPOSITORY, &selector, &amd64())
            .await
            .unwrap_err();
        assert!(
            matches!(error, RegistryError::Corrupt { .. }),
            "{selector}: {error}"
        );
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_name() {
    let sim = RegistrySim::anonymous().await;
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let huge = vec![b' '; 5 * 1024 * 1024];
    let cases: [(&str, &str, Bytes, &str); 4] = [
        ("signed", signed, "{}".into(), "schema 1"),
        (
            "plain",
            "application/json",
            r#"{"schemaVersion":1}"#.into(),
            "schema 1",
        ),
        ("huge", manifest, huge.into(), "longer than 4194304 bytes"),
        (
            "junk",
            manifest,
            "{\"\u{1b}[31m\":".into(),
            "not a manifest",
        ),
    ];
    let client = anonymous(&sim);
    for (name, media_type, bytes, expected) in cases {
        sim.put_manifest(REPOSITORY, name, media_type, &bytes);
        let error = client
            .manifest(REPOSITORY, &tag(name), &amd64())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let sim = RegistrySim::anonymous().await;
    let client = anonymous(&sim);
    let error = pull(&client).await.unwrap_err();
    let subject = format!("manifest {}/{REPOSITORY}:latest", sim.host());
    assert_eq!(error, RegistryError::NotFound { subject });
    assert!(error.hint().is_some());
    let error = client
        .manifest("No/Such Name", &tag("latest"), &amd64())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Unsupported { .. }),
        "{error}"
    );
    assert_eq!(client.can_read(REPOSITORY).await, Ok(false));
    sim.push(REPOSITORY, "v1", &image());
    assert_eq!(client.can_read(REPOSITORY).await, Ok(true));
}

#[tokio::test]
async fn pulls_that_are_left_are_known_with_each_manifest() {
    let sim = RegistrySim::anonymous().await;
    sim.push(REPOSITORY, "latest", &image());
    let client = anonymous(&sim);
    pull(&client).await.expect("manifest");
    assert_eq!(client.pull_limit(), None);
    sim.faults(|faults| faults.pulls_left = Some(1));
    let left = || client.pull_limit().expect("a limit").remaining;
    // To ask by HEAD is no pull.
    let latest = tag("latest");
    let head = client.head_manifest(REPOSITORY, &latest).await;
    head.expect("a head");
    assert_eq!(left(), 1);
    pull(&client).await.expect("manifest");
    assert_eq!(left(), 0);
    let error = pull(&client).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::RateLimited { .. }),
        "{error}"
    );
}
