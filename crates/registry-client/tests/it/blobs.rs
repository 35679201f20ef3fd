//! Blobs: whole and in part, over replies that break, lie or are wrong.

use futures::TryStreamExt;
use registry_client::{RegistryClient, RegistryError};
use registry_sim::{Faults, Image, RegistrySim};

use crate::support::{REPOSITORY, anonymous, big_layer, image};

type Fault = fn(&mut Faults);

async fn pushed() -> (RegistrySim, Image) {
    let sim = RegistrySim::anonymous().await;
    let image = image();
    sim.push(REPOSITORY, "latest", &image);
    (sim, image)
}

async fn stream(client: &RegistryClient, image: &Image) -> Result<Vec<u8>, RegistryError> {
    let stream = client.blob_stream(REPOSITORY, &big_layer(image)).await?;
    assert_eq!(stream.size(), big_layer(image).size);
    let pieces: Vec<_> = stream.try_collect().await?;
    Ok(pieces.concat())
}

async fn range(
    client: &RegistryClient,
    image: &Image,
    range: std::ops::Range<u64>,
) -> Result<Vec<u8>, RegistryError> {
    let layer = big_layer(image);
    let bytes = client
        .blob_range(REPOSITORY, &layer.digest, layer.size, range)
        .await?;
    Ok(bytes.to_vec())
}

#[tokio::test]
async fn whole_blobs_and_ranges_are_read() {
    let (sim, image) = pushed().await;
    let client = anonymous(&sim);
    let whole = &image.layers[1].bytes;
    let size = whole.len() as u64;
    assert!(stream(&client, &image).await.expect("blob") == *whole);
    for (start, end) in [(0, size), (0, 1), (size - 1, size), (1000, 200_000), (5, 5)] {
        let part = range(&client, &image, start..end).await.expect("range");
        let expected = &whole[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
        assert!(part == expected, "{start}..{end}");
    }
    assert!(range(&client, &image, 0..size + 1).await.is_err());
}

#[tokio::test]
async fn broken_replies_are_resumed_where_they_broke() {
    let breaks: [(&str, Fault); 3] = [
        ("truncated", |faults| faults.truncate_after = Some(100_000)),
        ("reset", |faults| faults.reset_after = Some(100_000)),
        ("truncated without ranges", |faults| {
            faults.truncate_after = Some(250_000);
            faults.break_times = Some(1);
            faults.ignore_range = true;
        }),
    ];
    for (name, fault) in breaks {
        let (sim, image) = pushed().await;
        sim.faults(fault);
        let client = anonymous(&sim);
        let whole = &image.layers[1].bytes;
        assert!(
            stream(&client, &image).await.expect(name) == *whole,
            "{name}"
        );
        let part = range(&client, &image, 10..280_000).await.expect(name);
        assert!(part == whole[10..280_000], "{name}");
        assert!(client.stats().retries > 0, "{name}");
    }
}

#[tokio::test]
async fn a_reply_that_drips_does_not_go_on_for_ever() {
    let (sim, image) = pushed().await;
    sim.faults(|faults| faults.truncate_after = Some(1));
    let client = anonymous(&sim);
    let error = stream(&client, &image).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
    assert!(sim.registry().read().requests < 20);
}

#[tokio::test]
async fn wrong_bytes_of_a_whole_blob_are_refused() {
    let (sim, image) = pushed().await;
    sim.faults(|faults| faults.wrong_bytes = true);
    let client = anonymous(&sim);
    let error = stream(&client, &image).await.unwrap_err();
    assert!(matches!(error, RegistryError::Corrupt { .. }), "{error}");
    let layer = big_layer(&image);
    let error = client
        .blob_bytes(REPOSITORY, &layer, layer.size)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Corrupt { .. }), "{error}");
    // A range has no digest; whoever reads it verifies it.
    assert!(range(&client, &image, 0..10).await.is_ok());
}

#[tokio::test]
async fn a_reply_for_another_range_is_refused() {
    let (sim, image) = pushed().await;
    sim.faults(|faults| faults.shift_range = 1);
    let error = range(&anonymous(&sim), &image, 0..10).await.unwrap_err();
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_over() {
    let (sim, image) = pushed().await;
    sim.faults(|faults| faults.ignore_range = true);
    let part = range(&anonymous(&sim), &image, 100_000..100_100)
        .await
        .expect("range");
    assert!(part == image.layers[1].bytes[100_000..100_100]);
}

#[tokio::test]
async fn a_length_that_is_not_the_manifests_is_refused() {
    for lie in [-10, 10] {
        let (sim, image) = pushed().await;
        sim.faults(|faults| faults.length_lie = lie);
        let client = anonymous(&sim);
        for error in [
            stream(&client, &image).await.unwrap_err(),
            range(&client, &image, 0..1000).await.unwrap_err(),
        ] {
            assert!(
                matches!(error, RegistryError::Corrupt { .. }),
                "{lie}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_blob_of_another_size_than_its_manifest_says_is_refused() {
    let (sim, image) = pushed().await;
    let client = anonymous(&sim);
    for size in [big_layer(&image).size - 1, big_layer(&image).size + 1] {
        let mut layer = big_layer(&image);
        layer.size = size;
        let error = client
            .blob_bytes(REPOSITORY, &layer, u64::MAX)
            .await
            .unwrap_err();
        assert!(matches!(error, RegistryError::Corrupt { .. }), "{error}");
        let part = client
            .blob_range(REPOSITORY, &layer.digest, size, 0..10)
            .await;
        assert!(
            matches!(part, Err(RegistryError::Corrupt { .. })),
            "{part:?}"
        );
    }
}

#[tokio::test]
async fn a_blob_beyond_the_limit_is_not_asked_for() {
    let (sim, image) = pushed().await;
    let client = anonymous(&sim);
    let error = client
        .blob_bytes(REPOSITORY, &big_layer(&image), 1000)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Unsupported { .. }),
        "{error}"
    );
    assert_eq!(sim.registry().read().requests, 0);
}
