//! A password that AWS keys have given, and that dies within a start or a long read: the registry
//! answers 403 with no challenge.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use reference::Selector;
use registry_client::{Platform, RegistryClient, RegistryError, RetryPolicy};
use registry_sim::{Entry, Image, ImageBuilder, Layer};

use crate::ecr::Ecr;
use crate::support::REPOSITORY;

/// The next bytes are asked for as a range of their own.
const RANGE: u64 = 50_000;
/// After so many bytes of a long range its connection breaks. Several pieces of a body.
const BREAK_AFTER: u64 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Manifest,
    Config,
    Layer,
    BetweenRanges,
    WithinRange,
}

/// One reading, and when its password dies.
struct Reading {
    ecr: Ecr,
    client: RegistryClient,
    when: Moment,
    /// How old the password is then.
    age: Duration,
}

impl Reading {
    async fn begin(image: &Image, when: Moment, age: Duration) -> Self {
        let ecr = Ecr::private().await;
        ecr.sim.push(REPOSITORY, "latest", image);
        let (endpoint, source) = (ecr.endpoint.clone(), ecr.source(ecr.keys()));
        let quick = RetryPolicy {
            attempts: 4,
            first_pause: Duration::ZERO,
            longest_pause: Duration::ZERO,
            budget: Duration::from_mins(1),
            resume: Duration::ZERO,
        };
        let client = RegistryClient::with_retry(&ecr.dialer, endpoint, source, quick);
        let client = client.expect("a client");
        // The registry has taken the first password.
        client.can_read(REPOSITORY).await.expect("an answer");
        Self {
            ecr,
            client,
            when,
            age,
        }
    }

    fn come_to(&self, moment: Moment) {
        if self.when == moment {
            self.ecr.turn(self.age);
            self.ecr.sim.set_password("second");
            self.ecr.api.give("second", Duration::from_hours(12));
        }
    }

    async fn read(&self) -> Result<Bytes, RegistryError> {
        self.come_to(Moment::Manifest);
        let latest = Selector::Tag("latest".to_owned());
        let platform = Platform::new("linux", "amd64", None);
        let pinned = self.client.manifest(REPOSITORY, &latest, &platform).await?;
        self.come_to(Moment::Config);
        let config = self.client.blob_bytes(REPOSITORY, &pinned.config, 65_536);
        config.await?;
        self.come_to(Moment::Layer);
        let layer = &pinned.layers[0];
        let range = |range| {
            let (digest, size) = (&layer.digest, layer.size);
            self.client.blob_range(REPOSITORY, digest, size, range)
        };
        let first = range(0..RANGE).await?;
        self.come_to(Moment::BetweenRanges);
        let rest = range(RANGE..layer.size).await?;
        self.ecr.sim.faults(|faults| {
            faults.reset_after = Some(BREAK_AFTER);
            faults.break_times = Some(1);
        });
        let mut pieces = self.client.blob_stream(REPOSITORY, layer).await?;
        let begun = pieces.try_next().await?.expect("a first piece");
        self.come_to(Moment::WithinRange);
        let others: Vec<Bytes> = pieces.try_collect().await?;
        let streamed = [vec![begun], others].concat().concat();
        assert_eq!(streamed, [first, rest].concat());
        Ok(streamed.into())
    }
}

#[tokio::test]
async fn what_aws_gave_is_minted_anew_within_a_start_and_a_long_read() {
    let image = ImageBuilder::new()
        .layer(Layer::gzip(&[Entry::file("noise", noise())]))
        .build();
    let moments = [
        Moment::Manifest,
        Moment::Config,
        Moment::Layer,
        Moment::BetweenRanges,
        Moment::WithinRange,
    ];
    for when in moments {
        for age in [Duration::ZERO, Duration::from_mins(1)] {
            let reading = Reading::begin(&image, when, age).await;
            let read = reading.read().await;
            let read = read.unwrap_or_else(|error| panic!("{when:?}, {age:?}: {error}"));
            assert_eq!(read, image.layers[0].bytes, "{when:?}, {age:?}");
            assert_eq!(reading.ecr.asked(), 2, "{when:?}, {age:?}");
        }
    }
}

/// Bytes that do not compress, the same ones each time.
fn noise() -> Vec<u8> {
    let states = std::iter::successors(Some(1_u32), |state| {
        Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    });
    let bytes = states.skip(1).map(|state| state.to_be_bytes()[0]);
    bytes.take(300_000).collect()
}
