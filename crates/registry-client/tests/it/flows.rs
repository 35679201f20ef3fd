//! A long blob over several requests at once: in order, whole, and within bounds.

use std::time::Duration;

use registry_client::{BlobParts, Flows, RegistryClient, RegistryError};
use registry_sim::{Faults, Image, ImageBuilder, Layer, RegistrySim};

use crate::support::{REPOSITORY, anonymous, big_layer};

/// Longer than all the requests that may be under way, and not whole stretches.
const LENGTH: usize = (24 << 20) + 12_345;

type Fault = fn(&mut Faults);

async fn pushed(length: usize) -> (RegistrySim, Image) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = (0..length.div_ceil(8))
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(length)
        .collect();
    let media_type = "application/vnd.oci.image.layer.v1.tar";
    let layer = Layer::compressed(media_type, noise.clone(), &noise);
    let image = ImageBuilder::new().layer(layer).build();
    let sim = RegistrySim::anonymous().await;
    sim.push(REPOSITORY, "latest", &image);
    (sim, image)
}

fn parts(client: &RegistryClient, image: &Image, flows: &Flows) -> BlobParts {
    let parts = client.blob_parts(REPOSITORY, &big_layer(image), flows);
    parts.expect("a good repository")
}

async fn read(client: &RegistryClient, image: &Image) -> Result<Vec<u8>, RegistryError> {
    let mut parts = parts(client, image, &Flows::default());
    let mut all = Vec::new();
    while let Some(part) = parts.next().await? {
        all.extend_from_slice(&part.bytes);
    }
    Ok(all)
}

#[tokio::test]
async fn a_long_blob_comes_in_order_whatever_breaks() {
    let faults: [(&str, Fault); 4] = [
        ("nothing", |_| {}),
        ("truncated", |faults| faults.truncate_after = Some(700_000)),
        ("reset now and then", |faults| {
            faults.reset_after = Some(300_000);
            faults.break_times = Some(5);
        }),
        ("no ranges", |faults| faults.ignore_range = true),
    ];
    for (name, fault) in faults {
        let (sim, image) = pushed(LENGTH).await;
        sim.faults(fault);
        let client = anonymous(&sim);
        let found = read(&client, &image).await.expect(name);
        assert!(found == *image.layers[0].bytes, "{name}");
        assert!(client.stats().requests > 6, "{name}");
    }
}

#[tokio::test]
async fn a_short_blob_is_one_request() {
    let (sim, image) = pushed(3 << 20).await;
    let client = anonymous(&sim);
    let found = read(&client, &image).await.expect("a blob");
    assert!(found == *image.layers[0].bytes);
    assert_eq!(client.stats().requests, 1);
}

#[tokio::test]
async fn what_is_not_there_is_an_error() {
    let (sim, image) = pushed(LENGTH).await;
    let client = anonymous(&sim);
    for size in [big_layer(&image).size + 1, u64::MAX] {
        let mut layer = big_layer(&image);
        layer.size = size;
        let flows = Flows::default();
        let mut parts = client.blob_parts(REPOSITORY, &layer, &flows).expect("good");
        let error = loop {
            match parts.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended well"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, RegistryError::Corrupt { .. }), "{error}");
    }
}

/// What is held takes the place of requests, so that memory has a bound.
#[tokio::test]
async fn who_holds_what_came_is_sent_no_more() {
    let (sim, image) = pushed(LENGTH).await;
    let client = anonymous(&sim);
    let flows = Flows::default();
    let mut first = parts(&client, &image, &flows);
    let mut second = parts(&client, &image, &flows);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(first.next().await.expect("a part"));
    }
    // However long it takes, nothing comes.
    for parts in [&mut first, &mut second] {
        let more = tokio::time::timeout(Duration::from_millis(300), parts.next()).await;
        assert!(more.is_err(), "more than eight parts are held");
    }
    assert_eq!(client.stats().requests, 8);
    held.pop();
    assert!(first.next().await.expect("a part").is_some());
}
