//! Calls a second: from Python, many at once, and from a native load generator.

use anyhow::Result;

use super::gateway::Gateway;
use super::load;
use super::peers::{Celery, Ray};
use crate::bench::lab::Lab;
use crate::bench::report::{Row, Samples, Target};

const WARM_UP_CALLS: u32 = 200;
/// Calls of a turn.
const CALLS: u32 = 1000;

/// What a gateway on a small machine is to answer.
const PROMISED_PER_SECOND: f64 = 3000.0;

#[derive(Default)]
struct Measured {
    map: Samples,
    native: Samples,
    tasks: Samples,
    methods: Samples,
    celery: Samples,
}

pub(super) fn rows(lab: &Lab) -> Result<Vec<Row>> {
    let gateway = Gateway::start(lab)?;
    let mut sdk = gateway.sdk()?;
    let (mut ray, mut celery) = (Ray::start(lab)?, Celery::start(lab)?);
    sdk.make_together("all", WARM_UP_CALLS)?;
    ray.program.make_together("tasks", WARM_UP_CALLS)?;
    ray.program.make_together("methods", WARM_UP_CALLS)?;
    celery.program.make_together("all", WARM_UP_CALLS)?;
    let function = gateway.function("with_holdfast:nothing")?;
    let mut measured = Measured::default();
    for _ in 0..lab.runs {
        measured.map.push(sdk.make_together("all", CALLS)?);
        let tasks = ray.program.make_together("tasks", CALLS)?;
        measured.tasks.push(tasks);
        let native = load::per_second(gateway.address()?, &function)?;
        measured.native.push(native);
        let methods = ray.program.make_together("methods", CALLS)?;
        measured.methods.push(methods);
        let celery = celery.program.make_together("all", CALLS)?;
        measured.celery.push(celery);
    }
    drop(sdk);
    gateway.stop()?;
    Ok(compare(&measured))
}

fn compare(measured: &Measured) -> Vec<Row> {
    let row = |what: &str, ours: &Samples, peer: &Samples, peer_name: &str, target| Row {
        what: what.to_owned(),
        unit: "calls/s",
        ours: ours.clone(),
        peer: peer.clone(),
        peer_name: peer_name.to_owned(),
        target,
    };
    let (map, none) = (&measured.map, Target::None);
    let promised = Samples::of([PROMISED_PER_SECOND]);
    let native = &measured.native;
    vec![
        row(
            "calls by native load",
            native,
            &promised,
            "3000 calls/s",
            Target::AtLeast(1.0),
        ),
        row(
            "map of our package",
            map,
            &measured.tasks,
            "Ray tasks",
            none,
        ),
        row(
            "map of our package",
            map,
            &measured.methods,
            "Ray actor methods",
            none,
        ),
        row(
            "map of our package",
            map,
            &measured.celery,
            "Celery, Redis",
            none,
        ),
    ]
}
