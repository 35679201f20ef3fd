//! Cold starts and the first use ever, over a link of 200 Mbit/s and 20 ms round trip.
//!
//! Both contenders go through the same relay to the same registry. *Cold* is: the index is there,
//! the cache is empty. *First use* is: nothing is there but the credential.

use std::time::Duration;

use anyhow::Result;

use super::Lab;
use crate::bench::link::{Link, Shape};
use crate::bench::peer::Peer;
use crate::bench::report::{Row, Samples, Target};
use crate::bench::{drop_page_cache, timed};

const SHAPE: Shape = Shape {
    bytes_per_second: 200_000_000 / 8,
    round_trip: Duration::from_millis(20),
};

const WORDS: &[&str] = &["python3", "-c", "import requests; print('ready')"];
const EXPECTED: &str = "ready";

#[derive(Default)]
struct Measured {
    seconds: Samples,
    megabytes: Samples,
}

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    lab.registry.push(&lab.demo, &lab.login)?;
    let link = Link::start(lab.registry.socket(), SHAPE)?;
    let image = format!("{}/acme/{}:v1", link.address(), lab.demo.name);
    let peer = Peer::new(&lab.folder("cold-peer"))?;
    let auth_file = lab
        .registry
        .auth_file(&link.address().to_string(), &lab.login)?;
    let (mut first, mut cold, mut pulled) = (
        Measured::default(),
        Measured::default(),
        Measured::default(),
    );
    for _ in 0..lab.runs {
        lab.ours.forget()?;
        lab.ours.login(&link.address().to_string(), &lab.login)?;
        let ours = || lab.ours.run(&image, WORDS, EXPECTED).map(drop);
        measure(&link, &mut first, ours)?;
        lab.ours.empty_cache()?;
        measure(&link, &mut cold, ours)?;
        peer.forget()?;
        measure(&link, &mut pulled, || {
            peer.pull(&image, &auth_file)?;
            peer.unpack()?;
            peer.prepare(WORDS)?;
            peer.run(EXPECTED)
        })?;
    }
    peer.forget()?;
    Ok(vec![
        row(
            "cold start to first output",
            "s",
            &cold.seconds,
            &pulled.seconds,
            0.2,
        ),
        row(
            "cold start, bytes fetched",
            "MB",
            &cold.megabytes,
            &pulled.megabytes,
            0.5,
        ),
        row("first use ever", "s", &first.seconds, &pulled.seconds, 0.8),
    ])
}

fn measure(link: &Link, into: &mut Measured, work: impl FnOnce() -> Result<()>) -> Result<()> {
    drop_page_cache()?;
    let before = link.bytes_down();
    let ((), seconds) = timed(work)?;
    into.seconds.push(seconds);
    let bytes = link.bytes_down() - before;
    into.megabytes
        .push(f64::from(u32::try_from(bytes / 1000)?) / 1000.0);
    Ok(())
}

fn row(what: &str, unit: &'static str, ours: &Samples, peer: &Samples, limit: f64) -> Row {
    Row {
        what: what.to_owned(),
        unit,
        ours: ours.clone(),
        peer: peer.clone(),
        peer_name: "skopeo copy + umoci unpack + runc".to_owned(),
        target: Target::AtMost(limit),
    }
}
